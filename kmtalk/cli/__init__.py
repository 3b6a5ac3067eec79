"""The kmtalk command. Importing this package is quick; the commands are imported when one is run."""

from __future__ import annotations

from kmtalk.cli.entry import app

__all__ = ["app"]
