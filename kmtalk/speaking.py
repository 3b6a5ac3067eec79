"""Speaking a text: sound with exact phones and words, which `KMTalk.speak` animates."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from kmtalk.errors import InputError
from kmtalk.expression.emotion import emotion_weights
from kmtalk.expression.text_cues import cues_of_text, split_text_cues
from kmtalk.face.motion import frame_times
from kmtalk.face.rig import Rig
from kmtalk.settings import AnimationSettings, VoiceSettings
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import Audio, audio_from_samples, load_audio
from kmtalk.speech.spoken_text import parse_spoken_text
from kmtalk.synthesis.piper import PiperSpeech, load_piper_voice

if TYPE_CHECKING:
    from kmtalk.joint.joint_flow import JointFlow

MAX_TEXT_CHARACTERS = 20_000
"""Longest text that is spoken: some twenty minutes."""

_OTHER_SCRIPTS = frozenset(
    ["am", "ar", "as", "be", "bg", "bn", "el", "fa", "gu", "he", "hi", "hy", "ja", "ka", "kk", "kn", "ko", "ky", "mk"]
    + ["ml", "mr", "my", "ne", "or", "pa", "ru", "sd", "si", "sr", "ta", "te", "th", "tt", "ug", "uk", "ur", "zh"]
)  # languages that are not written in the Latin script


class Voice(Protocol):
    """A voice that was loaded.

    Attributes:
        name: Its name in messages.
        language: ISO 639-1 code of what it speaks.
        rate: Sample rate of its sound in Hz.
    """

    name: str
    language: str
    rate: int

    def speaker_number(self, speaker: str | None) -> int:
        """The number of a speaker; raises InputError where there is no such one."""
        ...

    def speak(self, text: str, rate_factor: float = 1.0, speaker: str | None = None, seed: int = 0) -> PiperSpeech:
        """Speak a text."""
        ...


VOICE_LOADERS: dict[str, Callable[[str | Path | None], Voice]] = {"piper": load_piper_voice}
"""Engine → what loads one of its voices by name or path; None is the engine's default."""


def load_voice(engine: str = "piper", voice: str | Path | None = None) -> Voice:
    """Load a voice, which several calls of `KMTalk.speak` may share.

    Args:
        engine: What speaks: "piper".
        voice: Name or path of the voice; None for the engine's default.

    Raises:
        InputError: There is no such engine or voice, or the voice cannot be used.
    """
    settings = VoiceSettings.create(engine=engine, voice=None if voice is None else str(voice))
    return VOICE_LOADERS[settings.engine](settings.voice)


def prepare_voice(
    engine: str,
    voice: str | Path | Voice | None,
    speaker: str | None,
    rate: float,
    text: str,
    settings: AnimationSettings,
) -> tuple[Voice, AnimationSettings]:
    """Check what is spoken and how, and load the voice: arguments as those of `KMTalk.speak`.

    Returns:
        The voice, and the settings in its language.

    Raises:
        InputError: The text cannot be spoken, or a setting cannot be used.
    """
    VoiceSettings.create(engine=engine, speaker=speaker, rate=rate)
    check_text(text)
    loaded = load_voice(engine, voice) if voice is None or isinstance(voice, str | Path) else voice
    loaded.speaker_number(speaker)
    if settings.language not in (None, loaded.language):
        raise InputError(
            f"language {settings.language}: the voice {loaded.name} speaks {loaded.language}; give a voice of that "
            "language, or leave the language out"
        )
    return loaded, AnimationSettings.create(settings, language=loaded.language)


def check_text(text: str, language: str = "en") -> None:
    """Raise InputError for a text that is empty, too long to be spoken, or without anything to pronounce.

    Args:
        text: The text, with cues and speakers' names.
        language: ISO 639-1 code.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise InputError(
            f"the text: has {len(text):,} characters; at most {MAX_TEXT_CHARACTERS:,} are spoken, divide it into parts"
        )
    if not text.strip():
        raise InputError("the text: is empty; give the words to speak")
    said = split_text_cues(parse_spoken_text(text).text, language)[0]
    if not any(unicodedata.category(c)[0] in "LN" for c in said):
        raise InputError("the text: contains no letter or digit that is spoken; give the words to speak")


def synthesize_text(
    voice: Voice,
    text: str,
    rate: float = 1.0,
    speaker: str | None = None,
    seed: int = 0,
    warn: Callable[[str], None] = lambda line: None,
) -> tuple[Audio, Alignment]:
    """Speak a text.

    Args:
        voice: The voice.
        text: The text as `KMTalk.animate` takes it: cues in square brackets, speakers' names, stage directions and
            the times of subtitles are not spoken.
        rate: Factor of the speaking rate.
        speaker: Name or number of a speaker; None for the first.
        seed: Seed of the voice's random variation.
        warn: Called with one line where something of the text cannot be spoken.

    Returns:
        The sound at the voice's own sample rate, whose samples are those of 16 bits, and its exact phones and words.

    Raises:
        InputError: The text cannot be spoken, or there is no such speaker.
    """
    check_text(text, voice.language)
    said = split_text_cues(parse_spoken_text(text).text, voice.language)[0]
    latin = [unicodedata.name(c, "").startswith("LATIN") for c in said if c.isalpha()]
    if voice.language not in _OTHER_SCRIPTS and 2 * sum(latin) < len(latin):
        warn(
            f"the text: is in a script of which the voice {voice.name} ({voice.language}) knows the names of letters "
            "at most; give a voice of its language"
        )
    spoken = voice.speak(said, rate, speaker, seed)
    if spoken.unknown:
        listed = ", ".join(sorted(spoken.unknown)[:8])
        warn(f"the text: the voice {voice.name} leaves out {listed}, of which it has no sound; is it of its language?")
    if not spoken.phones:
        raise InputError(f"the text: the voice {voice.name} can pronounce nothing of it; give words of its language")
    # as 16 bits hold them, so that a speech.wav that was written is this sound again
    samples = np.clip(np.round(spoken.samples * 32768.0), -32768, 32767) / 32768.0
    audio = audio_from_samples(samples.astype(np.float32), spoken.rate, "speech")
    return audio, Alignment(spoken.phones, spoken.words, status="given", aligner=voice.name)


def speak_jointly(
    flow: JointFlow, text: str, spoken: VoiceSettings, rig: Rig, settings: AnimationSettings
) -> tuple[Audio, Alignment, np.ndarray]:
    """Speak a text by a joint model.

    Args:
        flow: The joint model.
        text: The text, as for `synthesize_text`.
        spoken: The voice that it imitates, and the rate.
        rig: The default head's rig.
        settings: Style, seed, frame rate, intensity, head, expression and emotion.

    Returns:
        The sound, its phones and words, and weights (N, R) of the whole face, with the emotions of the text's cues.

    Raises:
        InputError: The text cannot be spoken, or an input or a setting cannot be used.
    """
    from kmtalk.joint.vocoder import HifiGan
    from kmtalk.joint_conversion import mouth_shapes
    from kmtalk.joint_tasks import speak_text
    from kmtalk.motion.predictor import scale_mouth_weights
    from kmtalk.motion.styles import resolve_style
    from kmtalk.synthesis.voice_vector import VoiceEncoder

    check_text(text)
    if settings.language not in (None, "en"):
        raise InputError(f"language {settings.language}: the joint model speaks English; leave the language out")
    style, vocoder = resolve_style(flow.styles, settings.style), HifiGan()
    vector = None if spoken.voice_like is None else VoiceEncoder.load().encode(load_audio(spoken.voice_like))
    said = split_text_cues(parse_spoken_text(text).text, "en")[0]
    audio, alignment, weights = speak_text(
        flow, vocoder, rig, said, settings.fps, spoken.rate, vector, style, settings.seed
    )
    weights = scale_mouth_weights(weights, rig, settings.intensity)
    weights[:, [i for i, name in enumerate(rig.shape_names) if name.startswith("head")]] *= settings.head
    if not settings.expression:
        mouth = [rig.index[name] for name in mouth_shapes(flow)]
        weights[:, [i for i in range(weights.shape[1]) if i not in mouth]] = 0
    cues = settings.emotion + cues_of_text(text, alignment, settings.language)
    for name, curve in emotion_weights(cues, frame_times(len(weights), settings.fps)).items():
        weights[:, rig.index[name]] += curve
    return audio, alignment, weights
