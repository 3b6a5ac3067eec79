"""Smiles that are smiled back.

People mimic a smile that they see, weaker and later: their muscles begin to react after 0.3 to 0.4 s (Dimberg &
Thunberg 1998: Rapid facial reactions to emotional facial expressions. Scandinavian Journal of Psychology 39, 39-45),
and the smile is seen some tenths of a second after that.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kmtalk.expression.emotion import ACTION_UNITS, EMOTIONS

SMILE_SHAPES = ("mouthSmileLeft", "mouthSmileRight")
REACTION_SECONDS = 0.35
EASE_SECONDS = 0.2  # time constant of the smile's beginning and end
MEDIAN_SECONDS = 0.6  # spread lips of single vowels are shorter than the half of it, and no smiles
LEAST_SMILE = 0.12  # weight of the other's smile from which on it counts
SHARE = 0.6  # of the other's smile that is returned


def mirrored_smile(
    smile: np.ndarray, fps: float, times: np.ndarray, amount: float, own: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the weights (N,) by shape name of a smile in answer to the other's.

    Args:
        smile: The other's weights of a smile (M,), mean of `SMILE_SHAPES`; frame m is at (m + 0.5) / fps seconds.
        fps: Frames per second of `smile`.
        times: (N,) frame times in seconds, at one rate.
        amount: Factor on the smile.
        own: Weights (N,) that the emotion of one's own has by shape name; the answer fills them up, and does not add.
    """
    from scipy.signal import lfilter  # slow to import

    count = max(1, round(MEDIAN_SECONDS * fps))
    padded = np.concatenate([np.full(count - 1, smile[0]), smile])
    lasting = np.median(np.lib.stride_tricks.sliding_window_view(padded, count), axis=1)
    seen = np.clip((lasting - LEAST_SMILE) / (1 - LEAST_SMILE), 0, 1)
    seen_times = (np.arange(len(seen)) + 0.5) / fps
    wanted = np.interp(times - REACTION_SECONDS, seen_times, seen, left=0.0)
    step = times[1] - times[0] if len(times) > 1 else 1.0
    keep = np.exp(-step / EASE_SECONDS)
    for _ in range(2):  # twice, so that the smile begins softly
        wanted = lfilter([1 - keep], [1, -keep], wanted)
    answer = np.clip(SHARE * amount * wanted, 0, 1)
    happy = EMOTIONS["happy"]
    out = {}
    for unit, weight in happy.items():
        for shape in ACTION_UNITS[unit]:
            full = np.clip(answer * weight / happy["AU12"], 0, 1)
            out[shape] = np.maximum(full - own.get(shape, 0.0), 0)
    return out
