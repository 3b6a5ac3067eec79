"""The faces of two who speak and listen in turn, by rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kmtalk.expression.emotion import EmotionCue, emotion_weights
from kmtalk.expression.heard_speech import HeardSpeech, analyze_heard_speech
from kmtalk.expression.layer import ExpressionSettings, speaker_expression
from kmtalk.expression.listener import ListenerSettings as ListenerLayer
from kmtalk.expression.listener import SeenSmile, listener_expression
from kmtalk.expression.mimicry import SMILE_SHAPES
from kmtalk.expression.turn_taking import fade_expressions, speaking_share
from kmtalk.face.motion import frame_times
from kmtalk.face.rig import Rig
from kmtalk.listener_settings import DialogueSettings
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import Audio
from kmtalk.speech.prosody import analyze_prosody, speech_activity


def heard_speech(audio: Audio) -> HeardSpeech | None:
    """Return what a listener notices in the speech of a sound; None where it has none."""
    if audio.is_silent:
        return None
    heard = analyze_heard_speech(audio.samples)
    return heard if heard.speaking.any() else None


@dataclass(frozen=True)
class Speaker:
    """One of the two in a dialogue.

    Attributes:
        audio: The sound of the conversation, of which this one's voice is analysed.
        alignment: Words and phones of this one's voice.
        mouth: (N, R) weights of the mouth on the default head.
        brows: Factor on the brows' motion while speaking.
        emotion: Cues of this one's emotion.
    """

    audio: Audio
    alignment: Alignment
    mouth: np.ndarray
    brows: float
    emotion: tuple[EmotionCue, ...]


def dialogue_weights(rig: Rig, voices: Sequence[Speaker], settings: DialogueSettings) -> list[np.ndarray]:
    """Return the weights (N, R) of both faces of a dialogue, on the default head.

    Each has the expression of a speaker while it speaks, and that of a listener while the other does; where both are
    silent it is idle.

    Args:
        rig: The rig of the default head, with R shapes.
        voices: The two voices, of equal length.
        settings: How they speak and listen.
    """
    if not settings.expression:
        return [voice.mouth for voice in voices]
    times = frame_times(len(voices[0].mouth), settings.fps)
    out = []
    for k, (voice, other) in enumerate(zip(voices, reversed(voices), strict=True)):
        smile = emotion_weights(other.emotion, times).get(SMILE_SHAPES[0])
        layer = ListenerLayer(settings.nod, settings.head, settings.gaze, voice.emotion, settings.smile)
        expression = listener_expression(
            heard_speech(other.audio),
            None if smile is None else SeenSmile(smile, settings.fps),
            times,
            layer,
            np.random.default_rng([settings.seed, 2, k]),
        )
        if not voice.audio.is_silent:
            prosody = analyze_prosody(voice.audio.samples)
            speaker = speaker_expression(
                voice.alignment,
                prosody,
                times,
                ExpressionSettings(settings.head, settings.gaze, voice.brows, voice.emotion),
                np.random.default_rng([settings.seed, voice.audio.digest, 1]),
            )
            share = speaking_share(speech_activity(voice.alignment, prosody, times), times)
            expression = fade_expressions(speaker, expression, share, times)
        out.append(np.clip(voice.mouth + expression.weights(rig, times), 0, 1))
    return out
