from __future__ import annotations

import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile

from kmtalk import InputError
from kmtalk.speech.audio import SAMPLE_RATE, audio_from_samples, detect_speech_span, load_audio, rms_level


def sine(rate: int, seconds: float = 1.0, hz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)


def frequency(samples: np.ndarray) -> float:
    middle = samples[2000:14000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 17))
    return spectrum.argmax() * SAMPLE_RATE / (1 << 17)


@pytest.mark.parametrize(
    ("suffix", "rate", "subtype"),
    [
        ("wav", 8000, "PCM_U8"),
        ("wav", 44100, "PCM_16"),
        ("wav", 48000, "PCM_24"),
        ("wav", 22050, "FLOAT"),
        ("wav", 96000, "DOUBLE"),
        ("flac", 44100, "PCM_16"),
        ("ogg", 48000, "VORBIS"),
        ("mp3", 44100, "MPEG_LAYER_III"),
    ],
)
def test_any_format_rate_and_depth(tmp_path, suffix, rate, subtype):
    path = tmp_path / f"a.{suffix}"
    stereo = np.stack([sine(rate), sine(rate)], axis=1)
    soundfile.write(path, stereo, rate, subtype=subtype)
    audio = load_audio(path)
    assert audio.samples.dtype == np.float32
    assert audio.samples.ndim == 1
    assert audio.duration == pytest.approx(1.0, abs=0.06)  # MP3 encoders add padding
    assert frequency(audio.samples) == pytest.approx(440, abs=1)
    assert np.abs(audio.samples[4000:12000]).max() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("name", ["a.m4a", "a.mp4", "a.mkv"])
def test_sound_of_compressed_and_video_files(tmp_path, tone, name):
    path = tmp_path / name
    picture = [] if name.endswith("m4a") else ["-f", "lavfi", "-i", "color=c=red:s=64x64:d=1:r=25"]
    sound = ["-i", str(tone), "-c:a", "aac"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *picture, *sound, str(path)]
    subprocess.run(command, check=True)
    audio = load_audio(path)
    assert audio.duration == pytest.approx(1.0, abs=0.08)
    assert frequency(audio.samples) == pytest.approx(440, abs=1)


def test_video_whose_sound_begins_late_keeps_the_files_clock(tmp_path, tone):
    path = tmp_path / "late.mkv"
    picture = ["-f", "lavfi", "-i", "color=c=red:s=64x64:d=2:r=25"]
    sound = ["-itsoffset", "0.5", "-i", str(tone), "-c:a", "pcm_s16le"]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *picture, *sound, str(path)], check=True)
    level = rms_level(load_audio(path).samples)
    assert np.flatnonzero(level > -20)[0] * 0.01 == pytest.approx(0.5, abs=0.03)


def test_a_broadcast_clock_that_starts_late_is_no_silence(tmp_path, tone):
    path = tmp_path / "late.ts"
    picture = ["-f", "lavfi", "-i", "color=c=red:s=64x64:d=1:r=25"]
    late = ["-i", str(tone), "-c:a", "mp2", "-output_ts_offset", "600"]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *picture, *late, str(path)], check=True)
    audio = load_audio(path)
    assert audio.duration == pytest.approx(1.0, abs=0.15)
    assert np.flatnonzero(rms_level(audio.samples) > -20)[0] * 0.01 < 0.1


def test_channels_that_cancel_are_still_heard():
    left = sine(16000, 0.5)
    audio = audio_from_samples(np.stack([left, -left], axis=1), 16000)
    assert not audio.is_silent
    assert np.abs(audio.samples).max() == pytest.approx(0.5, abs=0.01)


def test_loudness_is_in_dbfs_and_on_its_clock():
    samples = np.zeros(16000, np.float32)
    samples[8000:] = sine(16000, 0.5)
    level = rms_level(samples)
    assert len(level) == 100
    assert level[75] == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.1)
    assert np.flatnonzero(level > -30)[0] == pytest.approx(49, abs=1)


def test_speech_span_leaves_silence_out():
    samples = np.concatenate([np.zeros(16000), sine(16000), np.zeros(8000)]).astype(np.float32)
    start, end = detect_speech_span(samples)
    assert start == pytest.approx(0.9, abs=0.03)
    assert end == pytest.approx(2.1, abs=0.03)


def test_samples_that_are_not_numbers_are_refused():
    with pytest.raises(InputError, match="not numbers"):
        audio_from_samples(np.array([0.0, np.nan]), 16000)
    with pytest.raises(InputError, match="zero length"):
        audio_from_samples(np.zeros(0), 16000)
