"""The expression layer of a speaker: everything above the mouth, in one set of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kmtalk.expression.blinks import blink_curve, blink_times
from kmtalk.expression.brows import brow_weights
from kmtalk.expression.emotion import EmotionCue, emotion_weights
from kmtalk.expression.gaze import Gaze, gaze_direction, gaze_weights
from kmtalk.expression.head import head_rotation, head_weights
from kmtalk.face.rig import Rig
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.prosody import Prosody, speech_activity


@dataclass(frozen=True)
class ExpressionCurves:
    """What moves above the mouth of N frames, before it is made of a rig's shapes.

    Attributes:
        head: Pitch (up), yaw and roll (to the left) of the head in degrees, (N, 3).
        gaze: Where the eyes look in space, degrees to the left and up of the camera, (N, 2).
        blinks: Rising times in seconds at which the lids close.
        shapes: Further weights (N,) by shape name; where several have the same shape, they add up.
    """

    head: np.ndarray
    gaze: np.ndarray
    blinks: np.ndarray
    shapes: Sequence[Mapping[str, np.ndarray]]

    def weights(self, rig: Rig, times: np.ndarray) -> np.ndarray:
        """Return the weights (N, R) of a rig's R shapes at `times` (N,) in seconds."""
        lids = blink_curve(self.blinks, times)
        weights = np.zeros((len(times), len(rig.shape_names)))
        moved = head_weights(self.head) | gaze_weights(self.gaze, self.head)
        for curves in (moved | {"eyeBlinkLeft": lids, "eyeBlinkRight": lids}, *self.shapes):
            for name, curve in curves.items():
                weights[:, rig.index[name]] += curve
        return np.clip(weights, 0, 1)


@dataclass(frozen=True)
class ExpressionSettings:
    """How much moves above the mouth.

    Attributes:
        head: Factor on the head's motion; 1 moves as much as public speakers do.
        gaze: "camera" or "wander".
        brows: Factor on the brows' motion.
        emotion: Cues of the emotion layer.
    """

    head: float = 1.0
    gaze: Gaze = "camera"
    brows: float = 1.0
    emotion: tuple[EmotionCue, ...] = ()


def speaker_expression(
    alignment: Alignment,
    prosody: Prosody,
    times: np.ndarray,
    settings: ExpressionSettings,
    rng: np.random.Generator,
) -> ExpressionCurves:
    """Return what moves above the mouth of a speaker, and the emotion.

    Args:
        alignment: Phones and words of the clip.
        prosody: Loudness and pitch of the clip.
        times: (N,) frame times in seconds.
        settings: How much moves.
        rng: Source of the random variation; each part takes a generator of its own, so that none changes another.
    """
    for_head, for_gaze, for_blinks, for_brows = rng.spawn(4)
    talking = speech_activity(alignment, prosody, times)
    return ExpressionCurves(
        head_rotation(prosody, talking, times, settings.head, for_head),
        gaze_direction(times, settings.gaze, for_gaze),
        blink_times(alignment, talking, times, for_blinks),
        (brow_weights(prosody, times, settings.brows, for_brows), emotion_weights(settings.emotion, times)),
    )


def expression_weights(
    rig: Rig,
    alignment: Alignment,
    prosody: Prosody,
    times: np.ndarray,
    settings: ExpressionSettings,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return `speaker_expression` as weights (N, R) of a rig's R shapes."""
    return speaker_expression(alignment, prosody, times, settings, rng).weights(rig, times)
