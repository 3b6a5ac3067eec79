"""python -m kmtalk.cli, for accelerate launch."""

from kmtalk.cli import app

app()
