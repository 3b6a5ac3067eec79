"""A clip as JSON data, for the web page and GLB extras: title, words, phones, key frames, lip aperture, face."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kmtalk.face.motion import FRAMES_PER_CHUNK, Motion
from kmtalk.keys import KeyMotions
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import Audio


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


def clip_title(sound: str, character: str) -> str:
    """Title of a clip: the name of the sound, without folder and suffix, and that of the character."""
    return f"{Path(sound).stem} · {character}"


def timeline_data(motion: Motion, alignment: Alignment, keys: KeyMotions, audio: Audio) -> dict[str, object]:
    """Title and timeline of a clip, and where its face is, as JSON-serialisable data.

    Returns:
        A dict with `title`; `words` as [text, start, end, score or None] and `phones` as [label, start, end], in
        seconds; `unaligned`, the spans [start, end] of speech without phones; `keys` as [frame, label, pinned];
        `aperture`, the lip aperture in mm per frame; and `focus`, which has the point between the outer `eyes`
        corners and the `chin` in the template's units and axes, and `upright`, the rows of the rotation that turns
        the template upright.
    """
    template = motion.rig.template
    marks = {name: template.vertices[index] for name, index in template.landmarks.items()}
    eyes = (marks["eye_outer_left"] + marks["eye_outer_right"]) / 2
    return {
        "title": clip_title(audio.source, template.name),
        "words": [
            [w.text, round(w.start, 4), round(w.end, 4), None if w.score is None else round(w.score, 4)]
            for w in alignment.words
        ],
        "phones": [[p.label, round(p.start, 4), round(p.end, 4)] for p in alignment.phones],
        "unaligned": [[round(start, 4), round(end, 4)] for start, end in alignment.unaligned],
        "keys": [
            [frame, label, bool(pinned)]
            for frame, label, pinned in zip(keys.frames.tolist(), keys.phone_labels, keys.pinned, strict=True)
        ],
        "aperture": [round(float(a), 2) for a in lip_aperture(motion)],
        "focus": {
            "eyes": [round(float(x), 5) for x in eyes],
            "chin": [round(float(x), 5) for x in marks["chin"]],
            "upright": [[round(float(x), 6) for x in row] for row in motion.rig.upright_rotation],
        },
    }
