"""keys.json: key frames with their poses by shape name, for editing and completion."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kmtalk.errors import InputError
from kmtalk.face.motion import Motion
from kmtalk.keys import POSE_TOLERANCE, KeyMotions, locate_key_frames, unknown_shape_message
from kmtalk.settings import Provenance
from kmtalk.speech.alignment import Alignment, Phone, Word
from kmtalk.speech.audio import Audio
from kmtalk.text_files import read_json_file, read_text_file
from kmtalk.timecode import MAX_FPS, MIN_FPS
from kmtalk.working_folders import sweep

Weight = Annotated[float, Field(ge=0, le=1)]

MOST_FRAMES = 100_000_000
"""Frames of the longest clip: weeks."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class KeyEntry(_Strict):
    """One key frame."""

    frame: int = Field(ge=0, le=MOST_FRAMES, description="Frame index from 0; it decides where the key stands.")
    time: float | None = Field(default=None, description="(frame + 0.5) / fps in seconds; for reading only.")
    phone: str = Field(default="sil", description="Phone that begins at the key.")
    weights: dict[str, Weight] = Field(default={}, description="Weight in [0, 1] by shape name; all others are 0.")
    pinned: bool = Field(default=False, description="Completion meets the pose exactly even where it was not edited.")


Span = tuple[str, Annotated[float, Field(ge=0)], float]
"""Label, start and end in seconds of a phone or word."""


_ERROR_TEXT = {
    "extra_forbidden": "is not known there",
    "missing": "is missing",
    "less_than_equal": "weights lie from 0 to 1",
    "greater_than_equal": "must be {ge:g} or more",
    "too_short": "holds nothing",
}


class KeyFile(_Strict):
    """Contents of a keys.json."""

    kmtalk: Literal["keys"] = Field(default="keys", description="Marks the kind of the file.")
    fps: float = Field(ge=MIN_FPS, lt=MAX_FPS, description="Frames per second of the clip.")
    frames: int = Field(ge=1, le=MOST_FRAMES, description="Number of frames of the clip, N.")
    provenance: Provenance = Field(default=Provenance(), description="How the animation was made.")
    template: str = Field(default="", description="Name of the mesh.")
    mesh_digest: str = Field(default="", description="Digest of the mesh's vertices.")
    audio_digest: str = Field(default="", description="Digest of the sound's samples.")
    original_frames: list[Annotated[int, Field(ge=0, le=MOST_FRAMES)]] = Field(
        default=[], description="Frames that were keys before any edit."
    )
    alignment_status: str = Field(default="given", description="aligned, given, uniform or silent.")
    phones: list[Span] = Field(default=[], description="Phones: label, start, end in seconds.")
    words: list[Span] = Field(default=[], description="Words: text, start, end in seconds.")
    word_scores: list[Annotated[float, Field(ge=0, le=1)] | None] = Field(
        default=[], description="The aligner's confidence of each word in [0, 1], null where it is unknown."
    )
    unaligned: list[tuple[float, float]] = Field(
        default=[], description="Spans (start, end) in seconds whose phones are unknown."
    )
    written: dict[str, str] = Field(
        default={}, description="Digests of this file's contents and of files beside it as kmtalk wrote them."
    )
    keys: list[KeyEntry] = Field(min_length=1, description="The key frames.")

    @property
    def alignment(self) -> Alignment:
        """The alignment whose phone boundaries the keys stand at."""
        return Alignment(
            tuple(Phone(*span) for span in self.phones),
            tuple(
                Word(*span, score)
                for span, score in zip(self.words, self.word_scores or [None] * len(self.words), strict=True)
            ),
            self.alignment_status,
            aligner="keys.json",
            unaligned=tuple(self.unaligned),
        )


def content_digest(values: np.ndarray) -> str:
    """Digest of a mesh's vertices or a sound's samples, quantised to 16 bits: 16 hexadecimal digits."""
    whole = np.round(np.asarray(values, np.float64) / max(float(np.abs(values).max(initial=0)), 1e-12) * 30000)
    return hashlib.sha256(whole.astype(np.int16).tobytes()).hexdigest()[:16]


def write_keys(
    path: Path,
    motion: Motion,
    keys: KeyMotions,
    alignment: Alignment,
    provenance: Provenance,
    audio: Audio,
    beside: Sequence[Path] = (),
) -> None:
    """Write every key frame with its time in seconds, phone and non-zero weights, and the fields by which
    `kmtalk complete` recognises the clip.

    The digests of the contents and of the files `beside` are written, too, so that `edited_files` sees edits.
    """
    entries = [
        KeyEntry(
            frame=frame,
            time=round(float(time), 6),
            phone=label,
            weights={n: round(float(w), 5) for n, w in zip(keys.shape_names, pose, strict=True) if w > 1e-5},
            pinned=bool(pinned),
        ).model_dump()
        for frame, time, label, pose, pinned in zip(
            keys.frames.tolist(), keys.times, keys.phone_labels, keys.poses, keys.pinned, strict=True
        )
    ]
    document: dict[str, Any] = {
        "kmtalk": "keys",
        "fps": motion.fps,
        "frames": len(motion),
        "provenance": provenance.model_dump(mode="json"),
        "template": motion.rig.template.name.encode(errors="replace").decode(),  # a file's name may be no UTF-8
        "mesh_digest": content_digest(motion.rig.template.vertices),
        "audio_digest": content_digest(audio.original),
        "original_frames": keys.original_frames.tolist(),
        "alignment_status": alignment.status,
        "phones": [(p.label, p.start, p.end) for p in alignment.phones],
        "words": [(w.text, w.start, w.end) for w in alignment.words],
        "word_scores": [None if w.score is None else round(w.score, 4) for w in alignment.words],
        "unaligned": alignment.unaligned,
        "keys": entries,
    }
    document["written"] = {"keys": _contents_digest(document | {"keys": entries})}
    document["written"] |= {file.name: _file_digest(file) for file in beside}
    # one line per key, which people edit
    lines = ",\n".join(f"  {json.dumps(entry, ensure_ascii=False)}" for entry in document.pop("keys"))
    head = ",\n".join(f" {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in document.items())
    path.write_text(f'{{\n{head},\n "keys": [\n{lines}\n ]\n}}\n', encoding="utf-8")


def edited_files(path: Path, beside: Iterable[str] = ()) -> list[Path]:
    """Return the files that are not as kmtalk wrote them: a keys.json, and files beside it.

    Args:
        path: The keys.json, which contains the digests. One that cannot be read, or contains none, counts as edited.
        beside: Names of the other files. Those that are not there are left out.
    """
    try:
        document = json.loads(read_text_file(path))
        written = dict(document.pop("written"))
        is_edited = written.pop("keys") != _contents_digest(document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [path]
    others = [path.with_name(name) for name in beside]
    return [path] * is_edited + [p for p in others if p.is_file() and written.get(p.name) != _file_digest(p)]


def _contents_digest(document: dict[str, Any]) -> str:
    """Digest of a keys.json without its own digests, whatever its layout."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:32]


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def read_keys(path: Path) -> KeyFile:
    """Read and check a keys.json; raises InputError that names the key and its fault."""
    sweep(path.parent)  # a folder into which a process was writing when it was killed
    document = read_json_file(path)
    try:
        file = KeyFile.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place, known = _describe_location(document, first["loc"]), _ERROR_TEXT.get(first["type"])
        fault = first["msg"] if known is None else known.format_map(first.get("ctx", {}))
        raise InputError(f"{path}: {place}{fault[:120]}") from None
    _check_spans(path, file)
    several = [frame for frame, count in Counter(entry.frame for entry in file.keys).items() if count > 1]
    if several:  # before the times, which a key that was moved onto another keeps
        raise InputError(f"{path}: two keys at frame {several[0]}; remove one or move it to another frame")
    for entry in file.keys:
        if entry.frame >= file.frames:
            raise InputError(f"{path}: key at frame {entry.frame}: the clip has frames 0 to {file.frames - 1}")
        off = entry.time is not None and abs(entry.time - (entry.frame + 0.5) / file.fps) > 0.51 / file.fps
        if off and entry.frame in file.original_frames:  # a moved key may keep its old time
            raise InputError(
                f"{path}: key at frame {entry.frame}: its time {entry.time:g} s is another frame's; to move a key "
                "change its frame (the time may stay, or go), and leave fps as it is"
            )
    return file


def _check_spans(path: Path, file: KeyFile) -> None:
    """Raise InputError where phones or words run backwards, overlap, or lie outside the clip."""
    duration = (file.frames + 1) / file.fps
    spans = {"phones": file.phones, "words": file.words, "unaligned": [("", *span) for span in file.unaligned]}
    for kind, several in spans.items():
        last = 0.0
        for label, start, end in several:
            if not last - 1e-6 <= start < end <= duration:
                raise InputError(
                    f"{path}: {kind}: {label} from {start:g} to {end:g} s runs backwards, overlaps or ends late"
                )
            last = end
    if any(not 0 <= frame < file.frames for frame in file.original_frames):
        raise InputError(f"{path}: original_frames: the clip has frames 0 to {file.frames - 1}")
    if file.word_scores and len(file.word_scores) != len(file.words):
        raise InputError(
            f"{path}: word_scores: {len(file.word_scores)} scores for {len(file.words)} words; remove them"
        )


def _describe_location(document: Any, where: Sequence[int | str]) -> str:
    """Where in the file, in words: a key by its frame, not by its number in the list."""
    words = [str(w) for w in where]
    if len(where) >= 2 and where[0] == "keys" and isinstance(where[1], int):
        try:
            words[:2] = [f"key at frame {document['keys'][where[1]]['frame']}"]
        except (KeyError, TypeError):
            words[:2] = [f"key number {where[1] + 1}"]
    return ": ".join(words) + ": " if words else ""


def apply_key_edits(file: KeyFile, path: Path, motion: Motion) -> KeyMotions:
    """The file's keys on the motion that it was written for; keys that differ from the motion are pinned.

    Raises InputError for shapes that the rig lacks.
    """
    original = np.unique(file.original_frames) if file.original_frames else None
    keys = KeyMotions(locate_key_frames(file.alignment, len(motion), motion.fps), motion, original)
    index = motion.rig.index
    for frame in set(keys.frames[1:-1].tolist()) - {entry.frame for entry in file.keys}:
        keys.remove(frame)
    for entry in file.keys:
        pose = np.zeros(len(motion.rig.shape_names), np.float32)
        for name, weight in entry.weights.items():
            if name not in index:
                raise InputError(f"{path}: key at frame {entry.frame}: {unknown_shape_message(name, index)}")
            pose[index[name]] = weight
        unedited = motion.weights[entry.frame]
        differs = bool(np.abs(pose - unedited).max() > POSE_TOLERANCE)
        keys.insert_key(entry.frame, entry.phone, pose if differs else unedited, entry.pinned or differs)
    return keys
