"""Predictions of other systems for a clip, read from .npy files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kmtalk.corpora.mesh_corpus import MeshClip, open_npy
from kmtalk.errors import InputError

MAX_MISSING_FRAMES = 3  # frames by which a prediction may be shorter than the ground truth
MAX_LENGTH_RATIO = 1.15  # longest prediction relative to the ground truth; beyond it, the frame rate differs


@dataclass(frozen=True)
class PredictedOffsets:
    """A prediction for a clip as offsets (N, 3V) float32 from its template; slices are read from disk on demand.

    Attributes:
        path: The .npy file.
        count: Number of frames N, that of the clip.
        template: The subject's neutral vertices (3V,).
        absolute: Whether the file has positions instead of offsets.
    """

    path: Path
    count: int
    template: np.ndarray
    absolute: bool

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> np.ndarray:
        frames = open_npy(self.path)
        start, stop, _ = part.indices(self.count)
        rows = frames[np.minimum(np.arange(start, stop), len(frames) - 1)].reshape(stop - start, -1).astype(np.float32)
        return rows - self.template if self.absolute else rows


def load_predicted_offsets(path: Path, clip: MeshClip, template: np.ndarray) -> PredictedOffsets:
    """Open a prediction for a clip, at the clip's frame rate.

    The file has positions where its mean is nearer to the template than to zero, else offsets. A longer prediction is
    cut, as in FaceFormer's and CodeTalker's scripts; one that is up to `MAX_MISSING_FRAMES` shorter repeats its last
    frame.

    Args:
        path: A .npy of (N, V, 3) or (N, 3V).
        clip: The clip.
        template: Neutral vertices (V, 3) of its subject.

    Returns:
        The prediction, as long as the clip.

    Raises:
        InputError: The file is missing or not valid, or its length or number of vertices does not fit the clip.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    frames, count, rest = open_npy(path), len(clip.frames), template.reshape(-1)
    if not len(frames) or frames[0].size != rest.size:
        raise InputError(f"{path}: has shape {frames.shape}; {clip.name} needs (N, {rest.size}), in its vertex order")
    if not count - MAX_MISSING_FRAMES <= len(frames) <= MAX_LENGTH_RATIO * count + MAX_MISSING_FRAMES:
        raise InputError(
            f"{path}: {len(frames)} frames, but the clip has {count} at {clip.fps:g} fps; check the frame rate"
        )
    mean = np.asarray(frames, np.float64).reshape(len(frames), -1).mean(0)
    if not np.isfinite(mean).all():
        raise InputError(f"{path}: has values that are not finite")
    return PredictedOffsets(path, count, rest, bool(np.linalg.norm(mean - rest) < np.linalg.norm(mean)))
