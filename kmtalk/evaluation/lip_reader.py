"""Lip-readability: how well a small network that has learnt to read real lips reads other ones.

GRID's sentences have six words: command, colour, preposition, letter, digit and adverb ("bin blue at f two now"). A
reader of one of them is a network of two convolutions on four channels (aperture, width, upper and lower lip) of 16
frames. It is trained on the real lips of training clips, whose words' times are known. Where its accuracy on predicted
lips is that on the real lips of the same clips, they show what the real ones show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from kmtalk.corpora.grid import FPS
from kmtalk.metrics import MetricResult
from kmtalk.speech.alignment import Word

SLOTS = {"command": 0, "colour": 1, "letter": 3, "digit": 4, "adverb": 5}
"""Kind of word → its place in the sentence; prepositions are not read, most of them are hardly spoken."""

WORDS_PER_SENTENCE = 6
FRAMES = 16  # frames of a word
MARGIN = 0.08  # seconds before and after a word that the reader sees
CHANNELS = 4  # of `kmtalk.face.mouth.LIP_CHANNELS`
WIDTH, STEPS, BATCH_SIZE, READERS = 48, 400, 64, 3  # readers of one kind of word vote
BOOTSTRAP_SAMPLES = 1000


@dataclass(frozen=True)
class ReadableClip:
    """A sentence whose words are known.

    Attributes:
        mouth: (N, C) in mm at 25 fps, the channels of `kmtalk.face.mouth.LIP_CHANNELS`.
        words: The six words with their times.
    """

    mouth: np.ndarray
    words: tuple[Word, ...]


class _WordReader(nn.Module):
    """Two convolutions and a linear layer, (B, 4, 16) → (B, words)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(CHANNELS, WIDTH, 5, padding=2),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Conv1d(WIDTH, WIDTH, 5, padding=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(WIDTH * FRAMES, classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


def _cut(clip: ReadableClip, slot: int) -> np.ndarray:
    """Return a word (4, 16) of a clip, resampled."""
    word = clip.words[slot]
    times = (np.arange(len(clip.mouth)) + 0.5) / FPS
    at = np.linspace(word.start - MARGIN, word.end + MARGIN, FRAMES)
    return np.stack([np.interp(at, times, clip.mouth[:, k]) for k in range(CHANNELS)]).astype(np.float32)


class LipReader:
    """Readers of the words of GRID's sentences.

    Args:
        clips: Training clips with real lips; those that do not have six words are left out.
        seed: Seed of the training.
    """

    def __init__(self, clips: Sequence[ReadableClip], seed: int = 0) -> None:
        complete = [c for c in clips if len(c.words) == WORDS_PER_SENTENCE]
        self.clip_count = len(complete)
        self._readers: dict[str, list[_WordReader]] = {}
        self._vocabulary: dict[str, list[str]] = {}
        self._scales: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for kind, slot in SLOTS.items():
            words = [c.words[slot].text for c in complete]
            self._vocabulary[kind] = sorted(set(words))
            inputs = np.stack([_cut(c, slot) for c in complete])
            mean, deviation = inputs.mean((0, 2))[:, None], inputs.std((0, 2))[:, None]
            self._scales[kind] = mean, deviation
            labels = torch.tensor([self._vocabulary[kind].index(w) for w in words])
            x = torch.from_numpy((inputs - mean) / deviation)
            self._readers[kind] = [
                _train(x, labels, len(self._vocabulary[kind]), 100 * seed + n) for n in range(READERS)
            ]

    @torch.inference_mode()
    def read(self, clips: Sequence[ReadableClip]) -> Mapping[str, np.ndarray]:
        """Return, for each kind of word, whether it was read correctly (n,) in each clip of six words."""
        complete = [c for c in clips if len(c.words) == WORDS_PER_SENTENCE]
        out = {}
        for kind, slot in SLOTS.items():
            mean, deviation = self._scales[kind]
            x = torch.from_numpy((np.stack([_cut(c, slot) for c in complete]) - mean) / deviation)
            votes = torch.stack([reader(x).softmax(-1) for reader in self._readers[kind]]).mean(0).argmax(-1)
            out[kind] = np.array(
                [self._vocabulary[kind][v] == c.words[slot].text for v, c in zip(votes, complete, strict=True)]
            )
        return out


def _train(x: torch.Tensor, labels: torch.Tensor, classes: int, seed: int) -> _WordReader:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        reader = _WordReader(classes)
        optimizer = torch.optim.AdamW(reader.parameters(), lr=3e-3, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=STEPS)
        for _ in range(STEPS):
            index = torch.randint(len(x), (BATCH_SIZE,))
            # other speakers open their mouths further or less, and boundaries are not exact
            gain = 1 + 0.15 * torch.randn(BATCH_SIZE, CHANNELS, 1)
            shifted = torch.roll(x[index], int(torch.randint(-1, 2, (1,))), dims=2)
            loss = functional.cross_entropy(
                reader(shifted * gain + 0.1 * torch.randn(BATCH_SIZE, CHANNELS, FRAMES)), labels[index]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return reader.eval()


def readability(correct: Mapping[str, np.ndarray]) -> tuple[list[MetricResult], tuple[float, float]]:
    """Return the accuracies of what `LipReader.read` gives, and the 95 % interval of their mean.

    Args:
        correct: Kind of word → whether it was read correctly (n,).

    Returns:
        accuracies: One for each kind of word, and their mean.
        interval: Of the mean, by a bootstrap over clips.
    """
    table = np.stack(list(correct.values()), axis=1).astype(float)  # (n, kinds)
    draws = np.random.default_rng(0).integers(0, len(table), (BOOTSTRAP_SAMPLES, len(table)))
    low, high = np.percentile(table[draws].mean((1, 2)), [2.5, 97.5])
    pooling = f"over {len(table)} clips"
    results = [MetricResult(f"{kind} read", float(c.mean()), "", pooling) for kind, c in correct.items()]
    results.append(MetricResult("words read", float(table.mean()), "", f"mean over {len(correct)} kinds, {pooling}"))
    return results, (float(low), float(high))
