"""Postprocessing of predicted weights by the phones.

Lips close at p, b and m and in pauses, nothing pops, and the tongue reaches the teeth and the ridge behind them.

A network trained by squared error leaves uncertain closures ajar and trembles slightly in silence; the alignment gives
the time of both. N frames, R shapes of a rig.
"""

from __future__ import annotations

import numpy as np

from kmtalk.articulation.gestures import SIBILANT_JAW, bilabial_closure, contact_degree, tongue_curves
from kmtalk.articulation.targets import Contact
from kmtalk.face.mouth import MouthMeasurer
from kmtalk.face.rig import Rig
from kmtalk.speech.alignment import Alignment

LIP_OPENING_THRESHOLD = 0.5  # mm at full weight; shapes that open the lips by more are faded at a closure
CLOSURE = (0.25, 0.05)  # share of p, b and m for which lips are sealed, and its minimum in s; the network does the rest
RELEASE_SECONDS = 0.045  # seconds over which the lips part after p, b and m
LABIODENTAL = 0.8  # share of the pose of f and v that is set
LABIODENTAL_JAW = 3.0  # mm; most drop of the jaw in it
LABIODENTAL_POSE = {
    "mouthLabiodental": 0.95,
    "mouthClose": 0.0,
    **{f"{name}{side}": 0.0 for name in ("mouthLowerDown", "mouthPress") for side in ("Left", "Right")},
    "mouthUpperUpLeft": 0.1,
    "mouthUpperUpRight": 0.1,
}
MIN_PAUSE = 0.3  # seconds; shorter pauses count as speech
SPOKEN_MM, SPOKEN_DB = 4.0, -28.0  # least range of the lips, and loudness, of speech in a gap between phones
OPEN_PAUSE = 2.5  # mm of lip opening in a pause above which the mouth is open on purpose
SETTLE_SECONDS, PREPARE_SECONDS = 0.1, 0.1  # seconds of a pause, after and before speech, in which the mouth may move
EASE_SECONDS = 0.05  # seconds over which motion blends into the held pose
MOST_SPEED = 320.0  # mm/s of lip opening above which motion is smoothed; real lips reach 440, but rarely 250
SMOOTHING_STEPS = 12  # greatest number of times that fast frames are smoothed
MIDDLE_OF_CONTACT = 0.6  # degree of a contact above which that of learned motion is set
CLOSED = 0.98  # degree of closure above which frames are not smoothed


def postprocess(
    weights: np.ndarray,
    rig: Rig,
    alignment: Alignment,
    times: np.ndarray,
    level_db: np.ndarray | None = None,
    learned: bool = False,
) -> np.ndarray:
    """Hold the mouth still in pauses, close the lips at p, b and m, limit their speed, place the tongue.

    Args:
        weights: Weights, shape (N, R).
        rig: Rig of the weights.
        alignment: Phones of the clip; without phones the weights are returned unchanged.
        times: Time of each frame in seconds, shape (N,).
        level_db: Loudness of each frame, as `kmtalk.speech.prosody.loudness` gives it, shape (N,): a gap between phones
            that is loud is speech of which no phones were found. None: every gap is a pause.
        learned: The weights are of a model that learned postprocessed motion, which has the contacts of f, v, p, b and
            m already: they are made sure of at their middle alone. Set twice, they would last longer.

    Returns:
        Weights, shape (N, R).
    """
    if not alignment.phones:
        return weights
    weights = hold_pauses(weights, rig, alignment, times, level_db)
    weights = raise_jaw(weights, rig, alignment, times)
    weights = bite_lip(weights, rig, alignment, times, learned)
    weights = seal_bilabials(weights, rig, alignment, times, learned)
    weights = limit_speed(weights, rig, alignment, times)
    return place_tongue(weights, rig, alignment, times)


def _middle(contact: np.ndarray) -> np.ndarray:
    """Return the degree of a contact (N,) without its beginning and end."""
    return np.clip((contact - MIDDLE_OF_CONTACT) / (1 - MIDDLE_OF_CONTACT), 0, 1)


def raise_jaw(weights: np.ndarray, rig: Rig, alignment: Alignment, times: np.ndarray) -> np.ndarray:
    """Let the jaw drop by `SIBILANT_JAW` at most at s, sh and their kin, whose teeth are nearly together.

    Arguments and result are those of `postprocess`.
    """
    jaw, closing = rig.index["jawOpen"], rig.index["mouthClose"]
    most = SIBILANT_JAW / _jaw_drop(rig)
    contact = contact_degree(alignment, times, Contact.SIBILANT)
    open_jaw = np.maximum(weights[:, jaw], 1e-6)
    share = (1 - contact) + contact * np.minimum(1.0, most / open_jaw)
    out = weights.copy()
    out[:, jaw] *= share
    out[:, closing] *= share
    return out


def bite_lip(
    weights: np.ndarray, rig: Rig, alignment: Alignment, times: np.ndarray, learned: bool = False
) -> np.ndarray:
    """Show the edges of the upper teeth on the lower lip at f and v.

    A tracker takes the tucked lower lip for nearly closed lips, so that the network's f looks like m. Arguments and
    result are those of `postprocess`.
    """
    degree = contact_degree(alignment, times, Contact.LABIODENTAL)
    contact = LABIODENTAL * (_middle(degree) if learned else degree)[:, None]
    return (1 - contact) * weights + contact * ContactPoses(rig).bitten(weights)


def place_tongue(weights: np.ndarray, rig: Rig, alignment: Alignment, times: np.ndarray) -> np.ndarray:
    """Raise the tongue's tip at t, d, n, l and s, its back at k and g, and put it between the teeth at th.

    No camera sees these contacts, so the network knows them from the simulated speaker alone, and reaches them in part.
    Arguments and result are those of `postprocess`.
    """
    out = weights.copy()
    curves = tongue_curves(alignment, times)
    for name, curve in curves.items():
        out[:, rig.index[name]] = np.maximum(out[:, rig.index[name]], curve)
    for name in ("tongueTipUp", "tongueDorsumUp"):
        out[:, rig.index[name]] *= 1 - curves["tongueInterdental"]
    return out


def seal_bilabials(
    weights: np.ndarray, rig: Rig, alignment: Alignment, times: np.ndarray, learned: bool = False
) -> np.ndarray:
    """Close the lips at p, b and m: shapes that open them fade out, and mouthClose follows jawOpen, which stays.

    Arguments and result are those of `postprocess`.
    """
    degree = bilabial_closure(alignment, times, RELEASE_SECONDS, CLOSURE)
    closure = (_middle(degree) if learned else degree)[:, None]
    return (1 - closure) * weights + closure * ContactPoses(rig).closed(weights)


class ContactPoses:
    """Poses of the lips' contacts over a given pose.

    Args:
        rig: Rig of the weights.
    """

    def __init__(self, rig: Rig) -> None:
        self._index = rig.index
        self._opening = _opens_lips(rig)
        self._opening[[rig.index["jawOpen"], rig.index["mouthClose"]]] = False
        self._most_jaw = LABIODENTAL_JAW / _jaw_drop(rig)
        self._lip_opening = _lip_opening(rig)

    def closed(self, weights: np.ndarray) -> np.ndarray:
        """Return weights (…, R) with closed lips over the same jaw."""
        out = np.where(self._opening, 0.0, weights)
        out[..., self._index["mouthClose"]] = out[..., self._index["jawOpen"]]
        return out

    def opening(self, weights: np.ndarray) -> np.ndarray:
        """Return the opening of the middle of the lips in mm (…) at weights (…, R)."""
        return np.asarray(weights @ self._lip_opening)

    def bitten(self, weights: np.ndarray) -> np.ndarray:
        """Return weights (…, R) with the lower lip at the upper teeth."""
        out, jaw = weights.copy(), self._index["jawOpen"]
        out[..., jaw] = np.minimum(out[..., jaw], self._most_jaw)
        for name, value in LABIODENTAL_POSE.items():
            out[..., self._index[name]] = value
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
    closure = bilabial_closure(alignment, times, RELEASE_SECONDS, CLOSURE)[:, None]
    return np.where(opening, (1 - closure) * weights, weights).astype(np.float32)


def hold_pauses(
    weights: np.ndarray, rig: Rig, alignment: Alignment, times: np.ndarray, level_db: np.ndarray | None = None
) -> np.ndarray:
    """Hold one pose in each pause, from `SETTLE_SECONDS` after speech to `PREPARE_SECONDS` before it.

    It is the median pose of the pause, with the lips closed unless they stand open by more than `OPEN_PAUSE`, as those
    of speakers who breathe through the mouth. Left unchanged are loud pauses in which the lips move as in speech,
    pauses shorter than `MIN_PAUSE`, and those that overlap an unaligned span. At the start and end of the clip the pose
    is held up to the first and last frame.

    Args:
        weights: Weights, shape (N, R).
        rig: Rig of the weights.
        alignment: Phones of the clip.
        times: Time of each frame in seconds, shape (N,).
        level_db: Loudness of each frame in dB, see `postprocess`, shape (N,).

    Returns:
        Weights, shape (N, R).
    """
    out, opening, contacts = weights.copy(), _lip_opening(rig), ContactPoses(rig)
    end = float(times[-1]) + 1.0
    bounds = [-1.0, *(t for p in alignment.phones for t in (p.start, p.end)), end]
    for start, stop in zip(bounds[::2], bounds[1::2], strict=True):
        if stop - start < MIN_PAUSE or any(a < stop and b > start for a, b in alignment.unaligned):
            continue
        first, last = start + SETTLE_SECONDS, stop - PREPARE_SECONDS
        inside = slice(np.searchsorted(times, first), np.searchsorted(times, last, "right"))
        if inside.start >= inside.stop:
            continue
        low, high = np.percentile(weights[inside] @ opening, [10, 90])
        if level_db is not None and high - low > SPOKEN_MM and np.percentile(level_db[inside], 90) > SPOKEN_DB:
            continue  # speech of which no phones were found
        pose = np.median(weights[inside], axis=0)
        if pose @ opening < OPEN_PAUSE:
            pose = contacts.closed(pose)
        eased = slice(*np.searchsorted(times, (first - EASE_SECONDS, last + EASE_SECONDS)))
        into_pose = np.minimum(times[eased] - first + EASE_SECONDS, last + EASE_SECONDS - times[eased])[:, None]
        hold = np.clip(into_pose / EASE_SECONDS, 0, 1)
        hold = hold * hold * (3 - 2 * hold)
        out[eased] = (1 - hold) * out[eased] + hold * pose
    return out


def limit_speed(weights: np.ndarray, rig: Rig, alignment: Alignment, times: np.ndarray) -> np.ndarray:
    """Smooth the frames around those in which the lips part or close faster than `MOST_SPEED`.

    Closed frames of p, b and m stay as they are. Arguments and result are those of `postprocess`.
    """
    if len(times) < 3:
        return weights
    kept = (bilabial_closure(alignment, times, RELEASE_SECONDS, CLOSURE) > CLOSED)[:, None]
    opening, step = _lip_opening(rig), float(times[1] - times[0])
    out = weights
    for _ in range(SMOOTHING_STEPS):
        fast = np.abs(np.diff(np.maximum(out @ opening, 0))) / step > MOST_SPEED
        if not fast.any():
            break
        near = np.convolve(np.concatenate([fast, [False]]), np.ones(4), "full")[2 : 2 + len(times)] > 0
        padded = np.concatenate([out[:1], out, out[-1:]])
        smooth = (padded[:-2] + 2 * out + padded[2:]) / 4
        out = np.where(near[:, None] & ~kept, smooth, out)
    return out


def _lip_opening(rig: Rig) -> np.ndarray:
    """Return the opening of the middle of the lips in mm by each shape at full weight, shape (R,)."""
    t = rig.template
    up = (t.vertices[t.landmarks["subnasale"]] - t.vertices[t.landmarks["chin"]]).astype(np.float64)
    opening = rig.offsets[:, t.landmarks["lip_inner_upper"]] - rig.offsets[:, t.landmarks["lip_inner_lower"]]
    out: np.ndarray = opening @ (up / np.linalg.norm(up)) * t.mm_per_unit
    return out


def _jaw_drop(rig: Rig) -> float:
    """Return the drop of the lower incisors in mm by jawOpen at full weight."""
    weights = np.zeros((2, len(rig.shape_names)))
    weights[1, rig.index["jawOpen"]] = 1.0
    measurer = MouthMeasurer.from_template(rig.template)
    return float(measurer.measure(rig.vertices(weights)[:, measurer.vertex_indices]).jaw[1])


def _opens_lips(rig: Rig) -> np.ndarray:
    """Return a mask of the shapes that open the middle of the lips, shape (R,)."""
    out: np.ndarray = _lip_opening(rig) > LIP_OPENING_THRESHOLD
    return out
