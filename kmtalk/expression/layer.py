"""The expression layer: everything above the mouth, in one set of weights."""

from __future__ import annotations

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


def expression_weights(
    rig: Rig,
    alignment: Alignment,
    prosody: Prosody,
    times: np.ndarray,
    settings: ExpressionSettings,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return weights (N, R) of brows, eyelids, eyes and head, and of the emotion; the others are zero.

    Args:
        rig: The rig, with R shapes.
        alignment: Phones and words of the clip.
        prosody: Loudness and pitch of the clip.
        times: (N,) frame times in seconds.
        settings: How much moves.
        rng: Source of the random variation; each part takes a generator of its own, so that none changes another.
    """
    for_head, for_gaze, for_blinks, for_brows = rng.spawn(4)
    talking = speech_activity(alignment, prosody, times)
    rotation = head_rotation(prosody, talking, times, settings.head, for_head)
    curves = head_weights(rotation)
    curves |= gaze_weights(gaze_direction(times, settings.gaze, for_gaze), rotation)
    curves |= brow_weights(prosody, times, settings.brows, for_brows)
    lids = blink_curve(blink_times(alignment, talking, times, for_blinks), times)
    curves |= {"eyeBlinkLeft": lids, "eyeBlinkRight": lids}
    weights = np.zeros((len(times), len(rig.shape_names)))
    for name, curve in curves.items():
        weights[:, rig.index[name]] = curve
    for name, curve in emotion_weights(settings.emotion, times).items():
        weights[:, rig.index[name]] += curve
    return np.clip(weights, 0, 1)
