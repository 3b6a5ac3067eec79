"""Entry point of the kmtalk command: signals, standard streams, and usage errors as one line."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

INTERRUPTED = 130
"""Exit code after Ctrl-C or SIGTERM."""


def app(arguments: Sequence[str] | None = None, standalone_mode: bool = True) -> int:
    """Run a command.

    Args:
        arguments: The command's name, arguments and options; None for those of this process.
        standalone_mode: End the process with the exit code; False returns it and leaves the process' signals and
            streams as they are.

    Returns:
        The exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not standalone_mode:
        return _run(given)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop_at_once)
    _open_streams()
    try:
        code = _run(given)
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF):
            raise
        # what is still buffered goes nowhere, so that Python does not report it again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 1
        if error.errno != errno.EPIPE:
            code = 2
            _say(f"standard output: cannot be written ({error.strerror})")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop_at_once)
    sys.exit(code)


@contextmanager
def importing() -> Iterator[None]:
    """Import modules without garbage collection, which takes a seventh of the time and finds nothing.

    What was imported is not looked at later either.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def _run(arguments: list[str]) -> int:
    with importing():
        import typer

        from kmtalk.cli.commands import typer_app
        from kmtalk.cli.console import printable

    usage_error: Any = typer.BadParameter.__base__  # of all faults in the arguments
    try:
        _check_not_empty(arguments)
        command = typer.main.get_command(typer_app)
        return command.main(arguments, prog_name="kmtalk", standalone_mode=False) or 0
    except usage_error as error:
        context = getattr(error, "ctx", None)
        if context is not None and type(error).__name__ == "NoArgsIsHelpError":
            print(context.get_help())
            return 2
        name = context.command_path if context is not None else "kmtalk"
        message = printable(error.format_message().removeprefix("Invalid value: ").rstrip("."))
        message = f"{message[:1].lower()}{message[1:]}; {name} --help shows what it takes"
        if "--json" in arguments:
            import json

            print(json.dumps({"event": "error", "message": message}), file=sys.stderr)
            print(json.dumps({"ok": False, "error": message}))
        else:
            _say(message)
        return 2
    except typer.Abort:
        return INTERRUPTED


def _check_not_empty(arguments: list[str]) -> None:
    """Raise a usage error for an empty argument, such as that of an unset variable; only a text may be empty."""
    import typer

    for before, argument in zip(["", *arguments], arguments, strict=False):
        option, equals, value = argument.partition("=")
        if argument == "" and before != "--text":
            raise typer.BadParameter(f"{before if before.startswith('-') else 'an argument'}: is empty")
        if option.startswith("--") and option != "--text" and equals and not value:
            raise typer.BadParameter(f"{option}: is empty")


def _stop_at_once(number: int, frame: FrameType | None) -> None:
    """End the process: before and after a command there is nothing to clean up."""
    _say("stopped")
    os._exit(INTERRUPTED)


def _say(message: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError):  # nobody can be told
            print(f"kmtalk: {message}", file=sys.stderr, flush=True)


def _open_streams() -> None:
    """Make standard streams that take any text.

    In windowed programs there are none; and a file that is opened next must not become the standard output of
    libraries.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number, which is this one
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
