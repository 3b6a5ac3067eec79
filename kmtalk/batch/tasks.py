"""What a batch is to do: clips from a folder or a manifest, and how each is animated."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kmtalk import __version__
from kmtalk.errors import InputError
from kmtalk.exchange.formats import named

SOUNDS = frozenset(
    {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aif", ".aiff"}
    | {".mp4", ".mov", ".mkv", ".webm", ".avi"}
)
"""Files that a folder's batch takes."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Recipe(_Strict):
    """How all clips of a batch are animated, as ``kmtalk animate`` takes it."""

    whisper: str = "base"
    aligner: str = "auto"
    acoustic: str | None = None
    dictionary: str | None = None
    network: Path | None = None
    template: Path | None = None
    landmarks: Path | None = None
    language: str | None = None
    motion: str = "network"
    style: str | None = None
    intensity: str | None = None
    expression: bool = True
    seed: int = 0
    fps: float = 30.0
    formats: str = "npz,glb"
    bake: bool = False
    size: tuple[int, int] = (512, 512)
    quality: str = "draft"


class Task(_Strict):
    """One clip, and what is its own: a manifest's row. ``output`` is its folder; ``text`` the words spoken or a text
    file."""

    speech: Path
    output: Path
    text: str | None = None
    textgrid: Path | None = None
    template: Path | None = None
    landmarks: Path | None = None
    language: str | None = None
    style: str | None = None
    intensity: str | None = None
    seed: int | None = Field(default=None, ge=0)

    @property
    def own(self) -> dict[str, Any]:
        """What goes before the recipe's."""
        names = ("template", "landmarks", "language", "style", "intensity", "seed")
        return {n: getattr(self, n) for n in names if getattr(self, n) is not None}

    def key(self, recipe: Recipe) -> str:
        """A name for everything that its outputs depend on: contents of files, options, kmtalk's version."""
        digest = hashlib.sha256(__version__.encode())
        how = recipe.model_dump(mode="json") | self.model_dump(mode="json", exclude={"output"})
        digest.update(json.dumps(how, sort_keys=True).encode())
        files = (self.speech, self.text, self.textgrid, self.template, self.landmarks)
        for file in (*files, recipe.template, recipe.landmarks, recipe.network, recipe.acoustic, recipe.dictionary):
            digest.update(b"|" + (_content(str(file)) if file else b""))
        return digest.hexdigest()


@cache
def _content(name: str) -> bytes:
    """A file's sha256; of nothing where it cannot be read, which the clip's own run will say."""
    try:
        with open(name, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b"none"


def gather(source: Path, output: Path) -> list[Task]:
    """The clips of a folder, at any depth, or of a manifest (.csv, .json, .jsonl), each with a folder under ``output``.

    In a folder ``clip.txt`` beside ``clip.wav`` is what it says, ``clip.TextGrid`` its phones. A manifest has a row a
    clip, with ``speech`` and any of Task's other names; its paths are relative to itself. Raises InputError for one
    that cannot be read or names no clips.
    """
    if source.is_dir():
        tasks = _of_folder(source, output)
    elif source.suffix.lower() in (".csv", ".json", ".jsonl"):
        tasks = _of_manifest(source, output)
    elif source.exists():
        raise InputError(f"{source}: give a folder, or a manifest (.csv, .json, .jsonl); for one clip: kmtalk animate")
    else:
        raise InputError(f"{source}: no such folder or manifest")
    if not tasks:
        raise InputError(f"{source}: holds no sound files ({', '.join(sorted(SOUNDS))})")
    return tasks


def _of_folder(source: Path, output: Path) -> list[Task]:
    within = output.resolve()
    found = [
        p
        for p in sorted(source.rglob("*"))
        if p.suffix.lower() in SOUNDS and p.is_file() and not p.resolve().is_relative_to(within)
    ]
    places = _places([p.relative_to(source) for p in found])
    tasks = []
    for path, place in zip(found, places, strict=True):
        text, grid = path.with_suffix(".txt"), path.with_suffix(".TextGrid")
        tasks.append(
            Task(
                speech=path,
                output=output / place,
                text=str(text) if text.is_file() else None,
                textgrid=grid if grid.is_file() else None,
            )
        )
    return tasks


def _places(paths: Sequence[Path]) -> list[Path]:
    """A folder for each clip: its name without the suffix, with it where two would share one."""
    plain = [p.with_suffix("") for p in paths]
    return [p if plain.count(q) > 1 else q for p, q in zip(paths, plain, strict=True)]


def _of_manifest(source: Path, output: Path) -> list[Task]:
    rows = list(_rows(source))
    given = [Path(str(row.get("output") or row.get("speech") or "clip")) for row in rows]
    places = _places([Path(p.name) if p.is_absolute() or ".." in p.parts else p for p in given])
    tasks, seen = [], set[Path]()
    for number, (row, place) in enumerate(zip(rows, places, strict=True), 1):
        values = {k: v for k, v in row.items() if v not in (None, "")}
        for name in ("speech", "textgrid", "template", "landmarks"):
            if name in values:
                values[name] = source.parent / str(values[name])
        if str(values.get("text", "")).endswith(".txt"):
            values["text"] = str(source.parent / str(values["text"]))
        folder = output / (Path(values["output"]) if "output" in values else place)
        if not folder.resolve().is_relative_to(output.resolve()):
            raise InputError(f"{source}: row {number}: output {values['output']} lies outside {output}")
        if folder in seen:
            raise InputError(f"{source}: row {number}: two clips are to be written to {folder}; name an output for one")
        seen.add(folder)
        try:
            tasks.append(Task(**(values | {"output": folder})))
        except ValidationError as error:
            first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")  # why others are missing
            name = ".".join(map(str, first["loc"]))
            known = ", ".join(Task.model_fields)
            what = f"no such column; there are {known}" if first["type"] == "extra_forbidden" else first["msg"]
            raise InputError(f"{source}: row {number}: {name}: {what}") from None
    return tasks


def _rows(source: Path) -> Iterable[dict[str, Any]]:
    try:
        text = source.read_text(encoding="utf-8-sig")
        if source.suffix.lower() == ".csv":
            rows: Any = list(csv.DictReader(text.splitlines(), strict=True))
        elif source.suffix.lower() == ".jsonl":
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            rows = json.loads(text)
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from None
    except (ValueError, csv.Error) as error:
        raise InputError(f"{source}: not a manifest ({str(error)[:80]})") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f'{source}: a manifest is a list of clips, such as [{{"speech": "a.wav", "text": "Hello."}}]')
    if any(None in row for row in rows):
        raise InputError(f"{source}: a row has more fields than there are columns")
    return rows


def check_recipe(recipe: Recipe) -> None:
    """Raise InputError for what would fail on every clip."""
    named(recipe.formats)
    for path in (recipe.template, recipe.landmarks, recipe.network):
        if path is not None and not path.exists():
            raise InputError(f"{path}: no such file")
