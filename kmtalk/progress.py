"""Progress reporting: long operations report their stages to a `Progress` object, which may display them."""

from __future__ import annotations

import time
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

    def announce(self, message: str) -> None:
        """Receive a message about what is being done, such as how long it will take."""


SECONDS_BEFORE_ESTIMATE = 1.0


def announce_duration(
    progress: Progress, action: str, total: int, advance: Callable[[int], None]
) -> Callable[[int], None]:
    """Wrap `advance` so that `progress` is told once, after a second of work, how long the whole will take.

    Args:
        progress: Receives a message such as "rendering 300 frames, about 25 s".
        action: What is done with the items, such as "rendering {} frames".
        total: Number of items.
        advance: The function to wrap; called with the number of finished items.
    """
    first: tuple[float, int] | None = None
    announced = False

    def wrapped(done: int) -> None:
        nonlocal first, announced
        advance(done)
        now = time.monotonic()
        if first is None:
            first = now, done
        elapsed, finished = now - first[0], done - first[1]
        if not announced and elapsed >= SECONDS_BEFORE_ESTIMATE and finished:
            announced = True
            progress.announce(f"{action.format(total)}, about {round(total * elapsed / finished)} s")

    return wrapped
