"""python -m kmtalk.cli, for accelerate launch."""

from kmtalk.cli.entry import app

app()
