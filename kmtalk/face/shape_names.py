"""What blendshapes and landmarks are called in the wild."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kmtalk.face.rig import ARKIT_NAMES, HEAD_NAMES, SPEECH_NAMES

_ARKIT = {name.lower(): name for name in (*ARKIT_NAMES, *SPEECH_NAMES, *HEAD_NAMES)}
OVR_VISEMES = ("sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "I", "O", "U")
"""Visemes of Oculus/OVR LipSync, as viseme_PP, v_pp or vrc.v_pp."""
_OVR = {name.lower(): f"viseme_{name}" for name in OVR_VISEMES} | {"ih": "viseme_I", "oh": "viseme_O", "ou": "viseme_U"}
VRM_MOUTHS = {"a": "aa", "i": "ih", "u": "ou", "e": "ee", "o": "oh"}
"""The five mouths of VRM 0 (and VRoid's Fcl_MTH_A) → VRM 1."""


def match_shape_names(names: Iterable[str]) -> dict[str, str]:
    """The names of a file that mean a shape of the face → ARKit's or kmtalk's name, viseme_… or vrm_…; others
    are left out."""
    given = list(names)
    plain = {name: re.split(r"[.:|]", name)[-1] for name in given}
    vrm = {name: _vrm(name, plain[name]) for name in given}
    five = set(vrm.values()) >= set(VRM_MOUTHS.values())
    out: dict[str, str] = {name: _ARKIT[name.lower()] for name in given if name.lower() in _ARKIT}
    for name in given:
        if name in out:
            continue
        meaning = _arkit(plain[name]) or _viseme(name) or (vrm[name] and five and f"vrm_{vrm[name]}")
        if meaning and meaning not in out.values():
            out[name] = meaning
    return out


def _arkit(name: str) -> str | None:
    """jawOpen, jaw_open, Head_JawOpen, mouthSmile_L, mouthSmileL → ARKit's own spelling."""
    words = re.sub(r"[_\s-]([LR])$", lambda m: {"L": "left", "R": "right"}[m[1]], name.strip(), flags=re.I | re.A)
    words = words.replace(" ", "_").replace("-", "_")
    pieces = words.split("_")
    for start in range(len(pieces)):
        if any(piece.lower() in _ARKIT for piece in pieces[:start]):
            break  # jawOpen_mouthClose is a corrective of both, not mouthClose
        word = "".join(pieces[start:]).lower()
        if word in _ARKIT:
            return _ARKIT[word]
        sided = word[:-1] + {"l": "left", "r": "right"}.get(word[-1:], "")
        if sided in _ARKIT:
            return _ARKIT[sided]
    return None


def _viseme(name: str) -> str | None:
    found = re.search(r"(?:viseme|vrc\.v|^v|[._]v)_([a-z]{1,3})$", name.strip(), flags=re.I)
    return _OVR.get(found[1].lower()) if found else None


def _vrm(name: str, plain: str) -> str | None:
    found = re.search(r"(?:^|MTH_|mouth_|vrm_)(a|i|u|e|o|aa|ih|ou|ee|oh)$", plain.strip(), flags=re.I)
    if not found:
        return None
    word = found[1].lower()
    return VRM_MOUTHS.get(word, word)


LANDMARK_NAMES = (
    "eye_outer_left",
    "eye_outer_right",
    "nose_tip",
    "subnasale",
    "mouth_left",
    "mouth_right",
    "lip_inner_upper",
    "lip_inner_lower",
    "chin",
)
"""Landmarks that can be given by hand; left and right are the face's own."""

SEVEN_LANDMARKS = (
    "eye_outer_right",
    "eye_outer_left",
    "nose_tip",
    "mouth_right",
    "mouth_left",
    "lip_inner_upper",
    "chin",
)
"""The order of seven points that bear no names: as one sees the face, from the left and from the top."""

_ALIASES = {
    "left_eye": "eye_outer_left",
    "right_eye": "eye_outer_right",
    "eye_left": "eye_outer_left",
    "eye_right": "eye_outer_right",
    "nose": "nose_tip",
    "mouth_corner_left": "mouth_left",
    "mouth_corner_right": "mouth_right",
    "left_mouth_corner": "mouth_left",
    "right_mouth_corner": "mouth_right",
    "lips": "lip_inner_upper",
    "mouth": "lip_inner_upper",
    "mouth_middle": "lip_inner_upper",
    "upper_lip": "lip_inner_upper",
    "lower_lip": "lip_inner_lower",
    "menton": "chin",
}


def canonical_landmark_name(given: str) -> str | None:
    """A landmark's standard name, or None where it is none."""
    word = re.sub(r"[\s-]+", "_", given.strip().lower())
    word = _ALIASES.get(word, word)
    return word if word in LANDMARK_NAMES else None
