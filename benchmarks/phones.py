"""The mouth by phone, on the sample speech and on forty prompts of an unseen voice: `python benchmarks/phones.py`.

    python benchmarks/phones.py [--style neutral] [--network WEIGHTS] [--rules] [--count 40]

Measured on the rig at 30 fps, without the expression layer: aperture, rise of the upper and drop of the lower lip
against rest, change of width, protrusion, and drop of the lower incisors, in mm, means over the phones of a kind. They
are taken in the middle of each phone, except for the jaw (its extreme within the phone: the greatest drop in vowels,
the least in consonants) and, for rounded phones, width and protrusion (their extremes). Tongue: greatest weight of the
shape within the phone. Then the 95th percentiles of two shapes and of the aperture over frames of speech, and the
speed of the aperture. Prompts: see prompts.py, with the true texts.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from prompts import load_prompts

from kmtalk import KMTalk, metrics
from kmtalk.articulation.mouth_solver import MouthSolver
from kmtalk.articulation.targets import PHONE_TARGETS, VOWELS
from kmtalk.assets import asset_path
from kmtalk.face.motion import frame_times
from kmtalk.speech.phones import canonical_phone

ROUNDED = frozenset(p for p, target in PHONE_TARGETS.items() if target.protrusion > 3)
AT_THE_RIDGE = 0.6  # weight of tongueTipUp from which the tip touches the ridge behind the teeth
SHOWN = tuple(
    "AA AE AO AY EH EY IY IH UH UW OW W R ER S Z SH CH T D N L TH DH F V P B M K".split()  # noqa: SIM905
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--style")
    parser.add_argument("--network", type=Path)
    parser.add_argument("--rules", action="store_true")
    parser.add_argument("--count", type=int, default=40)
    given = parser.parse_args()
    talk = KMTalk(network=given.network)
    clips: list[tuple[Path, str | None]] = [(asset_path("speech.wav"), None)]
    clips += load_prompts(given.count, 0) if given.count else []
    solver, motion = MouthSolver(talk.rig), "rules" if given.rules else "network"
    by_phone: dict[str, list[np.ndarray]] = defaultdict(list)
    speaking, speeds, least = [], [], []
    for path, text in clips:
        animation = talk.animate(path, text=text, style=given.style, motion=motion, expression=False)
        names, alignment = animation.shape_names, animation.alignment
        mouth, times = solver.measure(animation.weights), frame_times(len(animation.weights), animation.fps)
        shapes = ("tongueTipUp", "tongueInterdental", "tongueDorsumUp", "mouthUpperUpLeft", "jawOpen")
        rows = np.stack(
            [mouth.aperture, mouth.upper_lip, mouth.lower_lip, mouth.width, mouth.protrusion, mouth.jaw]
            + [animation.weights[:, names.index(shape)] for shape in shapes],
            axis=1,
        )
        speaking.append(rows[alignment.utterance_mask(times)])
        speeds.append(np.abs(np.diff(mouth.aperture)) * animation.fps)
        least += metrics.minimum_apertures(mouth.lip_channels, alignment, animation.fps)
        for phone in alignment.phones:
            label = canonical_phone(phone.label)
            row = rows[np.abs(times - (phone.start + phone.end) / 2).argmin()].copy()
            inside = rows[(times >= phone.start) & (times <= phone.end)]
            if len(inside):
                row[5] = inside[:, 5].max() if label in VOWELS else inside[:, 5].min()
                row[6:9] = inside[:, 6:9].max(0)
                if label in ROUNDED:
                    row[3], row[4] = inside[:, 3].min(), inside[:, 4].max()
            by_phone[label].append(row)
    print("phone   n  aperture upper lower width protrusion  jaw | tongue tip, interdental, dorsum")
    for label in SHOWN:
        if by_phone[label]:
            row = np.mean(by_phone[label], axis=0)
            print(
                f"{label:4s} {len(by_phone[label]):4d} {row[0]:8.1f} {row[1]:6.1f} {row[2]:5.1f} {row[3]:5.1f} "
                f"{row[4]:9.1f} {row[5]:6.1f} | {row[6]:.2f} {row[7]:.2f} {row[8]:.2f}"
            )
    tips = [row[6] for label in "TDNL" for row in by_phone[label]]
    frames = np.concatenate(speaking)
    wide, upper, jaw = (np.percentile(frames[:, column], 95) for column in (0, 9, 10))
    print(f"tongue tip at the ridge at t d n l: {100 * np.mean(np.array(tips) > AT_THE_RIDGE):.0f} % of {len(tips)}")
    print(f"95th percentiles: aperture {wide:.1f} mm, mouthUpperUp {upper:.2f}, jawOpen {jaw:.2f}")
    speed = np.concatenate(speeds)
    print(f"speed of the aperture: 99th percentile {np.percentile(speed, 99):.0f} mm/s, at most {speed.max():.0f}")
    closed = 100 * np.mean(np.array(least) < metrics.CLOSED_MM)
    print(f"p b m closed (below {metrics.CLOSED_MM:g} mm): {closed:.0f} % of {len(least)}")
    print(f"{len(clips)} clips, {len(frames)} frames of speech, style {given.style or 'default'}, {motion}")


if __name__ == "__main__":
    main()
