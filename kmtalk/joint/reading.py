"""Phones from a moving mouth: when each phone of a known text is spoken.

M motion frames, P phones and pauses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from kmtalk.errors import InputError
from kmtalk.joint.clock import MEL_FRAMES_PER_MOTION_FRAME as STEP
from kmtalk.joint.model import JointNetwork
from kmtalk.joint.motion_stream import to_channels
from kmtalk.joint.tokens import PAUSES, TOKEN, Span

LONGEST_PHONE, LONGEST_PAUSE = 20, 160  # motion frames, 0.7 s and 5.6 s
DURATION_DEVIATION = 0.5  # of the logarithm of a phone's duration around the predicted one
INSERTED_PAUSE = -3.0  # log probability of a pause between two words without punctuation
OPTIONAL_PAUSE_FRAMES = 24  # mel frames, 0.28 s
READER_WEIGHT = 0.6  # of the reader's log probabilities, which neighbouring frames repeat


@torch.inference_mode()
def read_phones(network: JointNetwork, weights: np.ndarray) -> np.ndarray:
    """Return log probabilities (M, vocabulary) of phones and pauses, read from weights (M, R) of the rig."""
    motion = torch.from_numpy(to_channels(weights, network.config.shape_names))
    valid = torch.ones(1, len(weights), dtype=torch.bool)
    return network.phone_reader(network.normalize_motion(motion)[None], valid)[0].numpy()


def align_phones(log_probabilities: np.ndarray, expected: Sequence[Span]) -> list[Span]:
    """Place phones in time by Viterbi search over a semi-Markov model with log-normal durations.

    Args:
        log_probabilities: (M, vocabulary), from `read_phones`.
        expected: Phones and pauses in order, with their expected durations and words; pauses may take any time, and
            there may be further ones between words.

    Returns:
        The same phones, which cover all M motion frames, with the pauses that were found between words.

    Raises:
        InputError: There are more phones than motion frames.
    """
    count = len(log_probabilities)
    if len(expected) > count:
        raise InputError(
            f"the text has {len(expected)} phones, too many for {count} frames of motion; shorten the text"
        )
    states = _with_optional_pauses(expected)
    cumulative = np.concatenate([np.zeros((1, log_probabilities.shape[1])), np.cumsum(log_probabilities, 0)])
    score = np.full(count + 1, -np.inf)
    score[0] = 0.0
    back = np.zeros((len(states), count + 1), np.int32)
    for i, (span, optional) in enumerate(states):
        pause = span.label in PAUSES
        at_an_end = pause and i in (0, len(states) - 1)
        lengths = np.arange(1, min(count, count if at_an_end else LONGEST_PAUSE if pause else LONGEST_PHONE) + 1)
        mean = np.log(max(1.0, (span.stop - span.start) / STEP))
        prior = -0.5 * ((np.log(lengths) - mean) / DURATION_DEVIATION) ** 2
        if pause:
            prior = np.maximum(prior, -2.0)  # a pause may be of any length
        if optional:
            prior = prior + INSERTED_PAUSE
        emitted = READER_WEIGHT * cumulative[:, TOKEN[span.label]]
        ends = np.arange(count + 1)[:, None]
        starts = ends - lengths
        gained = np.where(starts >= 0, score[np.maximum(starts, 0)] - emitted[np.maximum(starts, 0)], -np.inf) + prior
        best = gained.argmax(1)
        taken = gained[np.arange(count + 1), best] + emitted
        back[i] = lengths[best]
        if optional:  # it may be left out
            back[i] = np.where(score >= taken, 0, back[i])
            taken = np.maximum(score, taken)
        score = taken
    if not np.isfinite(score[count]):
        raise InputError("the text does not fit the motion; shorten or lengthen the text")
    out: list[Span] = []
    end = count
    for i in range(len(states) - 1, -1, -1):
        start = end - int(back[i, end])
        if start < end:
            out.append(replace(states[i][0], start=STEP * start, stop=STEP * end))
        end = start
    return out[::-1]


def _with_optional_pauses(expected: Sequence[Span]) -> list[tuple[Span, bool]]:
    """Add a pause that may be left out between each two words; the second value says which these are."""
    states: list[tuple[Span, bool]] = []
    for span in expected:
        last = states[-1][0] if states else None
        if last is not None and not last.is_pause and not span.is_pause and span.word != last.word:
            states.append((Span("SIL", 0, OPTIONAL_PAUSE_FRAMES, 0), True))
        states.append((span, False))
    return states
