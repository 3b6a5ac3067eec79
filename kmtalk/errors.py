"""The one exception that users meet: a clear line, no traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class InputError(ValueError):
    """Something the user gave cannot be used; the message names it and the remedy in one line."""


def describe_validation_error(error: ValidationError) -> str:
    """What the author of a file is to be told: the place, and what is wrong there."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    what = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    return f"{place}: {what}" if place else what
