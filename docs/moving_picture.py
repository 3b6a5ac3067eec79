"""docs/talking.webp, the README's moving picture: python docs/moving_picture.py (with the sound's first seconds)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import av
from PIL import Image

from kmtalk import KMTalk

HERE = Path(__file__).parent
SECONDS, FPS, SIDE = 3.2, 25, 320


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        animation = KMTalk().animate(HERE.parent / "assets" / "speech.wav", fps=FPS)
        animation.render(film, size=(SIDE, SIDE), quality="high")
        with av.open(str(film)) as container:
            frames = [f.to_image() for f in container.decode(video=0)][: round(SECONDS * FPS)]
    first, rest = frames[0], frames[1:]
    assert isinstance(first, Image.Image)
    first.save(
        HERE / "talking.webp", save_all=True, append_images=rest, duration=1000 // FPS, loop=0, quality=60, method=6
    )


if __name__ == "__main__":
    main()
