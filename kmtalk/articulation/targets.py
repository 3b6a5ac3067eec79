"""Articulatory targets of each phone, in millimetres, for an adult who speaks with conversational effort.

Aperture is the gap between the inner lips (a negative value is a virtual target past contact), upper lip the rise of
the upper lip from rest, width the distance of the mouth corners relative to rest, protrusion the forward movement of
the lips, and jaw the drop of the lower incisors. A weight is the strength of a target (the dominance of Cohen &
Massaro).

Aperture and width were fitted to the training clips of GRID s1. The upper lip is that of GRID s1 and s4 in the middle
of the phones, a little less; the jaw is informed by articulography (HPRC, speakers F01 and M01: 8.9 and 3.8 mm at AA,
8.1 and 4.1 at AE, 5.5 and 1.9 at ER, 3 and 1 at N, IH and D, 3.1 and 0.5 at UW, up to 1.2 at S and CH). The rest
follows Löfqvist & Gracco 1997, Westbury et al. 1999, Saltzman & Munhall 1989 and JALI (Edwards et al. 2016).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum


class Contact(Enum):
    """Contact that a phone requires."""

    NONE = ""
    BILABIAL = "lips together"
    LABIODENTAL = "lower lip to upper teeth"
    SIBILANT = "teeth nearly together: the jaw may not drop"


@dataclass(frozen=True)
class PhoneTarget:
    """Articulatory target of a phone.

    Attributes:
        aperture: Gap between the inner lips in mm; negative past contact.
        upper_lip: Rise of the upper lip in mm, relative to rest; the lower lip drops by the rest of the aperture.
        width: Distance of the mouth corners in mm, relative to rest.
        protrusion: Forward movement of the lips in mm.
        jaw: Drop of the lower incisors in mm.
        aperture_weight: Dominance of the aperture, without unit.
        width_weight: Dominance of the width.
        jaw_weight: Dominance of the jaw.
        tongue_tip_up: Weight of the shape tongueTipUp, in [0, 1].
        tongue_interdental: Weight of the shape tongueInterdental.
        tongue_dorsum_up: Weight of the shape tongueDorsumUp.
        contact: Contact that the phone requires.
    """

    aperture: float
    upper_lip: float
    width: float
    protrusion: float
    jaw: float
    aperture_weight: float
    width_weight: float
    jaw_weight: float
    tongue_tip_up: float = 0.0
    tongue_interdental: float = 0.0
    tongue_dorsum_up: float = 0.0
    contact: Contact = Contact.NONE

    @property
    def protrusion_weight(self) -> float:
        """Dominance of the protrusion, which is greater for rounded phones."""
        return 0.3 + 0.15 * max(self.protrusion, 0.0)


_N, _B, _L, _S = Contact.NONE, Contact.BILABIAL, Contact.LABIODENTAL, Contact.SIBILANT

# fmt: off
PHONE_TARGETS: dict[str, PhoneTarget] = {
    # aperture, upper lip, width, protrusion, jaw; weights of aperture, width, jaw; tongue tip, interdental, dorsum;
    # contact
    "IY":  PhoneTarget( 12.0,     1.2,     1.6,    -1.0,    3.0,  0.66, 0.85,  0.60,  0.00, 0.0, 0.45, _N),
    "IH":  PhoneTarget(  8.5,     0.5,     1.1,    -0.5,    4.0,  0.35, 0.40,  0.50,  0.00, 0.0, 0.45, _N),
    "EY":  PhoneTarget( 12.3,     1.0,     2.2,    -0.5,    5.2,  0.99, 0.53,  0.80,  0.00, 0.0, 0.45, _N),
    "EH":  PhoneTarget( 12.3,     1.0,     0.8,     0.0,    6.8,  1.24, 0.37,  0.80,  0.00, 0.0, 0.00, _N),
    "AE":  PhoneTarget( 11.7,     0.6,     0.5,     0.0,    8.8,  0.62, 0.39,  1.00,  0.00, 0.0, 0.00, _N),
    "AA":  PhoneTarget( 12.0,     0.3,    -1.5,     0.0,    9.8,  1.05, 0.42,  1.10,  0.00, 0.0, 0.00, _N),
    "AH":  PhoneTarget(  9.4,     0.6,    -0.5,     0.0,    6.0,  0.49, 0.21,  0.50,  0.00, 0.0, 0.00, _N),
    "AO":  PhoneTarget(  7.1,    -0.4,    -7.3,     3.8,    8.0,  0.85, 1.42,  0.90,  0.00, 0.0, 0.00, _N),
    "OW":  PhoneTarget(  5.1,     0.2,    -5.6,     5.0,    6.2,  0.79, 1.00,  0.80,  0.00, 0.0, 0.45, _N),
    "UH":  PhoneTarget(  5.9,    -0.2,    -4.5,     4.4,    4.0,  0.60, 1.00,  0.50,  0.00, 0.0, 0.45, _N),
    "UW":  PhoneTarget(  3.3,    -0.4,    -7.8,     6.9,    2.6,  1.25, 1.30,  0.80,  0.00, 0.0, 0.45, _N),
    "ER":  PhoneTarget(  4.9,     0.2,    -3.8,     3.1,    4.4,  0.60, 0.60,  0.50,  0.35, 0.0, 0.30, _N),
    "AY":  PhoneTarget( 12.1,     0.4,    -0.4,     0.0,    9.4,  3.01, 0.79,  1.10,  0.00, 0.0, 0.45, _N),
    "AW":  PhoneTarget( 11.2,     1.0,    -0.5,     1.5,    9.2,  0.76, 0.45,  1.00,  0.00, 0.0, 0.45, _N),
    "OY":  PhoneTarget(  6.0,     0.0,    -6.4,     3.8,    7.2,  0.80, 0.80,  0.80,  0.00, 0.0, 0.45, _N),
    "P":   PhoneTarget( -3.6,    -2.0,    -1.2,     0.5,    3.6,  2.32, 0.17,  0.60,  0.00, 0.0, 0.00, _B),
    "B":   PhoneTarget( -3.1,    -2.4,    -3.6,     0.6,    3.8,  3.97, 0.45,  0.60,  0.00, 0.0, 0.00, _B),
    "M":   PhoneTarget( -2.5,    -2.2,    -1.0,     0.5,    4.0,  2.63, 0.23,  0.60,  0.00, 0.0, 0.00, _B),
    "F":   PhoneTarget(  1.0,     0.6,    -1.0,    -1.0,    2.6,  1.11, 0.47,  0.70,  0.00, 0.0, 0.00, _L),
    "V":   PhoneTarget(  1.2,     0.9,    -1.1,    -1.0,    3.0,  1.28, 0.50,  0.70,  0.00, 0.0, 0.00, _L),
    "TH":  PhoneTarget(  4.4,     0.4,    -0.8,     0.0,    3.0,  1.10, 0.29,  0.80,  0.00, 1.0, 0.00, _N),
    "DH":  PhoneTarget(  4.6,     0.2,    -0.3,     0.0,    3.2,  0.60, 0.16,  0.50,  0.00, 0.8, 0.00, _N),
    "T":   PhoneTarget(  7.3,     0.8,    -0.1,     0.0,    2.2,  0.40, 0.11,  0.90,  1.00, 0.0, 0.00, _N),
    "D":   PhoneTarget(  6.7,     0.7,     0.1,     0.0,    2.4,  0.50, 0.12,  0.80,  1.00, 0.0, 0.00, _N),
    "N":   PhoneTarget(  6.6,     0.6,    -0.5,     0.0,    2.8,  0.40, 0.08,  0.60,  1.00, 0.0, 0.00, _N),
    "L":   PhoneTarget(  8.6,    -0.2,    -0.9,     0.0,    4.2,  0.50, 0.09,  0.50,  1.00, 0.0, 0.00, _N),
    "S":   PhoneTarget(  8.2,     1.5,     0.1,     0.0,    1.1,  0.26, 0.72,  1.80,  0.75, 0.0, 0.00, _S),
    "Z":   PhoneTarget(  7.3,     1.4,     0.1,     0.0,    1.2,  0.30, 0.33,  1.70,  0.75, 0.0, 0.00, _S),
    "SH":  PhoneTarget(  7.6,     0.8,    -5.2,     5.0,    1.4,  0.90, 0.90,  1.60,  0.60, 0.0, 0.20, _S),
    "ZH":  PhoneTarget(  7.6,     0.8,    -5.2,     5.0,    1.7,  0.90, 0.90,  1.50,  0.60, 0.0, 0.20, _S),
    "CH":  PhoneTarget(  7.2,     1.0,    -4.9,     5.0,    1.8,  0.80, 0.63,  1.40,  0.80, 0.0, 0.20, _S),
    "JH":  PhoneTarget(  7.3,     1.0,    -4.6,     5.0,    1.8,  0.69, 0.65,  1.40,  0.80, 0.0, 0.20, _S),
    "K":   PhoneTarget(  8.4,     1.3,    -0.1,     0.0,    3.8,  0.30, 0.10,  0.40,  0.00, 0.0, 1.00, _N),
    "G":   PhoneTarget(  7.6,     0.8,    -1.0,     0.0,    3.6,  0.30, 0.11,  0.40,  0.00, 0.0, 1.00, _N),
    "NG":  PhoneTarget(  8.0,     0.7,    -0.3,     0.0,    3.8,  0.20, 0.10,  0.40,  0.00, 0.0, 1.00, _N),
    "HH":  PhoneTarget(  8.9,     0.3,    -0.0,     0.0,    5.0,  0.14, 0.05,  0.20,  0.00, 0.0, 0.00, _N),
    "R":   PhoneTarget(  2.7,    -0.3,    -5.5,     3.8,    3.4,  2.13, 0.57,  0.50,  0.35, 0.0, 0.30, _N),
    "W":   PhoneTarget(  0.7,    -2.2,    -9.2,     7.5,    3.0,  1.86, 1.00,  0.60,  0.00, 0.0, 0.45, _N),
    "Y":   PhoneTarget(  8.1,     0.7,     0.5,    -0.5,    3.0,  0.31, 0.37,  0.50,  0.00, 0.0, 0.45, _N),
    # second targets of diphthongs
    "EY2": PhoneTarget( 10.8,     1.2,     2.7,    -1.0,    3.8,  0.73, 0.49,  0.70,  0.00, 0.0, 0.45, _N),
    "AY2": PhoneTarget(  8.4,     0.9,     0.9,    -0.5,    4.6,  0.64, 0.50,  0.70,  0.00, 0.0, 0.45, _N),
    "OY2": PhoneTarget(  8.0,     0.6,     0.5,    -0.5,    4.6,  0.80, 0.80,  0.70,  0.00, 0.0, 0.45, _N),
    "OW2": PhoneTarget(  3.9,    -0.6,    -7.6,     6.9,    4.0,  0.86, 1.00,  0.70,  0.00, 0.0, 0.45, _N),
    "AW2": PhoneTarget(  5.6,     0.2,    -3.6,     4.4,    4.4,  0.62, 0.23,  0.60,  0.00, 0.0, 0.45, _N),
}
# fmt: on

PHONES: tuple[str, ...] = tuple(sorted(p for p in PHONE_TARGETS if p[-1] != "2"))
"""Keys of the phones in `PHONE_TARGETS`, without the second targets of diphthongs."""

REST_TARGET = PhoneTarget(0.0, 0.0, 0.0, 0.0, 0.0, 0.48, 0.73, 1.47)
"""Target of silence: lips together, jaw raised."""

VOWELS = frozenset(["IY", "IH", "EY", "EH", "AE", "AA", "AH", "AO", "OW", "UH", "UW", "ER", "AY", "AW", "OY"])

DIPHTHONG_GLIDES: dict[str, str] = {"EY": "EY2", "AY": "AY2", "AW": "AW2", "OW": "OW2", "OY": "OY2"}
"""For each diphthong, the key of its second target in `PHONE_TARGETS`."""

DIPHTHONG_SPLIT = 0.6
"""Share of a diphthong's duration after which its second target begins."""


def scale_target(target: PhoneTarget, aperture: float, rounding: float, jaw: float) -> PhoneTarget:
    """Return a target scaled for a speaker.

    Args:
        target: The target.
        aperture: Scale of the aperture, except where it is zero or less, which stands for contact. The upper lip is
            kept: a wider opening is the lower lip's and the jaw's.
        rounding: Scale of width and protrusion.
        jaw: Scale of the jaw drop.
    """
    return replace(
        target,
        aperture=target.aperture * aperture if target.aperture > 0 else target.aperture,
        width=target.width * rounding,
        protrusion=target.protrusion * rounding,
        jaw=target.jaw * jaw,
    )
