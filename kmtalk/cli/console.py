"""Output of a command: progress bars on a terminal, one line for an error, or JSON for programs."""

from __future__ import annotations

import json
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
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

from kmtalk.errors import InputError
from kmtalk.progress import Progress

MAX_LISTED_FILES = 40  # more files than this are summarised in one line
EVENT_INTERVAL_SECONDS = 0.1  # seconds between two progress events of a stage


class CommandOutput(Progress):
    """Receives the progress, messages and results of one command.

    Attributes:
        quiet: Show no progress and no names of files.
        as_json: Write events and a summary as JSON.
        summary: Results for the JSON summary.
        exit_code: Exit code of the command unless an error ends it.
    """

    def __init__(self, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet, self.as_json = quiet, as_json
        self._console = Console(stderr=True)
        self.summary: dict[str, Any] = {"written": []}
        self.exit_code = 0

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
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
            print(json.dumps({"event": kind, **fields}), file=sys.stderr, flush=True)

    def log(self, message: str) -> None:
        """Write a warning or note to stderr."""
        if self.as_json:
            self.emit_event("message", message=message)
        else:
            print(f"kmtalk: {message}", file=sys.stderr)

    def announce(self, message: str) -> None:
        if not self.quiet:
            self.log(message)

    def print(self, line: str) -> None:
        """Write a line of results to stdout, unless --json asks for the summary."""
        if not self.as_json:
            print(line, flush=True)

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
    """Run a command; an InputError ends it with one line on stderr and exit code 2."""
    warnings.filterwarnings("ignore")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as for Ctrl-C
    output = CommandOutput(quiet, as_json)
    try:
        yield output
    except InputError as error:
        _exit_with(output, " ".join(str(error).split()), 2)
    except KeyboardInterrupt:
        _exit_with(output, "stopped", 130)
    if as_json:
        print(json.dumps({"ok": output.exit_code == 0, **output.summary}))
    if output.exit_code:
        raise typer.Exit(output.exit_code)


def _exit_with(console: CommandOutput, message: str, code: int) -> None:
    if console.as_json:
        console.emit_event("error", message=message)
        print(json.dumps({"ok": False, "error": message, **console.summary}))
    else:
        console.log(message)
    raise typer.Exit(code) from None


def check_output_is_not_input(output: Path, *inputs: Path | str | None) -> None:
    """Raise InputError where the output would replace an input."""
    for given in inputs:
        try:
            if given and output.is_file() and output.samefile(given):
                raise InputError(f"{output}: is an input; write to another file")
        except OSError:  # not a path: a text, or a model's name
            continue
