"""What the stages say of their progress; the listener decides whether anybody sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """Hears of every stage; this one keeps silent."""

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Enter a stage; call what it yields with the count that is done, up to ``total``."""
        yield lambda done: None
