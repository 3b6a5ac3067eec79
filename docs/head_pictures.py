"""Regenerates the pictures of the default head in docs/head/: `python docs/head_pictures.py`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from kmtalk import KMTalk
from kmtalk.face.motion import Motion
from kmtalk.face.rig import load_full_head
from kmtalk.keys import phone_midpoints
from kmtalk.render.video import Cell, render_contact_sheet

FOLDER = Path(__file__).parent / "head"
SPEECH = Path(__file__).parent.parent / "assets" / "speech.wav"
MOUTH_SHAPES = ("jaw", "mouth", "tongue")
WITH_JAW = {  # shapes that are made for a lowered jaw → jawOpen
    "mouthClose": 1.0,
    "tongueOut": 0.4,
    "tongueTipUp": 0.2,
    "tongueInterdental": 0.15,
    "tongueDorsumUp": 0.3,
}


def save_sheet(motion: Motion, cells: Sequence[Cell], name: str, width: int, columns: int) -> None:
    """Render a contact sheet and save it as JPEG."""
    with tempfile.TemporaryDirectory() as folder:
        render_contact_sheet(motion, cells, Path(folder) / "sheet.png", width, columns)
        Image.open(Path(folder) / "sheet.png").convert("RGB").save(FOLDER / name, quality=86, optimize=True)
    print(FOLDER / name)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    rig = load_full_head()
    names = rig.shape_names
    weights = np.concatenate([np.zeros((1, len(names))), np.eye(len(names))]).astype(np.float32)
    for name, jaw in WITH_JAW.items():
        weights[1 + rig.index[name], rig.index["jawOpen"]] = jaw
    poses = Motion(rig, weights, 30.0)
    views = [Cell(0, view, view, "head") for view in ("portrait", "front", "three-quarter", "profile")]
    save_sheet(poses, views, "views.jpg", 400, 4)
    for kind in ("mouth", "face"):
        cells = []
        for number, name in enumerate(names, 1):
            if name.startswith(MOUTH_SHAPES) == (kind == "mouth"):
                framing = "mouth" if kind == "mouth" else "head" if name.startswith("head") else "face"
                label = name + (f" + jaw {WITH_JAW[name]:g}" if name in WITH_JAW else "")
                cells += [Cell(number, label, "front", framing), Cell(number, "", "profile", framing)]
        save_sheet(poses, cells, f"shapes-{kind}.jpg", 176, 10)
    blink = np.zeros((7, len(names)), np.float32)
    blink[:, [rig.index["eyeBlinkLeft"], rig.index["eyeBlinkRight"]]] = np.linspace(0, 1, 7)[:, None]
    steps = [Cell(n, f"eyeBlink {n / 6:.2f}", view, "eyes") for view in ("front", "three-quarter") for n in range(7)]
    save_sheet(Motion(rig, blink, 30.0), steps, "blink.jpg", 240, 7)
    animation = KMTalk().animate(SPEECH)
    first = {}
    for frame, label in phone_midpoints(animation.alignment, len(animation.motion), animation.fps):
        first.setdefault(label, frame)
    phones = [Cell(frame, label, "front") for label, frame in sorted(first.items())]
    save_sheet(animation.motion, phones[:30], "phones.jpg", 240, 10)


if __name__ == "__main__":
    main()
