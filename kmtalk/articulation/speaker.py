"""The simulated speaker: phones and voice → rig motion, by rule. ``--motion rules``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from kmtalk.articulation import gestures, prosody
from kmtalk.articulation.inverse import Mouth, MouthSolver
from kmtalk.errors import InputError
from kmtalk.face.motion import Motion, frame_count, frame_times
from kmtalk.face.rig import Rig
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import Audio


@dataclass(frozen=True)
class Style:
    """A way of speaking; 1 is the average speaker throughout.

    ``effort`` scales opening, ``rounding`` width and protrusion, ``jaw`` how much of the opening the
    jaw does, ``tempo`` the speed of the articulators; ``residual`` is the size in mm of what no rule
    explains; ``upper`` scales brows and head.
    """

    effort: float = 1.0
    rounding: float = 1.0
    jaw: float = 1.0
    tempo: float = 1.0
    residual: float = 0.15
    upper: float = 1.0

    @staticmethod
    def from_seed(seed: int) -> Style:
        """One speaker out of the population, the same for the same seed."""
        rng = np.random.default_rng([0x57A1, seed])
        effort, rounding, jaw, tempo, residual, upper = np.exp(rng.normal(size=6) * [0.15, 0.2, 0.2, 0.1, 0.3, 0.35])
        return Style(effort, rounding, jaw, tempo, 0.15 * residual, upper)


STYLES: dict[str, Style] = {
    "neutral": Style(),
    "clear": Style(effort=1.2, rounding=1.2, jaw=1.1, tempo=1.15),
    "relaxed": Style(effort=0.8, rounding=0.8, jaw=0.9, tempo=0.9, upper=0.7),
    "expressive": Style(effort=1.15, rounding=1.1, upper=1.8),
}


def find_style(name: str | int | Style | None) -> Style:
    """A Style, its name, or a number that seeds one; raises InputError for anything else."""
    if name is None:
        return STYLES["neutral"]
    if isinstance(name, Style):
        return name
    if (isinstance(name, int) and name >= 0) or str(name).isdecimal():
        return Style.from_seed(int(name))
    if name not in STYLES:
        raise InputError(f"{name}: no such style; one of {', '.join(STYLES)}, or a number for a random speaker")
    return STYLES[str(name)]


class Speaker:
    """Articulates alignments on one rig."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.solver = MouthSolver(rig)

    def animate(self, alignment: Alignment, audio: Audio, fps: float, style: Style, seed: int = 0) -> Motion:
        """Motion of round(duration · fps) frames. The same arguments give the same motion.

        A silent clip gives a still face; a clip without phones a mouth that follows loudness.
        """
        count = frame_count(audio.duration, fps)
        weights = np.zeros((count, len(self.rig.names)))
        if audio.silent:
            return Motion(self.rig, weights.astype(np.float32), fps)
        times = frame_times(count, fps)
        voice = prosody.analyse(audio.samples)
        rng = np.random.default_rng([seed, _digest(audio)])
        manner = gestures.Manner(style.effort, style.rounding, style.jaw, style.tempo, style.residual)
        if alignment.phones:
            tracks = gestures.from_phones(alignment, voice, audio.duration, times, manner, rng)
            for span in alignment.unaligned:
                tracks = gestures.within(span, times, gestures.from_loudness(voice, times, manner), tracks)
        else:
            tracks = gestures.from_loudness(voice, times, manner)
        fixed = np.zeros_like(weights)
        for name, curve in tracks.shapes.items():
            fixed[:, self.rig.index[name]] = curve
        weights = self.solver.solve(Mouth(tracks.aperture, tracks.width, tracks.protrusion, tracks.jaw), fixed)
        for name, curve in prosody.upper_face(voice, alignment, times, fps, style.upper, rng).items():
            weights[:, self.rig.index[name]] = curve
        return Motion(self.rig, np.clip(weights, 0, 1).astype(np.float32), fps)


def _digest(audio: Audio) -> int:
    """A number that depends on the sound alone, so that clips differ and reruns do not."""
    return int.from_bytes(hashlib.sha256(audio.samples.tobytes()).digest()[:8], "little")
