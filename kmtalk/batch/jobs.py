"""What a batch is to do: clips from a folder or a manifest, and how each is animated."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kmtalk import __version__
from kmtalk.errors import InputError
from kmtalk.exchange.formats import format_from_path, parse_formats
from kmtalk.pipeline import KMTalk

AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aif", ".aiff"}
    | {".mp4", ".mov", ".mkv", ".webm", ".avi"}
)
"""Files that a folder's batch takes."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JobSettings(_Strict):
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

    def fingerprint(self) -> str:
        """A name for the contents of its files and its options, as for Task."""
        digest = hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode())
        files = (self.template, self.landmarks, self.network, self.acoustic, self.dictionary)
        for file in files:
            digest.update(b"|" + (_content_digest(Path(file)) if file else b""))
        return digest.hexdigest()


class Job(_Strict):
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

    def with_absolute_paths(self) -> Job:
        """With absolute paths: workers elsewhere have another current folder."""
        names = ("speech", "output", "textgrid", "template", "landmarks")
        return self.model_copy(update={n: p.resolve() for n in names if (p := getattr(self, n)) is not None})

    @property
    def overrides(self) -> dict[str, Any]:
        """What goes before the recipe's."""
        names = ("template", "landmarks", "language", "style", "intensity", "seed")
        return {n: getattr(self, n) for n in names if getattr(self, n) is not None}

    def fingerprint(self, recipe: str) -> str:
        """A name for everything that its outputs depend on: contents of files, options, kmtalk's version, and the
        ``recipe``'s own key."""
        digest = hashlib.sha256(f"{__version__} {recipe}".encode())
        how = self.model_dump(mode="json", exclude={"output"})
        digest.update(json.dumps(how, sort_keys=True).encode())
        own = (self.speech, self.textgrid, self.template, self.landmarks)
        for file in (*own, Path(self.text) if self.text and self.text.endswith(".txt") else None):
            digest.update(b"|" + (_content_digest(file) if file else b""))
        return digest.hexdigest()


def _content_digest(path: Path) -> bytes:
    """A file's sha256, or that of all in a folder and beside a .gltf; of nothing where it cannot be read, which the
    clip's own run will say."""
    digest = hashlib.sha256()
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    if path.suffix.lower() == ".gltf":
        files += sorted(path.parent.glob("*.bin"))
    for file in files:
        try:
            with file.open("rb") as held:
                digest.update(hashlib.file_digest(held, "sha256").digest())
        except OSError:
            digest.update(b"none")
    return digest.digest()


def collect_jobs(source: Path, output: Path) -> list[Job]:
    """The clips of a folder, at any depth, or of a manifest (.csv, .json, .jsonl), each with a folder under ``output``.

    In a folder ``clip.txt`` beside ``clip.wav`` is what it says, ``clip.TextGrid`` its phones. A manifest has a row a
    clip, with ``speech`` and any of Task's other names; its paths are relative to itself. Raises InputError for one
    that cannot be read or names no clips.
    """
    if source.is_dir():
        tasks = _jobs_from_folder(source, output)
    elif source.suffix.lower() in (".csv", ".json", ".jsonl"):
        tasks = _jobs_from_manifest(source, output)
    elif source.exists():
        raise InputError(f"{source}: give a folder, or a manifest (.csv, .json, .jsonl); for one clip: kmtalk animate")
    else:
        raise InputError(f"{source}: no such folder or manifest")
    if not tasks:
        raise InputError(f"{source}: holds no sound files ({', '.join(sorted(AUDIO_SUFFIXES))})")
    _check_unique_outputs(tasks, source)
    return tasks


def _jobs_from_folder(source: Path, output: Path) -> list[Job]:
    within = output.resolve()
    if source.resolve().is_relative_to(within):
        raise InputError(f"{output}: holds the sounds themselves; write to another folder")
    found = [
        p
        for p in sorted(source.rglob("*"))
        if p.suffix.lower() in AUDIO_SUFFIXES
        and p.is_file()
        and not p.resolve().is_relative_to(within)
        and not any(part.endswith("-kmtalk") for part in p.relative_to(source).parts[:-1])  # what animate made
    ]
    places = _output_folders([p.relative_to(source) for p in found])
    tasks = []
    for path, place in zip(found, places, strict=True):
        text, grid = path.with_suffix(".txt"), path.with_suffix(".TextGrid")
        tasks.append(
            Job(
                speech=path,
                output=output / place,
                text=str(text) if text.is_file() else None,
                textgrid=grid if grid.is_file() else None,
            )
        )
    return tasks


def _output_folders(paths: Sequence[Path]) -> list[Path]:
    """A folder for each clip: its name without the suffix, with it (clip-mp4) where two would share one. No folder's
    name ends as a format's does, which would mean a file."""
    plain = [p.with_suffix("") for p in paths]
    counts = Counter(plain)
    places = [p.with_name(p.name.replace(".", "-")) if counts[q] > 1 else q for p, q in zip(paths, plain, strict=True)]
    return [p.with_name(p.name.replace(".", "-")) if format_from_path(p) else p for p in places]


def _check_unique_outputs(tasks: list[Job], source: Path) -> None:
    """Raise InputError where two clips would be written to one folder."""
    seen: dict[Path, Path] = {}
    for task in tasks:
        place = task.output.resolve()
        if place in seen:
            raise InputError(
                f"{source}: {seen[place]} and {task.speech} would both be written to {task.output}; rename one, "
                "or name its output in a manifest"
            )
        seen[place] = task.speech


def _jobs_from_manifest(source: Path, output: Path) -> list[Job]:
    rows = list(_read_manifest(source))
    for number, row in enumerate(rows, 1):
        wrong = [k for k, v in row.items() if not isinstance(v, str | int | float | None) or "\0" in str(v)]
        if wrong or not isinstance(row.get("output") or "", str) or not isinstance(row.get("speech") or "", str):
            raise InputError(f"{source}: row {number}: {', '.join(wrong) or 'speech and output'}: give plain text")
    given = [Path(str(row.get("output") or row.get("speech") or "clip")) for row in rows]
    places = _output_folders([Path(p.name) if p.is_absolute() or ".." in p.parts else p for p in given])
    tasks = []
    for number, (row, place) in enumerate(zip(rows, places, strict=True), 1):
        values = {k: v for k, v in row.items() if v not in (None, "")}
        for name in ("speech", "textgrid", "template", "landmarks"):
            if name in values:
                values[name] = source.parent / str(values[name])
        text = str(values.get("text", ""))
        if text.lower().endswith(".txt") and len(text.split()) == 1:
            values["text"] = str(source.parent / text)
        folder = output / (Path(values["output"]) if "output" in values else place)
        if not folder.resolve().is_relative_to(output.resolve()):
            raise InputError(f"{source}: row {number}: output {values['output']} lies outside {output}")
        if format_from_path(folder):
            raise InputError(f"{source}: row {number}: output {folder.name} is a file's name; each clip gets a folder")
        try:
            tasks.append(Job(**(values | {"output": folder})))
        except ValidationError as error:
            first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")  # why others are missing
            name = ".".join(map(str, first["loc"]))
            known = ", ".join(Job.model_fields)
            what = f"no such column; there are {known}" if first["type"] == "extra_forbidden" else first["msg"]
            raise InputError(f"{source}: row {number}: {name}: {what}") from None
    return tasks


def _read_manifest(source: Path) -> Iterable[dict[str, Any]]:
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
    except UnicodeDecodeError:
        raise InputError(f"{source}: is not UTF-8; save it as CSV UTF-8") from None
    except (ValueError, csv.Error) as error:
        raise InputError(f"{source}: not a manifest ({str(error)[:80]})") from None
    if rows == []:
        raise InputError(f"{source}: names no clips")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f'{source}: a manifest is a list of clips, such as [{{"speech": "a.wav", "text": "Hello."}}]')
    for number, row in enumerate(rows, 1):
        if None in row:
            raise InputError(f"{source}: row {number}: more fields than columns; put a text with commas in quotes")
        if any(";" in str(name) for name in row):
            raise InputError(f"{source}: columns are parted by commas, not semicolons")
    return rows


def check_job_settings(recipe: JobSettings) -> None:
    """Raise InputError for what would fail on every clip."""
    parse_formats(recipe.formats)
    for path in (recipe.template, recipe.landmarks, recipe.network):
        if path is not None and not path.exists():
            raise InputError(f"{path}: no such file")
    talk = KMTalk(recipe.whisper, recipe.aligner, recipe.acoustic, recipe.dictionary, recipe.network)
    talk.check(recipe.fps, recipe.motion, recipe.style, recipe.intensity, recipe.seed)
