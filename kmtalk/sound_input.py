"""Sound as `KMTalk` takes it: a file or samples in memory, and which part of it is analysed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kmtalk.errors import InputError
from kmtalk.settings import SoundSettings
from kmtalk.speech.audio import SILENCE_DB, Audio, audio_from_samples, load_audio, rms_level


def read_speech(speech: str | Path | Audio, sound: SoundSettings | None) -> Audio:
    """The sound of a file, or sound in memory, of which `sound` says what is analysed (None: of sound in memory, what
    it says itself).

    Raises:
        InputError: The sound cannot be read, or has no such channel or track.
    """
    chosen = sound or SoundSettings()
    if not isinstance(speech, Audio):
        return load_audio(speech, channel=chosen.channel, track=chosen.track, voice_only=chosen.voice_only)
    if sound is None:
        return speech
    if sound.track is not None:
        raise InputError(f"{speech.source}: track {sound.track}: give it to load_audio, which reads the file")
    return audio_from_samples(
        speech.original,
        speech.original_rate,
        speech.source,
        channel=chosen.channel,
        track=speech.track,
        voice_only=chosen.voice_only,
    )


def sound_settings_of(audio: Audio) -> SoundSettings:
    """The settings by which a clip was read."""
    return SoundSettings(channel=audio.channel, track=audio.track, voice_only=audio.voice_only)


def describe_silence(audio: Audio) -> str:
    """Why a silent clip leaves the face still."""
    if audio.voice_only and np.abs(audio.original).max() > 0:
        return (
            f"{audio.source}: no speech found in the sound: the face stays still; without --voice-only all of it counts"
        )
    loudest = float(rms_level(audio.samples).max())
    return (
        f"{audio.source}: no part of the sound is louder than {SILENCE_DB:g} dBFS (the loudest has {loudest:.0f}), "
        "which counts as silence: the face stays still; raise its level if it is speech"
    )
