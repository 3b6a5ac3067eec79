"""What moves above the mouth, beside recorded readers: `python benchmarks/expression.py ARKIT/grid_s1.npz …`.

Each file has ARKit curves and head poses by frame of many clips: `clip`, `names`, `start` (C + 1,), `values` (F, 52),
`pose` (F, 4, 4), `fps` (C,). Ours: a minute of the sample speech, repeated, in five seeds, 30 fps. Printed are

- head: standard deviation within a clip (ours: within 5 s) in degrees, and the median and 95th percentile of the speed
  in degrees per second, of pitch, yaw and roll;
- blinks: number a minute (spans of eyeBlink above half of its 99.5th percentile), quartiles over minutes of clips in
  order, and the median time above that;
- brows: standard deviation within a clip and 95th percentile of browInnerUp;
- gaze: share of time in which the eyes turn faster than 30 degrees per second.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import label
from scipy.spatial.transform import Rotation

from kmtalk.assets import asset_path
from kmtalk.expression.layer import ExpressionSettings, expression_weights
from kmtalk.face.joints import EYE_DEGREES, HEAD_DEGREES
from kmtalk.face.motion import frame_times
from kmtalk.face.rig import load_light_head
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import SAMPLE_RATE, load_audio
from kmtalk.speech.prosody import analyze_prosody

FPS = 30.0
MINUTE = 60.0  # s
Clip = tuple[np.ndarray, dict[str, np.ndarray]]
"""Rotation of the head (N, 3) in degrees, pitch, yaw and roll; and curves (N,) by name."""


def recorded(path: Path) -> tuple[list[Clip], float]:
    """The clips of a file, and their frames per second."""
    with np.load(path) as file:
        names, start, values = [str(n) for n in file["names"]], file["start"], file["values"].astype(np.float64)
        pose, fps = file["pose"].astype(np.float64), float(np.median(file["fps"]))
    clips = []
    for first, last in zip(start[:-1], start[1:], strict=True):
        turned = Rotation.from_matrix(pose[first:last, :3, :3]).as_euler("XYZ", degrees=True)
        curves = {name: values[first:last, k] for k, name in enumerate(names)}
        clips.append((np.unwrap(turned, axis=0, period=360), curves))
    return clips, fps


def made() -> list[Clip]:
    """A minute of ours in five seeds."""
    samples = load_audio(asset_path("speech.wav")).samples
    prosody = analyze_prosody(np.tile(samples, 6)[: int(MINUTE * SAMPLE_RATE)])
    rig, times = load_light_head(), frame_times(int(MINUTE * FPS), FPS)
    clips = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        weights = expression_weights(rig, Alignment(), prosody, times, ExpressionSettings(), rng)
        curves = {name: weights[:, k] for name, k in rig.index.items()}
        pairs = (("headPitchUp", "headPitchDown"), ("headYawLeft", "headYawRight"), ("headRollLeft", "headRollRight"))
        clips.append((HEAD_DEGREES * np.stack([curves[a] - curves[b] for a, b in pairs], 1), curves))
    return clips


def report(title: str, clips: Sequence[Clip], fps: float, seconds: float | None) -> None:
    """Print one row of each measure; `seconds` cuts the clips."""
    parts = clips
    if seconds is not None:
        size = int(seconds * fps)
        parts = [
            (turned[i : i + size], {n: c[i : i + size] for n, c in curves.items()})
            for turned, curves in clips
            for i in range(0, len(turned) - size + 1, size)
        ]
    deviation = np.mean([turned.std(0) for turned, _ in parts], 0)
    speed = np.concatenate([np.abs(np.diff(turned, axis=0)) * fps for turned, _ in parts])
    lids = [(curves["eyeBlinkLeft"] + curves["eyeBlinkRight"]) / 2 for _, curves in clips]
    half = 0.5 * np.percentile(np.concatenate(lids), 99.5)
    spans, frames = [], [0.0]
    counts, elapsed = [0], 0
    for lid in lids:
        marked, count = label(lid > half)
        spans += [int((marked == k + 1).sum()) for k in range(count)]
        counts[-1] += count
        elapsed += len(lid)
        if elapsed >= MINUTE * fps:
            counts, frames, elapsed = [*counts, 0], [*frames[:-1], elapsed, 0.0], 0
    rates = np.array(counts[:-1]) / (np.array(frames[:-1]) / fps / 60)
    brows = np.mean([curves["browInnerUp"].std() for _, curves in parts])
    raised = np.percentile(np.concatenate([curves["browInnerUp"] for _, curves in parts]), 95)
    aside = [EYE_DEGREES["Out"] * (c["eyeLookOutLeft"] - c["eyeLookInLeft"]) for _, c in clips]
    fast = np.mean(np.concatenate([np.abs(np.diff(a)) * fps > 30 for a in aside]))
    low, middle, high = np.percentile(rates, [25, 50, 75])
    print(
        f"{title:12s} head SD {_row(deviation, 1)}, speed {_row(np.median(speed, 0))} / "
        f"{_row(np.percentile(speed, 95, axis=0))} | blinks {middle:.0f} a minute ({low:.0f} to {high:.0f}), "
        f"{1000 * np.median(spans) / fps:.0f} ms | brows SD {brows:.2f}, 95th percentile {raised:.2f} | "
        f"eyes fast {100 * fast:.0f} %"
    )


def _row(values: np.ndarray, digits: int = 0) -> str:
    return " ".join(f"{value:.{digits}f}" for value in values)


def main() -> None:
    for name in sys.argv[1:]:
        clips, fps = recorded(Path(name))
        report(Path(name).stem, clips, fps, None)
    report("kmtalk", made(), FPS, 5.0)


if __name__ == "__main__":
    main()
