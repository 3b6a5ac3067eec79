"""A face that follows a voice: samples in, poses out, with the shipped streaming network and with small random ones."""

from __future__ import annotations

import asyncio
import resource

import numpy as np
import pytest
import soundfile
import soxr
import torch
from conftest import ROOT, SAID, SPEECH
from joint_networks import run
from torch import nn

from kmtalk import InputError, KMTalk, metrics
from kmtalk.articulation.mouth_solver import MouthSolver
from kmtalk.streaming.log_mel import BANDS, VoiceLevel, frame_bands, relative_bands
from kmtalk.streaming.model import StreamingConfig, StreamingNetwork
from kmtalk.streaming.network_file import load_streaming_network, save_streaming_network
from kmtalk.streaming.resampling import StreamResampler

SAME = 1e-4  # of a weight: the order of sums differs with the size of blocks
SHIPPED = ROOT / "assets" / "streaming.safetensors"


def random_streaming_network(**options) -> StreamingNetwork:
    """A small network with random weights, none of them zero; options are fields of `StreamingConfig`."""
    torch.manual_seed(0)
    facts = {"look_ahead": (2, 0, 1), "look_back": 6, "d_model": 32, "num_heads": 2, "kernel": 5}
    network = StreamingNetwork(StreamingConfig(("jawOpen", "mouthClose"), ("a", "b"), **(facts | options))).eval()
    for p in network.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.2)
    return network


@pytest.fixture(scope="module")
def speech():
    """The demo's ten seconds at 16 kHz."""
    samples, rate = soundfile.read(SPEECH, dtype="float32")
    assert rate == 16_000
    return samples


@pytest.fixture(scope="module")
def solver(talk):
    return MouthSolver(talk.rig)


def follow(talk, samples, rate=16_000, fps=60.0, sizes=None, **options):
    """The poses (N, R) of a sound, fed whole or in blocks of the given sizes over and over."""
    stream = talk.stream(rate, fps, **options)
    poses = []
    if sizes is None:
        poses += stream.feed(samples)
    else:
        start = turn = 0
        while start < len(samples):
            size = int(sizes[turn % len(sizes)])
            poses += stream.feed(samples[start : start + size])
            start, turn = start + size, turn + 1
    poses += stream.finish()
    assert [p.number for p in poses] == list(range(len(poses)))
    np.testing.assert_allclose([p.time for p in poses], (np.arange(len(poses)) + 0.5) / fps)
    weights = np.array([p.weights for p in poses]).reshape(len(poses), len(talk.rig.shape_names))
    assert all(p.weights.dtype == np.float32 for p in poses)
    assert np.isfinite(weights).all() and ((weights >= 0) & (weights <= 1)).all()
    return weights


def mouth_columns(talk):
    return [talk.rig.index[name] for name in load_streaming_network(SHIPPED).config.shape_names]


def blinks(talk, weights):
    """The numbers of the frames in which the lids close."""
    shut = weights[:, talk.rig.index["eyeBlinkLeft"]] > 0.5
    return np.flatnonzero(shut[1:] & ~shut[:-1]) + 1


# --- streamed is the whole, and the future is bounded


@pytest.mark.parametrize("rate", [16_000, 48_000, 44_100])
def test_blocks_of_any_size_give_what_the_whole_sound_gives(talk, speech, rate):
    sound = soxr.resample(speech[: 5 * 16_000], 16_000, rate).astype(np.float32)
    whole = follow(talk, sound, rate)
    rng = np.random.default_rng(rate)
    sizes = np.concatenate([[0, 1, 0, 1, 1], rng.integers(0, 3000, 40), rng.integers(0, 60, 40)])
    parts = follow(talk, sound, rate, sizes=rng.permutation(sizes))
    assert len(whole) == 300 and whole.std(0).max() > 0.05
    assert np.abs(whole - parts).max() < SAME


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"look_ahead": (0,)},
        {"look_ahead": (0, 3), "look_back": 1},
        {"kernel": 1},
        {"kernel": 15, "look_back": 40},  # more than the stream has
        {"encoder": "whisper-base-2", "encoder_look_ahead": (2, 1), "encoder_look_back": 9},
    ],
)
def test_the_network_advances_as_it_goes_forward(options):
    network = random_streaming_network(**options)
    rng = np.random.default_rng(1)
    mel = torch.from_numpy(rng.normal(size=(1, 2 * 37, BANDS)).astype(np.float32))
    style = torch.tensor([[0.3, 0.7]])
    with torch.inference_mode():
        whole = network(mel, style)
        memory, found, start = network.new_memory(), [], 0
        while start < mel.shape[1]:
            size = int(rng.integers(0, 8))
            found.append(network.advance(mel[:, start : start + size], style, memory))
            start += size
            known, needed = sum(f.motion.shape[1] for f in found if f is not None), network.config.look_ahead_seconds
            assert known == max(0, int((min(start, mel.shape[1]) * 0.01 - needed) / 0.02 + 1e-6))  # as promised
        found.append(network.advance(mel[:, :0], style, memory, ends=True))
    for name in ("motion", "contacts", "phones"):
        parts = torch.cat([getattr(f, name) for f in found if f is not None], 1)
        torch.testing.assert_close(parts, getattr(whole, name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_later_sound_changes_no_frame_before_the_delay(talk, speech, rate):
    """Two sounds that are equal up to 3 s, one of which goes on loudly."""
    sound = soxr.resample(speech[: 5 * 16_000], 16_000, rate).astype(np.float32)
    other = sound.copy()
    other[3 * rate :] = 0.3 * np.random.default_rng(0).normal(size=2 * rate)
    first, second = (follow(talk, s, rate) for s in (sound, other))
    delay = talk.stream(rate).delay
    assert delay < 0.2
    changed = np.abs(first - second).max(1) > SAME
    times = (np.arange(len(first)) + 0.5) / 60
    assert not changed[times < 3 - delay].any()
    assert changed[times > 3].mean() > 0.9 and changed[times < 3].any()  # it looks ahead at all


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_a_pose_is_known_when_the_delay_has_passed(talk, speech, rate):
    sound = soxr.resample(speech[: 3 * 16_000], 16_000, rate).astype(np.float32)
    stream = talk.stream(rate)
    step = rate // 500
    late = [
        stream.received_seconds - pose.time
        for start in range(0, len(sound), step)
        for pose in stream.feed(sound[start : start + step])
    ]
    assert len(late) > 100
    assert max(late) <= stream.delay + step / rate + 1e-6
    assert max(late) > stream.delay - 0.03  # and the delay is not overstated


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000])
def test_resampling_keeps_what_16_khz_hold_and_suppresses_the_rest(rate):
    """In blocks and whole, for tones, against soxr at its best."""
    time = np.arange(rate) / rate
    tone = np.sin(2 * np.pi * 1000 * time) + 0.5 * np.sin(2 * np.pi * 3100 * time)
    whole = StreamResampler(rate, 16_000).resample(tone, ends=True)
    stream, parts = StreamResampler(rate, 16_000), []
    for start in range(0, rate, 137):
        parts.append(stream.resample(tone[start : start + 137]))
        known = sum(map(len, parts)) / 16_000
        assert known >= min(start + 137, rate) / rate - stream.delay - 1 / 16_000
    parts.append(stream.resample(tone[:0], ends=True))
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(whole) == 16_000
    assert np.abs(whole - soxr.resample(tone, rate, 16_000, "VHQ"))[200:-200].max() < 2e-3
    if rate > 20_000:
        high = StreamResampler(rate, 16_000).resample(np.sin(2 * np.pi * 9_500 * time), ends=True)
        assert np.abs(high[200:-200]).max() < 1e-3


def test_a_long_block_takes_no_more_memory_than_its_parts(talk):
    """A minute at once: a square of its tokens would take some 100 MB for each head of each block."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(follow(talk, np.zeros(120 * 16_000, np.float32), fps=30.0, expression=False)) == 3600
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_steady_noise_is_no_voice(talk):
    """The level of the voice stays where it was in minutes of noise, and falls to a quiet voice in seconds."""
    rng = np.random.default_rng(0)
    level = VoiceLevel()
    level.follow(-40 + rng.normal(0, 0.7, 60_00).astype(np.float32))
    assert level.level_db == pytest.approx(-24, abs=2.5)  # less noise is assumed at first
    syllables = -50 + 12 * np.sin(np.arange(400) / 8)  # up to -38 dB, for 4 s
    level.follow(syllables)
    assert level.level_db < -33
    level.follow(syllables + 28)
    assert level.level_db == pytest.approx(-13, abs=4)
    level.follow(np.full(3000, -90.0))  # a pause
    assert level.level_db == pytest.approx(-13, abs=4)


@pytest.mark.parametrize("fps", [1.0, 24.0, 29.97, 60.0, 240.0])
@pytest.mark.parametrize("seconds", [0.5, 1.2345, 3.01])
def test_there_are_as_many_poses_as_the_sound_is_long(talk, speech, fps, seconds):
    sound = speech[16_000 : 16_000 + int(seconds * 16_000)]
    assert len(follow(talk, sound, fps=fps, sizes=[700])) == round(len(sound) / 16_000 * fps)
    at_48 = soxr.resample(sound, 16_000, 48_000)
    assert len(follow(talk, at_48, 48_000, fps=fps, sizes=[480])) == round(len(at_48) / 48_000 * fps)


def test_no_sound_gives_no_pose(talk):
    stream = talk.stream(16_000)
    assert stream.feed(np.zeros(0)) == [] and stream.finish() == [] and stream.finish() == []


# --- odd sounds


def test_silence_closes_the_lips_and_the_face_stays_alive(talk, solver):
    noise = 1e-3 * np.random.default_rng(0).normal(size=20 * 16_000)
    for silence in (np.zeros(20 * 16_000), np.full(20 * 16_000, np.nan), noise):
        weights = follow(talk, silence, sizes=[160])
        assert solver.measure(weights).aperture[60:].max() < 1
        assert 1 <= len(blinks(talk, weights)) <= 20
        head = weights[:, [i for n, i in talk.rig.index.items() if n.startswith("head")]]
        assert head.std(0).max() > 0.01 and np.abs(np.diff(head, axis=0)).max() < 0.1
        still = np.abs(np.diff(weights[60:, mouth_columns(talk)], axis=0)).max()
        assert still < 0.01  # no trembling


def test_the_lips_close_again_in_a_pause(talk, solver, speech):
    sound = np.concatenate([speech[: 4 * 16_000], np.zeros(3 * 16_000, np.float32), speech[: 2 * 16_000]])
    aperture = solver.measure(follow(talk, sound)).aperture
    assert aperture[5 * 60 : 7 * 60 - 15].max() < 1
    assert aperture[: 4 * 60].max() > 5 and aperture[7 * 60 :].max() > 5


@pytest.mark.parametrize("level", [-60, -30, -10, 0])
def test_white_noise_gives_finite_poses(talk, level):
    noise = np.random.default_rng(0).normal(size=3 * 16_000) * 10 ** (level / 20)
    assert len(follow(talk, noise)) == 180


@pytest.mark.parametrize("level", [-70, -50, -40])
def test_the_mouth_rests_in_steady_noise_and_speaks_over_it(talk, solver, speech, level):
    noise = np.random.default_rng(0).normal(size=8 * 16_000) * 10 ** (level / 20)
    noise[4 * 16_000 :] += speech[: 4 * 16_000]
    aperture = solver.measure(follow(talk, noise)).aperture
    assert aperture[60 : 3 * 60].max() < 1.0
    assert aperture[4 * 60 :].max() > 8.0


@pytest.mark.parametrize("level", [-30, -20, -10])
def test_loud_noise_is_taken_for_noise_within_a_second(talk, solver, level):
    noise = np.random.default_rng(0).normal(size=4 * 16_000) * 10 ** (level / 20)
    assert solver.measure(follow(talk, noise)).aperture[60:].max() < 1.5


@pytest.mark.parametrize("rate", [8_000, 11_025])
def test_a_narrow_voice_closes_its_lips_too(talk, solver, speech, rate):
    """As of a telephone or a headset: nothing above half the rate."""
    narrow = soxr.resample(soxr.resample(speech, 16_000, rate), rate, 16_000)
    wide, made = (solver.measure(follow(talk, s)).lip_channels for s in (speech, narrow))
    alignment = talk.align(SPEECH)[1]
    closed = [metrics.closure_rate([(lips, alignment, 60.0)]).value for lips in (wide, made)]
    assert closed[0] >= 0.8 and closed[1] >= 0.6


def test_samples_that_are_not_finite_count_as_silence(talk, speech):
    holes = speech[: 3 * 16_000].copy()
    holes[16_000:20_000] = 0
    broken = holes.copy()
    broken[16_000:20_000] = np.tile([np.nan, np.inf, -np.inf, np.nan], 1000)
    np.testing.assert_array_equal(follow(talk, holes), follow(talk, broken))


def test_types_and_channels_give_the_same_face(talk, speech):
    sound = speech[: 3 * 16_000]
    mouth = mouth_columns(talk)
    wanted = follow(talk, sound)[:, mouth]
    whole_numbers = follow(talk, np.round(sound * 32767).astype(np.int16))[:, mouth]
    assert np.abs(whole_numbers - wanted).max() < 0.03  # of rounding, which speech of -70 dB shows
    assert np.abs(follow(talk, sound.astype(np.float64))[:, mouth] - wanted).max() < SAME
    assert np.abs(follow(talk, np.stack([sound, sound], 1))[:, mouth] - wanted).max() < SAME
    assert np.abs(follow(talk, np.stack([2 * sound, 0 * sound], 1))[:, mouth] - wanted).max() < SAME


@pytest.mark.parametrize("gain_db", [-40, -30, -15, 10])
def test_a_distant_microphone_moves_the_mouth_as_a_near_one(talk, solver, speech, gain_db):
    near, far = (
        solver.measure(follow(talk, s)).aperture[60:] for s in (speech, speech * np.float32(10 ** (gain_db / 20)))
    )
    assert np.corrcoef(near, far)[0, 1] > 0.95
    assert far.std() == pytest.approx(near.std(), rel=0.2)


def test_a_clipped_voice_still_moves_the_mouth(talk, solver, speech):
    clear = solver.measure(follow(talk, speech)).aperture
    clipped = solver.measure(follow(talk, np.clip(30 * speech, -1, 1))).aperture
    assert np.corrcoef(clear, clipped)[0, 1] > 0.6


# --- what speech does


@pytest.fixture(scope="module")
def aligned(talk):
    return talk.align(SPEECH, text=SAID)[1]


def test_lips_close_at_bilabials_and_the_jaw_opens_in_vowels(talk, solver, speech, aligned):
    mouth = solver.measure(follow(talk, speech))
    closed = metrics.closure_rate([(mouth.lip_channels, aligned, 60.0)])
    assert closed.value >= 0.8, closed  # .83: 10 of 12
    times = (np.arange(len(mouth.jaw)) + 0.5) / 60

    def jaw(labels):
        spans = [p for p in aligned.phones if p.label.rstrip("012") in labels]
        found = [mouth.jaw[(times >= p.start) & (times < p.end)] for p in spans]
        return np.mean([f.max() for f in found if len(f)])

    assert jaw({"AA", "AE", "AH", "AO", "AW", "AY", "EH"}) > jaw({"S", "Z", "F", "V", "SH", "T", "D"}) + 1.5


def test_another_moment_of_speech_gives_another_mouth(talk, solver, speech):
    """The closures are those of the sound: half a second later they no longer fit."""
    now = solver.measure(follow(talk, speech)).aperture
    later = solver.measure(follow(talk, np.concatenate([np.zeros(8_000, np.float32), speech]))).aperture
    assert np.corrcoef(now[60:540], later[90:570])[0, 1] > 0.95
    assert np.corrcoef(now[60:540], later[60:540])[0, 1] < 0.5


def test_style_and_seed_change_what_they_say(talk, speech):
    sound, mouth = np.tile(speech, 2), mouth_columns(talk)
    one, again, other = (follow(talk, sound, seed=seed) for seed in (0, 0, 5))
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one[:, mouth], other[:, mouth])
    assert list(blinks(talk, one)) != list(blinks(talk, other))
    clear, relaxed = (follow(talk, sound, style=style)[:, talk.rig.index["jawOpen"]] for style in ("clear", "relaxed"))
    assert clear.mean() > 1.1 * relaxed.mean()
    between = follow(talk, sound, style="clear:0.5,relaxed:0.5")[:, talk.rig.index["jawOpen"]]
    assert relaxed.mean() < between.mean() < clear.mean()


def test_the_mouth_alone_and_factors_of_the_rest(talk, speech):
    mouth = np.zeros(len(talk.rig.shape_names), bool)
    mouth[mouth_columns(talk)] = True
    head = [i for n, i in talk.rig.index.items() if n.startswith("head")]
    whole, alone = follow(talk, speech), follow(talk, speech, expression=False)
    assert not alone[:, ~mouth].any() and whole[:, ~mouth].any()
    np.testing.assert_array_equal(whole[:, mouth], alone[:, mouth])
    assert not follow(talk, speech, head=0)[:, head].any()
    aside, ahead = (follow(talk, np.tile(speech, 2), gaze=g, head=0) for g in ("wander", "camera"))
    eyes = [i for n, i in talk.rig.index.items() if n.startswith("eyeLook")]
    assert aside[:, eyes].max() > 1.5 * ahead[:, eyes].max()


def test_frames_arrive_in_an_async_loop(talk, speech):
    sound = speech[:32_000]

    async def blocks():
        for start in range(0, len(sound), 160):
            await asyncio.sleep(0)
            yield sound[start : start + 160]

    async def collect():
        return [pose async for pose in talk.stream(16_000).follow(blocks())]

    poses = asyncio.run(collect())
    assert np.abs(np.array([p.weights for p in poses]) - follow(talk, sound)).max() < SAME


def test_the_recording_is_an_animation(talk, speech, tmp_path):
    weights = follow(talk, speech[:32_000])
    animation = talk.animation_of_stream(weights, 60.0, speech[:32_000], 16_000)
    np.testing.assert_array_equal(animation.motion.weights, weights)
    assert animation.motion.fps == 60
    with pytest.raises(InputError, match="no poses"):
        talk.animation_of_stream(weights[:0], 60.0, speech[:100], 16_000)


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((100,), {}, "100 Hz"),
        ((float("nan"),), {}, "nan Hz"),
        ((400_000,), {}, "400000 Hz|4e\\+05 Hz"),
        ((16_000, 0), {}, "0 frames per second"),
        ((16_000, 1000), {}, "1000 frames per second"),
        ((16_000,), {"style": "operatic"}, "operatic"),
        ((16_000,), {"gaze": "up"}, "gaze"),
        ((16_000,), {"head": 3.0}, "head"),
        ((16_000,), {"hat": 3.0}, "hat"),
    ],
)
def test_what_cannot_be_followed_is_said_in_one_line(talk, arguments, options, said):
    with pytest.raises(InputError, match=said) as raised:
        talk.stream(*arguments, **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "samples", [np.zeros((2, 2, 2)), np.zeros((4, 0)), np.zeros(4, complex), np.zeros(4, np.uint8), ["a"], 1.0]
)
def test_what_is_no_sound_is_refused_and_the_stream_goes_on(talk, samples):
    stream = talk.stream(16_000)
    with pytest.raises(InputError, match="samples of"):
        stream.feed(samples)
    assert len(stream.feed(np.zeros(16_000)) + stream.finish()) == 60
    with pytest.raises(InputError, match="has ended"):
        stream.feed(np.zeros(10))


def test_a_network_is_read_as_it_was_written(tmp_path):
    network, path = random_streaming_network(), tmp_path / "n.safetensors"
    save_streaming_network(network, path)
    again = load_streaming_network(path)
    assert again.config == network.config and not again.training
    for name, tensor in network.state_dict().items():
        assert not name.startswith("encoder.")
        torch.testing.assert_close(again.state_dict()[name], tensor.half().float(), rtol=0, atol=0)
    weights = follow(KMTalk(streaming=path), np.zeros(16_000))
    assert len(weights) == 60


def test_layers_of_whisper_are_no_part_of_a_network_s_file(tmp_path):
    """Nor do they learn; the same network comes back, and follows a voice."""
    options = {"encoder": "whisper-base-2", "encoder_look_ahead": (1, 1)}
    network, path = random_streaming_network(**options), tmp_path / "n.safetensors"
    assert not any(p.requires_grad for p in network.encoder.parameters())
    save_streaming_network(network, path)
    assert path.stat().st_size < 1e6
    mel = torch.randn(1, 40, BANDS)
    with torch.inference_mode():
        found = [n(mel, torch.tensor([[1.0, 0.0]])).motion for n in (network, load_streaming_network(path))]
    torch.testing.assert_close(*found, rtol=0.02, atol=0.02)


def test_whisper_hears_the_same_at_any_time_of_a_stream(speech):
    """Its positions run on, and mean the same after hours: of two sounds, each is more like itself later."""
    encoder = random_streaming_network(encoder="whisper-base-2", encoder_look_ahead=(2, 2)).encoder
    bands, _ = frame_bands(speech[: 8 * 16_000])
    mel = torch.from_numpy(relative_bands(bands[:780], -20.0)).unflatten(0, (2, -1))
    late = torch.full((2,), 3 * 3600 * 50 + 7)
    with torch.inference_mode():
        found = torch.stack([encoder(mel), encoder(mel, late)])[:, :, 50:]
    found = (found - found.mean((0, 1, 2))) / found.std((0, 1, 2))
    alike = torch.cosine_similarity(found[0][:, None], found[1][None], dim=-1).mean(-1)  # (early, late)
    assert alike.diagonal().min() > 0.7 and alike.fliplr().diagonal().max() < 0.3, alike


def test_damaged_and_foreign_weights_are_refused(tmp_path):
    path = tmp_path / "streaming.safetensors"
    with pytest.raises(InputError, match="no such streaming network"):
        load_streaming_network(path)
    save_streaming_network(random_streaming_network(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a streaming network"):
        load_streaming_network(path)
    changes = [
        (b'"d_model": 32', b'"d_model": 64'),
        (b'"look_back": 6', b'"look_back": 0'),
        (b'"kernel": 5', b'"kernel": 4'),
        (b'"log-mel"', b'"log-me1"'),
        (b'"encoder":', b'"encodes":'),
        (b'"encoder_look_back": 50', b'"encoder_look_back": -1'),
        (b'"look_ahead": [2', b'"look_ahead": [2.'),
        (b"mouthClose", b"mouthClo5e"),
        (b'"styles"', b'"stylus"'),
    ]
    for old, new in changes:
        old, new = (text.replace(b'"', b'\\"') for text in (old, new))
        assert old in whole
        new = new.replace(b"[2.", b"[.")  # as long as before
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(InputError, match=r"streaming\.safetensors|which the rig lacks") as raised:
            KMTalk(streaming=path).stream(16_000)
        assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="no streaming network"):
        load_streaming_network(ROOT / "assets" / "network.safetensors")


def test_the_command_refuses_foreign_weights_in_one_line(tmp_path, capfd):
    damaged = tmp_path / "d.safetensors"
    damaged.write_bytes(SHIPPED.read_bytes()[:5000])
    for path in (damaged, ROOT / "assets" / "network.safetensors", tmp_path / "none.safetensors", SPEECH):
        code, said = run(capfd, "live", SPEECH, "--vmc", "localhost", "--streaming", path)
        assert code == 2 and "streaming network" in said and len(said.strip().splitlines()) == 1, said
        assert "Traceback" not in said
