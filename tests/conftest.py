from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from command_server import CommandServer
from pages import ARGUMENTS, CHROMIUM

from kmtalk import InputError, KMTalk
from kmtalk.corpora.miniature import build_miniature
from kmtalk.corpora.simulated import load_simulated_corpus
from kmtalk.face.face_detection import FaceDetector
from kmtalk.face.rig import Rig, load_full_head, load_light_head
from kmtalk.speech.alignment import Alignment, Phone
from kmtalk.speech.audio import Audio, audio_from_samples

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
SPEECH = ROOT / "assets" / "speech.wav"
FACE = ROOT / "assets" / "face.obj"
FIXTURES = Path(__file__).parent / "fixtures"
SAID = (
    "Thank you for calling Super Awesome Company, Waldo's premier provider of perfect products. "
    "If you know your party's extension, you may dial it at any time."
)

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not here")


def _detector() -> bool:
    try:
        with FaceDetector():
            return True
    except InputError:
        return False


needs_detector = pytest.mark.skipif(not _detector(), reason="the face detector cannot start here (make detector)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files with the most slow tests first, so that both processes of `make test` finish together."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def talk() -> KMTalk:
    return KMTalk()


@pytest.fixture(scope="session")
def rig() -> Rig:
    """The rig of the default head."""
    return load_full_head()


@pytest.fixture(scope="session")
def light_rig() -> Rig:
    """The rig of its light version, from which rigs are fitted."""
    return load_light_head()


@pytest.fixture(scope="session")
def spoken(talk):
    """The animated demo with given text: real sound, the real aligner, the default head."""
    return talk.animate(SPEECH, text=SAID)


def beginning(spoken, seconds: float) -> tuple[Audio, Alignment]:
    """The first seconds of the animated demo: its sound and its phones."""
    audio = spoken.audio
    cut = audio_from_samples(audio.original[: int(seconds * audio.original_rate)], audio.original_rate)
    phones = tuple(replace(p, end=min(p.end, seconds)) for p in spoken.alignment.phones if p.start < seconds)
    return cut, Alignment(phones, status="given")


@pytest.fixture(scope="module")
def browser():
    """Chromium without a screen."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def web(tmp_path_factory):
    """A copy of web/ with its npm packages."""
    if shutil.which("npm") is None:
        pytest.skip("no npm here")
    folder = tmp_path_factory.mktemp("viewer") / "web"
    shutil.copytree(ROOT / "web", folder, ignore=shutil.ignore_patterns("node_modules"))
    if subprocess.run(["npm", "ci", "--silent"], cwd=folder, capture_output=True, check=False).returncode:
        pytest.skip("npm reaches no registry")
    return folder


SIMULATE = """
import sys
from pathlib import Path
from kmtalk.corpora import simulated
from kmtalk.face.rig import load_light_head
simulated.PROMPTS_DIR = simulated.FORTUNES_DIR = Path("nowhere")
simulated.build_simulated_corpus(Path(sys.argv[1]), load_light_head(), int(sys.argv[2]), int(sys.argv[3]))
"""


def simulate(folder: Path, clips: int, seed: int) -> Path:
    """Build a simulated corpus that is the same on every machine.

    Synthesizers carry state from one sentence to the next, so it is built in a process of its own; and the installed
    voices decide which clips there are, so that process finds the voices from pip alone.
    """
    command = [sys.executable, "-c", SIMULATE, folder, clips, seed]
    environment = {**os.environ, "PATH": str(Path(sys.executable).parent)}  # hides flite and festival
    subprocess.run([*map(str, command)], check=True, timeout=600, env=environment)
    return folder


@pytest.fixture(scope="session")
def simulated_clips(tmp_path_factory, light_rig):
    """Some fifty clips of the simulated speaker."""
    return load_simulated_corpus(simulate(tmp_path_factory.mktemp("simulated"), clips=48, seed=3), light_rig)


@pytest.fixture(scope="session")
def corpora(tmp_path_factory, simulated_clips, light_rig):
    """A folder with miniatures of VOCASET and BIWI, raw and processed; their motion is simulated."""
    place = tmp_path_factory.mktemp("corpora")
    for layout in ("vocaset", "vocaset-raw", "biwi", "biwi-raw"):
        (place / layout).mkdir()
        build_miniature(place / layout, layout, simulated_clips, light_rig, max_seconds=6.0)
    return place


@pytest.fixture
def own(corpora, tmp_path):
    """A copy of the processed VOCASET that a test may damage."""
    shutil.copytree(corpora / "vocaset", tmp_path / "vocaset")
    return tmp_path / "vocaset"


@pytest.fixture(scope="session")
def command_server(tmp_path_factory):
    """A process in whose forks `kmtalk` runs."""
    server = CommandServer(tmp_path_factory.mktemp("commands"))
    yield server
    server.close()


@pytest.fixture
def kmtalk(tmp_path, command_server):
    """Run the `kmtalk` command in an empty folder."""
    return lambda *arguments: command_server.run([*map(str, arguments)], tmp_path)


def launched(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command in two processes on one machine, as accelerate starts them."""
    launch = [Path(sys.executable).parent / "accelerate", "launch", "--cpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "kmtalk.cli"]
    return subprocess.run(
        [*map(str, launch), *map(str, arguments)],
        capture_output=True, text=True, timeout=600, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture
def tone(tmp_path):
    """One second of 440 Hz at 16 kHz."""
    path = tmp_path / "tone.wav"
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000), 16000)
    return path


def small_wav2vec2(folder, seed=0, characters=False):
    """A folder with an untrained wav2vec 2.0 model of 32 dimensions, and 32 characters where it has an output layer."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.Wav2Vec2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, conv_dim=[16] * 7,
                                         intermediate_size=32, num_conv_pos_embeddings=16)  # fmt: skip
    model = transformers.Wav2Vec2ForCTC if characters else transformers.Wav2Vec2Model
    model(config).save_pretrained(folder)
    return str(folder)


def phones(*spans: tuple[str, float, float]) -> Alignment:
    return Alignment(tuple(Phone(*span) for span in spans), status="given")
