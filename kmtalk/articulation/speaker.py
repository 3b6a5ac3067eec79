"""Rule-based motion (`--motion rules`): phones and voice → rig weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter1d, minimum_filter1d

from kmtalk.articulation import gestures
from kmtalk.articulation.mouth_solver import TRACKING_PRIOR, MouthSolver, MouthTarget
from kmtalk.articulation.styles import SPEAKING_STYLES, SpeakingStyle
from kmtalk.face.motion import Motion, frame_count, frame_times
from kmtalk.face.rig import Rig
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import Audio
from kmtalk.speech.prosody import Prosody, analyze_prosody

TRACKED_CONTACT = 0.25  # mm; tracked lips with a smaller aperture count as closed
TRACKED_CLOSURE = 2.0  # mm; tracked lips with a smaller aperture are closed in a bilabial
MOST_REST_GAP = 1.5  # mm; in pauses, the tracker reports up to this gap between closed lips
SLACK_JAW = 2.5  # mm by which the jaw may drop further than the lower lip


class SimulatedSpeaker:
    """Animates a rig from alignments by rules.

    Methods return weights (N, R) in [0, 1] for N = round(duration · fps) frames and the R shapes of the rig. Frame n
    is at (n + 0.5) / fps. Equal arguments give equal results; `seed` selects the random variation.
    """

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.solver = MouthSolver(rig)
        self._tracking_solver = MouthSolver(rig, TRACKING_PRIOR)

    def animate(self, alignment: Alignment, audio: Audio, fps: float, style: SpeakingStyle, seed: int = 0) -> Motion:
        """Animate the mouth; see `mouth_weights`."""
        weights = self.mouth_weights(alignment, audio, fps, style, seed)
        return Motion(self.rig, np.clip(weights, 0, 1).astype(np.float32), fps)

    def mouth_weights(
        self,
        alignment: Alignment,
        audio: Audio,
        fps: float,
        style: SpeakingStyle,
        seed: int = 0,
        prosody: Prosody | None = None,
    ) -> np.ndarray:
        """Compute the motion of mouth, jaw and tongue.

        Args:
            alignment: Phones and words of the clip. Without phones the mouth follows loudness.
            audio: The clip. A silent clip gives a still face.
            fps: Frames per second.
            style: Speaking style.
            seed: Seed of the random variation.
            prosody: Loudness and pitch of the clip, where they are known.

        Returns:
            Weights (N, R), N = round(duration · fps); those of all other shapes are zero.
        """
        times = frame_times(frame_count(audio.duration, fps), fps)
        if audio.is_silent:
            return np.zeros((len(times), len(self.rig.shape_names)))
        voice = prosody or analyze_prosody(audio.samples)
        return self._solve(self.solver, self._trajectories(alignment, audio, voice, times, style, seed))

    def fit_tracked_mouth(self, alignment: Alignment, audio: Audio, fps: float, measured: np.ndarray) -> np.ndarray:
        """Fit the mouth to tracked lips.

        A single camera sees neither protrusion, tongue and labiodental contact nor the jaw, which the skin of the chin
        does not follow; these come from the rules. Lips that the tracker sees nearly closed are closed: in pauses, in
        which it reports a gap, and in bilabials up to `TRACKED_CLOSURE`.

        Args:
            alignment: Phones of the clip.
            audio: The clip.
            fps: Frames per second.
            measured: (N, 5) tracked channels of `kmtalk.face.mouth.LIP_CHANNELS` in mm. If it has another number of
                frames, it is cut, or extended by its last frame.

        Returns:
            Weights (N, R) of the mouth, jaw and tongue shapes.
        """
        times, voice = frame_times(frame_count(audio.duration, fps), fps), analyze_prosody(audio.samples)
        style = replace(SPEAKING_STYLES["neutral"], noise_mm=0.0)
        trajectories = self._trajectories(alignment, audio, voice, times, style, 0)
        measured = measured[: len(times)]
        measured = np.pad(measured, ((0, len(times) - len(measured)), (0, 0)), mode="edge")
        aperture, width, upper, lower, _ = measured.T
        pausing = ~alignment.utterance_mask(times)
        rest_gap = min(float(np.median(aperture[pausing])), MOST_REST_GAP) if pausing.any() else 0.0
        aperture = np.maximum(aperture - rest_gap * gaussian_filter1d(pausing.astype(float), 0.06 * fps), 0)
        near = (minimum_filter1d(aperture, 3) < TRACKED_CLOSURE) * trajectories.bilabial_closure
        aperture = (1 - near) * np.where(aperture < TRACKED_CONTACT, 0.0, aperture)
        upper = aperture / 2 - (lower - upper) / 2  # the middle between the lips is kept
        trajectories = replace(
            trajectories,
            aperture=aperture,
            upper_lip=upper,
            width=width,
            jaw=np.minimum(trajectories.jaw, np.maximum(aperture - upper, 0) + SLACK_JAW),
        )
        return self._solve(self._tracking_solver, trajectories)

    def _trajectories(
        self,
        alignment: Alignment,
        audio: Audio,
        voice: Prosody,
        times: np.ndarray,
        style: SpeakingStyle,
        seed: int,
    ) -> gestures.ArticulatoryTrajectories:
        rng = np.random.default_rng([seed, audio.digest])
        if not alignment.phones:
            return gestures.trajectories_from_loudness(voice, times, style)
        trajectories = gestures.trajectories_from_phones(alignment, voice, audio.duration, times, style, rng)
        for span in alignment.unaligned:
            trajectories = gestures.crossfade_span(
                span, times, gestures.trajectories_from_loudness(voice, times, style), trajectories
            )
        return trajectories

    def _solve(self, solver: MouthSolver, trajectories: gestures.ArticulatoryTrajectories) -> np.ndarray:
        fixed = np.zeros((len(trajectories.aperture), len(self.rig.shape_names)))
        for name, curve in trajectories.shape_weights.items():
            fixed[:, self.rig.index[name]] = curve
        t = trajectories
        return solver.solve(MouthTarget(t.aperture, t.upper_lip, t.width, t.protrusion, t.jaw), fixed)
