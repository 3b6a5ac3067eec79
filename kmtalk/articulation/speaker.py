"""The simulated speaker: phones and voice → rig motion, by rule. ``--motion rules``."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
from scipy.ndimage import minimum_filter1d

from kmtalk.articulation import gestures, prosody
from kmtalk.articulation.mouth_solver import TRACKING_PRIOR, MouthSolver
from kmtalk.articulation.styles import SPEAKING_STYLES, SpeakingStyle
from kmtalk.face.motion import Motion, frame_count, frame_times
from kmtalk.face.mouth import MouthMeasurements
from kmtalk.face.rig import Rig
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import Audio

TRACKED_CONTACT = 0.4  # mm between tracked lips that count as closed
TRACKED_CLOSURE = 2.0  # mm: nearer than this, a bilabial's lips are brought together


class SimulatedSpeaker:
    """Articulates alignments on one rig."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.solver = MouthSolver(rig)
        self._measured = MouthSolver(rig, TRACKING_PRIOR)

    def animate(self, alignment: Alignment, audio: Audio, fps: float, style: SpeakingStyle, seed: int = 0) -> Motion:
        """Mouth and expression together: round(duration · fps) frames. The same arguments give the same
        motion. A silent clip gives a still face; a clip without phones a mouth that follows loudness.
        """
        weights = self.mouth_weights(alignment, audio, fps, style, seed) + self.expression_weights(
            alignment, audio, fps, style, seed
        )
        return Motion(self.rig, np.clip(weights, 0, 1).astype(np.float32), fps)

    def mouth_weights(
        self, alignment: Alignment, audio: Audio, fps: float, style: SpeakingStyle, seed: int = 0
    ) -> np.ndarray:
        """Weights (N, R) of the shapes of mouth, jaw and tongue alone; the others are zero."""
        times, voice = self._clock(audio, fps)
        if audio.is_silent:
            return np.zeros((len(times), len(self.rig.names)))
        return self._solve(self.solver, self._tracks(alignment, audio, voice, times, style, seed))

    def fit_tracked_mouth(self, alignment: Alignment, audio: Audio, fps: float, measured: np.ndarray) -> np.ndarray:
        """Weights (N, R) of a mouth whose aperture, width and chin were ``measured`` (N, 3) in mm.

        What one camera cannot see (protrusion, tongue, what the lips do at f and v) is the rules'.
        Where lips that were to touch came close, they are brought to contact: a tracker sees half a
        millimetre between closed lips.
        """
        times, voice = self._clock(audio, fps)
        style = replace(SPEAKING_STYLES["neutral"], residual=0.0)
        tracks = self._tracks(alignment, audio, voice, times, style, 0)
        measured = measured[: len(times)]
        measured = np.pad(measured, ((0, len(times) - len(measured)), (0, 0)), mode="edge")
        aperture = np.where(measured[:, 0] < TRACKED_CONTACT, 0.0, measured[:, 0])
        near = (minimum_filter1d(measured[:, 0], 3) < TRACKED_CLOSURE) * tracks.bilabial_closure
        tracks = replace(
            tracks, aperture=(1 - near) * aperture, width=measured[:, 1], jaw=np.maximum(measured[:, 2], 0)
        )
        return self._solve(self._measured, tracks)

    def expression_weights(
        self, alignment: Alignment, audio: Audio, fps: float, style: SpeakingStyle, seed: int = 0
    ) -> np.ndarray:
        """Weights (N, R) of brows, lids and head alone, from the voice: a layer of its own."""
        times, voice = self._clock(audio, fps)
        weights = np.zeros((len(times), len(self.rig.names)))
        if not audio.is_silent:
            rng = np.random.default_rng([seed, _digest(audio), 1])
            for name, curve in prosody.upper_face_weights(voice, alignment, times, fps, style.upper_face, rng).items():
                weights[:, self.rig.index[name]] = curve
        return weights

    def _clock(self, audio: Audio, fps: float) -> tuple[np.ndarray, prosody.Prosody]:
        return frame_times(frame_count(audio.duration, fps), fps), prosody.analyze_prosody(audio.samples)

    def _tracks(
        self,
        alignment: Alignment,
        audio: Audio,
        voice: prosody.Prosody,
        times: np.ndarray,
        style: SpeakingStyle,
        seed: int,
    ) -> gestures.ArticulatoryTrajectories:
        rng = np.random.default_rng([seed, _digest(audio)])
        if not alignment.phones:
            return gestures.trajectories_from_loudness(voice, times, style)
        tracks = gestures.trajectories_from_phones(alignment, voice, audio.duration, times, style, rng)
        for span in alignment.unaligned:
            tracks = gestures.crossfade_span(
                span, times, gestures.trajectories_from_loudness(voice, times, style), tracks
            )
        return tracks

    def _solve(self, solver: MouthSolver, tracks: gestures.ArticulatoryTrajectories) -> np.ndarray:
        fixed = np.zeros((len(tracks.aperture), len(self.rig.names)))
        for name, curve in tracks.shape_weights.items():
            fixed[:, self.rig.index[name]] = curve
        return solver.solve(MouthMeasurements(tracks.aperture, tracks.width, tracks.protrusion, tracks.jaw), fixed)


def _digest(audio: Audio) -> int:
    """A number that depends on the sound alone, so that clips differ and reruns do not."""
    return int.from_bytes(hashlib.sha256(audio.samples.tobytes()).digest()[:8], "little")
