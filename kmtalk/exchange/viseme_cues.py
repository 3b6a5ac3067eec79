"""Viseme cues from the alignment, for engines and sprites that show mouths by name: OVR's 15, Rhubarb's letters."""

from __future__ import annotations

import json
from pathlib import Path

from kmtalk.articulation.targets import canonical_phone
from kmtalk.speech.alignment import Alignment

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
OVR_SILENCE, RHUBARB_SILENCE = "sil", "X"


def _by_phone(table: dict[str, str]) -> dict[str, str]:
    return {phone: cue for cue, phones in table.items() for phone in phones.split()}


def visemes_from_phones(
    alignment: Alignment, duration: float, table: dict[str, str], silence: str
) -> list[tuple[float, float, str]]:
    """(start, end, name) in seconds without gaps from 0 to ``duration``; neighbours of one name are one cue."""
    known = _by_phone(table)
    out: list[tuple[float, float, str]] = []

    def show(name: str, end: float) -> None:
        start = out[-1][1] if out else 0.0
        if end - start < 1e-3:  # no eye sees it
            return
        if out and out[-1][2] == name:
            out[-1] = (out[-1][0], end, name)
        else:
            out.append((start, end, name))

    for phone in alignment.phones:
        show(silence, min(phone.start, duration))
        show(known[canonical_phone(phone.label)], min(phone.end, duration))
    show(silence, duration)
    return out


def write_ovr(path: Path, alignment: Alignment, duration: float) -> None:
    """Write JSON: ``visemes`` of OVR LipSync with ``start`` and ``end`` in seconds."""
    found = visemes_from_phones(alignment, duration, _OVR, OVR_SILENCE)
    entries = [{"start": round(a, 3), "end": round(b, 3), "viseme": name} for a, b, name in found]
    path.write_text(json.dumps({"duration": round(duration, 3), "visemes": entries}, indent=1) + "\n", encoding="utf-8")


def write_rhubarb_json(path: Path, alignment: Alignment, duration: float) -> None:
    """Write JSON as Rhubarb Lip Sync does: ``metadata`` and ``mouthCues``, A to H and X."""
    found = visemes_from_phones(alignment, duration, _RHUBARB, RHUBARB_SILENCE)
    entries = [{"start": round(a, 2), "end": round(b, 2), "value": name} for a, b, name in found]
    document = {"metadata": {"soundFile": "speech.wav", "duration": round(duration, 2)}, "mouthCues": entries}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def write_rhubarb_tsv(path: Path, alignment: Alignment, duration: float) -> None:
    """Write TSV as Rhubarb does: seconds and letter where each cue begins, closed by X at the end."""
    found = visemes_from_phones(alignment, duration, _RHUBARB, RHUBARB_SILENCE)
    lines = [f"{a:.2f}\t{name}" for a, _, name in found] + [f"{duration:.2f}\t{RHUBARB_SILENCE}"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
