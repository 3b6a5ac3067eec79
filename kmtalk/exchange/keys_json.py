"""keys.json: the key frames with their poses by shape name, to be edited and completed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kmtalk.errors import InputError
from kmtalk.face.motion import Motion
from kmtalk.keys import POSE_TOLERANCE, KeyMotions, locate_key_frames, unknown_shape_message
from kmtalk.speech.alignment import Alignment, Phone, Word
from kmtalk.speech.audio import Audio

Weight = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Provenance(_Strict):
    """How a motion was made: what ``KMTalk.animate`` was told, or that it was brought as vertices."""

    motion: Literal["network", "rules", "vertices"] = "network"
    style: str | int | None = None
    jaw: float = Field(default=1.0, ge=0, le=3)
    lips: float = Field(default=1.0, ge=0, le=3)
    expression: bool = True
    seed: int = Field(default=0, ge=0)
    network: str = ""
    """Beginning of the sha256 of the weights, where they were not those shipped."""


class KeyEntry(_Strict):
    """One key: ``frame`` counts, ``time`` (seconds) is for reading. Shapes that ``weights`` does not name are 0.
    ``pinned`` is held exactly even where its pose is as it was found."""

    frame: int = Field(ge=0)
    time: float | None = None
    phone: str = "sil"
    weights: dict[str, Weight] = {}
    pinned: bool = False


Span = tuple[str, Annotated[float, Field(ge=0)], float]
"""A phone or word with its start and end in seconds."""


_ERROR_TEXT = {
    "extra_forbidden": "is not known there",
    "missing": "is missing",
    "less_than_equal": "weights lie from 0 to 1",
    "greater_than_equal": "must be 0 or more",
    "too_short": "holds nothing",
}


class KeyFile(_Strict):
    """The whole file. ``mesh`` and ``sound`` say which they were (``content_digest``), ``found`` which frames were keys when
    the motion was made."""

    kmtalk: Literal["keys"] = "keys"
    fps: float = Field(gt=0, lt=10_000)
    frames: int = Field(ge=1)
    made: Provenance = Provenance()
    template: str = ""
    mesh: str = ""
    sound: str = ""
    found: list[int] = []
    status: str = "given"
    phones: list[Span] = []
    words: list[Span] = []
    unaligned: list[tuple[float, float]] = []
    keys: list[KeyEntry] = Field(min_length=1)

    @property
    def alignment(self) -> Alignment:
        """The phones by which the keys were found."""
        return Alignment(
            tuple(Phone(*span) for span in self.phones),
            tuple(Word(*span) for span in self.words),
            self.status,
            aligner="keys.json",
            unaligned=tuple(self.unaligned),
        )


def content_digest(values: np.ndarray) -> str:
    """A name for a mesh's vertices or a sound's samples, by their content at 16 bits."""
    whole = np.round(np.asarray(values, np.float64) / max(float(np.abs(values).max(initial=0)), 1e-12) * 30000)
    return hashlib.sha256(whole.astype(np.int16).tobytes()).hexdigest()[:16]


def write_keys(
    path: Path, motion: Motion, keys: KeyMotions, alignment: Alignment, provenance: Provenance, audio: Audio
) -> None:
    """Write every key frame with its time in seconds, its phone and the weights that are not zero; and what
    ``kmtalk complete`` needs to know of the rest."""
    entries = [
        KeyEntry(
            frame=frame,
            time=round(float(time), 6),
            phone=label,
            weights={n: round(float(w), 5) for n, w in zip(keys.names, pose, strict=True) if w > 1e-5},
            pinned=bool(pinned),
        ).model_dump()
        for frame, time, label, pose, pinned in zip(
            keys.frames.tolist(), keys.times, keys.labels, keys.poses, keys.pinned, strict=True
        )
    ]
    document: dict[str, Any] = {
        "kmtalk": "keys",
        "fps": motion.fps,
        "frames": len(motion),
        "made": provenance.model_dump(),
        "template": motion.rig.template.name,
        "mesh": content_digest(motion.rig.template.vertices),
        "sound": content_digest(audio.original),
        "found": keys.original_frames.tolist(),
        "status": alignment.status,
        "phones": [(p.label, p.start, p.end) for p in alignment.phones],
        "words": [(w.text, w.start, w.end) for w in alignment.words],
        "unaligned": alignment.unaligned,
        "keys": entries,
    }
    # a line for each key: that is what people look for and change
    lines = ",\n".join(f"  {json.dumps(entry, ensure_ascii=False)}" for entry in document.pop("keys"))
    head = ",\n".join(f" {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in document.items())
    path.write_text(f'{{\n{head},\n "keys": [\n{lines}\n ]\n}}\n', encoding="utf-8")


def read_keys(path: Path) -> KeyFile:
    """Read and check; raises InputError that names the key and what is wrong with it."""
    try:
        file = KeyFile.model_validate_json(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text; kmtalk keys writes such a file") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = _describe_location(path, first["loc"])
        raise InputError(f"{path}: {place}{_ERROR_TEXT.get(first['type'], first['msg'])[:120]}") from None
    _check_spans(path, file)
    seen: set[int] = set()
    for entry in file.keys:
        if entry.frame >= file.frames:
            raise InputError(f"{path}: key at frame {entry.frame}: the clip has frames 0 to {file.frames - 1}")
        if entry.frame in seen:
            raise InputError(f"{path}: two keys at frame {entry.frame}; remove one")
        seen.add(entry.frame)
        off = entry.time is not None and abs(entry.time - (entry.frame + 0.5) / file.fps) > 0.51 / file.fps
        if off and entry.frame in file.found:  # else the frame was changed and the time left as it was: a key moved
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
    if any(not 0 <= frame < file.frames for frame in file.found):
        raise InputError(f"{path}: found: the clip has frames 0 to {file.frames - 1}")


def _describe_location(path: Path, where: Sequence[int | str]) -> str:
    """Where in the file, in words: a key by its frame, not by its number in the list."""
    words = [str(w) for w in where]
    if len(where) >= 2 and where[0] == "keys" and isinstance(where[1], int):
        try:
            words[:2] = [f"key at frame {json.loads(path.read_text(encoding='utf-8-sig'))['keys'][where[1]]['frame']}"]
        except (KeyError, TypeError, ValueError):
            words[:2] = [f"key number {where[1] + 1}"]
    return ": ".join(words) + ": " if words else ""


def apply_key_edits(file: KeyFile, path: Path, motion: Motion) -> KeyMotions:
    """The file's keys over the motion ``motion`` that it was made of: those that differ from it are pinned. Raises
    InputError for shapes that the rig lacks."""
    found = np.unique(file.found) if file.found else None
    keys, index = (
        KeyMotions(locate_key_frames(file.alignment, len(motion), motion.fps), motion, found),
        motion.rig.index,
    )
    for frame in set(keys.frames[1:-1].tolist()) - {entry.frame for entry in file.keys}:
        keys.remove(frame)
    for entry in file.keys:
        pose = np.zeros(len(motion.rig.names), np.float32)
        for name, weight in entry.weights.items():
            if name not in index:
                raise InputError(f"{path}: key at frame {entry.frame}: {unknown_shape_message(name, index)}")
            pose[index[name]] = weight
        was = motion.weights[entry.frame]
        differs = bool(np.abs(pose - was).max() > POSE_TOLERANCE)
        keys.set_pose(entry.frame, entry.phone, pose if differs else was, entry.pinned or differs)
    return keys
