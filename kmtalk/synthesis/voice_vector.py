"""Voice vectors: who speaks, in 256 numbers, by the network of the package resemblyzer.

The network is the speaker encoder of Wan et al. 2018, Generalized end-to-end loss for speaker verification. Of the
package (Apache 2.0) only the weights are read. Importing it needs librosa and webrtcvad; the latter is built by a
compiler, and needs pkg_resources, which current setuptools no longer have.
"""

from __future__ import annotations

import importlib.util
import pickle
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import binary_dilation
from torch import nn

from kmtalk.errors import InputError, describe_problem
from kmtalk.speech.audio import SAMPLE_RATE, Audio
from kmtalk.speech.voice_activity import CHUNK_SAMPLES, SPEECH_PROBABILITY, speech_probability
from kmtalk.synthesis.mel import mel_filterbank
from kmtalk.tensor_checks import check_shapes, check_tensors

INSTALL_COMMAND = "pip install --no-deps resemblyzer==0.1.4"
"""Its dependencies are left out: kmtalk does not use them."""

VECTOR_SIZE = 256
"""Numbers of a voice vector."""

MIN_SPEECH_SECONDS = 1.0
"""Seconds of speech that a clip must hold."""

MAX_SECONDS = 60.0
"""Seconds of a clip, from its beginning, that are used: the vector changes little with more."""

WINDOW, HOP, N_MELS = 400, 160, 40  # samples at 16 kHz, samples, filters
PARTIAL_FRAMES = 160  # frames of a partial utterance, 1.6 s
PARTIAL_STEP = 77  # frames between the beginnings of two, 1.3 a second
MIN_COVERAGE = 0.75  # part of the last partial utterance that must be sound
LEVEL_DBFS = -30.0  # of speech; the package only raises what is quieter, and one voice 10 dB lower has a cosine of .93
MARGIN_CHUNKS = 3  # chunks of 32 ms kept before and after speech


class VoiceEncoder(nn.Module):
    """Network from the mel spectrogram of a voice to its vector: three LSTM layers and a linear one."""

    filters: torch.Tensor
    window: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(N_MELS, VECTOR_SIZE, num_layers=3, batch_first=True)
        self.linear = nn.Linear(VECTOR_SIZE, VECTOR_SIZE)
        filters = torch.from_numpy(mel_filterbank(SAMPLE_RATE, WINDOW, N_MELS, 0.0, SAMPLE_RATE / 2))
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    @classmethod
    def load(cls) -> VoiceEncoder:
        """Return the pretrained encoder.

        Raises:
            InputError: The package resemblyzer is not installed, or its weights are damaged.
        """
        path = voice_encoder_weights()
        if path is None:
            raise InputError(f"voice vectors need the package resemblyzer, which is not installed; {INSTALL_COMMAND}")
        encoder = cls()
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
            state = {name: state[name] for name in encoder.state_dict()}  # two more belong to the training's loss
            check_shapes(state, encoder.state_dict())
            check_tensors(state)
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
            remedy = INSTALL_COMMAND.replace("install", "install --force-reinstall")
            raise InputError(f"{path}: is damaged ({describe_problem(error)}); {remedy}") from None
        encoder.load_state_dict(state)
        return encoder.eval().requires_grad_(False)

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        """Return the vectors (B, 256), of length 1 and without negative values, of mel spectrograms (B, N, 40)."""
        _, (hidden, _) = self.lstm(mels)
        return nn.functional.normalize(torch.relu(self.linear(hidden[-1])), dim=1)

    def encode(self, audio: Audio) -> np.ndarray:
        """Return the vector of the voice in a clip.

        Pauses are cut out, the rest is brought to one level, and the vectors of partial utterances of 1.6 s are
        averaged. Only the first `MAX_SECONDS` are used.

        Args:
            audio: A clip in which one person speaks.

        Returns:
            (256,) float32 of length 1. The cosine of two of them, `kmtalk.metrics.voice_similarity`, tells how alike
            the voices are.

        Raises:
            InputError: The clip holds less than `MIN_SPEECH_SECONDS` of speech, as do silence, noise and music; or the
                detector of speech is not installed.
        """
        return self.encode_samples(_cut_pauses(audio))

    @torch.inference_mode()
    def encode_samples(self, samples: np.ndarray) -> np.ndarray:
        """Return the vector (256,) float32 of mono samples (S,) at 16 kHz, which are nothing but speech."""
        rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
        gain = 10 ** (LEVEL_DBFS / 20) / max(rms, 1e-9)
        starts = _partial_starts(len(samples))
        needed = (starts[-1] + PARTIAL_FRAMES) * HOP
        wave = torch.from_numpy(np.pad(samples * np.float32(gain), (0, max(0, needed - len(samples)))))
        spectrum = torch.stft(
            wave, WINDOW, HOP, window=self.window, center=True, pad_mode="constant", return_complex=True
        )
        mel = (self.filters @ spectrum.abs().square()).T
        partials = self(torch.stack([mel[start : start + PARTIAL_FRAMES] for start in starts]))
        vector: np.ndarray = nn.functional.normalize(partials.mean(0), dim=0).numpy()
        return vector


@lru_cache(maxsize=1)
def default_voice_encoder() -> VoiceEncoder:
    """The pretrained encoder, loaded once. Raises InputError as `VoiceEncoder.load`."""
    return VoiceEncoder.load()


def voice_encoder_weights() -> Path | None:
    """Return the file of the weights in the installed package, without importing it; None where there is none."""
    spec = importlib.util.find_spec("resemblyzer")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "pretrained.pt"
        if path.is_file():
            return path
    return None


def _cut_pauses(audio: Audio) -> np.ndarray:
    """Return the speech (S,) of a clip at 16 kHz; raises InputError where there is too little."""
    samples = audio.samples[: round(MAX_SECONDS * SAMPLE_RATE)]
    need = f"give at least {MIN_SPEECH_SECONDS:g} s in which one person speaks, better 5 s"
    if len(samples) < MIN_SPEECH_SECONDS * SAMPLE_RATE:
        raise InputError(f"{audio.source}: {audio.duration:.2g} s are too short to tell a voice from; {need}")
    if audio.is_silent:
        raise InputError(f"{audio.source}: is silent; {need}")
    speech = speech_probability(samples) >= SPEECH_PROBABILITY
    seconds = float(speech.sum()) * CHUNK_SAMPLES / SAMPLE_RATE
    if seconds < MIN_SPEECH_SECONDS:
        part = f" in its first {MAX_SECONDS:g} s" if audio.duration > MAX_SECONDS else ""
        found = f"{seconds:.1f} s of speech" if seconds else "no speech"
        raise InputError(f"{audio.source}: {found}{part}, too little to tell a voice from; {need}")
    kept = binary_dilation(speech, np.ones(2 * MARGIN_CHUNKS + 1, bool))
    cut: np.ndarray = samples[np.repeat(kept, CHUNK_SAMPLES)[: len(samples)]]
    return cut


def _partial_starts(sample_count: int) -> list[int]:
    """First frames of the partial utterances of a clip; the last is left out where too little of it is sound."""
    frames = -(-(sample_count + 1) // HOP)
    starts = list(range(0, max(1, frames - PARTIAL_FRAMES + PARTIAL_STEP + 1), PARTIAL_STEP))
    coverage = (sample_count - starts[-1] * HOP) / (PARTIAL_FRAMES * HOP)
    return starts[:-1] if coverage < MIN_COVERAGE and len(starts) > 1 else starts
