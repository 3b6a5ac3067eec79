"""Audio augmentation: tempo, vocal tract, reverberation, noise and codecs, with the alignment adjusted.

The functions take mono samples (S,) at 16 kHz, their alignment and a random generator, and return both changed.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import av
import numpy as np
import soundfile
import soxr
from scipy.signal import fftconvolve

from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import SAMPLE_RATE, rms_level

AlignedSound = tuple[np.ndarray, Alignment]


def stretch_alignment(alignment: Alignment, factor: float, shift: float = 0.0) -> Alignment:
    """Return the alignment with its times multiplied by `factor` and moved by `shift` s."""
    phones = tuple(replace(p, start=p.start * factor + shift, end=p.end * factor + shift) for p in alignment.phones)
    words = tuple(replace(w, start=w.start * factor + shift, end=w.end * factor + shift) for w in alignment.words)
    return replace(alignment, phones=phones, words=words)


def _apply_filters(samples: np.ndarray, *filters: tuple[str, str]) -> np.ndarray:
    """Run samples through FFmpeg audio filters, given as (name, arguments)."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=SAMPLE_RATE, format="flt", layout="mono")
    nodes = [source] + [graph.add(name, arguments) for name, arguments in filters]
    nodes += [graph.add("aformat", f"sample_fmts=flt:sample_rates={SAMPLE_RATE}"), graph.add("abuffersink")]
    for a, b in zip(nodes[:-1], nodes[1:], strict=True):
        a.link_to(b)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="flt", layout="mono")
    frame.sample_rate = SAMPLE_RATE
    source.push(frame)
    source.push(None)
    out = []
    while True:
        try:
            filtered = nodes[-1].pull()
            assert isinstance(filtered, av.AudioFrame)
            out.append(filtered.to_ndarray()[0])
        except (av.error.EOFError, av.error.BlockingIOError):
            return np.concatenate(out)


def change_tempo(samples: np.ndarray, alignment: Alignment, rng: np.random.Generator) -> AlignedSound:
    """Change the tempo by up to 15 % at constant pitch."""
    factor = float(rng.uniform(0.87, 1.15))
    out = _apply_filters(samples, ("atempo", f"{factor:.4f}"))
    return out, stretch_alignment(alignment, len(out) / len(samples))


def shift_vocal_tract(samples: np.ndarray, alignment: Alignment, rng: np.random.Generator) -> AlignedSound:
    """Scale all frequencies (vocal tract length and pitch) by up to 18 % at constant tempo."""
    factor = float(np.exp(rng.uniform(-0.17, 0.17)))
    shifted = soxr.resample(samples, SAMPLE_RATE * factor, SAMPLE_RATE)  # played at 16 kHz, all frequencies scale
    out = _apply_filters(shifted, ("atempo", f"{1 / factor:.4f}"))
    return out, stretch_alignment(alignment, len(out) / len(samples))


def add_noise(samples: np.ndarray, alignment: Alignment, rng: np.random.Generator) -> AlignedSound:
    """Add coloured noise 10 to 40 dB below the speech."""
    spectrum = np.fft.rfft(rng.normal(size=len(samples)))
    slope = rng.uniform(0.0, 1.2)
    colour = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 20) ** (slope / 2), len(samples))
    level = np.sqrt((samples**2).mean()) / (np.sqrt((colour**2).mean()) + 1e-12)
    return samples + colour * level * 10 ** (-rng.uniform(10, 40) / 20), alignment


def add_reverberation(samples: np.ndarray, alignment: Alignment, rng: np.random.Generator) -> AlignedSound:
    """Convolve with a simulated room response: noise that decays by 60 dB in 0.1 to 0.5 s, 5 to 20 dB below the direct
    sound."""
    decay = rng.uniform(0.1, 0.5)
    t = np.arange(int(decay * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.normal(size=len(t)) * 10 ** (-3 * t / decay)
    tail *= 10 ** (-rng.uniform(5, 20) / 20) / np.sqrt((tail**2).sum())
    tail[0] += 1.0
    return fftconvolve(samples, tail)[: len(samples)], alignment


def apply_telephone_codec(samples: np.ndarray, alignment: Alignment, rng: np.random.Generator) -> AlignedSound:
    """Resample to 8 kHz and apply a telephone codec: µ-law, A-law or GSM."""
    narrow = soxr.resample(samples, SAMPLE_RATE, 8000)
    return _encode_and_decode(narrow, 8000, "WAV", str(rng.choice(["ULAW", "ALAW", "GSM610"])), len(samples)), alignment


def apply_codec(samples: np.ndarray, alignment: Alignment, rng: np.random.Generator) -> AlignedSound:
    """Apply a lossy codec: MP3, Vorbis or Opus."""
    container, kind = (("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS"))[int(rng.integers(3))]
    return _encode_and_decode(samples, SAMPLE_RATE, container, kind, len(samples)), alignment


def _encode_and_decode(samples: np.ndarray, rate: int, container: str, kind: str, count: int) -> np.ndarray:
    """Encode samples at `rate` Hz, decode them, and return `count` samples at 16 kHz."""
    file = io.BytesIO()
    peak = max(1.0, float(np.abs(samples).max()) * 1.02)
    soundfile.write(file, samples / peak, rate, format=container, subtype=kind)
    file.seek(0)
    out, rate = soundfile.read(file, dtype="float32")
    out = soxr.resample(out, rate, SAMPLE_RATE) if rate != SAMPLE_RATE else out
    return np.pad(out, (0, max(0, count - len(out))))[:count] * peak


AUGMENTATIONS: dict[str, tuple[Callable[[np.ndarray, Alignment, np.random.Generator], AlignedSound], float]] = {
    "tempo": (change_tempo, 0.3),
    "voice": (shift_vocal_tract, 0.5),
    "room": (add_reverberation, 0.25),
    "noise": (add_noise, 0.35),
    "telephone": (apply_telephone_codec, 0.2),
    "codec": (apply_codec, 0.15),
}
"""Augmentations in the order in which they are applied, each with its probability."""


def augment(samples: np.ndarray, alignment: Alignment, rng: np.random.Generator) -> tuple[np.ndarray, Alignment, str]:
    """Apply a random choice of `AUGMENTATIONS`.

    Returns the samples (S,) float32, their alignment, and the names of the applied augmentations joined by "+".
    """
    applied = []
    for name, (change, chance) in AUGMENTATIONS.items():
        if rng.random() < chance:
            samples, alignment = change(samples, alignment, rng)
            applied.append(name)
    return samples.astype(np.float32), alignment, "+".join(applied)


def make_silence(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Make `seconds` of a muted microphone, (S,) float32 at 16 kHz: zeros (20 % of draws) or faint coloured noise."""
    count = max(2, int(seconds * SAMPLE_RATE))
    if rng.random() < 0.2:
        return np.zeros(count, np.float32)
    spectrum = np.fft.rfft(rng.normal(size=count))
    quiet = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 20) ** (rng.uniform(0, 1.2) / 2), count)
    return (quiet / (quiet.std() + 1e-12) * 10 ** (-rng.uniform(45, 80) / 20)).astype(np.float32)


def pad_with_room_tone(samples: np.ndarray, alignment: Alignment, rng: np.random.Generator) -> AlignedSound:
    """Add up to one second of room tone before and after the clip, at the level of its own noise floor."""
    floor = float(np.percentile(rms_level(samples), 3))
    before, after = rng.uniform(0.0, 1.0, 2)
    parts = []
    for seconds in (before, after):
        part = make_silence(seconds, rng)
        level = max(20 * np.log10(part.std() + 1e-9), -80.0)
        parts.append(part * 10 ** ((min(floor, -35.0) - level) / 20))
    out = np.concatenate([parts[0], samples, parts[1]]).astype(np.float32)
    return out, stretch_alignment(alignment, 1.0, len(parts[0]) / SAMPLE_RATE)
