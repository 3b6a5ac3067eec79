"""The exception for invalid input, which the command line prints as one line without a traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class InputError(ValueError):
    """Invalid input from the user. The message is one line that names the input and the remedy."""


def describe_validation_error(error: ValidationError) -> str:
    """One-line description of a pydantic error: the location in the file and the problem."""
    first = error.errors()[0]
    location = ".".join(map(str, first["loc"]))
    problem = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    return f"{location}: {problem}" if location else problem


def describe_problem(error: Exception) -> str:
    """What a library says of a file, in one short line."""
    text = " ".join(str(error).split())
    if "sys.set_int_max_str_digits" in text:  # Python's remedy is none for a file
        text = "a number of thousands of digits"
    return text[:100] or type(error).__name__
