"""The weights of the mesh's shapes as editable curves: Maya's .anim file, and JSON for Blender's import script."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kmtalk.exchange.curve_reduction import KeyedCurve, reduce_curve
from kmtalk.face.motion import Motion

MAYA_NODE = "blendShape1"
"""The name that Maya gives the first blend shape deformer of a scene."""

# Maya's importer knows these rates by name, and seconds
_TIME_UNITS = {15: "game", 24: "film", 25: "pal", 30: "ntsc", 48: "show", 50: "palf", 60: "ntscf"}


def keyed_curves(motion: Motion, tolerance: float) -> Iterator[tuple[str, KeyedCurve]]:
    """Yield the name and the curve of each shape that moves the mesh: the mesh's own shapes where it has some."""
    names, _, weights = motion.rig.morph_targets(motion.weights)
    for name, curve in zip(names, weights.T, strict=True):
        yield name, reduce_curve(curve, tolerance)


def write_curves_json(path: Path, motion: Motion, tolerance: float) -> None:
    """Write JSON with `fps`, `frames` (N) and `curves`: for each shape a list of keys [frame, value, slope].

    Between its keys a curve is a cubic Hermite spline; slopes are in units per frame.

    Args:
        path: The file.
        motion: The motion.
        tolerance: Largest error of a weight at a frame; 0 writes a key for every frame.
    """
    curves = {
        name: [
            [int(frame), round(float(value), 6), round(float(slope), 6)]
            for frame, value, slope in zip(curve.frames, curve.values, curve.slopes, strict=True)
        ]
        for name, curve in keyed_curves(motion, tolerance)
    }
    document = {"fps": motion.fps, "frames": len(motion), "curves": curves}
    path.write_text(
        json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n", encoding="utf-8", errors="replace"
    )


def write_maya_anim(path: Path, motion: Motion, tolerance: float) -> None:
    """Write Maya's ASCII animation file for the attributes of a blend shape node.

    Times are frames where Maya has a name for the frame rate, and seconds at all other rates, which older versions of
    its importer do not know. Frame n is at n / fps seconds.

    Args:
        path: The .anim file.
        motion: The motion.
        tolerance: Largest error of a weight at a frame; 0 writes a key for every frame, joined by straight lines.
    """
    unit = _TIME_UNITS.get(round(motion.fps)) if abs(motion.fps - round(motion.fps)) < 1e-6 else None
    frame_length = 1.0 if unit else 1 / motion.fps
    lines = [
        "animVersion 1.1;",
        "mayaVersion 2022;",
        f"timeUnit {unit or 'sec'};",
        "linearUnit cm;",
        "angularUnit deg;",
        "startTime 0;",
        f"endTime {_number((len(motion) - 1) * frame_length)};",
    ]
    for number, (name, curve) in enumerate(keyed_curves(motion, tolerance)):
        attribute = re.sub(r"\W", "_", name)
        lines += [
            f"anim {attribute} {attribute} {MAYA_NODE} 0 0 {number};",
            "animData {",
            "  input time;",
            "  output unitless;",
            "  weighted 0;",
            "  preInfinity constant;",
            "  postInfinity constant;",
            "  keys {",
            *_maya_keys(curve, frame_length, tolerance > 0),
            "  }",
            "}",
        ]
    path.write_text("\n".join(lines) + "\n", encoding="ascii", errors="replace")


def _maya_keys(curve: KeyedCurve, frame_length: float, smooth: bool) -> Iterator[str]:
    """Lines of time, value, types of the tangents in and out, locks, breakdown flag, and fixed tangents' angle and
    weight. An angle is that of the slope per unit of time."""
    for frame, value, slope in zip(curve.frames.tolist(), curve.values, curve.slopes / frame_length, strict=True):
        key = f"    {_number(frame * frame_length)} {_number(value)}"
        if smooth:
            tangent = f"{_number(math.degrees(np.arctan(slope)))} 1"
            yield f"{key} fixed fixed 1 1 0 {tangent} {tangent};"
        else:
            yield f"{key} linear linear 1 1 0;"


def _number(value: float) -> str:
    """A number without exponent, which Maya's reader does not know."""
    return f"{value:.9f}".rstrip("0").rstrip(".") if value else "0"
