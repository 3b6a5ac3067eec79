"""What each phone asks of the mouth, in millimetres, for an adult at conversational effort.

Aperture is the gap of the inner lips (negative: a virtual target pushed past contact), width the
distance of the lip corners against rest, protrusion the lips' way forward, jaw the drop of the lower
incisors. A weight says how strongly the phone insists (Cohen & Massaro's dominance). Informed by
Löfqvist & Gracco 1997, Westbury et al. 1999, Saltzman & Munhall 1989 and JALI (Edwards et al. 2016).
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from enum import Enum

class Contact(Enum):
    """What a phone must touch."""

    NONE = ""
    BILABIAL = "lips together"
    LABIODENTAL = "lower lip to upper teeth"
    SIBILANT = "teeth nearly together: the jaw may not drop"


@dataclass(frozen=True)
class Target:
    """Targets in mm, weights without unit, tongue shapes in [0, 1]."""

    aperture: float
    width: float
    protrusion: float
    jaw: float
    aperture_weight: float
    width_weight: float
    jaw_weight: float
    tip_up: float = 0.0
    interdental: float = 0.0
    dorsum_up: float = 0.0
    contact: Contact = Contact.NONE


_N, _B, _L, _S = Contact.NONE, Contact.BILABIAL, Contact.LABIODENTAL, Contact.SIBILANT

# fmt: off
TARGETS: dict[str, Target] = {
    #              LA    LW    LP    JO   wLA   wLW   wJO   tip  inter dorsum
    "IY":  Target(  9.0,   1.5,  -1.0,   4.0,  0.6,  0.7,  0.6,    0,    0, 0.45, _N),
    "IH":  Target(  8.0,   0.5,  -0.5,   5.0,  0.5,  0.3,  0.5,    0,    0, 0.45, _N),
    "EY":  Target(  9.0,   1.0,  -0.5,   5.5,  0.7,  0.5,  0.6,    0,    0, 0.45, _N),
    "EH":  Target( 10.5,   0.5,   0.0,   7.5,  0.8,  0.4,  0.8,    0,    0,    0, _N),
    "AE":  Target( 12.0,   0.5,   0.0,   9.5,  0.9,  0.4,  1.0,    0,    0,    0, _N),
    "AA":  Target( 12.0,  -1.0,   0.0,  10.0,  0.9,  0.4,  1.0,    0,    0,    0, _N),
    "AH":  Target(  9.0,   0.0,   0.0,   6.0,  0.5, 0.25,  0.5,    0,    0,    0, _N),
    "AO":  Target(  7.0,  -4.0,   3.0,   8.0,  0.8,  0.8,  0.8,    0,    0,    0, _N),
    "OW":  Target(  5.0,  -5.0,   4.0,   6.0,  0.8,  0.9,  0.7,    0,    0, 0.45, _N),
    "UH":  Target(  6.0,  -3.5,   3.5,   5.0,  0.6,  0.7,  0.5,    0,    0, 0.45, _N),
    "UW":  Target(  4.0,  -6.0,   5.5,   4.0,  0.8,  1.0,  0.6,    0,    0, 0.45, _N),
    "ER":  Target(  6.0,  -2.5,   2.5,   4.5,  0.6,  0.6,  0.5, 0.35,    0,  0.3, _N),
    "AY":  Target( 11.5,   0.0,   0.0,   9.0,  0.9,  0.4,  0.9,    0,    0, 0.45, _N),
    "AW":  Target( 11.0,  -2.0,   1.5,   9.0,  0.9,  0.6,  0.9,    0,    0, 0.45, _N),
    "OY":  Target(  6.0,  -4.0,   3.0,   7.0,  0.8,  0.8,  0.7,    0,    0, 0.45, _N),
    "P":   Target( -3.0,  -0.5,   0.5,   3.0,  2.5,  0.2,  0.5,    0,    0,    0, _B),
    "B":   Target( -2.5,  -0.5,   0.5,   3.0,  2.5,  0.2,  0.5,    0,    0,    0, _B),
    "M":   Target( -2.5,  -0.5,   0.5,   3.0,  2.5,  0.2,  0.5,    0,    0,    0, _B),
    "F":   Target(  1.0,   0.0,  -1.0,   2.5,  1.8,  0.3,  0.8,    0,    0,    0, _L),
    "V":   Target(  1.2,   0.0,  -1.0,   2.8,  1.6,  0.3,  0.8,    0,    0,    0, _L),
    "TH":  Target(  6.0,   0.0,   0.0,   3.5,  0.5,  0.2,  0.8,    0,    1,    0, _N),
    "DH":  Target(  6.0,   0.0,   0.0,   3.5, 0.35, 0.15,  0.6,    0,  0.8,    0, _N),
    "T":   Target(  7.0,   0.0,   0.0,   3.0,  0.3,  0.1,  0.8,    1,    0,    0, _N),
    "D":   Target(  7.0,   0.0,   0.0,   3.2,  0.3,  0.1,  0.8,    1,    0,    0, _N),
    "N":   Target(  7.0,   0.0,   0.0,   3.5,  0.3,  0.1,  0.6,    1,    0,    0, _N),
    "L":   Target(  8.0,   0.0,   0.0,   5.0,  0.3,  0.1,  0.5,    1,    0,    0, _N),
    "S":   Target(  7.0,   0.5,   0.0,   1.5,  0.5,  0.3,  1.5, 0.75,    0,    0, _S),
    "Z":   Target(  7.0,   0.5,   0.0,   1.8,  0.5,  0.3,  1.4, 0.75,    0,    0, _S),
    "SH":  Target(  7.5,  -4.0,   4.0,   1.5,  0.9,  0.9,  1.5,  0.6,    0,  0.2, _S),
    "ZH":  Target(  7.5,  -4.0,   4.0,   1.8,  0.9,  0.9,  1.4,  0.6,    0,  0.2, _S),
    "CH":  Target(  7.0,  -4.0,   4.0,   1.8,  0.9,  0.9,  1.4,  0.8,    0,  0.2, _S),
    "JH":  Target(  7.0,  -4.0,   4.0,   2.0,  0.9,  0.9,  1.3,  0.8,    0,  0.2, _S),
    "K":   Target(  8.0,   0.0,   0.0,   4.0,  0.2,  0.1,  0.4,    0,    0,  1.0, _N),
    "G":   Target(  8.0,   0.0,   0.0,   4.0,  0.2,  0.1,  0.4,    0,    0,  1.0, _N),
    "NG":  Target(  8.0,   0.0,   0.0,   4.5,  0.2,  0.1,  0.4,    0,    0,  1.0, _N),
    "HH":  Target(  9.0,   0.0,   0.0,   5.5, 0.15, 0.05,  0.2,    0,    0,    0, _N),
    "R":   Target(  5.0,  -3.5,   3.0,   4.0,  0.6,  0.8,  0.5, 0.35,    0,  0.3, _N),
    "W":   Target(  2.0,  -6.5,   6.0,   4.0,  1.2,  1.1,  0.5,    0,    0, 0.45, _N),
    "Y":   Target(  8.0,   1.0,  -0.5,   3.5,  0.3,  0.4,  0.5,    0,    0, 0.45, _N),
}
# fmt: on

REST = Target(0.0, 0.0, 0.0, 0.0, 0.7, 0.5, 0.7)
"""Silence: lips together, jaw up."""

VOWELS = frozenset("IY IH EY EH AE AA AH AO OW UH UW ER AY AW OY".split())

DIPHTHONGS: dict[str, tuple[str, str]] = {
    "EY": ("EY", "IH"),
    "AY": ("AY", "IH"),
    "AW": ("AW", "UH"),
    "OW": ("OW", "UH"),
    "OY": ("OY", "IH"),
}
"""Two targets; the second begins at DIPHTHONG_SPLIT of the duration and insists half as much."""

DIPHTHONG_SPLIT = 0.6

# fmt: off
_IPA: dict[str, str] = {
    # vowels
    "i": "IY", "ɪ": "IH", "e": "EH", "ɛ": "EH", "æ": "AE", "a": "AA", "ɑ": "AA", "ɒ": "AO", "ɐ": "AH", "ʌ": "AH",
    "ə": "AH", "ɘ": "AH", "ɜ": "ER", "ɝ": "ER", "ɚ": "ER", "ɞ": "ER", "ɔ": "AO", "o": "OW", "ɤ": "AH", "u": "UW",
    "ʊ": "UH", "ɯ": "IH", "ɨ": "IH", "ʉ": "UW", "y": "UW", "ʏ": "UH", "ø": "OW", "œ": "AO", "ɶ": "AO", "ᵻ": "IH",
    "ej": "EY", "eɪ": "EY", "aj": "AY", "aɪ": "AY", "aw": "AW", "aʊ": "AW", "ow": "OW", "oʊ": "OW", "əw": "OW",
    "ɔj": "OY", "ɔɪ": "OY",
    # consonants
    "p": "P", "b": "B", "m": "M", "ɓ": "B", "ɸ": "F", "β": "V", "ʙ": "B", "f": "F", "v": "V", "ʋ": "V", "ɱ": "M",
    "θ": "TH", "ð": "DH", "t": "T", "d": "D", "ʈ": "T", "ɖ": "D", "n": "N", "ɳ": "N", "l": "L", "ɫ": "L", "ɭ": "L",
    "ɬ": "L", "ɮ": "L", "ɾ": "D", "r": "L", "ɹ": "R", "ɻ": "R", "ɽ": "R", "s": "S", "z": "Z", "ʂ": "SH", "ʐ": "ZH",
    "ʃ": "SH", "ʒ": "ZH", "ɕ": "SH", "ʑ": "ZH", "tʃ": "CH", "dʒ": "JH", "tɕ": "CH", "dʑ": "JH", "ts": "S", "dz": "Z",
    "tʂ": "CH", "dʐ": "JH", "pf": "F", "k": "K", "ɡ": "G", "g": "G", "c": "K", "ɟ": "G", "ç": "HH", "ʝ": "Y", "x": "K",
    "ɣ": "G", "χ": "HH", "ʁ": "HH", "ʀ": "HH", "q": "K", "ɢ": "G", "ŋ": "NG", "ɲ": "N", "ʎ": "L", "j": "Y", "ɥ": "W",
    "w": "W", "ʍ": "W", "h": "HH", "ɦ": "HH", "ħ": "HH", "ʕ": "HH", "ʔ": "HH",
}
# fmt: on


def canonical(label: str) -> str:
    """A phone label (ARPAbet with or without stress, or IPA) as a key of TARGETS; "AH" if unknown."""
    arpa = label.upper().rstrip("012")
    if arpa in TARGETS and (label.isupper() or len(arpa) > 1):
        return arpa
    plain = "".join(
        c for c in unicodedata.normalize("NFD", label) if not unicodedata.combining(c) and c.isalpha() and c not in "ːˑʰʲʷˠˤʼ"
    )
    for size in (len(plain), 2, 1):
        if plain[:size] in _IPA:
            return _IPA[plain[:size]]
    return "AH"


def scaled(target: Target, opening: float, rounding: float, jaw: float) -> Target:
    """A speaker's own version: contacts stay contacts."""
    aperture = target.aperture * opening if target.aperture > 0 else target.aperture
    return replace(
        target,
        aperture=aperture,
        width=target.width * rounding,
        protrusion=target.protrusion * rounding,
        jaw=target.jaw * jaw,
    )
