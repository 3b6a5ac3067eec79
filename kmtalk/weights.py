"""Loading of pretrained weights (Whisper, wav2vec 2.0): sources, licences, checksums and cache."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import whisper
from platformdirs import user_cache_path
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from kmtalk.ctranslate2_format import ctranslate2_to_openai
from kmtalk.errors import InputError
from kmtalk.tensor_checks import check_shapes, check_tensors
from kmtalk.user_files import check_user_file
from kmtalk.whisper_wheels import WHEELS, read_wheel, wheel_installed

WHISPER_LOCK = threading.RLock()
"""Held while a Whisper model runs: decoding installs hooks on the model, and timing words with it changes how every
model of the process attends."""

DIGEST_KEY = "sha256"
"""Key of the header of converted weights."""


def cache_dir() -> Path:
    """The user's cache folder for converted and downloaded weights; it may not exist."""
    return user_cache_path("kmtalk", appauthor=False) / "weights"


def load_wav2vec2(source: str, with_characters: bool = False) -> Any:
    """Load a wav2vec 2.0 model with transformers, from safetensors only.

    Args:
        source: A folder, or a model name on the Hugging Face hub.
        with_characters: Load the model with its output layer of characters, which was trained by CTC.

    Returns:
        The model in evaluation mode.

    Raises:
        InputError: transformers is not installed, or `source` has no weights, or none of the output layer.
    """
    try:
        from transformers import AutoModel, AutoModelForCTC
        from transformers.utils.logging import disable_progress_bar
    except ImportError:
        raise InputError("wav2vec 2.0 needs transformers; pip install 'kmtalk[wav2vec2]'") from None
    for logger in ("huggingface_hub", "transformers"):  # hide their retry messages; errors are reported below
        logging.getLogger(logger).setLevel(logging.ERROR)
    disable_progress_bar()
    try:
        if not with_characters:
            return AutoModel.from_pretrained(source, use_safetensors=True).eval()
        model, facts = AutoModelForCTC.from_pretrained(source, use_safetensors=True, output_loading_info=True)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{source}: no wav2vec 2.0 weights found ({reason[:120]}); give a folder with model.safetensors"
        ) from None
    if any(name.startswith("lm_head") for name in facts["missing_keys"]):  # it would be random
        raise InputError(f"{source}: has no output layer of characters; give a model that was fine-tuned by CTC")
    return model.eval()


def _log_to_stderr(message: str) -> None:
    if sys.stderr is not None:
        print(f"kmtalk: {message}", file=sys.stderr)


def load_whisper(
    name: str = "base", device: str = "cpu", warn: Callable[[str], None] = _log_to_stderr
) -> whisper.Whisper:
    """Load a Whisper model by name or path.

    A published name always means the published model, even if a file of that name exists (use `./base` for a path).
    It is searched in this order: kmtalk's cache, openai-whisper's cache, an installed weight package, and
    openai-whisper's download.

    Args:
        name: A published name such as "base", or the path of a .pt or .safetensors file.
        device: The torch device.
        warn: Called with one line where a file in kmtalk's cache is damaged, which is then made again.

    Returns:
        The model in evaluation mode.

    Raises:
        InputError: The model is not found, cannot be downloaded, is damaged, or a checksum differs.
    """
    if not is_published(name):
        if Path(name).suffix or Path(name).exists():
            return _load_path(Path(name), device)
        raise InputError(
            f"{name}: no such Whisper model; choose from {', '.join(whisper.available_models())}, or give a path"
        )
    converted = cache_dir() / f"whisper-{name}.safetensors"
    if converted.is_file():
        try:
            return _set_alignment_heads(_load_converted(converted, device, needs_digest=True), name)
        except Exception as error:
            if not isinstance(error, _NoDigestError):
                warn(f"{converted}: damaged; it is made again")
            with suppress(OSError):
                converted.unlink()
    upstream = _openai_cache_path(name)
    if upstream.is_file():
        _verify_sha256(upstream, whisper._MODELS[name].split("/")[-2])
        return _set_alignment_heads(_load_checkpoint(upstream, device), name)
    if wheel_installed(name):
        dims, state = ctranslate2_to_openai(read_wheel(name))
        with suppress(OSError, SafetensorError):  # cache not writable: convert again next time
            _save_converted(dims, state, converted)
        return _set_alignment_heads(_build_model(asdict(dims), state, device), name)
    return _set_alignment_heads(_download(name, device), name)


def load_whisper_encoder(name: str = "base") -> whisper.model.AudioEncoder:
    """Load the encoder of a published Whisper model, on the CPU, in a fraction of the time of the whole model.

    Args:
        name: A published name, as for `load_whisper`.

    Returns:
        The encoder in evaluation mode.

    Raises:
        InputError: As for `load_whisper`.
    """
    converted = cache_dir() / f"whisper-{name}.safetensors"
    try:
        dims, state = _read_converted(converted, "cpu", needs_digest=True)
        _check_dimensions(dims, state)
    except Exception:  # none is there, or `load_whisper` makes it again
        return load_whisper(name).encoder
    with torch.random.fork_rng(devices=[]):  # on the device "meta" it would take a second, which SymPy takes to import
        encoder = whisper.model.AudioEncoder(
            *(dims[f"n_{name}"] for name in ("mels", "audio_ctx", "audio_state", "audio_head", "audio_layer"))
        )
    prefix = "encoder."
    own = {k.removeprefix(prefix): v.float() for k, v in state.items() if k.startswith(prefix)}
    encoder.load_state_dict(own, assign=True)
    return encoder.eval()


def is_published(name: str) -> bool:
    """Whether openai-whisper has a model of that name."""
    return name in whisper.available_models()


def find_whisper_weights(name: str) -> str | None:
    """Where `load_whisper` finds a published model on this machine; None if it would have to download it."""
    cached = (cache_dir() / f"whisper-{name}.safetensors", _openai_cache_path(name))
    location = next((str(p) for p in cached if p.is_file()), None)
    if location is None and wheel_installed(name):
        return "the kmtalk[weights] packages"
    downloaded = cache_dir() / Path(whisper._MODELS[name]).name
    return str(downloaded) if location is None and downloaded.is_file() else location


def _openai_cache_path(name: str) -> Path:
    """Path of a model in openai-whisper's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "whisper" / Path(whisper._MODELS[name]).name


def _load_path(path: Path, device: str) -> whisper.Whisper:
    if not path.is_file():
        raise InputError(f"{path}: no such Whisper weights; give a .pt or .safetensors file, or the name of a model")
    check_user_file(path)
    if path.suffix == ".safetensors":
        try:
            return _load_converted(path, device)
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"{path}: truncated, or not Whisper weights written by kmtalk ({reason[:120]}); get the file again"
            ) from None
    for name, url in whisper._MODELS.items():
        if path.name in (f"{name}.pt", Path(url).name):
            _verify_sha256(path, url.split("/")[-2])
    return _load_checkpoint(path, device)


def _verify_sha256(path: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    if digest.hexdigest() != sha256:
        raise InputError(
            f"{path}: checksum differs from the published one (truncated?); delete the file and get it again"
        )


def _load_checkpoint(path: Path, device: str) -> whisper.Whisper:
    try:
        checkpoint = torch.load(path, map_location=device, weights_only=True)
        return _build_model(checkpoint["dims"], checkpoint["model_state_dict"], device)
    except Exception as error:
        reason = (str(error).splitlines() or ["empty"])[0]
        raise InputError(f"{path}: truncated, or not Whisper weights ({reason[:120]}); get the file again") from None


class _NoDigestError(ValueError):
    """Converted weights that an earlier version of kmtalk wrote."""


def _load_converted(path: Path, device: str, needs_digest: bool = False) -> whisper.Whisper:
    """Load converted weights; raises an exception where they are damaged."""
    return _build_model(*_read_converted(path, device, needs_digest), device)


def _read_converted(path: Path, device: str, needs_digest: bool) -> tuple[dict[str, int], dict[str, torch.Tensor]]:
    """Read dimensions and tensors, whose digest is in the file's header; raises an exception where they are damaged."""
    with safe_open(path, "pt", device=device) as file:
        header = dict(file.metadata())
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    digest = header.pop(DIGEST_KEY, None)
    if digest is None and needs_digest:
        raise _NoDigestError("has no checksum")
    if digest not in (None, _digest(state)):
        raise ValueError("its checksum differs")
    return {k: int(v) for k, v in header.items()}, state


def _digest(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of tensors, with their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _build_model(dims: dict[str, int], state: dict[str, torch.Tensor], device: str) -> whisper.Whisper:
    _check_dimensions(dims, state)
    check_tensors(state)
    with torch.random.fork_rng(devices=[]):  # its first weights, which are replaced, are random
        model = whisper.Whisper(whisper.ModelDimensions(**dims))
    check_shapes(state, model.state_dict())
    model.load_state_dict({k: v.float() for k, v in state.items()})
    return model.to(device).eval()


def _check_dimensions(dims: Mapping[str, int], state: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError where a model of these dimensions would be larger than its tensors."""
    sides = {"audio": "encoder", "text": "decoder"}
    for short, side in sides.items():
        context, width = state[f"{side}.positional_embedding"].shape
        layers = {name.split(".")[2] for name in state if name.startswith(f"{side}.blocks.")}
        heads = dims[f"n_{short}_head"]
        held = dims[f"n_{short}_ctx"], dims[f"n_{short}_state"], dims[f"n_{short}_layer"]
        if held != (context, width, len(layers)) or not 0 < heads <= width or width % heads:
            raise ValueError(f"the dimensions of its {side} are not those of its tensors")
    if dims["n_vocab"] != len(state["decoder.token_embedding.weight"]) or not 0 < dims["n_mels"] <= 1024:
        raise ValueError("its dimensions are not those of its tensors")
    if any(t.numel() * t.element_size() > t.untyped_storage().nbytes() for t in state.values()):
        raise ValueError("its tensors are larger than their storage")


def _set_alignment_heads(model: whisper.Whisper, name: str) -> whisper.Whisper:
    if name in whisper._ALIGNMENT_HEADS:
        model.set_alignment_heads(whisper._ALIGNMENT_HEADS[name])
    return model


def _download(name: str, device: str) -> whisper.Whisper:
    url = whisper._MODELS[name]
    target = cache_dir() / Path(url).name
    published = url.split("/")[-2]
    if target.is_file():
        try:
            _verify_sha256(target, published)
        except InputError:
            with suppress(OSError):
                target.unlink()
    if not target.is_file():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(target), hash_prefix=published, progress=False)
        except Exception as error:
            remedy = (
                'pip install "kmtalk[weights]"' if name in WHEELS else f"put {Path(url).name} into ~/.cache/whisper"
            )
            raise InputError(
                f"Whisper {name}: weights are not on this machine and cannot be downloaded "
                f"({type(error).__name__}); {remedy}, pass a file with --whisper, or pass the words with --text"
            ) from None
    return _load_checkpoint(target, device)


def _save_converted(dims: whisper.ModelDimensions, state: dict[str, torch.Tensor], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".part", delete=False) as part:
        temporary = Path(part.name)
    try:
        header = {k: str(v) for k, v in asdict(dims).items()} | {DIGEST_KEY: _digest(state)}
        save_file(state, temporary, metadata=header)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
