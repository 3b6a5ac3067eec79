"""The mouth of sound that arrives in blocks: weights of the rig at 50 Hz, with the lips' contacts made sure of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from kmtalk.errors import InputError
from kmtalk.face.rig import Rig
from kmtalk.motion.postprocessing import LABIODENTAL, OPEN_PAUSE, ContactPoses
from kmtalk.speech.alignment import Phone
from kmtalk.speech.audio import SAMPLE_RATE
from kmtalk.streaming.known_phones import KnownPhones
from kmtalk.streaming.log_mel import AHEAD, LogMelStream
from kmtalk.streaming.model import CONTACTS, MEL_PER_TOKEN, TOKEN_SECONDS, StreamingNetwork

CONTACT_RANGE, PAUSE_RANGE = (0.06, 0.2), (0.8, 0.98)
"""Degree of a contact, and of a pause, as the network finds it, at which it begins to be set, and from which it is set
wholly. Held too early, the mouth would not prepare for the next word."""

HUSH_TOKENS, HUSH_RAMP = 10, 4
"""Tokens without more than steady noise, after which the mouth rests, whatever the network takes the noise for, and
tokens over which it comes to rest. The network's look-ahead ends the rest before the next sound."""

FEW_FRAMES = 100  # of 10 ms, for which one thread is enough
SETTLE_TOKENS = 5  # of a pause, in which the mouth may come to rest before it is held
HELD_SECONDS = 0.12  # time constant with which the pose that is held in a pause is taken from the motion


@dataclass(frozen=True)
class StreamedMouth:
    """The mouth at n tokens of 20 ms.

    Attributes:
        weights: (n, R) float32 weights of the rig.
        speaking: (n,) float32, whether there is speech, in [0, 1].
        level_db: (n,) float32, loudness relative to that of loud syllables.
    """

    weights: np.ndarray
    speaking: np.ndarray
    level_db: np.ndarray


class MouthStream:
    """Animates a mouth while the sound arrives.

    Args:
        network: The network, in evaluation mode.
        rig: Rig of the weights.
        style: Shares of the network's styles (S,).

    Raises:
        InputError: The rig lacks shapes that the network moves.
    """

    def __init__(self, network: StreamingNetwork, rig: Rig, style: np.ndarray) -> None:
        missing = [n for n in network.config.shape_names if n not in rig.index]
        if missing:
            raise InputError(f"the streaming network moves {missing[0]}, which the rig lacks; train one for this rig")
        self._network = network
        self._columns = [rig.index[n] for n in network.config.shape_names]
        self._shapes = len(rig.shape_names)
        self._poses = ContactPoses(rig)
        self._style = torch.from_numpy(style.astype(np.float32))[None]
        self._memory = network.new_memory()
        self._mel = LogMelStream()
        self._levels = np.zeros(0, np.float32)
        self._sounds = np.zeros((HUSH_TOKENS + HUSH_RAMP - 1) * MEL_PER_TOKEN, bool)  # from some tokens before the next
        self._phones, self._next = KnownPhones(), 0  # number of the next token
        self._held: np.ndarray | None = None
        self._last_pauses = np.zeros((SETTLE_TOKENS, 1), np.float32)

    @property
    def delay(self) -> float:
        """Seconds of sound that must follow a token's middle before it is known."""
        return self._network.config.look_ahead_seconds + TOKEN_SECONDS / 2 + AHEAD / SAMPLE_RATE

    def expect(self, phones: Sequence[Phone]) -> None:
        """Take phones whose sound is fed later, in seconds of the stream; raises InputError where they overlap."""
        self._phones.add(phones)

    def feed(self, samples: np.ndarray) -> StreamedMouth:
        """Take further mono samples (S,) at 16 kHz; returns the tokens that are known with them."""
        return self._advance(*self._mel.feed(samples))

    def finish(self) -> StreamedMouth:
        """Return the last tokens: the sound has ended."""
        return self._advance(*self._mel.feed(np.zeros(AHEAD, np.float32)), ends=True)

    @torch.inference_mode()
    def _advance(self, frames: np.ndarray, levels: np.ndarray, sounds: np.ndarray, ends: bool = False) -> StreamedMouth:
        self._levels = np.concatenate([self._levels, levels])
        self._sounds = np.concatenate([self._sounds, sounds])
        if not len(frames) and not ends:
            return self._nothing()
        with _one_thread() if len(frames) <= FEW_FRAMES else nullcontext():
            found = self._network.advance(torch.from_numpy(frames)[None], self._style, self._memory, ends)
        if found is None:
            return self._nothing()
        weights = np.zeros((found.motion.shape[1], self._shapes), np.float32)
        weights[:, self._columns] = found.motion[0].clamp(0, 1).numpy()
        count = len(weights)
        times = (self._next + np.arange(count) + 0.5) * TOKEN_SECONDS
        degrees = self._phones.correct(torch.sigmoid(found.contacts[0]).numpy(), times)
        self._next += count
        levels = self._levels[: count * MEL_PER_TOKEN].reshape(count, MEL_PER_TOKEN).max(1)
        self._levels = self._levels[count * MEL_PER_TOKEN :]
        sounding = self._sounding(count)
        weights = sounding[:, None] * self._with_contacts(weights, degrees)
        return StreamedMouth(weights, sounding * (1 - degrees[:, CONTACTS.index("pause")]), levels)

    def _sounding(self, count: int) -> np.ndarray:
        """Return whether there is more than steady noise around the next tokens (count,), in [0, 1], float32."""
        ahead = self._network.config.look_ahead_tokens
        whole = len(self._sounds) // MEL_PER_TOKEN * MEL_PER_TOKEN
        tokens: np.ndarray = self._sounds[:whole].reshape(-1, MEL_PER_TOKEN).max(1)
        window, needed = HUSH_TOKENS + 1 + ahead, HUSH_TOKENS + HUSH_RAMP - 1 + count + ahead
        missing = max(0, needed - len(tokens))  # after the end there is nothing
        tokens = np.concatenate([tokens, np.zeros(missing, bool)])[:needed]
        near = np.lib.stride_tricks.sliding_window_view(tokens, window).max(1).astype(np.float32)
        self._sounds = self._sounds[count * MEL_PER_TOKEN :]
        out: np.ndarray = np.lib.stride_tricks.sliding_window_view(near, HUSH_RAMP).mean(1)
        return out

    def _nothing(self) -> StreamedMouth:
        empty = np.zeros(0, np.float32)
        return StreamedMouth(np.zeros((0, self._shapes), np.float32), empty, empty)

    def _with_contacts(self, weights: np.ndarray, degrees: np.ndarray) -> np.ndarray:
        """Hold the mouth still in pauses, bite the lip at f and v, and close the lips at p, b and m."""
        bilabial, labiodental, pause = (degrees[:, CONTACTS.index(name), None] for name in CONTACTS)
        bilabial, labiodental = _rise(bilabial, *CONTACT_RANGE), _rise(labiodental, *CONTACT_RANGE)
        pauses = np.concatenate([self._last_pauses, _rise(pause, *PAUSE_RANGE)])
        self._last_pauses = pauses[len(weights) :]
        pause = np.lib.stride_tricks.sliding_window_view(pauses, SETTLE_TOKENS + 1, 0).min(-1)
        # some speakers breathe through the open mouth
        parted = _rise(self._poses.opening(weights), OPEN_PAUSE - 1, OPEN_PAUSE)[:, None]
        resting = parted * weights + (1 - parted) * self._poses.closed(weights)
        follow = 1 - math.exp(-TOKEN_SECONDS / HELD_SECONDS)
        held = np.empty_like(weights)
        for i, pose in enumerate(resting):
            self._held = pose if self._held is None else self._held + follow * (pose - self._held)
            held[i] = self._held
        weights = (1 - pause) * weights + pause * held
        weights = weights + LABIODENTAL * labiodental * (self._poses.bitten(weights) - weights)
        out: np.ndarray = weights + bilabial * (self._poses.closed(weights) - weights)
        return out.astype(np.float32)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread: for a few tokens several wait for each other longer than they work, most of all on a
    busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _rise(degree: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return 0 below `low`, 1 above `high`, and a smooth rise between."""
    share = np.clip((degree - low) / (high - low), 0, 1)
    return np.asarray(share * share * (3 - 2 * share))
