"""Progress reporting: long operations report their stages to a `Progress` object, which may display them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """Receives the progress of each stage. The base class ignores it; subclasses display it."""

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Context manager for one stage.

        Args:
            name: Name of the stage.
            total: Number of items, or None if unknown.

        Yields:
            A function to call with the number of finished items.
        """
        yield lambda done: None
