"""What a command shows: bars on a terminal, one line for what is wrong, or JSON for programs."""

from __future__ import annotations

import json
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

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

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No bars, no names of files; warnings and errors stay.")]
Json = Annotated[bool, typer.Option("--json", help="Events as JSON lines on stderr, a summary as JSON on stdout.")]

MAX_LISTED_FILES = 40  # files that are named one by one
EVENT_INTERVAL = 0.1  # seconds between two events of one stage


class CommandOutput(Progress):
    """Where one command's stages, words and results go."""

    def __init__(self, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet, self.as_json = quiet, as_json
        self._console = Console(stderr=True)
        self.summary: dict[str, Any] = {"written": []}
        self.exit_code = 0  # to leave with, where nothing stopped the command

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
            if now - last >= EVENT_INTERVAL or done == total:
                last = now
                self.emit_event("progress", name=name, done=done, total=total)

        yield advance
        self.emit_event("done", name=name, seconds=round(time.monotonic() - began, 3))

    def emit_event(self, kind: str, **facts: object) -> None:
        """One JSON line on stderr; nothing without --json."""
        if self.as_json:
            print(json.dumps({"event": kind, **facts}), file=sys.stderr, flush=True)

    def log(self, message: str) -> None:
        """A warning or a remark."""
        if self.as_json:
            self.emit_event("message", message=message)
        else:
            print(f"kmtalk: {message}", file=sys.stderr)

    def print(self, line: str) -> None:
        """A result's line for people; programs get the summary instead."""
        if not self.as_json:
            print(line, flush=True)

    def report_written(self, paths: Sequence[Path]) -> None:
        """Name the files that were written."""
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
    """A command's run: what the user gave wrong ends in one line on stderr and exit code 2."""
    warnings.filterwarnings("ignore")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended from outside: tidy up as for Ctrl-C
    screen = CommandOutput(quiet, as_json)
    try:
        yield screen
    except InputError as error:
        _exit_with(screen, " ".join(str(error).split()), 2)
    except KeyboardInterrupt:
        _exit_with(screen, "stopped", 130)
    if as_json:
        print(json.dumps({"ok": screen.exit_code == 0, **screen.summary}))
    if screen.exit_code:
        raise typer.Exit(screen.exit_code)


def _exit_with(screen: CommandOutput, message: str, code: int) -> None:
    if screen.as_json:
        screen.emit_event("error", message=message)
        print(json.dumps({"ok": False, "error": message, **screen.summary}))
    else:
        screen.log(message)
    raise typer.Exit(code) from None


def check_not_an_input(output: Path, *inputs: Path | str | None) -> None:
    """Raise InputError where the output would replace what the user gave."""
    for given in inputs:
        try:
            if given and output.is_file() and output.samefile(given):
                raise InputError(f"{output}: is an input; write to another file")
        except OSError:  # not a file at all: a text, a model's name
            continue
