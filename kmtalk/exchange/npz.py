"""animation.npz: a whole animation as arrays that numpy reads without pickle."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from kmtalk.array_files import load_arrays
from kmtalk.errors import InputError
from kmtalk.face.motion import Motion
from kmtalk.face.rig_arrays import find_source, rig_from_arrays, rig_to_arrays
from kmtalk.keys import KeyFrames, KeyMotions
from kmtalk.settings import Provenance
from kmtalk.speech.alignment import Alignment, Phone, Word
from kmtalk.speech.audio import Audio, audio_from_samples
from kmtalk.user_files import check_user_file

FORMAT_VERSION = 4


@dataclass(frozen=True)
class AnimationArchive:
    """Contents of an animation.npz."""

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
    vertices: Literal["float32", "float16"] | None = None,
) -> None:
    """Write an uncompressed npz. Memory does not grow with the clip's length.

    The documentation's page on file formats lists every array.

    Args:
        path: File to write.
        motion: Weights (N, R) of the rig's shapes.
        keys: The m key motions.
        alignment: The P phones and the words.
        audio: The sound.
        provenance: How the animation was made.
        vertices: Also write the motion of all vertices: "float32" for `vertices` (N, V, 3), "float16" for
            `vertex_offsets` (N, V, 3) from the neutral, half the size, accurate to a 2,000th of each vertex's motion.
    """
    template = motion.rig.template
    metadata = {
        "version": FORMAT_VERSION,
        "alignment_status": alignment.status,
        "alignment_score": alignment.score,
        "aligner": alignment.aligner,
        "audio_source": audio.source,
        "provenance": provenance.model_dump(mode="json"),
    }
    arrays: Mapping[str, np.ndarray] = rig_to_arrays(motion.rig) | {
        "faces": template.faces.astype(np.int32),
        "fps": np.array(motion.fps, np.float64),
        "weights": motion.weights.astype(np.float32),
        "key_frames": keys.frames,
        "key_labels": np.array(keys.phone_labels, np.str_),
        "key_poses": keys.poses,
        "key_pinned": keys.pinned,
        "key_original_frames": keys.original_frames,
        "phones": np.array([p.label for p in alignment.phones], np.str_),
        "phone_times": np.array([(p.start, p.end) for p in alignment.phones], np.float64).reshape(-1, 2),
        "words": np.array([w.text for w in alignment.words], np.str_),
        "word_times": np.array([(w.start, w.end) for w in alignment.words], np.float64).reshape(-1, 2),
        "word_scores": np.array([np.nan if w.score is None else w.score for w in alignment.words], np.float64),
        "unaligned": np.array(alignment.unaligned, np.float64).reshape(-1, 2),
        "landmark_names": np.array(list(template.landmarks), np.str_),
        "landmark_vertices": np.array(list(template.landmarks.values()), np.int64),
        "audio": _to_int16_if_exact(audio.original),
        "audio_rate": np.array(audio.original_rate, np.int64),
        "metadata": np.array(json.dumps(metadata)),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        if vertices is not None:
            name, kind = ("vertex_offsets", "<f2") if vertices == "float16" else ("vertices", "<f4")
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                shape = (len(motion), *template.vertices.shape)
                np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
                for chunk in motion.vertex_chunks():
                    values = chunk - template.vertices if vertices == "float16" else chunk
                    file.write(np.ascontiguousarray(values, kind).tobytes())
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def read_npz(path: Path) -> AnimationArchive:
    """Read what ``write_npz`` wrote; raises InputError where the file is not that."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the animation.npz in it")
    check_user_file(path)
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not an animation.npz; kmtalk animate writes one")
    try:
        arrays = load_arrays(path, skip=("vertices", "vertex_offsets"))
        if "key_poses" not in arrays:
            raise ValueError("no key frames")
        metadata = json.loads(str(arrays["metadata"]))
        if metadata["version"] != FORMAT_VERSION:
            raise ValueError("made by another version of kmtalk")
        rig, weights = rig_from_arrays(arrays), arrays["weights"].astype(np.float32)
        if weights.shape[1:] != (len(rig.shape_names),) or not len(weights) or not np.isfinite(weights).all():
            raise ValueError("its weights are not its rig's")
        rig = replace(rig, template=find_source(rig.template, path))
        motion = Motion(rig, weights, float(arrays["fps"]))
        alignment = Alignment(
            tuple(Phone(*span) for span in _spans(arrays["phones"], arrays["phone_times"])),
            tuple(
                Word(*span, None if np.isnan(score) else float(score))
                for span, score in zip(
                    _spans(arrays["words"], arrays["word_times"]), arrays["word_scores"], strict=True
                )
            ),
            metadata["alignment_status"],
            metadata["alignment_score"],
            metadata["aligner"],
            tuple((float(start), float(end)) for start, end in arrays["unaligned"]),
        )
        key_frames = KeyFrames(arrays["key_frames"], tuple(arrays["key_labels"].tolist()), motion.fps)
        _check(arrays, motion, alignment)
        keys = KeyMotions(key_frames, motion, arrays["key_original_frames"])
        for frame, label, pose, pinned in zip(
            key_frames.frames.tolist(), key_frames.phone_labels, arrays["key_poses"], arrays["key_pinned"], strict=True
        ):
            keys.insert_key(frame, label, pose, bool(pinned))
        samples = arrays["audio"]
        samples = samples / np.float32(32768) if samples.dtype == np.int16 else samples
        provenance = Provenance(**metadata["provenance"])
        heard = provenance.sound
        audio = audio_from_samples(
            samples,
            int(arrays["audio_rate"]),
            str(metadata["audio_source"]),
            channel=heard.channel,
            track=heard.track,
            voice_only=heard.voice_only,
        )
        if provenance.role == "listener":
            audio = audio.unanalyzed()
        return AnimationArchive(motion, alignment, keys, audio, provenance)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path}: not an animation that kmtalk wrote, or damaged ({reason[:80]}); give an animation.npz"
        ) from None


def _check(arrays: Mapping[str, np.ndarray], motion: Motion, alignment: Alignment) -> None:
    """Raise ValueError where the arrays contradict one another."""
    last, frames = len(motion) - 1, arrays["key_frames"]
    spans = [(s.start, s.end) for group in (alignment.phones, alignment.words) for s in group]
    times = np.array([*spans, *alignment.unaligned], np.float64).reshape(-1, 2)
    all_frames = np.concatenate([frames, arrays["key_original_frames"]])
    consistent = (
        0 < motion.fps < 10_000
        and motion.weights.min() >= 0
        and motion.weights.max() <= 1
        and np.isfinite(times).all()
        and (times[:, 0] < times[:, 1]).all()
        and all_frames.dtype.kind in "iu"
        and all_frames.min() >= 0
        and all_frames.max() <= last
        and {0, last} <= set(frames.tolist())
        and (np.diff(frames) > 0).all()
        and arrays["key_poses"].shape == (len(frames), motion.weights.shape[1])
        and bool(((arrays["key_poses"] >= 0) & (arrays["key_poses"] <= 1)).all())
        and arrays["audio"].ndim == 2
        and arrays["audio_rate"] > 0
    )
    if not consistent:
        raise ValueError("its arrays contradict one another")


def _to_int16_if_exact(samples: np.ndarray) -> np.ndarray:
    """Samples (S, C) float32 as int16 where that loses nothing."""
    whole = np.round(samples * 32768)
    fits = np.array_equal(whole, samples * 32768) and whole.min() >= -32768 and whole.max() <= 32767
    return whole.astype(np.int16) if fits else samples


def _spans(names: np.ndarray, times: np.ndarray) -> list[tuple[str, float, float]]:
    return [(str(name), float(start), float(end)) for name, (start, end) in zip(names.tolist(), times, strict=True)]
