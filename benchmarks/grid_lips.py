"""Real lips: how well mouths driven by rule follow GRID speaker 1.

    python benchmarks/grid_lips.py ../shared/data/grid [--every 3] [--style neutral] [--own-alignment]

Prints, for a constant mouth, for a mouth that follows the sound's envelope and for ``--motion rules``:
Pearson r and RMSE (mm) of inner-lip aperture, corner width and chin drop, pooled over the frames of
speech; the share of bilabials whose aperture falls under 1 mm between 60 ms before and 40 ms after
the phone; and the 99th percentile of aperture speed (mm/s) over all frames. The rules are measured on
the rig's own lips at 25 fps. Data: GRID s1, tracked, monocular; phones given unless --own-alignment.
The rules' dynamics and targets were calibrated on clips whose index in order of name mod 3 is not 0;
the figures are for the others (``--every 1`` for all).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from kmtalk.articulation.inverse import MouthSolver
from kmtalk.articulation.prosody import analyse
from kmtalk.articulation.speaker import Speaker, find_style
from kmtalk.corpora.grid import FPS, TrackedClip, load_grid
from kmtalk.face.rig import load_rig
from kmtalk.pipeline import KMTalk
from kmtalk.speech.audio import Audio, load_audio
from kmtalk.weights import asset

CHANNELS = ("aperture", "width", "chin")


def envelope(audio: Audio, count: int) -> np.ndarray:
    """A mouth that follows loudness: the same curve for aperture and chin, its negative for width."""
    voice = analyse(audio.samples)
    times = (np.arange(count) + 0.5) / FPS
    level = gaussian_filter1d(np.clip(voice.at(times, voice.level) / 30 + 1, 0, 1), 1.0)
    return np.stack([12 * level, -2 * level, 5 * level], axis=1)


def measured(solver: MouthSolver, weights: np.ndarray) -> np.ndarray:
    mouth = solver.measure(weights.astype(np.float64))
    return np.stack([mouth.aperture, mouth.width, mouth.jaw], axis=1)


def bilabials(clip: TrackedClip, mouth: np.ndarray) -> list[float]:
    """The least aperture around each p, b and m."""
    times, out = clip.times, []
    for phone in clip.alignment.phones:
        near = (times > phone.start - 0.06) & (times < phone.end + 0.04)
        if phone.label in ("P", "B", "M") and near.any():
            out.append(float(mouth[near, 0].min()))
    return out


def row(name: str, clips: list[TrackedClip], mouths: list[np.ndarray]) -> str:
    real = np.concatenate([c.mouth[c.speaking] for c in clips])
    made = np.concatenate([m[c.speaking] for c, m in zip(clips, mouths, strict=True)])
    r = [np.corrcoef(real[:, k], made[:, k])[0, 1] if made[:, k].std() > 1e-9 else 0.0 for k in range(3)]
    rmse = np.sqrt(((real - made) ** 2).mean(0))
    closed = np.array([b for c, m in zip(clips, mouths, strict=True) for b in bilabials(c, m)])
    speed = np.concatenate([np.abs(np.diff(m[:, 0])) * FPS for m in mouths])
    return (
        f"{name:12s} r {r[0]:.3f} {r[1]:.3f} {r[2]:.3f}   RMSE mm {rmse[0]:.2f} {rmse[1]:.2f} {rmse[2]:.2f}   "
        f"bilabials <1 mm {100 * (closed < 1).mean():5.1f} %   p99 speed {np.percentile(speed, 99):3.0f} mm/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path, help="folder with landmarks.npz, alignment.json and audio/")
    parser.add_argument("--every", type=int, default=3, help="use clips whose index mod this is 0")
    parser.add_argument("--style", default="neutral")
    parser.add_argument("--own-alignment", action="store_true", help="transcribe and align instead of given phones")
    options = parser.parse_args()
    speaker = Speaker(load_rig(asset("head.safetensors")))
    talk = KMTalk() if options.own_alignment else None
    clips = [c for i, c in enumerate(load_grid(options.grid)) if i % options.every == 0]
    style = find_style(options.style)
    rules, envelopes = [], []
    for clip in clips:
        audio = load_audio(clip.audio)
        alignment = talk.align(audio)[1] if talk else clip.alignment
        count = len(clip.mouth)
        motion = speaker.animate(alignment, audio, FPS, style)
        made = measured(speaker.solver, motion.weights)
        made = np.pad(made, ((0, max(0, count - len(made))), (0, 0)), mode="edge")[:count]
        rules.append(made)
        envelopes.append(envelope(audio, count))
    mean = np.concatenate([c.mouth[c.speaking] for c in clips]).mean(0)
    print(f"GRID s1, tracked, monocular: {len(clips)} clips; r and RMSE of {', '.join(CHANNELS)} in speech, pooled")
    print(row("constant", clips, [np.tile(mean, (len(c.mouth), 1)) for c in clips]))
    print(row("envelope", clips, envelopes))
    print(row("rules", clips, rules))
    print(row("real lips", clips, [c.mouth for c in clips]))


if __name__ == "__main__":
    main()
