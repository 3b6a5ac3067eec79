"""Voice vectors, compared with those of the package resemblyzer; and the mel filters that they are made with."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from conftest import FIXTURES, SPEECH

from kmtalk import InputError
from kmtalk.metrics import voice_similarity
from kmtalk.speech.audio import audio_from_samples, load_audio
from kmtalk.synthesis.mel import hz_to_mel, mel_filterbank, mel_to_hz
from kmtalk.synthesis.voice_vector import VoiceEncoder, default_voice_encoder, voice_encoder_weights
from kmtalk.synthesis.voices import VOICES, install_command, synthesize

needs_weights = pytest.mark.skipif(voice_encoder_weights() is None, reason="the package resemblyzer is not installed")
UNLIKE_VOICES = ("piper-joe", "flite-slt", "flite-awb", "espeak-en-us+f2", "espeak-en-us+m3")
SECONDS = np.arange(4 * 16_000) / 16_000
RANDOM = np.random.default_rng(0)


def test_mel_filters_are_slaneys():
    """Equal to librosa 0.11's filters to 2e-9 for six pairs of rate and size; here, by what defines them."""
    assert hz_to_mel(np.array([0.0, 500.0, 1000.0, 6400.0])) == pytest.approx([0.0, 7.5, 15.0, 42.0])
    assert mel_to_hz(hz_to_mel(np.linspace(0, 11_025, 50))) == pytest.approx(np.linspace(0, 11_025, 50))
    filters = mel_filterbank(22_050, 1024, 80, 0.0, 8000.0)
    assert filters.shape == (80, 513) and filters.dtype == np.float32
    # where and how large the maxima of the first and last row of librosa.filters.mel(...) with these arguments are
    assert (filters[0].argmax(), filters[79].argmax()) == (2, 358)
    assert filters[[0, 79]].max(1) == pytest.approx([0.022651389241218567, 0.003265992971137166], abs=1e-8)
    assert filters.astype(float).sum(1)[40:] * 22_050 / 1024 == pytest.approx(np.ones(40), rel=0.02)  # an area of 1 Hz
    assert not filters[:, np.fft.rfftfreq(1024, 1 / 22_050) > 8000].any()
    with pytest.raises(InputError, match="half"):
        mel_filterbank(16_000, 400, 40, 0.0, 9000.0)
    with pytest.raises(InputError, match="too many"):
        mel_filterbank(16_000, 256, 200, 0.0, 8000.0)


@needs_weights
def test_vectors_are_those_of_resemblyzer():
    """The fixture is made with resemblyzer 0.1.4, librosa 0.11 and webrtcvad.

    On 37 clips of 18 voices the network's vectors agreed to a cosine of 1 - 2e-7; those with the pauses cut out, where
    Silero VAD stands for WebRTC's, to .992 or more, .9986 on average.
    """
    theirs = np.load(FIXTURES / "voice_vectors.npz")
    audio = load_audio(SPEECH)
    encoder = VoiceEncoder.load()
    ours = encoder.encode_samples(audio.samples)
    assert ours.shape == (256,) and ours.dtype == np.float32
    assert ours @ theirs["pauses_kept"] > 0.99999
    assert encoder.encode(audio) @ theirs["pauses_cut"] > 0.999


@needs_weights
def test_one_voice_is_more_like_itself_than_like_another():
    voices = [v for v in VOICES if install_command(v) is None and v.display_name in UNLIKE_VOICES]
    if len(voices) < 2:
        pytest.skip("needs two synthetic voices")
    sentences = ("The quick brown fox jumps over the lazy dog, and then it sleeps.",
                 "Please call Stella, and ask her to bring these things with her from the store.")  # fmt: skip
    encoder = default_voice_encoder()
    first, second = ([encoder.encode(synthesize(v, s)[0]) for v in voices] for s in sentences)
    own = voice_similarity(first, second).value
    other = voice_similarity(first, second[1:] + second[:1]).value
    assert own > 0.8 and own > other + 0.15


@needs_weights
def test_quiet_speech_and_speech_with_long_pauses_have_the_same_voice():
    audio = load_audio(SPEECH)
    vector = default_voice_encoder().encode(audio)
    quiet = audio_from_samples(audio.original * 0.01, audio.original_rate)
    assert default_voice_encoder().encode(quiet) @ vector > 0.999
    softer = audio_from_samples(audio.original * 0.3, audio.original_rate)
    assert default_voice_encoder().encode(softer) @ vector > 0.999
    gap = np.zeros(4 * 16_000, np.float32)
    half = len(audio.samples) // 2
    paused = np.concatenate([gap, audio.samples[:half], gap, audio.samples[half:], gap])
    assert default_voice_encoder().encode(audio_from_samples(paused, 16_000)) @ vector > 0.98


@needs_weights
@pytest.mark.parametrize(
    ("sound", "problem"),
    [
        (0.1 * RANDOM.normal(size=4 * 16_000), "no speech"),
        (0.1 * RANDOM.normal(size=4 * 16_000) * np.abs(np.sin(9 * SECONDS)), "no speech"),
        (0.3 * np.sin(2 * np.pi * 50 * SECONDS), "no speech"),
        (sum(0.2 / k * np.sin(2 * np.pi * 50 * k * SECONDS) for k in range(1, 9)), "of speech, too little"),
        ((np.arange(4 * 16_000) % 8000 == 0) * 0.9, "no speech"),
        ((np.arange(4 * 16_000) % 160 == 0) * 0.9, "no speech"),
        (0.3 * np.sin(2 * np.pi * 880 * SECONDS) * (SECONDS * 2 % 1 < 0.1), "no speech"),
        (np.zeros(4 * 16_000), "is silent"),
        (0.1 * RANDOM.normal(size=3200), "too short"),
    ],
    ids=["noise", "swelling noise", "hum", "mains", "clicks", "buzz", "beeps", "silence", "0.2 s"],
)
def test_a_reference_without_a_voice_is_refused(sound, problem):
    audio = audio_from_samples(sound.astype(np.float32), 16_000, "ref.wav")
    with pytest.raises(InputError, match=f"^ref.wav: .*{problem}.*give at least 1 s") as caught:
        default_voice_encoder().encode(audio)
    assert "\n" not in str(caught.value)


@needs_weights
def test_a_short_piece_of_speech_is_refused_by_its_length_and_a_second_is_enough():
    audio = load_audio(SPEECH)
    with pytest.raises(InputError, match="too short"):
        default_voice_encoder().encode(audio_from_samples(audio.samples[:3200], 16_000))
    silence = np.zeros(5 * 16_000, np.float32)
    with pytest.raises(InputError, match=r"0\.\d s of speech, too little"):
        default_voice_encoder().encode(
            audio_from_samples(np.concatenate([silence, audio.samples[8000:16_000]]), 16_000)
        )
    short = default_voice_encoder().encode(audio_from_samples(audio.samples[:20_000], 16_000))
    assert np.linalg.norm(short) == pytest.approx(1.0, abs=1e-5)


def test_without_the_package_the_command_that_installs_it_is_told():
    code = (
        "import sys; sys.modules['resemblyzer'] = None\n"
        "from kmtalk.synthesis.voice_vector import VoiceEncoder\n"
        "try: VoiceEncoder.load()\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install --no-deps resemblyzer==0.1.4" in done.stdout and done.stdout.count("\n") == 1


@needs_weights
@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_damaged_weights_are_refused(tmp_path, monkeypatch, damage):
    package = tmp_path / "resemblyzer"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    whole = voice_encoder_weights().read_bytes()
    (package / "pretrained.pt").write_bytes({"cut": whole[:1_000_000], "text": b"hello", "empty": b""}[damage])
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"pretrained.pt: is damaged .*--force-reinstall") as caught:
        VoiceEncoder.load()
    assert "\n" not in str(caught.value)
