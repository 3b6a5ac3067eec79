"""Postprocessing of predicted weights by the phones: lips close at p, b and m, and the mouth is still in pauses.

A network trained by squared error shortens uncertain closures and trembles slightly in silence; the alignment gives
the time of both. N frames, R shapes of a rig.
"""

from __future__ import annotations

import numpy as np

from kmtalk.articulation.gestures import bilabial_closure
from kmtalk.face.rig import Rig
from kmtalk.speech.alignment import Alignment

LIP_OPENING_THRESHOLD = 0.5  # mm at full weight; shapes that open the lips by more are faded at a closure
MIN_PAUSE = 0.3  # seconds; shorter pauses count as speech
SETTLE_SECONDS, PREPARE_SECONDS = 0.1, 0.1  # seconds of a pause, after and before speech, in which the mouth may move
EASE_SECONDS = 0.06  # seconds over which motion blends into the held pose


def postprocess(weights: np.ndarray, rig: Rig, alignment: Alignment, times: np.ndarray) -> np.ndarray:
    """Hold the mouth still in pauses and close the lips at bilabials (p, b, m).

    Args:
        weights: Weights, shape (N, R).
        rig: Rig of the weights.
        alignment: Phones of the clip; without phones the weights are returned unchanged.
        times: Time of each frame in seconds, shape (N,).

    Returns:
        Weights, shape (N, R).
    """
    if not alignment.phones:
        return weights
    return seal_bilabials(hold_pauses(weights, alignment, times), rig, alignment, times)


def seal_bilabials(weights: np.ndarray, rig: Rig, alignment: Alignment, times: np.ndarray) -> np.ndarray:
    """Close the lips at p, b and m: shapes that open them fade out, and mouthClose follows jawOpen, which stays.

    Arguments and result are those of `postprocess`.
    """
    closure = bilabial_closure(alignment, times)[:, None]
    opening = _opens_lips(rig)
    jaw, closing = rig.index["jawOpen"], rig.index["mouthClose"]
    opening[[jaw, closing]] = False
    out = np.where(opening, (1 - closure) * weights, weights)
    out[:, closing] = (1 - closure[:, 0]) * weights[:, closing] + closure[:, 0] * weights[:, jaw]
    return out


def seal_retargeted_bilabials(
    weights: np.ndarray, rig: Rig, reference: Rig, alignment: Alignment, times: np.ndarray
) -> np.ndarray:
    """Fade, at p, b and m, shapes that open the lips of `rig` but not those of `reference`.

    A file's own shapes may open the lips where the reference rig's shapes of the same name do not.

    Args:
        weights: Weights on `rig`, shape (N, R), already closed at bilabials for `reference`.
        rig: Rig to which the weights were transferred.
        reference: Rig for which they were made.
        alignment: Phones of the clip.
        times: Time of each frame in seconds, shape (N,).

    Returns:
        Weights, shape (N, R), float32.
    """
    opens_reference = dict(zip(reference.shape_names, _opens_lips(reference), strict=True))
    opening = _opens_lips(rig) & ~np.array([opens_reference.get(name, True) for name in rig.shape_names])
    closure = bilabial_closure(alignment, times)[:, None]
    return np.where(opening, (1 - closure) * weights, weights).astype(np.float32)


def hold_pauses(weights: np.ndarray, alignment: Alignment, times: np.ndarray) -> np.ndarray:
    """Hold the median pose of each pause, from `SETTLE_SECONDS` after speech to `PREPARE_SECONDS` before it.

    Pauses shorter than `MIN_PAUSE` and those that overlap an unaligned span are left unchanged. At the start and end of
    the clip the pose is held up to the first and last frame.

    Args:
        weights: Weights, shape (N, R).
        alignment: Phones of the clip.
        times: Time of each frame in seconds, shape (N,).

    Returns:
        Weights, shape (N, R).
    """
    out = weights.copy()
    end = float(times[-1]) + 1.0
    bounds = [-1.0, *(t for p in alignment.phones for t in (p.start, p.end)), end]
    for start, stop in zip(bounds[::2], bounds[1::2], strict=True):
        if stop - start < MIN_PAUSE or any(a < stop and b > start for a, b in alignment.unaligned):
            continue
        first, last = start + SETTLE_SECONDS, stop - PREPARE_SECONDS
        inside = (times >= first) & (times <= last)
        if not inside.any():
            continue
        pose = np.median(weights[inside], axis=0)
        into_pose = np.minimum(times - first + EASE_SECONDS, last + EASE_SECONDS - times)[:, None]
        hold = np.clip(into_pose / EASE_SECONDS, 0, 1)
        out = (1 - hold) * out + hold * pose
    return out


def _opens_lips(rig: Rig) -> np.ndarray:
    """Return a mask of the shapes that open the middle of the lips, shape (R,)."""
    t = rig.template
    up = (t.vertices[t.landmarks["subnasale"]] - t.vertices[t.landmarks["chin"]]).astype(np.float64)
    opening = rig.offsets[:, t.landmarks["lip_inner_upper"]] - rig.offsets[:, t.landmarks["lip_inner_lower"]]
    out: np.ndarray = opening @ (up / np.linalg.norm(up)) * t.mm_per_unit > LIP_OPENING_THRESHOLD
    return out
