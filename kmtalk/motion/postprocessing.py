"""What the phones guarantee of a network's mouth: lips that close at p b m, and stillness in pauses.

A network that learns by squared error shortens closures that it is not sure of, and trembles a little
in silence. The alignment knows both for certain.
"""

from __future__ import annotations

import numpy as np

from kmtalk.articulation.gestures import bilabial_closure
from kmtalk.face.rig import Rig
from kmtalk.speech.alignment import Alignment

LIP_OPENING_THRESHOLD = 0.5  # mm at full weight: shapes that part the lips by more are eased at a closure
MIN_PAUSE = 0.3  # seconds: shorter ones are speech
SETTLE, READY = 0.1, 0.1  # seconds after and before speech within a pause in which the mouth may move
EASE = 0.06  # seconds from moving to still


def postprocess(weights: np.ndarray, rig: Rig, alignment: Alignment, times: np.ndarray) -> np.ndarray:
    """Mouth weights (N, R) at ``times`` (N,) s, stilled in pauses and closed at bilabials.

    Nothing is done where no phones are known.
    """
    if not alignment.phones:
        return weights
    return seal_bilabials(hold_pauses(weights, alignment, times), rig, alignment, times)


def seal_bilabials(weights: np.ndarray, rig: Rig, alignment: Alignment, times: np.ndarray) -> np.ndarray:
    """Lips sealed where p, b and m hold them: what opens them fades, the jaw stays, mouthClose answers it."""
    shut = bilabial_closure(alignment, times)[:, None]
    opening = _opens_lips(rig)
    jaw, closing = rig.index["jawOpen"], rig.index["mouthClose"]
    opening[[jaw, closing]] = False
    out = np.where(opening, (1 - shut) * weights, weights)
    out[:, closing] = (1 - shut[:, 0]) * weights[:, closing] + shut[:, 0] * weights[:, jaw]
    return out


def seal_retargeted_bilabials(
    weights: np.ndarray, rig: Rig, reference: Rig, alignment: Alignment, times: np.ndarray
) -> np.ndarray:
    """Weights (N, R) of another rig, with those shapes faded at p, b and m that part its lips, though they keep
    those of the ``reference`` rig sealed: a file's own shapes may."""
    ours = dict(zip(reference.names, _opens_lips(reference), strict=True))
    theirs = _opens_lips(rig) & ~np.array([ours.get(name, True) for name in rig.names])
    shut = bilabial_closure(alignment, times)[:, None]
    return np.where(theirs, (1 - shut) * weights, weights).astype(np.float32)


def hold_pauses(weights: np.ndarray, alignment: Alignment, times: np.ndarray) -> np.ndarray:
    """Within each pause the median pose is held, from SETTLE after speech to READY before it.

    At the clip's ends there is no speech to settle from or make ready for.
    """
    out = weights.copy()
    end = float(times[-1]) + 1.0
    bounds = [-1.0, *(t for p in alignment.phones for t in (p.start, p.end)), end]
    for start, stop in zip(bounds[::2], bounds[1::2], strict=True):
        if stop - start < MIN_PAUSE or any(a < stop and b > start for a, b in alignment.unaligned):
            continue
        first, last = start + SETTLE, stop - READY
        inside = (times >= first) & (times <= last)
        if not inside.any():
            continue
        pose = np.median(weights[inside], axis=0)
        hold = np.clip(np.minimum(times - first + EASE, last + EASE - times) / EASE, 0, 1)[:, None]
        out = (1 - hold) * out + hold * pose
    return out


def _opens_lips(rig: Rig) -> np.ndarray:
    """Which shapes part the middle of the lips (R,)."""
    t = rig.template
    up = (t.vertices[t.landmarks["subnasale"]] - t.vertices[t.landmarks["chin"]]).astype(np.float64)
    apart = rig.offsets[:, t.landmarks["lip_inner_upper"]] - rig.offsets[:, t.landmarks["lip_inner_lower"]]
    out: np.ndarray = apart @ (up / np.linalg.norm(up)) * t.mm_per_unit > LIP_OPENING_THRESHOLD
    return out
