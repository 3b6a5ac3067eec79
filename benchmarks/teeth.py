"""What is seen in the open mouth, by phone: `python benchmarks/teeth.py [SOUND]` (needs kmtalk[fit]).

Animates SOUND (default: assets/speech.wav) on the default head, and casts rays at the mouth from the front, 0.25 mm
apart, in the middle frame of every phone. The opening is what is not outer skin: teeth, tongue and the inside of the
mouth. Prints, for each phone, the number of frames with an opening of more than 20 mm², its mean area, and the shares
of upper teeth, lower teeth and tongue in it, summed over its frames.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from kmtalk import KMTalk
from kmtalk.face.template import Template
from kmtalk.face.views import Camera, MeshViews
from kmtalk.keys import phone_midpoints

ROOT = Path(__file__).parent.parent
STEP_MM, LEAST_MM2 = 0.25, 20.0
PARTS = ("upper_teeth", "lower_teeth", "tongue")


def face_classes(template: Template) -> np.ndarray:
    """Return for each triangle 0 for what is outside, 1 for the inside of the mouth, and 2, 3, 4 for `PARTS`."""
    appearance = template.appearance
    assert appearance is not None
    names = [material.name for material in appearance.materials]
    out = (appearance.face_materials == names.index("mouth")).astype(int)
    for number, part in enumerate(PARTS, 2):
        of_part = np.zeros(len(template.vertices), bool)
        of_part[template.regions[part]] = True
        out[of_part[template.faces].all(1)] = number
    return out


def opening_counts(vertices: np.ndarray, template: Template, classes: np.ndarray) -> np.ndarray:
    """Return how many rays hit each class (5,) in one frame."""
    mm = 1 / template.mm_per_unit
    marks = template.landmarks
    middle = (vertices[marks["lip_inner_upper"]] + vertices[marks["lip_inner_lower"]]) / 2
    radius = 30.0 * mm
    count = round(2 * radius / (STEP_MM * mm))
    line = (np.arange(count) + 0.5) / count
    # the camera's picture is as wide as the sphere that it shows, measured at its centre, a little less
    camera = Camera(np.eye(3), middle, radius)
    triangle, _ = MeshViews(vertices, template.faces).cast_rays(
        camera, np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    )
    return np.bincount(classes[triangle[triangle >= 0]], minlength=5)


def main() -> None:
    sound = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "assets" / "speech.wav"
    animation = KMTalk().animate(sound)
    template = animation.template
    classes = face_classes(template)
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for frame, label in phone_midpoints(animation.alignment, len(animation.motion), animation.fps):
        vertices = animation.motion.rig.vertices(animation.weights[frame : frame + 1])[0]
        counts = opening_counts(vertices, template, classes)
        if counts[1:].sum() * STEP_MM**2 > LEAST_MM2:
            found[label].append(counts)
    print(f"{'phone':<6}{'frames':>7}{'mm²':>7}{'upper':>8}{'lower':>8}{'tongue':>8}")
    for label, counts in sorted(found.items()):
        total = np.sum(counts, axis=0)
        opening = total[1:].sum()
        shares = "".join(f"{100 * total[k] / opening:7.0f}%" for k in (2, 3, 4))
        print(f"{label:<6}{len(counts):7d}{opening * STEP_MM**2 / len(counts):7.0f}{shares}")


if __name__ == "__main__":
    main()
