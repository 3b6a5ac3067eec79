"""Runs scripts in Blender, for formats that only Blender reads and writes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from kmtalk.errors import InputError

NEEDS_BLENDER = (
    "needs Blender; pip install 'kmtalk[blender]', put blender on the PATH, or name it in the environment variable "
    "KMTALK_BLENDER"
)
SCRIPTS = Path(__file__).parent / "blender_scripts"
TIMEOUT_SECONDS = 1800


def find_blender() -> list[str] | None:
    """Return the beginning of a command line that runs a Python script in Blender; None where there is no Blender.

    It is the program or the Python of the environment variable KMTALK_BLENDER, this Python where it has the package
    bpy, or `blender` on the PATH.
    """
    given = os.environ.get("KMTALK_BLENDER", "")
    if given:
        found = shutil.which(given)
        if found is None:
            raise InputError(f"{given}: no such program; correct the environment variable KMTALK_BLENDER")
        return [found] if "python" in Path(found).name.lower() else _program(found)
    if importlib.util.find_spec("bpy") is not None:
        return [sys.executable]
    program = shutil.which("blender")
    return None if program is None else _program(program)


def _program(path: str) -> list[str]:
    return [path, "--background", "--factory-startup", "--python-exit-code", "1", "--python"]


def run_in_blender(script: str, arguments: list[str], subject: str) -> None:
    """Run one of this package's scripts in Blender.

    Args:
        script: File name in `blender_scripts`.
        arguments: Its arguments, which do not begin with a dash.
        subject: What error messages are about.

    Raises:
        InputError: There is no Blender, or the script fails.
    """
    command = find_blender()
    if command is None:
        raise InputError(f"{subject}: {NEEDS_BLENDER}")
    line = [*command, str(SCRIPTS / script), "--", *arguments]
    # Blender's Python must not find this environment's packages
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        done = subprocess.run(
            line,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"{subject}: Blender takes more than {TIMEOUT_SECONDS // 60} minutes; try a smaller file"
        ) from None
    except OSError as error:
        raise InputError(f"{subject}: Blender cannot be started ({error.strerror})") from None
    if done.returncode or "KMTALK DONE" not in done.stdout:
        lines = [text.strip() for text in (done.stdout + done.stderr).splitlines() if text.strip()]
        reason = next((text for text in reversed(lines) if "Error" in text), lines[-1] if lines else "no output")
        raise InputError(f"{subject}: Blender cannot convert it ({reason[:120]}); export it again as .glb")
