"""One case: files, a command line, and what may come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mutations import SPECIAL, Content, damaged_bytes, dice, text_encodings


@dataclass(frozen=True)
class Case:
    """One command line on a file that something was done to.

    Attributes:
        kind: Kind of the input, a row of the table.
        name: The file and what was done to it; unique.
        argv: The command line, run in a folder where `files` are.
        files: What lies in that folder.
        named: A refusal names one of these.
        outputs: Files and folders that the command may write.
        must_pass: The input is valid: a refusal is a fault.
        several_lines: The command reports each clip in a line of its own, with exit code 1.
        seconds: How long it may take, of one core that it has for itself.
    """

    kind: str
    name: str
    argv: tuple[str, ...]
    files: dict[str, Content] = field(default_factory=dict, repr=False)
    named: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    must_pass: bool = False
    several_lines: bool = False
    seconds: float = 10.0

    def lay_out(self, folder: Path) -> None:
        """Write the files."""
        for name, content in self.files.items():
            path = folder / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, bytes):
                    path.write_bytes(content)
                else:
                    content(path)
            except OSError:
                if len(path.name.encode("utf-8", "surrogateescape")) <= 255:
                    raise  # a name longer than file systems allow is there on the command line alone


Command = Callable[[str], tuple[str, ...]]
"""The command line for a file's name."""


def damaged(
    kind: str,
    seed: Path,
    command: Command,
    outputs: Iterable[str],
    mutations: Iterable[tuple[str, Content]] = (),
    *,
    name: str = "",
    beside: dict[str, Content] | None = None,
    text: bool = False,
    few: bool = False,
    special: bool = True,
    named: tuple[str, ...] = (),
    several_lines: bool = False,
    seconds: float = 10.0,
) -> Iterator[Case]:
    """The cases of one seed: itself, what happens to any file, and `mutations` of its own.

    Args:
        kind: Row of the table.
        seed: The valid file.
        command: The command that reads it.
        outputs: What the command writes.
        mutations: What was done, and the file.
        name: Name of the file in the command's folder; that of the seed by default.
        beside: Further files in that folder.
        text: The seed is text, which has encodings.
        few: Only some of what happens to any file.
        special: Also pipes, devices and folders.
        named: What a refusal may name beside the file.
        several_lines: As for `Case`.
        seconds: As for `Case`.
    """
    data, name = seed.read_bytes(), name or seed.name
    argv, files = command(name), beside or {}

    def case(what: str, content: Content, must_pass: bool = False) -> Case:
        full = f"{kind}: {seed.name}: {what}"
        new, names = files | {name: content}, (name, *named)
        return Case(kind, full, argv, new, names, tuple(outputs), must_pass, several_lines, seconds)

    yield case("as it is", data, must_pass=True)
    for what, content in damaged_bytes(data, dice(kind, seed.name), few):
        yield case(what, content)
    if text:
        for what, content in text_encodings(data):
            yield case(what, content)
    if special:
        for what, make in SPECIAL:
            yield case(what, make)
    for what, content in mutations:
        yield case(what, content)
