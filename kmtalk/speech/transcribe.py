"""Which engine runs Whisper."""

from __future__ import annotations

from pathlib import Path

from kmtalk.errors import InputError
from kmtalk.speech.faster_whisper import (
    FasterWhisper,
    find_faster_whisper_weights,
    is_installed,
    is_model_folder,
)
from kmtalk.speech.openai_whisper import OpenAIWhisper
from kmtalk.speech.transcriber import Transcriber
from kmtalk.weights import find_whisper_weights, is_published


def choose_engine(name: str, engine: str = "auto") -> str:
    """Return the engine for a Whisper model: for "auto", faster-whisper where it is installed and has the weights.

    Raises:
        InputError: The model is a folder, which needs faster-whisper, and that is not installed or not asked for.
    """
    if is_model_folder(name) and (engine == "openai-whisper" or not is_installed()):
        raise InputError(f"{name}: needs faster-whisper (pip install 'kmtalk[weights]')")
    if engine != "auto":
        return engine
    return "faster-whisper" if is_installed() and find_faster_whisper_weights(name) else "openai-whisper"


def load_transcriber(name: str = "base", engine: str = "auto") -> Transcriber:
    """Load a Whisper model.

    Args:
        name: Name of a model; a .pt or .safetensors file; or a folder in CTranslate2's format.
        engine: "auto", "openai-whisper" or "faster-whisper", as for `choose_engine`.

    Raises:
        InputError: The model is not found, damaged or cannot be downloaded, or the engine is not installed.
    """
    return FasterWhisper(name) if choose_engine(name, engine) == "faster-whisper" else OpenAIWhisper(name)


def find_weights(name: str, engine: str = "auto") -> str | None:
    """Where the weights of a Whisper model are found on this machine; None if they would have to be downloaded."""
    if choose_engine(name, engine) == "faster-whisper":
        return find_faster_whisper_weights(name) if is_installed() else None
    if not is_published(name):
        return name if Path(name).is_file() else None
    return find_whisper_weights(name)
