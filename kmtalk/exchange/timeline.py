"""Timeline of a clip as JSON data: words, phones, key frames and lip aperture, for the web page and GLB extras."""

from __future__ import annotations

import numpy as np

from kmtalk.face.motion import FRAMES_PER_CHUNK, Motion
from kmtalk.keys import KeyMotions
from kmtalk.speech.alignment import Alignment


def lip_aperture(motion: Motion) -> np.ndarray:
    """Distance (N,) in mm between the midpoints of the inner lips per frame, scaled by `Template.mm_per_unit`."""
    template = motion.rig.template
    pair = [template.landmarks["lip_inner_upper"], template.landmarks["lip_inner_lower"]]
    _, offsets, weights = motion.rig.morph_targets(motion.weights)
    aperture = np.empty(len(motion))
    for start in range(0, len(motion), FRAMES_PER_CHUNK):
        chunk = slice(start, start + FRAMES_PER_CHUNK)
        lips = template.vertices[pair] + np.einsum("nr,rvx->nvx", weights[chunk], offsets[:, pair])
        aperture[chunk] = np.linalg.norm(lips[:, 0] - lips[:, 1], axis=1)
    return aperture * template.mm_per_unit


def timeline_data(motion: Motion, alignment: Alignment, keys: KeyMotions) -> dict[str, object]:
    """Timeline of a clip as JSON-serialisable data.

    Returns:
        A dict with `words` and `phones` as [label, start, end] in seconds, `keys` as [frame, label, pinned], and
        `aperture`, the lip aperture in mm per frame.
    """
    return {
        "words": [[w.text, round(w.start, 4), round(w.end, 4)] for w in alignment.words],
        "phones": [[p.label, round(p.start, 4), round(p.end, 4)] for p in alignment.phones],
        "keys": [
            [frame, label, bool(pinned)]
            for frame, label, pinned in zip(keys.frames.tolist(), keys.phone_labels, keys.pinned, strict=True)
        ],
        "aperture": [round(float(a), 2) for a in lip_aperture(motion)],
    }
