"""Viseme cues from the alignment: the 15 visemes of OVR LipSync and the mouth letters of Rhubarb Lip Sync."""

from __future__ import annotations

import json
from pathlib import Path

from kmtalk.speech.alignment import Alignment
from kmtalk.speech.phones import canonical_phone

_OVR = {
    "PP": "P B M",
    "FF": "F V",
    "TH": "TH DH",
    "DD": "T D",
    "kk": "K G HH",
    "CH": "SH ZH CH JH",
    "SS": "S Z",
    "nn": "N L NG",
    "RR": "R ER",
    "aa": "AA AE AH AY",
    "E": "EH EY",
    "I": "IY IH Y",
    "O": "AO OW OY AW",
    "U": "UH UW W",
}
_RHUBARB = {
    "A": "P B M",
    "B": "T D N S Z SH ZH CH JH K G NG TH DH IY IH Y R HH",
    "C": "EH EY AE AH UH",
    "D": "AA AY AW",
    "E": "AO ER OY",
    "F": "UW OW W",
    "G": "F V",
    "H": "L",
}
OVR_SILENCE, RHUBARB_SILENCE = "sil", "X"  # the cues for silence


def _by_phone(table: dict[str, str]) -> dict[str, str]:
    """Invert a table: cue by phone."""
    return {phone: cue for cue, phones in table.items() for phone in phones.split()}


def visemes_from_phones(
    alignment: Alignment, duration: float, table: dict[str, str], silence: str
) -> list[tuple[float, float, str]]:
    """Convert phones to viseme cues that cover the clip without gaps.

    Equal neighbouring cues are merged; cues shorter than 1 ms are dropped.

    Args:
        alignment: The phones.
        duration: Length of the clip in seconds.
        table: The phones of each cue, separated by spaces.
        silence: The cue for silence.

    Returns:
        Cues (start, end, name) in seconds, from 0 to `duration`.
    """
    cue_of = _by_phone(table)
    cues: list[tuple[float, float, str]] = []

    def add(name: str, end: float) -> None:
        start = cues[-1][1] if cues else 0.0
        if end - start < 1e-3:  # shorter than 1 ms: not visible
            return
        if cues and cues[-1][2] == name:
            cues[-1] = (cues[-1][0], end, name)
        else:
            cues.append((start, end, name))

    for phone in alignment.phones:
        add(silence, min(phone.start, duration))
        add(cue_of[canonical_phone(phone.label)], min(phone.end, duration))
    add(silence, duration)
    return cues


def write_ovr(path: Path, alignment: Alignment, duration: float) -> None:
    """Write the visemes of OVR LipSync as JSON: `visemes` with `start` and `end` in seconds."""
    cues = visemes_from_phones(alignment, duration, _OVR, OVR_SILENCE)
    entries = [{"start": round(a, 3), "end": round(b, 3), "viseme": name} for a, b, name in cues]
    path.write_text(json.dumps({"duration": round(duration, 3), "visemes": entries}, indent=1) + "\n", encoding="utf-8")


def write_rhubarb_json(path: Path, alignment: Alignment, duration: float) -> None:
    """Write mouth cues in the JSON format of Rhubarb Lip Sync: `metadata` and `mouthCues`, A to H and X."""
    cues = visemes_from_phones(alignment, duration, _RHUBARB, RHUBARB_SILENCE)
    entries = [{"start": round(a, 2), "end": round(b, 2), "value": name} for a, b, name in cues]
    document = {"metadata": {"soundFile": "speech.wav", "duration": round(duration, 2)}, "mouthCues": entries}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def write_rhubarb_tsv(path: Path, alignment: Alignment, duration: float) -> None:
    """Write mouth cues in the TSV format of Rhubarb: start in seconds and letter of each cue, and a final X."""
    cues = visemes_from_phones(alignment, duration, _RHUBARB, RHUBARB_SILENCE)
    lines = [f"{a:.2f}\t{name}" for a, _, name in cues] + [f"{duration:.2f}\t{RHUBARB_SILENCE}"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
