"""Runs `kmtalk` commands in forks of a process that has loaded it: loading is most of the time of a short command.

A command sees what it sees in a process of its own: arguments, folder, streams, exit code. Where the environment is
not that of the server, it runs in one.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

KMTALK = str(Path(sys.executable).parent / "kmtalk")
LONGEST = 600  # seconds
LOADED = ("torch", "whisper", "scipy.signal", "kmtalk.pipeline", "kmtalk.cli.commands")


class CommandServer:
    """The process, from pytest's side."""

    def __init__(self, folder: Path) -> None:
        self._environment = self._current_environment()
        self._streams = [folder / name for name in ("stdout", "stderr")]
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @staticmethod
    def _current_environment() -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}

    def run(self, arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        """Run a command in a folder."""
        command = [KMTALK, *arguments]
        if self._current_environment() != self._environment:
            return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=LONGEST, check=False)
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps([command, str(folder), [*map(str, self._streams)]]), file=self._process.stdin, flush=True)
        code = json.loads(self._process.stdout.readline())
        out, err = (path.read_text() for path in self._streams)
        if code == -signal.SIGALRM:
            raise subprocess.TimeoutExpired(command, LONGEST, out, err)
        return subprocess.CompletedProcess(command, code, out, err)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve() -> None:
    """Run the commands of standard input, one JSON list a line; writes the exit code of each."""
    for name in LOADED:
        importlib.import_module(name)
    from kmtalk.cli import app

    for line in sys.stdin:
        command, folder, streams = json.loads(line)
        sys.stdout.flush()
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number, path in enumerate(streams, 1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.chdir(folder)
            sys.argv = command
            signal.alarm(LONGEST)
            sys.exit(app())
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
