"""The phones of a clip as an input of the network, beside the audio features.

Whisper's features name the sound, but not exactly when; an aligner's phones do, and are the same for every voice.
"""

from __future__ import annotations

import numpy as np

from kmtalk.articulation.targets import PHONES
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.phones import canonical_phone

PHONE_INPUT_DIM = 2 * len(PHONES)
"""Numbers per frame of `phone_activity`."""

ACTIVITY_DECAY_SECONDS = 0.08  # seconds over which a phone's activity falls to 1/e before its start and after its end


def phone_activity(alignment: Alignment, times: np.ndarray) -> np.ndarray:
    """Return how near each phone of `PHONES` is to each frame, shape (N, 2P), in [0, 1].

    The first P numbers are 1 within a phone and fall exponentially after its end, the others before its start, so that
    a frame knows its neighbours on both sides. Without phones all are zero, which the network takes as unknown.

    Args:
        alignment: Phones of the clip.
        times: Time of each frame in seconds, rising, shape (N,).
    """
    out = np.zeros((len(times), 2, len(PHONES)), np.float32)
    reach = 5 * ACTIVITY_DECAY_SECONDS
    for phone in alignment.phones:
        column = PHONES.index(canonical_phone(phone.label))
        first, last = np.searchsorted(times, (phone.start - reach, phone.end + reach))
        t = times[first:last]
        for side, distance in enumerate((t - phone.end, phone.start - t)):
            inside = (t >= phone.start) & (t <= phone.end)
            near = np.where(inside | (distance >= 0), np.exp(-np.maximum(distance, 0) / ACTIVITY_DECAY_SECONDS), 0)
            out[first:last, side, column] = np.maximum(out[first:last, side, column], near)
    return out.reshape(len(times), -1)
