"""Compare the default head's shapes with those that artists made from scans: `python benchmarks/shapes.py FILE.npz`.

FILE.npz is the ICT-FaceKit head of the shared meshes (`neutral` (V, 3), `faces`, `names`, `offsets` (R, V, 3), cm). The
light head's rig is fitted to its neutral, and each fitted shape is compared with the file's own. The table gives

- cosine: of the two displacement fields, as vectors of all coordinates, over the vertices that the file's shape moves
  by more than 10 % of its greatest displacement;
- union: the same over the vertices that either shape moves by more than 10 % of its own greatest displacement;
- size: the least-squares factor from the file's shape to ours.

Right sides are left out: both rigs are symmetric. Needs kmtalk[fit].
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from kmtalk.face.fit import fit_rig
from kmtalk.face.shape_names import match_shape_names
from kmtalk.face.source_head import load_source_head
from kmtalk.face.template import Template

MOVING = 0.1  # share of a shape's greatest displacement


def shape_table(path: Path) -> dict[str, tuple[float, float, float]]:
    """Return cosine, cosine over the union, and size factor of every shape that corresponds."""
    with np.load(path) as file:
        names = [str(n) for n in file["names"]]
        template = Template(file["neutral"].astype(np.float32), file["faces"].astype(np.int32), name=path.stem)
        given = file["offsets"].astype(np.float64)
    rig = fit_rig(template, load_source_head()).rig
    theirs = {meaning: given[names.index(name)] for name, meaning in match_shape_names(names).items()}
    for name in ("browInnerUp", "cheekPuff"):  # one shape in ARKit, two in the file
        if f"{name}_L" in names:
            theirs[name] = given[names.index(f"{name}_L")] + given[names.index(f"{name}_R")]
    out = {}
    for name in rig.shape_names:
        if name not in theirs or name.endswith("Right"):
            continue
        a, b = theirs[name], rig.offsets[rig.index[name]].astype(np.float64)
        size_a, size_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
        moving = size_a > MOVING * size_a.max()
        either = moving | (size_b > MOVING * size_b.max())
        out[name] = (
            _cosine(a[moving], b[moving]),
            _cosine(a[either], b[either]),
            float((a[moving] * b[moving]).sum() / (a[moving] ** 2).sum()),
        )
    return out


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(f"{'shape':<20}{'cosine':>8}{'union':>8}{'size':>8}")
    for shape, values in shape_table(Path(sys.argv[1])).items():
        print(f"{shape:<20}" + "".join(f"{value:8.2f}" for value in values))
