"""One `KMTalk` in many threads gives what it gives alone, loads its models once and changes nothing of the process."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
import torch
from conftest import SPEECH

from kmtalk import KMTalk
from kmtalk.shared_property import shared_property
from kmtalk.speech.audio import load_audio

TEXTS = ("Thank you for calling super awesome", None, "company Waldo's premier", None)
THREADS = 8


def process_state():
    return {
        "stderr": (os.fstat(2).st_dev, os.fstat(2).st_ino, os.fstat(2).st_rdev),
        "torch": (torch.get_num_threads(), torch.get_rng_state().numpy().tobytes()),
        "random": (np.random.get_state()[1].tobytes(), random.getstate()),  # noqa: NPY002
        "filters": list(warnings.filters),
        "signals": {s: signal.getsignal(s) for s in signal.valid_signals()},
        "folder": os.getcwd(),
        "environment": dict(os.environ),
    }


def result(talk, clip, text):
    made = talk.animate(clip, "light", text=text)
    return made.motion.weights.tobytes(), made.alignment, made.keys.poses.tobytes(), made.audio.samples.tobytes()


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Cuts of the sample recording as files, of which every other one is MP3."""
    folder = tmp_path_factory.mktemp("cuts")
    sound, rate = soundfile.read(SPEECH)
    paths = []
    for n, text in enumerate(TEXTS):
        path = folder / f"{n}.{'mp3' if n % 2 else 'wav'}"
        soundfile.write(path, sound[int(1.143 * n * rate) : int((1.143 * n + 2.2) * rate)], rate)
        paths.append((path, text))
    return paths


@pytest.mark.slow
def test_eight_threads_give_what_single_runs_give(talk, clips):
    wanted = [result(talk, *clip) for clip in clips]
    assert all(alignment.status == "aligned" for _, alignment, *_ in wanted)
    said = []
    shared = KMTalk(warn=said.append)
    before = process_state()
    with ThreadPoolExecutor(THREADS) as pool:
        made = list(pool.map(lambda n: result(shared, *clips[n % len(clips)]), range(THREADS)))
    assert [made[n] == wanted[n % len(clips)] for n in range(THREADS)] == [True] * THREADS
    assert not said

    async def serve():
        return await asyncio.gather(*(asyncio.to_thread(result, shared, *clip) for clip in clips[:2]))

    assert asyncio.run(serve()) == wanted[:2]
    after = process_state()
    assert [name for name in before if before[name] != after[name]] == []


def test_models_are_loaded_once():
    talk = KMTalk(whisper_engine="openai-whisper")  # faster-whisper keeps weights of its own
    transcriber = talk._reader.transcriber
    assert talk.predictor.encoder._encoder is transcriber.model.encoder
    loads = []

    class Server:
        def __init__(self):
            self._loading = threading.RLock()

        @shared_property
        def model(self):
            """A model."""
            loads.append(1)
            threading.Event().wait(0.05)
            return object()

    server = Server()
    with ThreadPoolExecutor(THREADS) as pool:
        assert len({id(m) for m in pool.map(lambda n: server.model, range(THREADS))}) == 1
    assert len(loads) == 1 and Server.model.__doc__ == "A model."


def test_sound_read_in_threads_leaves_stderr_where_it_was(tmp_path, capfd):
    """Damaged MP3 files included, about which libmpg123 would print."""
    damaged = tmp_path / "damaged.mp3"
    damaged.write_bytes(b"\xff\xfb\x90\x64" + np.random.default_rng(0).bytes(20_000))
    before = process_state()

    def read(n):
        try:
            return len(load_audio(damaged if n % 2 else SPEECH).samples)
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(THREADS) as pool:
        lengths = list(pool.map(read, range(64)))
    assert len(set(lengths[::2])) == len(set(lengths[1::2])) == 1
    assert process_state() == before
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"
