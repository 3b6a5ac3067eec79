"""Jobs of a batch: clips from a folder or a manifest, and the settings they share."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from kmtalk import __version__
from kmtalk.animation import DEFAULT_FOLDER_FORMATS, format_from_path, parse_formats
from kmtalk.errors import InputError
from kmtalk.faces import is_light_head
from kmtalk.pipeline import KMTalk
from kmtalk.settings import AnimationSettings, ExportSettings, RecognitionSettings, Settings, SoundSettings
from kmtalk.text_files import parse_json, read_text_file
from kmtalk.timecode import parse_timecode

MEDIA_SUFFIXES = frozenset(
    {
        ".wav",
        ".wave",
        ".bwf",
        ".rf64",
        ".w64",
        ".flac",
        ".mp1",
        ".mp2",
        ".mp3",
        ".mpga",
        ".ogg",
        ".oga",
        ".opus",
        ".spx",
    }
    | {".m4a", ".m4b", ".m4r", ".aac", ".aif", ".aiff", ".aifc", ".caf", ".au", ".snd", ".amr", ".awb", ".gsm", ".wma"}
    | {".ac3", ".eac3", ".dts", ".mka", ".weba", ".wv", ".ape", ".tta", ".tak", ".mpc", ".voc", ".ra", ".qcp", ".dss"}
    | {".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".divx", ".mpg", ".mpeg", ".mpe", ".m2v", ".vob", ".ts"}
    | {".mts", ".m2ts", ".m2t", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".mxf", ".dv", ".rm", ".rmvb"}
)
"""Files of a folder that become clips of a batch."""

_COMPANION_SUFFIXES = frozenset({".txt", ".textgrid", ".json", ".jsonl", ".csv", ".npz", ".srt", ".vtt", ".lab"})
"""Files that may lie beside clips, of which nothing is said."""


class JobSettings(Settings):
    """Settings that all clips of a batch share."""

    sound: SoundSettings = SoundSettings()
    recognition: RecognitionSettings = RecognitionSettings()
    animation: AnimationSettings = AnimationSettings()
    export: ExportSettings = ExportSettings(formats=DEFAULT_FOLDER_FORMATS)
    network: Path | None = None
    joint: Path | None = None
    template: Path | None = None
    landmarks: Path | None = None

    def fingerprint(self) -> str:
        """Digest of the settings and of the contents of the files that they name."""
        digest = hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode())
        acoustic_files = (self.recognition.acoustic_model, self.recognition.dictionary)
        for file in (self.template, self.landmarks, self.network, self.joint, *acoustic_files):
            digest.update(b"|" + (_content_digest(Path(file)) if file else b""))
        return digest.hexdigest()


class Job(Settings):
    """One clip of a batch: a row of a manifest."""

    speech: Path = Field(description="Sound or video file.")
    output_dir: Path = Field(description="Folder of the clip, under the batch's output folder.")
    text: str | None = Field(default=None, description="The spoken words, or the name of a .txt file with them.")
    text_file: Path | None = Field(default=None, description="Text file with the spoken words.")
    textgrid: Path | None = Field(default=None, description="TextGrid with a tier of phones.")
    tier: str | None = Field(default=None, description="Part of the names of the TextGrid's tiers to read.")
    template: Path | None = Field(default=None, description="Face mesh or .kmrig.")
    landmarks: Path | None = Field(default=None, description="Landmarks of the mesh.")
    overrides: dict[str, Any] = Field(default={}, description="Fields of AnimationSettings that the clip overrides.")
    sound_overrides: dict[str, Any] = Field(default={}, description="Fields of SoundSettings that the clip overrides.")

    def fingerprint(self, settings_fingerprint: str) -> str:
        """Digest of everything that the outputs depend on: files' contents, settings, and kmtalk's version.

        `settings_fingerprint` is that of the batch's `JobSettings`.
        """
        digest = hashlib.sha256(f"{__version__} {settings_fingerprint}".encode())
        own = self.model_dump(mode="json", exclude={"output_dir"})
        digest.update(json.dumps(own, sort_keys=True).encode())
        for file in (self.speech, self.textgrid, self.template, self.landmarks, self.text_file):
            digest.update(b"|" + (_content_digest(file) if file else b""))
        return digest.hexdigest()


ALLOWED_COLUMNS = (
    *(name for name in Job.model_fields if name not in ("overrides", "sound_overrides")),
    *SoundSettings.model_fields,
    *AnimationSettings.model_fields,
)
"""Columns that a manifest may have."""


def _content_digest(path: Path) -> bytes:
    """SHA-256 of a file, of all files in a folder, or of a .gltf with its buffers; unreadable files count as empty."""
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


def collect_jobs(source: Path, output: Path, warn: Callable[[str], None] = lambda line: None) -> list[Job]:
    """Collect the clips of a folder, at any depth, or of a manifest (.csv, .json, .jsonl).

    In a folder, `clip.txt` beside `clip.wav` holds its words and `clip.TextGrid` its phones. A manifest has one row per
    clip with `speech` and any of the other `ALLOWED_COLUMNS`; its paths are relative to the manifest.

    Args:
        source: The folder or the manifest.
        output: Folder of the outputs.
        warn: Called with one line where files of a folder are left out, since their kind is not known as sound.

    Returns:
        One job per clip, each with its own folder under `output`.

    Raises:
        InputError: The source cannot be read, contains no clips, or has unknown columns or values.
    """
    if source.is_dir():
        jobs = _jobs_from_folder(source, output, warn)
    elif source.suffix.lower() in (".csv", ".json", ".jsonl"):
        jobs = _jobs_from_manifest(source, output)
    elif source.exists():
        raise InputError(f"{source}: give a folder, or a manifest (.csv, .json, .jsonl); for one clip: kmtalk animate")
    else:
        raise InputError(f"{source}: no such folder or manifest")
    if not jobs:
        raise InputError(f"{source}: contains no sound or video files, such as .wav, .mp3 or .mp4")
    _check_unique_outputs(jobs, source)
    return jobs


def _jobs_from_folder(source: Path, output: Path, warn: Callable[[str], None]) -> list[Job]:
    within = output.resolve()
    if source.resolve().is_relative_to(within):
        raise InputError(f"{output}: contains the sound files themselves; write to another folder")
    files = [
        p
        for p in sorted(source.rglob("*"))
        if p.is_file()
        and not p.name.startswith(".")
        and not p.resolve().is_relative_to(within)
        and not any(part.endswith("-kmtalk") for part in p.relative_to(source).parts[:-1])  # outputs of kmtalk animate
    ]
    found = [p for p in files if p.suffix.lower() in MEDIA_SUFFIXES]
    others = [p for p in files if p.suffix.lower() not in MEDIA_SUFFIXES | _COMPANION_SUFFIXES]
    if found and others:
        kinds = ", ".join(sorted({p.suffix.lower() or "no suffix" for p in others})[:8])
        warn(
            f"{source}: {len(others)} files left out, which are not known as sound ({kinds}); a manifest can name them"
        )
    places = _output_folders([p.relative_to(source) for p in found])
    jobs = []
    for path, place in zip(found, places, strict=True):
        text, grid = path.with_suffix(".txt"), path.with_suffix(".TextGrid")
        jobs.append(
            Job(
                speech=path,
                output_dir=output / place,
                text_file=text if text.is_file() else None,
                textgrid=grid if grid.is_file() else None,
            )
        )
    return jobs


def _output_folders(paths: Sequence[Path]) -> list[Path]:
    """One folder per clip: its name without the suffix, or with it (clip-mp4) where two clips would share a folder.

    Folder names never end like a format's file name.
    """
    plain = [p.with_suffix("") for p in paths]
    counts = Counter(plain)
    places = [p.with_name(p.name.replace(".", "-")) if counts[q] > 1 else q for p, q in zip(paths, plain, strict=True)]
    return [p.with_name(p.name.replace(".", "-")) if format_from_path(p) else p for p in places]


def _check_unique_outputs(jobs: list[Job], source: Path) -> None:
    """Raise InputError where two clips would be written to one folder."""
    seen: dict[Path, Path] = {}
    for job in jobs:
        place = job.output_dir.resolve()
        if place in seen:
            raise InputError(
                f"{source}: {seen[place]} and {job.speech} would both be written to {job.output_dir}; rename one, "
                "or name its output_dir in a manifest"
            )
        seen[place] = job.speech


def _jobs_from_manifest(source: Path, output: Path) -> list[Job]:
    rows = list(_read_manifest(source))
    for number, row in enumerate(rows, 1):
        wrong = [k for k, v in row.items() if not isinstance(v, str | int | float | None) or "\0" in str(v)]
        if wrong or not isinstance(row.get("output_dir") or "", str) or not isinstance(row.get("speech") or "", str):
            raise InputError(f"{source}: row {number}: {', '.join(wrong) or 'speech and output_dir'}: give plain text")
    given = [Path(str(row.get("output_dir") or row.get("speech") or "clip")) for row in rows]
    places = _output_folders([Path(p.name) if p.is_absolute() or ".." in p.parts else p for p in given])
    jobs = []
    for number, (row, place) in enumerate(zip(rows, places, strict=True), 1):
        values = {k: v for k, v in row.items() if v not in (None, "")}
        for name in ("speech", "text_file", "textgrid", "template", "landmarks"):
            if name in values:
                values[name] = source.parent / str(values[name])
        text = str(values.get("text", ""))
        if text.lower().endswith(".txt") and len(text.split()) == 1:
            values["text_file"] = source.parent / str(values.pop("text"))
        folder = output / (Path(values["output_dir"]) if "output_dir" in values else place)
        if not folder.resolve().is_relative_to(output.resolve()):
            raise InputError(f"{source}: row {number}: output_dir {values['output_dir']} lies outside {output}")
        if format_from_path(folder):
            raise InputError(
                f"{source}: row {number}: output_dir {folder.name} is a file's name; each clip gets a folder"
            )
        unknown = [name for name in values if name not in ALLOWED_COLUMNS]
        if unknown:
            known = ", ".join(ALLOWED_COLUMNS)
            raise InputError(f"{source}: row {number}: {unknown[0]}: no such column; there are {known}")
        overrides = {name: values.pop(name) for name in AnimationSettings.model_fields if name in values}
        sound = {name: values.pop(name) for name in SoundSettings.model_fields if name in values}
        try:
            AnimationSettings.create(**overrides)
            SoundSettings.create(**sound)
            jobs.append(Job(**(values | {"output_dir": folder, "overrides": overrides, "sound_overrides": sound})))
        except InputError as error:
            raise InputError(f"{source}: row {number}: {error}") from None
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"{source}: row {number}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return jobs


def _read_manifest(source: Path) -> Iterable[dict[str, Any]]:
    text = read_text_file(source)
    if source.suffix.lower() == ".csv":
        try:
            reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
            rows: Any = list(reader)
        except csv.Error as error:
            raise InputError(f"{source}: not a manifest ({str(error)[:80]})") from None
        twice = [name for name, count in Counter(reader.fieldnames or ()).items() if count > 1]
        if twice:
            raise InputError(f"{source}: two columns are named {twice[0]!r}; leave one out")
    elif source.suffix.lower() == ".jsonl":
        lines = enumerate(text.split("\n"), 1)
        rows = [parse_json(line, f"{source}: row {number}") for number, line in lines if line.strip()]
    else:
        rows = parse_json(text, source)
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


def check_job_settings(settings: JobSettings) -> None:
    """Raise InputError for settings that would fail on every clip."""
    parse_formats(settings.export.formats or DEFAULT_FOLDER_FORMATS)
    parse_timecode(settings.export.timecode, settings.animation.fps)
    for path in (settings.template, settings.landmarks, settings.network, settings.joint):
        if path is not None and not path.exists() and not (path == settings.template and is_light_head(path)):
            raise InputError(f"{path}: no such file")
    KMTalk(settings.recognition, network=settings.network, joint=settings.joint).check(settings.animation)
