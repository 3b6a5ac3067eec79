"""Recognises the names of blendshapes and landmarks in users' files."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kmtalk.face.joints import HEAD_NAMES
from kmtalk.face.rig import ARKIT_NAMES, SPEECH_NAMES

_ARKIT = {name.lower(): name for name in (*ARKIT_NAMES, *SPEECH_NAMES, *HEAD_NAMES)}
OVR_VISEMES = ("sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "I", "O", "U")
"""Visemes of Oculus (OVR) LipSync, named in files as viseme_PP, v_pp or vrc.v_pp."""
_OVR = {name.lower(): f"viseme_{name}" for name in OVR_VISEMES} | {"ih": "viseme_I", "oh": "viseme_O", "ou": "viseme_U"}
VRM_MOUTHS = {"a": "aa", "i": "ih", "u": "ou", "e": "ee", "o": "oh"}
"""The five mouth shapes of VRM 0 (in VRoid, Fcl_MTH_A and so on), with their names in VRM 1."""


_SINGLE = {name.lower() for name in ARKIT_NAMES if not name.endswith(("Left", "Right"))}
_EYE_LOOKS = {"l": {"l": "Out", "r": "In"}, "r": {"l": "In", "r": "Out"}}  # left eye to the left: outwards
_OTHER_SPELLINGS = {
    "mouthupupper": "mouthUpperUp",  # from here on names of Character Creator 4
    "mouthdownlower": "mouthLowerDown",
    "mouthrollinupper": "mouthRollUpper",
    "mouthrollinlower": "mouthRollLower",
    "browraiseinner": "browInnerUp",
    "browraiseouter": "browOuterUp",
    "browdrop": "browDown",
    "cheekraise": "cheekSquint",
    "blink": "eyeBlink",  # VRM's blinkLeft
}


def match_shape_names(names: Iterable[str]) -> dict[str, str]:
    """Map the shape names of a file to the shapes they stand for.

    Several names may stand for one shape: its parts, such as browInnerUp_L and browInnerUp_R or Character Creator's
    quarters Mouth_Funnel_Up_L …, or copies on other meshes that Blender numbered (jawOpen.001).

    Args:
        names: Names of the blendshapes in the file.

    Returns:
        Name in the file → name in ARKit or in kmtalk's rig, `viseme_…` (OVR) or `vrm_…`. Unrecognised names are
        left out. VRM's names count only where all five are present.
    """
    given = list(names)
    plain = {name: re.split(r"[.:|]", re.sub(r"\.\d{3}$", "", name))[-1] for name in given}
    vrm = {name: _vrm(name, plain[name]) for name in given}
    has_all_vrm = set(vrm.values()) >= set(VRM_MOUTHS.values())
    out: dict[str, str] = {name: _ARKIT[name.lower()] for name in given if name.lower() in _ARKIT}
    for name in given:
        if name in out:
            continue
        unnumbered = re.sub(r"\.\d{3}$", "", name)
        meaning = _arkit(plain[name]) or _viseme(unnumbered) or (vrm[name] and has_all_vrm and f"vrm_{vrm[name]}")
        if meaning:
            out[name] = meaning
    wholes = {meaning for name, meaning in out.items() if not is_part_of_shape(name, meaning)}
    parts = {name for name, meaning in out.items() if meaning in wholes and is_part_of_shape(name, meaning)}
    return {name: meaning for name, meaning in out.items() if name not in parts}


def is_part_of_shape(name: str, meaning: str) -> bool:
    """True if a shape in a file, as browInnerUp_L or Mouth_Funnel_Up_L, is a part of the shape that it stands for."""
    words = _words(re.split(r"[.:|]", re.sub(r"\.\d{3}$", "", name))[-1])
    return (
        meaning.lower() in _SINGLE and bool(re.search(r"(?<=[a-z])(left|right)$", words)) and words != meaning.lower()
    )


def _words(name: str) -> str:
    """A name in lower case, its side spelt out, without separators."""
    return re.sub(r"[_\s-]", "", _with_side(name)).lower()


def _with_side(name: str) -> str:
    """A name whose ending _L or _R is spelt out."""
    sides = {"L": "left", "R": "right"}
    return re.sub(r"[_\s-]([LR])$", lambda m: sides[m[1].upper()], name.strip(), flags=re.I | re.A)


def _arkit(name: str) -> str | None:
    """Return ARKit's name for spellings such as jaw_open, Head_JawOpen, mouthSmile_L, Mouth_Funnel_Up_L, or None."""
    eye = re.fullmatch(r"eye_([lr])_look_(l|r|up|down)", name.strip(), flags=re.I)  # Character Creator
    if eye:
        side, way = eye[1].lower(), eye[2].lower()
        return f"eyeLook{_EYE_LOOKS[side].get(way, way.title())}{ {'l': 'Left', 'r': 'Right'}[side] }"
    words = re.sub(r"[_\s-]([LR])$", r"_\1", name.strip(), flags=re.I | re.A).replace(" ", "_").replace("-", "_")
    pieces = _with_side(words).split("_")
    for start in range(len(pieces)):
        if any(piece.lower() in _ARKIT for piece in pieces[:start]):
            break  # jawOpen_mouthClose is a corrective shape for both, not mouthClose
        word = "".join(pieces[start:]).lower()
        side = {"l": "left", "r": "right"}.get(word[-1:])
        found = _spelled(word) or (_spelled(word[:-1] + side) if side else None)
        if found:
            return found
    return None


def _spelled(word: str) -> str | None:
    """ARKit's name of a word in lower case with its side spelt out, or of which it is a half or a quarter; or None."""
    if word in _ARKIT:
        return _ARKIT[word]
    stem = re.sub(r"(left|right)$", "", word)
    if stem in _OTHER_SPELLINGS:
        alias = _OTHER_SPELLINGS[stem].lower()
        return _ARKIT.get(alias + word[len(stem) :]) or (_ARKIT.get(alias) if alias in _SINGLE else None)
    if stem != word and stem in _SINGLE:
        return _ARKIT[stem]
    quarter = re.sub(r"(up|down|upper|lower)$", "", stem)
    return _ARKIT[quarter] if stem != word and quarter != stem and quarter in _SINGLE else None


def _viseme(name: str) -> str | None:
    """Return the OVR viseme of a name such as viseme_PP, v_pp or vrc.v_pp, or None."""
    match = re.search(r"(?:viseme|vrc\.v|^v|[._]v)_([a-z]{1,3})$", name.strip(), flags=re.I)
    return _OVR.get(match[1].lower()) if match else None


def _vrm(name: str, plain: str) -> str | None:
    """Return the VRM 1 name of a mouth shape such as Fcl_MTH_A, or of both eyes' blink, or None."""
    if plain.strip().lower() == "blink":
        return "blink"
    match = re.search(r"(?:^|MTH_|mouth_|vrm_)(a|i|u|e|o|aa|ih|ou|ee|oh)$", plain.strip(), flags=re.I)
    if not match:
        return None
    word = match[1].lower()
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
"""Landmarks that a user can give; left and right are those of the face, not of the viewer."""

SEVEN_LANDMARKS = (
    "eye_outer_right",
    "eye_outer_left",
    "nose_tip",
    "mouth_right",
    "mouth_left",
    "lip_inner_upper",
    "chin",
)
"""The order of seven unnamed points: from top to bottom, and from the viewer's left to right."""

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
    """Return the name in `LANDMARK_NAMES` for a landmark's name or alias, or None if it is unknown."""
    word = re.sub(r"[\s-]+", "_", given.strip().lower())
    word = _ALIASES.get(word, word)
    return word if word in LANDMARK_NAMES else None
