"""ARKit blendshape curves: the weights of the 52 shapes per frame, as Live Link Face CSV, JSON or Audio2Face's JSON."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from kmtalk.face.motion import Motion
from kmtalk.face.native_shapes import solve_shape_mixture
from kmtalk.face.rig import ARKIT_NAMES, SPEECH_NAMES, Rig
from kmtalk.timecode import FIRST_TIMECODE, format_timecode, is_counted, parse_timecode, timecode_seconds

_EYES = ("eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide")
_PAIRS = ("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch")
_SIDES = ("Left", "Right")


def _left_and_right(*stems: str) -> list[str]:
    return [f"{stem}{side}" for stem in stems for side in _SIDES]


LIVE_LINK_ORDER: tuple[str, ...] = (
    *(f"{stem}{side}" for side in _SIDES for stem in _EYES),
    *("jawForward", "jawRight", "jawLeft", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker"),
    *("mouthRight", "mouthLeft"),
    *_left_and_right(*_PAIRS),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *_left_and_right("mouthPress", "mouthLowerDown", "mouthUpperUp", "browDown"),
    "browInnerUp",
    *_left_and_right("browOuterUp"),
    "cheekPuff",
    *_left_and_right("cheekSquint", "noseSneer"),
    "tongueOut",
)
"""The 52 ARKit shapes in the column order of Live Link Face."""

LIVE_LINK_ROTATIONS = tuple(
    f"{part}{axis}" for part in ("Head", "LeftEye", "RightEye") for axis in ("Yaw", "Pitch", "Roll")
)
"""The nine rotation columns of Live Link Face, in radians."""

HEAD_ANGLE = np.radians(10.0)  # head rotation at weight 1 of a head shape
EYE_ANGLE = np.radians(30.0)  # approximate eye rotation at weight 1 of an eyeLook shape


class ArkitConverter:
    """Converts weights of a rig to weights that drive any face with ARKit shapes.

    The per-mesh gain of the mouth shapes is divided out. Shapes that ARKit lacks (labiodental, protrusion, tongue)
    are replaced by the mixture of ARKit shapes that is nearest to them on this rig (least squares with weights in
    [0, 1]).

    Args:
        rig: Rig of the weights.
    """

    def __init__(self, rig: Rig) -> None:
        self._gains = rig.shape_gains(rig.shape_names)
        self._arkit, self._further = ([rig.index[n] for n in names] for names in (LIVE_LINK_ORDER, SPEECH_NAMES))
        self._mixtures = _speech_shapes_as_arkit(rig)

    def convert(self, weights: np.ndarray) -> np.ndarray:
        """Convert weights (N, R) to weights (N, 52) float32 in [0, 1], in the order of `LIVE_LINK_ORDER`."""
        plain = weights / self._gains
        mixed: np.ndarray = plain[:, self._arkit] + plain[:, self._further] @ self._mixtures
        return np.clip(mixed, 0, 1).astype(np.float32)


def arkit_curves(motion: Motion) -> np.ndarray:
    """Convert a motion to weights (N, 52) of ARKit's shapes; see `ArkitConverter`."""
    return ArkitConverter(motion.rig).convert(motion.weights)


def _speech_shapes_as_arkit(rig: Rig) -> np.ndarray:
    """Weights (5, 52) of the ARKit shapes that approximate each of `SPEECH_NAMES` on the rig."""
    mouth = [i for i, n in enumerate(LIVE_LINK_ORDER) if n.startswith(("mouth", "jaw", "tongue")) and n != "mouthClose"]
    basis = rig.offsets[[rig.index[LIVE_LINK_ORDER[i]] for i in mouth]]
    weights = np.zeros((len(SPEECH_NAMES), len(LIVE_LINK_ORDER)))
    for row, name in enumerate(SPEECH_NAMES):
        weights[row, mouth], _ = solve_shape_mixture(
            basis, rig.offsets[rig.index[name]], rig.template.regions["lip_pairs"]
        )
    return weights


def head_and_eye_rotations(motion: Motion) -> np.ndarray:
    """Rotations (N, 9) in radians, in the order of `LIVE_LINK_ROTATIONS`.

    Yaw and roll to the face's own left and pitch up are positive.
    """
    w, index = motion.weights, motion.rig.index

    def turn(plus: str, minus: str, scale: float) -> np.ndarray:
        angle: np.ndarray = scale * (w[:, index[plus]] - w[:, index[minus]])
        return angle

    zero = np.zeros(len(w))
    return np.stack(
        [
            turn("headYawLeft", "headYawRight", HEAD_ANGLE),
            turn("headPitchUp", "headPitchDown", HEAD_ANGLE),
            turn("headRollLeft", "headRollRight", HEAD_ANGLE),
            turn("eyeLookOutLeft", "eyeLookInLeft", EYE_ANGLE),
            turn("eyeLookUpLeft", "eyeLookDownLeft", EYE_ANGLE),
            zero,
            turn("eyeLookInRight", "eyeLookOutRight", EYE_ANGLE),
            turn("eyeLookUpRight", "eyeLookDownRight", EYE_ANGLE),
            zero,
        ],
        axis=1,
    )


def live_link_timecode(seconds: float) -> str:
    """Time code HH:MM:SS:FF.mmm of a time in seconds, as Live Link Face writes it.

    FF.mmm is the fraction of the second in sixtieths at every frame rate, as Unreal's importers take it.
    """
    second, sixtieths = divmod(round(seconds * 60_000), 60_000)  # in thousandths of a sixtieth
    minutes, second = divmod(second, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}:{sixtieths // 1000:02d}.{sixtieths % 1000:03d}"


def write_live_link_csv(path: Path, motion: Motion, timecode: str = FIRST_TIMECODE) -> None:
    """Write a Live Link Face CSV: Timecode, BlendShapeCount and 61 value columns, one row per frame.

    Args:
        path: The .csv file.
        motion: The motion.
        timecode: SMPTE time code of the first row; row n is n / fps seconds later.

    Raises:
        InputError: The frame rate has no such time code.
    """
    begin = timecode_seconds(timecode, motion.fps)
    columns = [name[0].upper() + name[1:] for name in LIVE_LINK_ORDER] + list(LIVE_LINK_ROTATIONS)
    values = np.concatenate([arkit_curves(motion), head_and_eye_rotations(motion)], axis=1)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["Timecode", "BlendShapeCount", *columns])
        for frame, row in enumerate(values):
            written = live_link_timecode(begin + frame / motion.fps)
            writer.writerow([written, len(columns), *(f"{v:.6f}" for v in row)])


def write_arkit_json(path: Path, motion: Motion, timecode: str = FIRST_TIMECODE) -> None:
    """Write JSON with `fps`, `names` (ARKit's spelling) and `frames`.

    Each frame has its `time`, (n + 0.5) / fps seconds, its SMPTE `timecode` where the frame rate has time codes, and
    its `weights` in the order of `names`.

    Args:
        path: The .json file.
        motion: The motion.
        timecode: SMPTE time code of the first frame.

    Raises:
        InputError: The frame rate has no such time code.
    """
    names = sorted(ARKIT_NAMES)
    curves = arkit_curves(motion)[:, [LIVE_LINK_ORDER.index(n) for n in names]]
    first = parse_timecode(timecode, motion.fps)
    counted = is_counted(motion.fps)
    frames = [
        {"time": round((n + 0.5) / motion.fps, 6)}
        | ({"timecode": format_timecode(first + n, motion.fps)} if counted else {})
        | {"weights": [round(float(w), 5) for w in row]}
        for n, row in enumerate(curves)
    ]
    document = {"fps": motion.fps, "names": names, "frames": frames}
    path.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")


def write_audio2face_json(path: Path, motion: Motion, sound: str) -> None:
    """Write JSON in the layout of Audio2Face's blend shape export.

    Its fields are `exportFps`, `trackPath`, `numPoses`, `numFrames`, `facsNames` (ARKit's spelling) and `weightMat`,
    one list of weights per frame.

    Args:
        path: The .json file.
        motion: The motion.
        sound: Name of the sound file.
    """
    curves = arkit_curves(motion)
    document = {
        "exportFps": motion.fps,
        "trackPath": sound,
        "numPoses": len(LIVE_LINK_ORDER),
        "numFrames": len(curves),
        "facsNames": LIVE_LINK_ORDER,
        "weightMat": [[round(float(w), 6) for w in row] for row in curves],
    }
    path.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
