"""animation.npz: a whole animation as arrays, which numpy reads without pickle and ``read_npz`` takes back."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kmtalk.errors import InputError
from kmtalk.exchange.keys_json import Provenance
from kmtalk.face.motion import Motion
from kmtalk.face.rig_arrays import rig_from_arrays, rig_to_arrays
from kmtalk.keys import KeyFrames, KeyMotions
from kmtalk.speech.alignment import Alignment, Phone, Word
from kmtalk.speech.audio import Audio, audio_from_samples

VERSION = 1


@dataclass(frozen=True)
class AnimationArchive:
    """What an animation.npz holds."""

    motion: Motion
    alignment: Alignment
    keys: KeyMotions
    audio: Audio
    provenance: Provenance


def write_npz(
    path: Path,
    motion: Motion,
    keys: KeyMotions,
    alignment: Alignment,
    audio: Audio,
    provenance: Provenance,
    float16: bool = False,
) -> None:
    """Write an uncompressed npz that numpy opens without pickle.

    ``vertices`` (N, V, 3) float32 in the template's units and order; ``faces`` (F, 3); ``fps``;
    ``weights`` (N, R), ``names`` (R,); ``key_frames``, ``key_labels``, ``key_pinned`` (m,); ``phones`` (P,),
    ``phone_times`` (P, 2) seconds, ``words``, ``word_times``; ``landmark_names`` (L,), ``landmark_vertices`` (L,);
    ``sound`` (S, C), ``sound_rate`` Hz; the rig (face.rigarrays: ``template`` (V, 3), ``offsets`` …). Memory does
    not grow with length. With ``float16`` the motion is ``vertex_offsets`` (N, V, 3) float16 from ``template``
    instead of ``vertices``: half the size, within a 2,000th of each vertex's motion.
    """
    template = motion.rig.template
    facts = {
        "version": VERSION,
        "status": alignment.status,
        "score": alignment.score,
        "aligner": alignment.aligner,
        "source": audio.source,
        "made": provenance.model_dump(),
    }
    arrays: Mapping[str, np.ndarray] = rig_to_arrays(motion.rig) | {
        "faces": template.faces.astype(np.int32),
        "fps": np.array(motion.fps, np.float64),
        "weights": motion.weights.astype(np.float32),
        "key_frames": keys.frames,
        "key_labels": np.array(keys.labels, np.str_),
        "key_poses": keys.poses,
        "key_pinned": keys.pinned,
        "key_found": keys.original_frames,
        "phones": np.array([p.label for p in alignment.phones], np.str_),
        "phone_times": np.array([(p.start, p.end) for p in alignment.phones], np.float64).reshape(-1, 2),
        "words": np.array([w.text for w in alignment.words], np.str_),
        "word_times": np.array([(w.start, w.end) for w in alignment.words], np.float64).reshape(-1, 2),
        "unaligned": np.array(alignment.unaligned, np.float64).reshape(-1, 2),
        "landmark_names": np.array(list(template.landmarks), np.str_),
        "landmark_vertices": np.array(list(template.landmarks.values()), np.int64),
        "sound": _to_int16_if_exact(audio.original),
        "sound_rate": np.array(audio.original_rate, np.int64),
        "facts": np.array(json.dumps(facts)),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        name, kind = ("vertex_offsets", "<f2") if float16 else ("vertices", "<f4")
        with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
            shape = (len(motion), *template.vertices.shape)
            np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
            for chunk in motion.vertex_chunks():
                values = chunk - template.vertices if float16 else chunk
                file.write(np.ascontiguousarray(values, kind).tobytes())
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def read_npz(path: Path) -> AnimationArchive:
    """Read what ``write_npz`` wrote; raises InputError where the file is not that."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the animation.npz in it")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not an animation.npz; kmtalk animate writes one")
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files if name not in ("vertices", "vertex_offsets")}
        if "key_poses" not in held:
            raise ValueError("no key frames")
        facts = json.loads(str(held["facts"]))
        if facts["version"] != VERSION:
            raise ValueError("made by another version of kmtalk")
        rig, weights = rig_from_arrays(held), held["weights"].astype(np.float32)
        if weights.shape[1:] != (len(rig.names),) or not len(weights) or not np.isfinite(weights).all():
            raise ValueError("its weights are not its rig's")
        motion = Motion(rig, weights, float(held["fps"]))
        alignment = Alignment(
            tuple(Phone(str(n), float(a), float(b)) for n, (a, b) in _spans(held["phones"], held["phone_times"])),
            tuple(Word(str(n), float(a), float(b)) for n, (a, b) in _spans(held["words"], held["word_times"])),
            facts["status"],
            facts["score"],
            facts["aligner"],
            tuple((float(a), float(b)) for a, b in held["unaligned"]),
        )
        located = KeyFrames(held["key_frames"], tuple(held["key_labels"].tolist()), motion.fps)
        _check(held, motion, alignment)
        keys = KeyMotions(located, motion, held["key_found"])
        for frame, label, pose, pinned in zip(
            located.frames.tolist(), located.labels, held["key_poses"], held["key_pinned"], strict=True
        ):
            keys.set_pose(frame, label, pose, bool(pinned))
        sound = held["sound"]
        samples = sound / np.float32(32768) if sound.dtype == np.int16 else sound
        audio = audio_from_samples(samples, int(held["sound_rate"]), str(facts["source"]))
        return AnimationArchive(motion, alignment, keys, audio, Provenance(**facts["made"]))
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path}: not an animation that kmtalk wrote, or damaged ({reason[:80]}); give an animation.npz"
        ) from None


def _check(held: Mapping[str, np.ndarray], motion: Motion, alignment: Alignment) -> None:
    """Raise ValueError where the arrays contradict one another."""
    last, frames = len(motion) - 1, held["key_frames"]
    spans = [(s.start, s.end) for group in (alignment.phones, alignment.words) for s in group]
    times = np.array([*spans, *alignment.unaligned], np.float64).reshape(-1, 2)
    every = np.concatenate([frames, held["key_found"]])
    sound = (
        0 < motion.fps < 10_000
        and motion.weights.min() >= 0
        and motion.weights.max() <= 1
        and np.isfinite(times).all()
        and (times[:, 0] < times[:, 1]).all()
        and every.dtype.kind in "iu"
        and every.min() >= 0
        and every.max() <= last
        and {0, last} <= set(frames.tolist())
        and (np.diff(frames) > 0).all()
        and held["key_poses"].shape == (len(frames), motion.weights.shape[1])
        and bool(((held["key_poses"] >= 0) & (held["key_poses"] <= 1)).all())
        and held["sound"].ndim == 2
        and held["sound_rate"] > 0
    )
    if not sound:
        raise ValueError("its parts contradict one another")


def _to_int16_if_exact(samples: np.ndarray) -> np.ndarray:
    """Samples (S, C) float32 as int16 where that loses nothing."""
    whole = np.round(samples * 32768)
    fits = np.array_equal(whole, samples * 32768) and whole.min() >= -32768 and whole.max() <= 32767
    return whole.astype(np.int16) if fits else samples


def _spans(names: np.ndarray, times: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return list(zip(names.tolist(), times, strict=True))
