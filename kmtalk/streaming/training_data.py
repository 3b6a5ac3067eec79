"""Training examples of the streaming network: clips of the joint corpus in memory, and random crops of them.

T tokens of 20 ms, C shapes, S styles, B crops.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
import soxr
import torch
from torch import Tensor

from kmtalk.errors import InputError
from kmtalk.face.motion import frame_times, resample_motion
from kmtalk.joint.clock import MEL_RATE, MOTION_RATE
from kmtalk.joint.clock import SAMPLE_RATE as CORPUS_RATE
from kmtalk.joint.corpus import MANIFEST_NAME, SIMULATED, JointClip
from kmtalk.joint.tokens import PAUSES, Span, alignment_of_spans, frame_tokens
from kmtalk.progress import Progress
from kmtalk.speech.audio import SAMPLE_RATE
from kmtalk.streaming.known_phones import SHORTEST_PAUSE, contacts_of_phones
from kmtalk.streaming.log_mel import AHEAD, BANDS, SPEECH_RANGE_DB, frame_bands, relative_bands
from kmtalk.streaming.model import CONTACTS, MEL_PER_TOKEN, TOKEN_RATE, TOKEN_SECONDS

CACHE_NAME = "streaming_bands.npz"
MOST_GAIN_DB = 7.0  # by which the running level of the voice may be wrong
MOST_TILT_DB = 8.0  # of the spectrum from the lowest to the highest band: microphones and rooms
MOST_WARP = 0.16  # share by which the bands are stretched: longer and shorter vocal tracts
NOISE_SHARE, NOISE_DB = 0.5, (-45.0, -5.0)  # share of the crops with noise, and its level relative to the voice
NO_SPEECH_SHARE = 0.06  # share of the crops in which nobody speaks
NOISE_JITTER_DB = (2.0, 6.0)  # standard deviation of a noise's bands; that of white noise is 5.6 dB
NO_SPEECH_DB = (-60.0, 3.0)  # level of sound that is no speech
MOST_TEMPO = 0.15  # share by which speech is faster or slower
NARROW_SHARE, NARROW_BANDS, NARROW_DB = 0.4, (54, 78), (30.0, 80.0)
"""Share of the crops whose sound ends at a frequency, as that of telephones and headsets does; the first band beyond
it, from 3.2 kHz on; and how much weaker those bands are."""

LONGEST_STREAM = 10 * 3600 * 50  # tokens after which a crop may begin: ten hours

MASK_SHARE, MOST_MASK = 0.3, 12  # share of the crops in which some neighbouring bands are hidden


@dataclass(frozen=True)
class StreamingExample:
    """One clip in memory.

    Attributes:
        name: Name of the clip.
        bands: (2T, 80) float16, power in dB.
        level_db: Level of the loud syllables.
        motion: (T, C) float32 weights.
        contacts: (T, 3) float32, degree of each of `kmtalk.streaming.model.CONTACTS`.
        labels: (T,) int64, phones and pauses of `kmtalk.joint.tokens.VOCABULARY`; 0 where unknown.
        style: Name of the speaking style.
        voice: Name of the speaker.
        held_out: Whether it is kept for validation.
        tracked: Whether its lips are real, tracked ones.
    """

    name: str
    bands: np.ndarray
    level_db: float
    motion: np.ndarray
    contacts: np.ndarray
    labels: np.ndarray
    style: str
    voice: str
    held_out: bool
    tracked: bool


@dataclass(frozen=True)
class StreamingBatch:
    """Crops of clips.

    Attributes:
        mel: (B, 2T, 80) input of the network.
        style: (B, S) shares of the styles.
        motion: (B, T, C) weights.
        contacts: (B, T, 3) degrees of contact.
        labels: (B, T) phones and pauses, 0 where unknown.
        valid: (B, T) False at padding.
        start: (B,) numbers of the first tokens in streams that began before.
    """

    mel: Tensor
    style: Tensor
    motion: Tensor
    contacts: Tensor
    labels: Tensor
    valid: Tensor
    start: Tensor

    def to(self, device: torch.device) -> Self:
        """Return the batch on another device."""
        return type(self)(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def prepare_streaming_examples(
    folder: Path, clips: Sequence[JointClip], columns: np.ndarray, progress: Progress
) -> list[StreamingExample]:
    """Analyse the sound of the clips, once for each corpus, and resample their motion to the tokens.

    Args:
        folder: Folder of the corpus, in which the spectra are cached.
        clips: Its clips.
        columns: Columns (C,) of the shapes that the network moves.
        progress: Progress display.
    """
    cache = folder / CACHE_NAME
    built = (folder / MANIFEST_NAME).stat().st_mtime  # clips of a corpus that was built again have the same names
    if not cache.is_file() or cache.stat().st_mtime < built:
        analysed: dict[str, Any] = {}
        with progress.stage("analyse", len(clips)) as advance:
            for done, clip in enumerate(clips, 1):
                bands, level = analyse_clip(clip.load_samples())
                analysed[clip.name] = bands.astype(np.float16)
                analysed[f"{clip.name}-level"] = np.float32(level)
                advance(done)
        temporary = cache.with_suffix(".part.npz")
        np.savez(temporary, **analysed)
        temporary.replace(cache)
    out = []
    try:
        with np.load(cache) as stored:
            for clip in clips:
                if clip.name not in stored:
                    raise InputError(f"{cache}: is of another corpus; delete it")
                out.append(_example(clip, stored[clip.name], float(stored[f"{clip.name}-level"]), columns))
    except (BadZipFile, EOFError, zlib.error, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{cache}: is damaged; delete it") from None
    return out


def analyse_clip(samples: np.ndarray) -> tuple[np.ndarray, float]:
    """Return bands (n, 80) in dB of samples at 22,050 Hz, and the level of their loud syllables in dB."""
    samples = soxr.resample(samples, CORPUS_RATE, SAMPLE_RATE).astype(np.float32)
    bands, level = frame_bands(np.pad(samples, (AHEAD, AHEAD)))
    spoken = level[level > level.max() - SPEECH_RANGE_DB] if len(level) else np.zeros(1)
    return bands, float(np.percentile(spoken, 80))


def _example(clip: JointClip, bands: np.ndarray, level: float, columns: np.ndarray) -> StreamingExample:
    count = min(len(bands) // MEL_PER_TOKEN, int(len(clip.weights) / MOTION_RATE / TOKEN_SECONDS))
    times = frame_times(count, TOKEN_RATE)
    alignment = alignment_of_spans(clip.spans, "corpus")
    contacts = contacts_of_phones(alignment, times)
    contacts[:, CONTACTS.index("pause")] = _pauses(clip.spans, times)
    tokens = frame_tokens(clip.spans, int(count * TOKEN_SECONDS * MEL_RATE) + 2)
    return StreamingExample(
        clip.name,
        bands[: count * MEL_PER_TOKEN],
        level,
        resample_motion(clip.weights[:, columns], MOTION_RATE, times).astype(np.float32),
        contacts,
        tokens.labels[(times * MEL_RATE).astype(int)],
        clip.style,
        clip.voice,
        clip.held_out,
        not clip.source.startswith(SIMULATED),
    )


def _pauses(spans: Sequence[Span], times: np.ndarray) -> np.ndarray:
    """Return 1 at times (T,) in pauses, else 0."""
    out = np.zeros(len(times))
    for span in spans:
        start, stop = span.start / MEL_RATE, span.stop / MEL_RATE
        if span.label in PAUSES and stop - start >= SHORTEST_PAUSE:
            out[(times >= start) & (times < stop)] = 1
    return out


class StreamingSampler:
    """Draws batches of crops.

    Args:
        examples: The clips.
        styles: Names of the S styles.
        crop_tokens: Length T of a crop.
        tracked_share: Share of the crops of clips with tracked lips, where there are any.
        augment: Whether gain, spectrum and noise vary, and some crops have nothing but noise.
    """

    def __init__(
        self,
        examples: Sequence[StreamingExample],
        styles: Sequence[str],
        crop_tokens: int,
        tracked_share: float = 0.3,
        augment: bool = True,
    ) -> None:
        self._examples, self._crop, self._augment = list(examples), crop_tokens, augment
        self._shares = {name: np.eye(len(styles), dtype=np.float32)[i] for i, name in enumerate(styles)}
        lengths = np.array([float(len(e.motion)) for e in examples])
        # a voice with more sound is heard more often, but by its square root: the network shall follow any voice
        spoken: Counter[str] = Counter()
        for example, length in zip(examples, lengths, strict=True):
            spoken[example.voice] += length
        lengths /= np.sqrt([spoken[e.voice] for e in examples])
        tracked = np.array([e.tracked for e in examples])
        if tracked.any() and not tracked.all():
            lengths[tracked] *= tracked_share / lengths[tracked].sum()
            lengths[~tracked] *= (1 - tracked_share) / lengths[~tracked].sum()
        self._odds = lengths / lengths.sum()

    def sample(self, count: int, rng: np.random.Generator) -> StreamingBatch:
        """Draw a batch of `count` crops."""
        shapes = self._examples[0].motion.shape[1]
        crop = self._crop
        mel = np.full((count, crop * MEL_PER_TOKEN, BANDS), -3.0, np.float32)
        motion, contacts = (
            np.zeros((count, crop, shapes), np.float32),
            np.zeros((count, crop, len(CONTACTS)), np.float32),
        )
        labels, valid = np.zeros((count, crop), np.int64), np.zeros((count, crop), bool)
        style = np.zeros((count, len(self._shares)), np.float32)
        for row, index in enumerate(rng.choice(len(self._examples), count, p=self._odds)):
            example = self._examples[index]
            style[row] = self._shares[example.style]
            tempo = rng.uniform(1 - MOST_TEMPO, 1 + MOST_TEMPO) if self._augment else 1.0
            start = int(rng.integers(max(0, len(example.motion) - int(crop * tempo)) + 1))
            length = min(crop, int((len(example.motion) - start) / tempo))
            tokens = start + ((np.arange(length) + 0.5) * tempo).astype(int)
            frames = start * MEL_PER_TOKEN + ((np.arange(length * MEL_PER_TOKEN) + 0.5) * tempo).astype(int)
            bands = example.bands[frames].astype(np.float32) - example.level_db
            valid[row, :length] = True
            if self._augment and rng.random() < NO_SPEECH_SHARE:
                bands = _noise(bands.shape, rng) + rng.uniform(*NO_SPEECH_DB)
                contacts[row, :length, CONTACTS.index("pause")] = 1
            else:
                motion[row, :length] = example.motion[tokens]
                contacts[row, :length] = example.contacts[tokens]
                labels[row, :length] = example.labels[tokens]
                if self._augment:
                    bands = vary_sound(bands, rng)
            mel[row, : length * MEL_PER_TOKEN] = relative_bands(bands, 0.0)
        arrays = (mel, style, motion, contacts, labels, valid, rng.integers(LONGEST_STREAM, size=count))
        return StreamingBatch(*(torch.from_numpy(a) for a in arrays))


def vary_sound(bands: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return bands (n, 80) in dB relative to the voice's level as another voice, room and microphone may give them."""
    place = np.linspace(-0.5, 0.5, BANDS)
    source = (np.arange(BANDS) * (1 + rng.uniform(-MOST_WARP, MOST_WARP))).clip(0, BANDS - 1)
    low = source.astype(int)
    high, share = np.minimum(low + 1, BANDS - 1), (source - low).astype(np.float32)
    bands = bands[:, low] * (1 - share) + bands[:, high] * share
    bands = bands + rng.uniform(-MOST_TILT_DB, MOST_TILT_DB) * place + rng.uniform(-MOST_GAIN_DB, MOST_GAIN_DB)
    if rng.random() < NARROW_SHARE:
        end = int(rng.integers(*NARROW_BANDS))
        bands[:, end:] -= rng.uniform(*NARROW_DB) * np.minimum(1, (np.arange(BANDS - end) + 1) / 3)
    if rng.random() < NOISE_SHARE:
        bands = np.logaddexp(bands * _NEPERS, (_noise(bands.shape, rng) + rng.uniform(*NOISE_DB)) * _NEPERS) / _NEPERS
    if rng.random() < MASK_SHARE:
        width = int(rng.integers(1, MOST_MASK))
        first = int(rng.integers(BANDS - width))
        bands[:, first : first + width] = bands.mean()
    return bands


_NEPERS = np.log(10) / 10  # natural logarithm of power per dB


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return bands (n, 80) in dB of noise with a random slope of the spectrum, about 0 dB in the mean."""
    place = np.linspace(0.5, -0.5, BANDS)
    return rng.uniform(-10, 30) * place + rng.normal(0, rng.uniform(*NOISE_JITTER_DB), shape)
