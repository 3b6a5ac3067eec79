"""What lies along a clip's time, as JSON: words, phones, key frames and the lips' opening, for pages and extras."""

from __future__ import annotations

import numpy as np

from kmtalk.face.motion import FRAMES_PER_CHUNK, Motion
from kmtalk.keys import KeyMotions
from kmtalk.speech.alignment import Alignment


def lip_aperture(motion: Motion) -> np.ndarray:
    """Distance of the middle of the inner lips (N,) in mm, by the convention of ``Template.mm_per_unit``."""
    t = motion.rig.template
    pair = [t.landmarks["lip_inner_upper"], t.landmarks["lip_inner_lower"]]
    _, offsets, weights = motion.rig.morph_targets(motion.weights)
    out = np.empty(len(motion))
    for start in range(0, len(motion), FRAMES_PER_CHUNK):
        part = slice(start, start + FRAMES_PER_CHUNK)
        lips = t.vertices[pair] + np.einsum("nr,rvx->nvx", weights[part], offsets[:, pair])
        out[part] = np.linalg.norm(lips[:, 0] - lips[:, 1], axis=1)
    return out * t.mm_per_unit


def timeline_data(motion: Motion, alignment: Alignment, keys: KeyMotions) -> dict[str, object]:
    """``words`` and ``phones`` [label, start, end] in seconds, ``keys`` [frame, label, pinned], ``lip_aperture`` in mm by
    frame."""
    return {
        "words": [[w.text, round(w.start, 4), round(w.end, 4)] for w in alignment.words],
        "phones": [[p.label, round(p.start, 4), round(p.end, 4)] for p in alignment.phones],
        "keys": [
            [frame, label, bool(pinned)]
            for frame, label, pinned in zip(keys.frames.tolist(), keys.labels, keys.pinned, strict=True)
        ],
        "aperture": [round(float(a), 2) for a in lip_aperture(motion)],
    }
