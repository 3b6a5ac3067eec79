"""Log mel spectrogram of sound that arrives in blocks, relative to the loudness of the voice so far.

Frame k, 25 ms long, is centred at (k + 0.5) · 10 ms. Levels are in dB; 0 dB of a frame is the level that loud syllables
of the voice have, so that a distant microphone gives what a near one does.
"""

from __future__ import annotations

import math

import numpy as np

from kmtalk.speech.audio import SAMPLE_RATE
from kmtalk.synthesis.mel import mel_filterbank

BANDS = 80
HOP, WINDOW = 160, 400  # samples: 10 ms, 25 ms
HOP_SECONDS = HOP / SAMPLE_RATE
AHEAD = (WINDOW - HOP) // 2  # samples of a frame's window after its hop
FLOOR_DB = -100.0  # level of silence
FIRST_LEVEL_DB = -24.0  # level of loud syllables that is assumed before any is heard
QUIETEST_LEVEL_DB = -45.0  # no voice is taken for quieter, so that noise stays quiet
ATTACK_SECONDS, DECAY_DB = 0.25, 0.5
"""Time constant with which the level rises to louder syllables, and dB per second by which it falls in speech."""

SPEECH_RANGE_DB = 25.0
"""Sound this far below the loud syllables of the last seconds is a pause, in which the level stays."""

OVER_NOISE_DB, NOISE_RISE_DB = 10.0, 1.0
"""Speech is this far above steady noise, and dB per second by which what is taken for noise rises to steady sound."""

FIRST_NOISE_DB = -50.0  # level of noise that is assumed before any is heard
SOUND_OVER_NOISE_DB = 6.0
"""Sound that is no further above steady noise than this is that noise: its level varies by less."""

RECENT_DB, FORGET_DB = 8.0, 1.0
"""dB per second by which the level of the last seconds falls in speech, and in pauses."""

CATCH_UP_DB, CATCH_UP_FROM_DB = 6.0, 6.0
"""dB per second by which the level falls to a voice that is quieter than it by more than this."""

LOWEST, HIGHEST, SCALE = -60.0, 20.0, 20.0
"""Bounds of a band relative to the level in dB, and dB per unit of the network's input."""


def frame_bands(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Analyse windows that begin every `HOP` samples.

    Args:
        samples: Mono samples (S,) at `SAMPLE_RATE`; frame k is made of those from k · `HOP` on.

    Returns:
        bands: (n, `BANDS`) float32 power in dB.
        level: (n,) float32 power of the frame in dB.
    """
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP] if len(samples) >= WINDOW else None
    if windows is None:
        return np.zeros((0, BANDS), np.float32), np.zeros(0, np.float32)
    spectrum = np.fft.rfft(windows * _HANN, axis=1)
    power = (spectrum.real**2 + spectrum.imag**2) / (_HANN @ _HANN)
    bands = 10 * np.log10(power @ _FILTERS.T + 10 ** (FLOOR_DB / 10))
    level = 10 * np.log10(power.mean(1) + 10 ** (FLOOR_DB / 10))
    return bands.astype(np.float32), level.astype(np.float32)


_HANN = np.hanning(WINDOW + 2)[1:-1]
_FILTERS = mel_filterbank(SAMPLE_RATE, WINDOW, BANDS, 0.0, SAMPLE_RATE / 2)
WHISPER_BAND_DB: np.ndarray = 10 * np.log10(_FILTERS.sum(1) * (_HANN @ _HANN))
"""How much higher Whisper's bands (`BANDS`,) of the same sound are, which neither filters nor window normalise."""

_FILTERS /= _FILTERS.sum(1, keepdims=True)


def relative_bands(bands: np.ndarray, reference_db: np.ndarray | float) -> np.ndarray:
    """Return bands (n, `BANDS`) in dB relative to the voice's level (n, 1), bounded and scaled for the network."""
    out: np.ndarray = np.clip(bands - reference_db, LOWEST, HIGHEST).astype(np.float32) / np.float32(SCALE)
    return out


class VoiceLevel:
    """Follows the level of the loud syllables of a voice, by what was heard so far alone.

    It rises to louder syllables in a moment, and falls slowly, but for a voice that is much quieter than assumed: a
    distant microphone. Sound that is steady is noise, and does not lower it.

    Attributes:
        level_db: The level now.
    """

    def __init__(self) -> None:
        self.level_db = FIRST_LEVEL_DB
        self._recent = QUIETEST_LEVEL_DB  # that of the last seconds of speech alone
        self._noise = FIRST_NOISE_DB

    def follow(self, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take the levels (n,) of further frames in dB.

        Returns:
            level: (n,) float32, the voice's level at each.
            sounds: (n,) bool, whether a frame is more than steady noise.
        """
        attack = 1 - math.exp(-HOP_SECONDS / ATTACK_SECONDS)
        now, recent, noise = self.level_db, self._recent, self._noise
        out, sounds = np.empty(len(levels), np.float32), np.empty(len(levels), bool)
        for i, level in enumerate(levels.tolist()):
            noise = min(level, noise + NOISE_RISE_DB * HOP_SECONDS)
            sounds[i] = level > noise + SOUND_OVER_NOISE_DB
            speaks = level > max(noise + OVER_NOISE_DB, recent - SPEECH_RANGE_DB)
            if level > recent:
                recent += attack * (level - recent)
            else:
                fall = RECENT_DB if speaks else FORGET_DB
                recent = max(recent - fall * HOP_SECONDS, QUIETEST_LEVEL_DB)
            if level > now:
                now += attack * (level - now)
            elif speaks:
                fall = CATCH_UP_DB if now > recent + CATCH_UP_FROM_DB else DECAY_DB
                now = max(now - fall * HOP_SECONDS, QUIETEST_LEVEL_DB)
            out[i] = now
        self.level_db, self._recent, self._noise = now, recent, noise
        return out, sounds


class LogMelStream:
    """The log mel spectrogram of sound that arrives in blocks.

    Attributes:
        voice_level: The running level of the voice.
    """

    def __init__(self) -> None:
        self.voice_level = VoiceLevel()
        self._pending = np.zeros(AHEAD, np.float32)  # the first window begins before the sound

    def feed(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Take further mono samples (S,) at `SAMPLE_RATE`, and return the frames that are complete with them.

        Returns:
            frames: (n, `BANDS`) float32, the network's input.
            relative_db: (n,) float32, level of each frame relative to that of the voice.
            sounds: (n,) bool, whether a frame is more than steady noise.
        """
        samples = np.concatenate([self._pending, samples.astype(np.float32)])
        bands, level = frame_bands(samples)
        self._pending = samples[len(level) * HOP :]
        reference, sounds = self.voice_level.follow(level)
        return relative_bands(bands, reference[:, None]), level - reference, sounds
