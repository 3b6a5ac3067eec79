"""Output of a command: progress bars on a terminal, one line for an error, or JSON for programs."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from kmtalk.cli.entry import INTERRUPTED, importing
from kmtalk.errors import InputError
from kmtalk.output import PlannedFiles, check_planned, check_writable, full_disk
from kmtalk.progress import Progress
from kmtalk.working_folders import sweep

MAX_LISTED_FILES = 40  # more files than this are summarised in one line
EVENT_INTERVAL_SECONDS = 0.1  # seconds between two progress events of a stage


class CommandOutput(Progress):
    """Receives the progress, messages and results of one command.

    Attributes:
        quiet: Show no progress and no names of files.
        as_json: Write events and a summary as JSON.
        summary: Results for the JSON summary.
        exit_code: Exit code of the command unless an error ends it.
        inputs: All files that the command was given, which it must not replace.
    """

    def __init__(self, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet, self.as_json = quiet, as_json
        self._console = Console(stderr=True)
        self.summary: dict[str, Any] = {"written": []}
        self.exit_code = 0
        self.inputs: list[str | Path] = []

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        with importing() if name == "load" else nullcontext():
            if self.as_json:
                yield from self._progress_events(name, total)
            elif self.quiet or not self._console.is_terminal:
                yield lambda done: None
            else:
                yield from self._progress_bar(name, total)

    def _progress_bar(self, name: str, total: int | None) -> Iterator[Callable[[int], None]]:
        columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()]
        if total is not None:
            columns[3:] = [MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
        with Bars(*columns, console=self._console, transient=True) as bars:
            task = bars.add_task(name, total=total)
            yield lambda done: bars.update(task, completed=done)

    def _progress_events(self, name: str, total: int | None) -> Iterator[Callable[[int], None]]:
        began = last = time.monotonic()
        self.emit_event("stage", name=name, total=total)

        def advance(done: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= EVENT_INTERVAL_SECONDS or done == total:
                last = now
                self.emit_event("progress", name=name, done=done, total=total)

        yield advance
        self.emit_event("done", name=name, seconds=round(time.monotonic() - began, 3))

    def emit_event(self, kind: str, **fields: object) -> None:
        """Write one JSON line to stderr with --json, else nothing."""
        if self.as_json:
            _write_to_stderr(json.dumps({"event": kind, **fields}))

    def log(self, message: str) -> None:
        """Write a warning or note to stderr."""
        if self.as_json:
            self.emit_event("message", message=message)
        else:
            _write_to_stderr(f"kmtalk: {printable(message)}")

    def announce(self, message: str) -> None:
        if not self.quiet:
            self.log(message)

    def print(self, line: str) -> None:
        """Write a line of results to stdout, unless --json asks for the summary."""
        if not self.as_json:
            print(printable(line), flush=True)

    def check_outputs(self, *paths: Path | None) -> None:
        """Raise InputError, before the work, where a file cannot be written or would replace an input."""
        files = tuple(path for path in paths if path is not None)
        check_planned(PlannedFiles(files), self.inputs)
        for path in files:
            check_writable(path)

    def report_written(self, paths: Sequence[Path]) -> None:
        """List the files that were written."""
        self.summary["written"] += [str(p) for p in paths]
        if self.quiet:
            return
        if len(paths) > MAX_LISTED_FILES:
            self.print(f"{paths[0]} … {paths[-1]} ({len(paths)} files)")
            return
        for path in paths:
            self.print(str(path))


@contextmanager
def run_command(quiet: bool = False, as_json: bool = False) -> Iterator[CommandOutput]:
    """Run a command; an InputError ends it with one line on stderr and exit code 2.

    Ctrl-C and SIGTERM end it after cleaning up, a second one at once.
    """
    warnings.filterwarnings("ignore")
    output, stop = CommandOutput(quiet, as_json), _Stop()
    try:
        with stop:
            sweep(Path(tempfile.gettempdir()))
            yield output
    except InputError as error:
        _exit_with(output, str(error).strip(), 2)
    except KeyboardInterrupt:
        _exit_with(output, "stopped", INTERRUPTED)
    except Exception as error:
        if stop.is_stopped:  # an import that was interrupted has errors of its own
            _exit_with(output, "stopped", INTERRUPTED)
        full = full_disk(Path.cwd())
        if full is None or isinstance(error, typer.Exit):
            raise
        _exit_with(output, f"{full}: the disk is full; free some space", 2)
    if as_json:
        print(json.dumps({"ok": output.exit_code == 0, **output.summary}), flush=True)
    if output.exit_code:
        raise typer.Exit(output.exit_code)


class _Stop:
    """Context manager in which SIGINT and SIGTERM raise KeyboardInterrupt, in the main thread.

    Attributes:
        is_stopped: Whether one has come.
    """

    def __init__(self) -> None:
        self.is_stopped = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._stop)

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.is_stopped:
            _write_to_stderr("kmtalk: stopped")
            os._exit(INTERRUPTED)
        self.is_stopped = True
        raise KeyboardInterrupt


def _exit_with(console: CommandOutput, message: str, code: int) -> None:
    if console.as_json:
        console.emit_event("error", message=message)
        print(json.dumps({"ok": False, "error": message, **console.summary}), flush=True)
    else:
        console.log(message)
    raise typer.Exit(code) from None


_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Text without characters that a terminal obeys and bytes that are not UTF-8, as file names may contain them.

    They are replaced by their escape sequences in Python.
    """

    def escape(match: re.Match[str]) -> str:
        code = ord(match[0])
        return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else match[0].encode("unicode_escape").decode()

    return _UNPRINTABLE.sub(escape, text)


def _write_to_stderr(line: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError):  # nobody can be told
            print(line, file=sys.stderr, flush=True)
