"""How much of real lips do key frames hold? `python benchmarks/key_placement.py GRID [--speaker s4]`.

The tracked aperture of GRID's held-out clips is interpolated by straight lines through key frames at phone boundaries,
and at boundaries and the middle of vowels (apex), each beside the same number of evenly spaced frames: over the whole
clip, and within the utterance, where silence takes none. Printed are the RMS errors in mm, pooled over frames of
speech, with the true phones, 25 fps.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from kmtalk.corpora.grid import FPS, SPEAKERS, held_out_clip_names, load_tracked_grid
from kmtalk.motion.inference import select_key_frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--speaker", choices=SPEAKERS, default="s1")
    given = parser.parse_args()
    held_out, clips = held_out_clip_names(given.speaker), 0
    errors: dict[str, list[np.ndarray]] = {}
    shares: dict[str, list[float]] = {}
    for clip in load_tracked_grid(given.folder, given.speaker):
        if clip.name not in held_out:
            continue
        clips += 1
        aperture, frames = clip.mouth_measurements[:, 0], np.arange(len(clip.mouth_measurements))
        for placement in ("phones", "apex"):
            keys = select_key_frames(clip.alignment, len(frames), FPS, placement)
            even = np.unique(np.linspace(0, len(frames) - 1, len(keys)).round().astype(int))
            spoken = np.flatnonzero(clip.utterance_mask)
            inside = keys[(keys >= spoken[0]) & (keys <= spoken[-1])]
            within = np.linspace(spoken[0], spoken[-1], max(2, len(inside))).round().astype(int)
            evenly = f"{placement}, evenly spaced"
            rows = ((placement, keys), (evenly, even), (f"{evenly} in speech", np.unique(within)))
            for name, chosen in rows:
                missed = np.interp(frames, chosen, aperture[chosen]) - aperture
                errors.setdefault(name, []).append(missed[clip.utterance_mask])
                shares.setdefault(name, []).append(len(chosen) / len(frames))
    for name, missed in errors.items():
        rms = float(np.sqrt(np.mean(np.concatenate(missed) ** 2)))
        print(f"{name:32s} RMS error {rms:.2f} mm, {100 * np.mean(shares[name]):.0f} % of frames are keys")
    print(f"GRID {given.speaker}, tracked, monocular, {clips} held-out clips")


if __name__ == "__main__":
    main()
