"""Render docs/talking.webp, the animated picture of the README, from the first seconds of the example sound.

Run `python docs/moving_picture.py`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import av
from PIL import Image

from kmtalk import KMTalk

HERE = Path(__file__).parent
SECONDS, FPS, SIDE = 3.2, 25, 320  # length, frame rate, pixels


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        animation = KMTalk().animate(HERE.parent / "assets" / "speech.wav", fps=FPS)
        animation.render(video, size=(SIDE, SIDE), quality="high")
        with av.open(str(video)) as container:
            frames = [f.to_image() for f in container.decode(video=0)][: round(SECONDS * FPS)]
    first, rest = frames[0], frames[1:]
    assert isinstance(first, Image.Image)
    first.save(
        HERE / "talking.webp", save_all=True, append_images=rest, duration=1000 // FPS, loop=0, quality=60, method=6
    )


if __name__ == "__main__":
    main()
