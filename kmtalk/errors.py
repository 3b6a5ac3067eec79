"""The one exception that users meet: a clear line, no traceback."""


class InputError(ValueError):
    """Something the user gave cannot be used; the message names it and the remedy in one line."""
