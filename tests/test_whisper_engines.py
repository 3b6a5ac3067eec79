"""Both engines of Whisper: what they hear, which one is taken, and what cannot be used."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import SPEECH

from kmtalk import InputError, KMTalk
from kmtalk.speech.audio import audio_from_samples, load_audio
from kmtalk.speech.faster_whisper import FasterWhisper
from kmtalk.speech.transcribe import choose_engine, find_weights, load_transcriber
from kmtalk.whisper_wheels import read_wheel_files, wheel_installed

pytest.importorskip("faster_whisper")
pytestmark = pytest.mark.skipif(not wheel_installed("base"), reason="kmtalk[weights] is not installed")


@pytest.fixture(scope="module")
def faster():
    return FasterWhisper("base")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model as ct2-transformers-converter writes it."""
    path = tmp_path_factory.mktemp("whisper")
    for name, content in read_wheel_files("base").items():
        (path / name).write_bytes(content)
    return path


def words(transcript):
    return re.sub(r"[^a-z ]", "", transcript.text.lower()).split()


@pytest.mark.slow
def test_both_engines_hear_the_same_words_at_the_same_times(faster):
    audio = load_audio(SPEECH)
    theirs = load_transcriber("base", "openai-whisper").transcribe(audio, with_words=True)
    ours = faster.transcribe(audio, with_words=True)
    assert ours.language == theirs.language == "en"
    assert {"calling", "company", "extension", "time"} <= set(words(ours))
    assert len(set(words(ours)) ^ set(words(theirs))) <= 4
    starts = {w.text.lower().strip(".,"): w.start for w in theirs.words}
    shared = [(w.start, starts[w.text.lower().strip(".,")]) for w in ours.words if w.text.lower().strip(".,") in starts]
    assert len(shared) > 15 and sum(abs(a - b) < 0.25 for a, b in shared) >= 0.85 * len(shared)
    assert all(0 < w.score <= 1 and w.end > w.start for w in ours.words)
    assert ours.segments and ours.segments[-1].end <= audio.duration + 0.5


def test_languages(faster):
    audio = load_audio(SPEECH)
    found = faster.detect_language(audio)
    assert next(iter(found)) == "en" and sum(found.values()) == pytest.approx(1, abs=0.02)
    assert "de" in faster.languages
    with pytest.raises(InputError, match="does not support"):
        faster.transcribe(audio, "tlh")


def test_what_was_heard_before_changes_nothing(faster):
    """The features of the last window are kept: another clip must not be given its words."""
    audio = load_audio(SPEECH)
    half = audio_from_samples(audio.samples[: len(audio.samples) // 2], 16000)
    alone = [faster.transcribe(clip).text for clip in (audio, half)]
    assert alone[0] != alone[1]
    faster.detect_language(half)
    assert faster.transcribe(audio).text == alone[0]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda clip: faster.transcribe(clip).text, [audio, half] * 4)) == alone * 4


def test_the_engine_is_chosen_by_what_is_at_hand(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert choose_engine("base") == "faster-whisper" and "packages" in find_weights("base")
    assert choose_engine("base", "openai-whisper") == "openai-whisper"
    assert choose_engine("tiny") == "openai-whisper"  # nothing is at hand: openai-whisper downloads it
    assert choose_engine("my.pt") == "openai-whisper"
    assert choose_engine(str(folder)) == "faster-whisper" and find_weights(str(folder)) == str(folder)


@pytest.mark.slow
def test_a_folder_in_the_format_of_ctranslate2(kmtalk, folder, tmp_path):
    assert KMTalk(whisper=str(folder), warn=print).align(SPEECH)[1].status == "aligned"
    wrong = kmtalk("animate", SPEECH, "--whisper", folder, "--whisper-engine", "openai-whisper", "-o", tmp_path / "no")
    assert wrong.returncode == 2 and "faster-whisper" in wrong.stderr and len(wrong.stderr.splitlines()) == 1
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in folder.iterdir():
        content = file.read_bytes()
        (damaged / file.name).write_bytes(content[: len(content) // 2] if file.suffix == ".bin" else content)
    wrong = kmtalk("animate", SPEECH, "--whisper", damaged, "-o", tmp_path / "no")
    assert wrong.returncode == 2 and str(damaged) in wrong.stderr and len(wrong.stderr.splitlines()) == 1
    wrong = kmtalk("animate", SPEECH, "--whisper", "enormous", "--whisper-engine", "faster-whisper", "-o", "no")
    assert wrong.returncode == 2 and "large-v3" in wrong.stderr and len(wrong.stderr.splitlines()) == 1
    assert not (tmp_path / "no").exists()
