"""Runs the kmtalk command in the background and reads its events. Knows nothing of Blender."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

GRACE_SECONDS = 3.0  # seconds that a cancelled command has to clean up before it is killed


class KMTalkError(Exception):
    """A fault that the user can correct, in one line."""


def find_command(preferred: str = "") -> list[str]:
    """Return the kmtalk command as the first words of a command line.

    Args:
        preferred: Path of the command from the preferences; empty takes the variable KMTALK, then what is on PATH.

    Raises:
        KMTalkError: There is no such command.
    """
    given = preferred or os.environ.get("KMTALK", "")
    if given:
        words = [given] if Path(given).is_file() else shlex.split(given)
        if words and shutil.which(words[0]):
            return words
        where = "the extension's preferences" if preferred else "the environment variable KMTALK"
        raise KMTalkError(f"{given}: no such command; correct it in {where}")
    # Blender does not see the shell's PATH where it is started from a menu; uv and pipx install into ~/.local/bin
    found = shutil.which("kmtalk") or shutil.which("kmtalk", path=str(Path.home() / ".local" / "bin"))
    if found is None:
        raise KMTalkError(
            "the command kmtalk was not found; install it (uv tool install, see kmtalk's README), or give its path in "
            "Preferences > Add-ons > kmtalk"
        )
    return [found]


class Job:
    """A running command of kmtalk, which gets the option --json.

    Attributes:
        folder: The temporary folder that the command works in; `close` removes it.
        stage: What the command is doing.
        fraction: Done share of the stage from 0 to 1, or None where it is not known.
        messages: Warnings and notes so far.
        closed: Whether `close` was called.
    """

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self.folder = folder
        self.stage, self.fraction = "start", None
        self.messages: list[str] = []
        self.closed = False
        self._error, self._other_lines = "", deque[str](maxlen=20)
        try:
            self._process = subprocess.Popen(
                [*command, "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # a group of its own, so that its children end with it
            )
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise KMTalkError(f"{command[0]}: cannot be started ({error.strerror})") from None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        atexit.register(self._end)

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            try:
                event = json.loads(line)
                kind = event["event"]
            except (ValueError, KeyError, TypeError):
                self._other_lines.append(line.strip())
                continue
            if kind == "stage":
                self.stage, self.fraction = event["name"], None
            elif kind == "progress" and event["total"]:
                self.fraction = event["done"] / event["total"]
            elif kind == "message":
                self.messages.append(event["message"])
            elif kind == "error":
                self._error = event["message"]

    @property
    def finished(self) -> bool:
        """Whether the command has ended and all its events are read."""
        return self._process.poll() is not None and not self._reader.is_alive()

    @property
    def error(self) -> str:
        """Why a finished command failed, in one line; empty if it did not."""
        code = self._process.returncode
        if not code:
            return ""
        last = next((line for line in reversed(self._other_lines) if line), "")
        return self._error or f"kmtalk ended with code {code}" + (f": {last}" if last else "")

    def wait(self) -> None:
        """Wait for the end of the command."""
        self._process.wait()
        self._reader.join()

    def close(self) -> None:
        """Cancel the command if it still runs, and remove its folder. Returns at once."""
        self.closed = True
        if self.finished:
            self._end()
        else:
            threading.Thread(target=self._end).start()

    def _end(self) -> None:
        atexit.unregister(self._end)
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            self._reader.join(GRACE_SECONDS)  # it ends when the command and its children have ended
            if not self.finished:
                self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        self.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: int) -> None:
        """Send a signal to the command and its children."""
        if os.name == "nt":
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(self._process.pid)], capture_output=True, check=False)
            return
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(self._process.pid, number)
