"""Regenerates docs/mouths/: 25 phones from the front and in profile, before and after.

    python docs/mouth_pictures.py NAME SOUND [--textgrid FILE] [--before FILE.png]

Writes docs/mouths/NAME.jpg: mouths of the shipped network in the middle of the longest phone of each kind. With
`--before`, a sheet that this script wrote with `--sheet` at another commit, its rows stand above those of this one.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from kmtalk import KMTalk
from kmtalk.render.video import Cell, render_contact_sheet
from kmtalk.speech.phones import canonical_phone

FOLDER = Path(__file__).parent / "mouths"
COLUMNS, CELL = 25, 120
# fmt: off
ORDER = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "UH", "UW", "P", "B", "M", "F", "V",
         "TH", "DH", "T", "D", "N", "L", "S", "Z", "SH", "CH", "R", "W", "Y", "K", "G", "NG")
# fmt: on
DISPENSABLE = ("AH", "IH", "G", "Z", "Y", "NG", "D", "K", "CH", "V", "EH")  # left out first where there are too many


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("sound", type=Path)
    parser.add_argument("--textgrid", type=Path)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--sheet", type=Path)
    given = parser.parse_args()
    animation = KMTalk().animate(given.sound, textgrid=given.textgrid, expression=False)
    by_kind: dict[str, list[tuple[float, float]]] = {}
    for phone in animation.alignment.phones:
        by_kind.setdefault(canonical_phone(phone.label), []).append((phone.start, phone.end))
    for spans in by_kind.values():
        spans.sort(key=lambda span: span[0] - span[1])
    kinds = [kind for kind in ORDER if kind in by_kind]
    for kind in DISPENSABLE:
        if len(kinds) > COLUMNS and kind in kinds:
            kinds.remove(kind)
    chosen = [(kind, by_kind[kind][0]) for kind in kinds]
    chosen += [(kind, span) for kind in ORDER if kind in by_kind for span in by_kind[kind][1:]]
    count = len(animation.motion)
    cells = [
        Cell(min(count - 1, int((start + end) / 2 * animation.fps)), kind, view, "mouth")
        for view in ("front", "profile")
        for kind, (start, end) in chosen[:COLUMNS]
    ]
    with tempfile.TemporaryDirectory() as folder:
        render_contact_sheet(animation.motion, cells, Path(folder) / "sheet.png", CELL, COLUMNS)
        after = np.asarray(Image.open(Path(folder) / "sheet.png").convert("RGB"))
    if given.sheet is not None:
        Image.fromarray(after).save(given.sheet)
        return
    half = len(after) // 2
    rows = [after[:half], after[half:]]
    if given.before is not None:
        before = np.asarray(Image.open(given.before).convert("RGB"))
        rows = [before[:half], after[:half], before[half:], after[half:]]
    FOLDER.mkdir(exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(FOLDER / f"{given.name}.jpg", quality=84, optimize=True)
    print(FOLDER / f"{given.name}.jpg")


if __name__ == "__main__":
    main()
