"""What another system predicted for a clip, read from its .npy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kmtalk.corpora.mesh_corpus import MeshClip, open_npy
from kmtalk.errors import InputError

MAX_MISSING_FRAMES = 3  # frames by which another system's motion may end before the truth
MAX_LENGTH_RATIO = 1.15  # times the truth that it may go on: beyond, it is of another rate


@dataclass(frozen=True)
class PredictedOffsets:
    """What another system made of a clip, as offsets (N, 3V) float32 from its ``template``, as long as the truth; read from
    disk where they are wanted. ``absolute``: the file holds positions."""

    path: Path
    count: int
    template: np.ndarray
    absolute: bool

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> np.ndarray:
        held = open_npy(self.path)
        start, stop, _ = part.indices(self.count)
        rows = held[np.minimum(np.arange(start, stop), len(held) - 1)].reshape(stop - start, -1).astype(np.float32)
        return rows - self.template if self.absolute else rows


def load_predicted_offsets(path: Path, clip: MeshClip, template: np.ndarray) -> PredictedOffsets:
    """A prediction that fits a clip, at the clip's rate: positions or offsets, whichever its mean lies nearer to.

    One that goes on longer is cut, as the field's scripts do; one that ends up to SHORT frames earlier keeps its last
    pose. Raises InputError for one that is shorter still, or so much longer that it is of another rate, or of another
    mesh, or not of numbers.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    held, count, rest = open_npy(path), len(clip.frames), template.reshape(-1)
    if not len(held) or held[0].size != rest.size:
        raise InputError(f"{path}: holds {held.shape}; {clip.name} wants (N, {rest.size}), in its vertex order")
    if not count - MAX_MISSING_FRAMES <= len(held) <= MAX_LENGTH_RATIO * count + MAX_MISSING_FRAMES:
        raise InputError(f"{path}: {len(held)} frames, the clip has {count} at {clip.fps:g} fps; of another rate?")
    mean = np.asarray(held, np.float64).reshape(len(held), -1).mean(0)
    if not np.isfinite(mean).all():
        raise InputError(f"{path}: holds numbers that are not finite")
    return PredictedOffsets(path, count, rest, bool(np.linalg.norm(mean - rest) < np.linalg.norm(mean)))
