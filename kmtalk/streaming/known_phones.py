"""Phones that are known before their sound is heard, as those of a text-to-speech voice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kmtalk.articulation.gestures import bilabial_closure, contact_degree
from kmtalk.articulation.targets import Contact
from kmtalk.errors import InputError
from kmtalk.motion.postprocessing import CLOSURE, RELEASE_SECONDS
from kmtalk.speech.alignment import Alignment, Phone
from kmtalk.streaming.model import CONTACTS

SHORTEST_PAUSE = 0.15
"""Seconds of a gap between phones that is a pause, in which the lips may close."""

EDGE_SECONDS = 0.1
"""Before the first of some phones, and after the last: as far as their gestures reach."""

JOIN_SECONDS = 1.0
"""Phones that are nearer to each other than this are of one utterance, whose gaps are known to be pauses."""


def contacts_of_phones(alignment: Alignment, times: np.ndarray) -> np.ndarray:
    """Return the degrees (T, 3) of `kmtalk.streaming.model.CONTACTS` at `times` (T,) in seconds, but for pauses: 0."""
    lips = bilabial_closure(alignment, times, RELEASE_SECONDS, CLOSURE)
    teeth = contact_degree(alignment, times, Contact.LABIODENTAL)
    columns = {"bilabial": lips, "labiodental": teeth}
    return np.stack([columns.get(name, np.zeros(len(times))) for name in CONTACTS], 1).astype(np.float32)


class KnownPhones:
    """The phones that are known of a stream. Those that have passed are forgotten."""

    def __init__(self) -> None:
        self._phones: list[Phone] = []

    def add(self, phones: Sequence[Phone]) -> None:
        """Add phones, in seconds of the stream.

        Raises:
            InputError: They overlap, or begin before the end of others.
        """
        last = self._phones[-1].end if self._phones else -np.inf
        for phone in phones:
            if not (np.isfinite(phone.end) and phone.start < phone.end and phone.start >= last - 1e-6):
                raise InputError(
                    f"phone {phone.label} at {phone.start:.2f} s: phones of a stream follow each other in time"
                )
            last = phone.end
        self._phones += phones

    def correct(self, degrees: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Return degrees of contact (T, 3) that were heard, with those that are known in their place.

        Args:
            degrees: Degrees of `kmtalk.streaming.model.CONTACTS`.
            times: Rising times (T,) in seconds, not before those of the last call.
        """
        if not len(times):
            return degrees
        self._phones = [p for p in self._phones if p.end > times[0] - JOIN_SECONDS]
        near = [p for p in self._phones if p.start < times[-1] + JOIN_SECONDS]
        if not near:
            return degrees
        known = contacts_of_phones(Alignment(tuple(near)), times)
        inside = np.zeros(len(times), bool)
        pause = np.zeros(len(times), bool)
        for phone in near:
            inside |= (times >= phone.start - EDGE_SECONDS) & (times < phone.end + EDGE_SECONDS)
        for before, after in zip(near[:-1], near[1:], strict=True):
            gap = (times >= before.end) & (times < after.start)
            inside |= gap & (after.start - before.end < JOIN_SECONDS)
            pause |= gap & (after.start - before.end >= SHORTEST_PAUSE)
        known[:, CONTACTS.index("pause")] = pause
        out: np.ndarray = np.where(inside[:, None], known, degrees)
        return out
