from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import SPEECH, phones, small_wav2vec2

from kmtalk.assets import asset_path
from kmtalk.errors import InputError
from kmtalk.face.motion import frame_times, resample_motion
from kmtalk.motion import inference
from kmtalk.motion.completion import interpolate_keys
from kmtalk.motion.finetuned_encoder import FEATURE_EXTRACTOR_DIGEST, FineTunedEncoder
from kmtalk.motion.heads import PcaHead, RigHead, pca_basis
from kmtalk.motion.inference import network_frame_rate
from kmtalk.motion.key_editing import interpolate_key_edits
from kmtalk.motion.losses import LOSS_NAMES, LipReader, MotionLosses, RigSurfaceMetric, VertexSurfaceMetric
from kmtalk.motion.model import Batch, KMTalkNetwork, NetworkConfig, load_network
from kmtalk.motion.postprocessing import postprocess
from kmtalk.motion.predictor import MotionPredictor, scale_mouth_weights
from kmtalk.motion.styles import parse_style, style_mixture
from kmtalk.settings import AnimationSettings
from kmtalk.speech import encoders
from kmtalk.speech.audio import SAMPLE_RATE, audio_from_samples, load_audio
from kmtalk.speech.encoders import LogMelEncoder, SpeechFeatures, Wav2Vec2Encoder, WhisperEncoder, load_encoder

MOUTH = ("jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthLowerDownLeft", "mouthLowerDownRight")
SMALL = NetworkConfig(
    "log-mel", 80, d_model=32, num_heads=4, num_layers=2, dropout=0.0, shape_names=MOUTH, styles=("a", "b")
)


def small(shape=SMALL, seed=0):
    """A network with nonzero heads, so that all layers before them affect the output."""
    torch.manual_seed(seed)
    network = KMTalkNetwork(shape).eval()
    for head in (network.key_motion_decoder.head, network.motion_decoder.head):
        torch.nn.init.normal_(head.linear.weight, std=0.1)
        torch.nn.init.constant_(head.linear.bias, 0.3)
    return network


def batch(lengths, key_sets, shape=SMALL, seed=0):
    """Clips of different lengths, padded with random values that must not matter."""
    rng = np.random.default_rng(seed)
    most, m = max(lengths), max(len(k) for k in key_sets)
    features = torch.from_numpy(rng.normal(size=(len(lengths), most, shape.audio_dim)).astype(np.float32))
    real = torch.tensor([[n < length for n in range(most)] for length in lengths])
    keys = torch.zeros(len(lengths), m, dtype=torch.long)
    keys_real = torch.zeros(len(lengths), m, dtype=torch.bool)
    for i, k in enumerate(key_sets):
        keys[i, : len(k)], keys_real[i, : len(k)] = torch.tensor(k), True
    times = (torch.arange(most) + 0.5).expand(len(lengths), -1) / 25.0
    style = torch.tensor([[1.0, 0.0]]).expand(len(lengths), -1)
    return Batch(features, times, real, keys, keys_real, style)


def test_padding_changes_nothing():
    network = small()
    both = batch([20, 47], [[0, 3, 9, 19], [0, 5, 6, 20, 33, 41, 46]])
    alone = Batch(*(v[:1, :20] for v in (both.features, both.times, both.frame_mask)), both.key_frames[:1, :4],
                  both.key_mask[:1, :4], both.style_weights[:1])  # fmt: skip
    with torch.no_grad():
        keys, motion = network(both)
        keys_alone, motion_alone = network(alone)
    assert torch.allclose(keys[0, :4], keys_alone[0], atol=1e-5)
    assert torch.allclose(motion[0, :20], motion_alone[0], atol=1e-5)


def test_frames_between_keys_know_their_own_time():
    """Non-key tokens carry their own time, so that frames between keys differ."""
    network = small()
    b = batch([30], [[0, 29]])
    with torch.no_grad():
        flow = network.flow_encoder(torch.zeros(1, 2, len(MOUTH)), b.key_frames, b.key_mask, b.times, b.frame_mask)
        steps = flow[0, 5:25].diff(dim=0).norm(dim=1)
    assert steps.min() > 1e-3 * flow.norm(dim=2).mean()


def test_a_key_affects_the_frames_around_it_more_than_those_far_away():
    """In the mean over five untrained networks, since a single one may respond far away by chance."""
    b = batch([250], [[0, 50, 125, 200, 249]])
    poses = torch.full((1, 5, len(MOUTH)), 0.2)
    other = poses.clone()
    other[0, 2] = 0.9
    near, far = [], []
    for seed in range(5):
        network = small(seed=seed)
        with torch.no_grad():
            audio = network.encode_audio(b)
            difference = network.complete_motion(audio, other, b) - network.complete_motion(audio, poses, b)
        change = difference.abs().amax(-1)[0]
        near.append(float(change[120:131].max()))
        far.append(float(change[:20].max()))
    assert min(near) > 1e-3
    assert np.mean(far) < 0.3 * np.mean(near)


def test_the_rig_head_begins_at_rest_stays_in_range_and_finds_its_way_back():
    head = RigHead(8, 3)
    assert not head(torch.randn(5, 8)).any()
    torch.nn.init.constant_(head.linear.bias, 7.0)
    out = head(torch.zeros(1, 8))
    assert out.max() == 1.0
    out.sum().backward()  # a loss that wants less output: the gradient lowers it again
    assert head.linear.bias.grad.min() > 0
    head.zero_grad()
    (-head(torch.zeros(1, 8))).sum().backward()  # a loss that wants more output than the maximum
    assert not head.linear.bias.grad.any()


def test_lines_through_keys_are_those_that_edits_spread_by():
    """Masked keys, dropped or padded, are ignored."""
    rng = np.random.default_rng(0)
    keys, motion = np.array([3, 7, 12, 30, 44]), rng.random((5, 4)).astype(np.float32)
    real = np.array([True, True, False, True, True])
    made = interpolate_keys(*(torch.from_numpy(a)[None] for a in (motion, keys, real)), 60)[0].numpy()
    assert np.abs(made - interpolate_key_edits(motion[real], keys[real], 60)).max() < 1e-6
    assert np.allclose(made[:4], motion[0]) and np.allclose(made[44:], motion[4])


def test_a_principal_basis_spans_what_it_was_made_from():
    torch.manual_seed(0)
    offsets = torch.randn(40, 4) @ torch.randn(4, 30)
    basis = pca_basis(offsets, 4)
    again = torch.linalg.lstsq(basis.T, offsets.T).solution.T @ basis
    assert torch.allclose(again, offsets, atol=1e-3)
    assert PcaHead(8, basis)(torch.randn(2, 8)).shape == (2, 30)


def test_the_error_on_the_rig_is_the_error_on_its_vertices(rig):
    torch.manual_seed(0)
    names = tuple(n for n in rig.shape_names if n.startswith(("jaw", "mouth")))
    columns = [rig.index[n] for n in names]
    difference = torch.rand(7, len(names)) * 0.3
    flat = difference @ torch.from_numpy(rig.offsets[columns].reshape(len(names), -1))
    on_rig, on_vertices = RigSurfaceMetric(rig, names), VertexSurfaceMetric(rig)
    assert torch.allclose(on_rig.squared_error(difference), on_vertices.squared_error(flat), rtol=1e-3)
    assert torch.allclose(on_rig.lip_opening(difference), on_vertices.lip_opening(flat), atol=1e-3)
    index = names.index("jawOpen")
    opened = torch.eye(len(names))[index] * 0.5
    assert on_rig.lip_opening(opened).max() > 10  # millimetres


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_every_loss_is_switched_off_by_its_name(rig, name):
    shape = NetworkConfig("log-mel", 80, d_model=32, num_heads=4, num_layers=1, shape_names=MOUTH)
    surface = RigSurfaceMetric(rig, MOUTH)
    b = batch([40, 30], [[0, 10, 20, 29], [0, 15, 29]], shape)
    b.style_weights = torch.ones(2, 1)
    b.motion, b.bilabial_closure = torch.rand(2, 40, len(MOUTH)) * 0.3, torch.zeros(2, 40)
    b.ctc_targets = [torch.tensor([3, 4]), torch.tensor([5])]
    network = KMTalkNetwork(shape)
    reader = LipReader(surface.lip_features(b.motion).shape[-1], 80)
    weights = dict.fromkeys(LOSS_NAMES, 1.0)
    every = MotionLosses(surface, reader, weights).motion_losses(network(b)[1], network.encode_audio(b), b)
    fewer = MotionLosses(surface, reader, weights | {name: 0.0}).motion_losses(
        network(b)[1], network.encode_audio(b), b
    )
    assert set(every) - set(fewer) == {name}
    assert all(torch.isfinite(v) for v in every.values())


def test_features_are_interpolated_on_their_own_clock():
    ramp = SpeechFeatures(np.arange(50, dtype=np.float32)[:, None], rate=50.0, start=0.0125)
    times = np.array([0.0125, 0.0225, 0.5125, 99.0])
    assert np.allclose(ramp.interpolate(times)[:, 0], [0.0, 0.5, 25.0, 49.0], atol=1e-4)


def test_an_ear_is_wav2vec2_from_its_convolutions_on(tmp_path):
    source = small_wav2vec2(tmp_path)
    whole, convolutions = load_encoder(f"wav2vec2:{source}"), load_encoder(f"wav2vec2-conv:{source}")
    samples = load_audio(SPEECH).samples[: 3 * SAMPLE_RATE]
    heard, features = whole.encode(samples), convolutions.encode(samples)
    assert features.values.shape == (len(heard.values), 16) and (features.rate, features.start) == (50, heard.start)
    ear = FineTunedEncoder.from_model(convolutions.model)
    assert ear.hidden_size == 32
    again = FineTunedEncoder(ear.config)
    again.load_state_dict(ear.state_dict())
    given = torch.from_numpy(np.pad(features.values, ((0, 9), (0, 0))))[None]
    real = torch.arange(given.shape[1])[None] < len(features.values)
    with torch.no_grad():
        made = again.eval()(given, real)[0, : len(features.values)].numpy()
    assert np.allclose(made, heard.values, atol=1e-4)  # padding does not change the features
    network = KMTalkNetwork(
        NetworkConfig(
            convolutions.name,
            32,
            d_model=32,
            num_heads=4,
            num_layers=1,
            shape_names=("jawOpen",),
            finetuned_encoder=ear.config,
        )
    )
    network.metadata = {FEATURE_EXTRACTOR_DIGEST: convolutions.feature_extractor_digest}
    assert MotionPredictor(network, convolutions).encode_audio(load_audio(SPEECH)).values.shape[1] == 16
    with pytest.raises(InputError, match="not the encoder these weights were trained with"):
        MotionPredictor(network, load_encoder(f"wav2vec2-conv:{small_wav2vec2(tmp_path, seed=1)}"))


@pytest.mark.parametrize("kind", ["log-mel", "whisper", "wav2vec2", "wav2vec2-conv", "wav2vec2-ctc"])
def test_an_encoder_hears_a_click_when_it_sounds(kind, tmp_path):
    """The time of a click in each encoder's features, and the dimension of the features."""
    if kind.startswith("wav2vec2"):
        encoder = load_encoder(f"{kind}:{small_wav2vec2(tmp_path, characters=kind == 'wav2vec2-ctc')}")
    else:
        encoder = LogMelEncoder() if kind == "log-mel" else WhisperEncoder("base", 1)
    rng = np.random.default_rng(0)
    samples = (1e-4 * rng.normal(size=2 * SAMPLE_RATE)).astype(np.float32)
    clicked = samples.copy()
    clicked[SAMPLE_RATE - 80 : SAMPLE_RATE + 80] += 0.1 * rng.normal(size=160).astype(np.float32)
    # loud parts set the level: give both sounds the same
    tail = (0.1 * rng.normal(size=SAMPLE_RATE // 2)).astype(np.float32)
    quiet, loud = (encoder.encode(np.concatenate([s, tail])) for s in (samples, clicked))
    assert loud.values.shape[1] == encoder.dimension
    assert loud.rate == encoder.rate
    change = np.linalg.norm(loud.values - quiet.values, axis=1)[: int(1.8 * loud.rate)]
    heard = loud.start + float((change**4 * np.arange(len(change))).sum() / (change**4).sum()) / loud.rate
    assert abs(heard - 1.0) < 0.03


def test_long_sound_is_encoded_in_windows_that_agree():
    encoder = WhisperEncoder("base", 4)
    audio = load_audio(SPEECH)
    long = np.concatenate([audio.samples, audio.samples[: 5 * SAMPLE_RATE]])
    whole, part = encoder.encode(long), encoder.encode(long[: 9 * SAMPLE_RATE])
    a, b = whole.values[100:350], part.values[100:350]
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert np.median(cosine) > 0.99


def test_unknown_encoders_are_refused():
    with pytest.raises(InputError, match="encoder"):
        load_encoder("hubert")
    with pytest.raises(InputError, match=r"model\.safetensors"):
        Wav2Vec2Encoder("/nowhere/at/all")


def test_characters_are_those_of_a_model_with_an_output_layer(tmp_path):
    encoder = load_encoder(f"wav2vec2-ctc:{small_wav2vec2(tmp_path / 'a', characters=True)}")
    heard = encoder.encode(load_audio(SPEECH).samples[:SAMPLE_RATE]).values
    assert heard.shape[1] == 32 and np.allclose(heard.sum(1), 1, atol=1e-5) and heard.min() >= 0
    with pytest.raises(InputError, match="no output layer of characters"):
        load_encoder(f"wav2vec2-ctc:{small_wav2vec2(tmp_path / 'b')}")


@pytest.mark.parametrize(
    ("fps", "inner"), [(30, 30), (25, 25), (24, 24), (29.97, 29.97), (60, 30), (50, 30), (12, 30), (120, 30)]
)
def test_the_network_runs_at_the_rate_it_knows(fps, inner):
    assert network_frame_rate(fps) == inner


def test_motion_at_other_times_never_overshoots():
    motion = np.array([[0.0], [0.0], [1.0], [0.0], [0.0]])
    out = resample_motion(motion, 25.0, frame_times(60, 300.0))
    assert out.min() >= 0 and out.max() <= 1


@pytest.mark.slow
def test_where_windows_fall_matters_little(talk, monkeypatch):
    """The documented tolerance of inference when the windows of encoder and network are shifted.

    Half a minute of speech, the shipped weights.
    """
    audio, alignment = talk.align(SPEECH)
    spans = [
        (p.label, p.start + k * audio.duration, p.end + k * audio.duration) for k in range(3) for p in alignment.phones
    ]
    long = audio_from_samples(np.tile(audio.samples, 3), SAMPLE_RATE)
    columns = [talk.rig.index[n] for n in talk.network.config.shape_names]
    surface = RigSurfaceMetric(talk.rig, talk.network.config.shape_names)

    def gaps():
        weights = talk.predictor.predict(talk.rig, phones(*spans), long, 30.0, "natural")
        return surface.lip_opening(torch.from_numpy(weights[:, columns].astype(np.float32))).numpy()

    first = gaps()
    monkeypatch.setattr(inference, "WINDOW_SECONDS", 12.7)
    monkeypatch.setattr(encoders, "WINDOW_SECONDS", 8.3)
    away = np.abs(first - gaps()).max(1)
    assert len(away) == round(long.duration * 30)
    print(np.percentile(away, [50, 95, 99, 100]))
    assert 0 < np.percentile(away, 99) < inference.WINDOW_TOLERANCE_MM


@pytest.mark.slow
def test_windows_together_give_what_each_gives_alone(talk, monkeypatch):
    """Half a minute, with keys in few of the windows, and one of no keys."""
    rng = np.random.default_rng(0)
    audio = audio_from_samples(0.1 * rng.standard_normal(30 * 16000).astype(np.float32), 16000)
    features, count = talk.predictor.encode_audio(audio), 900
    keys = np.concatenate([np.arange(0, 90, 5), [100, 205, 600, 700]])
    edits = rng.normal(0, 0.1, (len(keys), talk.network.config.output_dim)).astype(np.float32)
    style = np.eye(len(talk.network.config.styles), dtype=np.float32)[0]
    given = (talk.network, features, phones(("AA", 0.2, 0.5)), keys, count, 30.0, style)
    for more in ({}, {"key_edits": edits}):
        together = inference.predict_motion(*given, **more)
        monkeypatch.setattr(inference, "BATCHED_WINDOWS", 1)
        alone = inference.predict_motion(*given, **more)
        monkeypatch.undo()
        np.testing.assert_allclose(together, alone, atol=2e-5)
    linear = inference.predict_without_completion(*given)
    monkeypatch.setattr(inference, "BATCHED_WINDOWS", 1)
    np.testing.assert_allclose(linear, inference.predict_without_completion(*given), atol=2e-5)


def test_the_phones_close_the_lips_and_still_the_pauses(rig):
    from kmtalk.articulation.mouth_solver import MouthSolver

    rng = np.random.default_rng(0)
    times = frame_times(90, 30.0)
    weights = np.zeros((90, len(rig.shape_names)))
    weights[:, rig.index["jawOpen"]] = 0.2
    weights[:, rig.index["mouthLowerDownLeft"]] = 0.3 + 0.1 * rng.random(90)
    quiet = (times > 1.0) & (times < 2.0)
    weights[quiet] *= 0.15  # lips that stand ajar
    spoken = phones(("AA", 0.2, 0.5), ("B", 0.5, 0.6), ("AA", 0.6, 1.0), ("AA", 2.0, 2.5))
    gap = MouthSolver(rig).measure(postprocess(weights, rig, spoken, times)).aperture
    assert gap[(times > 0.53) & (times < 0.57)].max() < 0.5
    assert gap[(times > 0.3) & (times < 0.4)].min() > 3
    pause = gap[(times > 1.1) & (times < 1.9)]
    assert pause.std() < 1e-6 and pause.max() < 0.3
    assert np.array_equal(postprocess(weights, rig, phones(), times), weights)  # without phones nothing changes
    weights[quiet] *= 5  # a mouth that is open on purpose is held as it is
    gap = MouthSolver(rig).measure(postprocess(weights, rig, spoken, times)).aperture
    pause = gap[(times > 1.1) & (times < 1.9)]
    assert pause.std() < 1e-6 and pause.min() > 2.5


def test_a_loud_gap_between_phones_is_speech(rig):
    times = frame_times(90, 30.0)
    spoken = phones(("AA", 0.2, 0.6), ("AA", 2.0, 2.5))
    weights = np.zeros((90, len(rig.shape_names)))
    weights[:, rig.index["jawOpen"]] = 0.2 + 0.2 * np.sin(2 * np.pi * 4 * times)
    gap = (times > 0.8) & (times < 1.8)
    jaw = rig.index["jawOpen"]
    quiet, loud = (postprocess(weights, rig, spoken, times, np.full(90, level)) for level in (-40.0, -5.0))
    assert quiet[gap, jaw].std() < 1e-6
    assert np.array_equal(loud[gap, jaw], weights[gap, jaw])
    still = np.full_like(weights, 0.0)
    assert postprocess(still, rig, spoken, times, np.full(90, -5.0))[gap].std() < 1e-6


def test_teeth_are_together_at_s_and_on_the_lip_at_f(rig):
    from kmtalk.articulation.mouth_solver import MouthSolver

    times = frame_times(60, 30.0)
    weights = np.zeros((60, len(rig.shape_names)))
    for name, value in {"jawOpen": 0.3, "mouthClose": 0.1, "mouthPressLeft": 0.3, "mouthPressRight": 0.3}.items():
        weights[:, rig.index[name]] = value
    spoken = phones(("AA", 0.2, 0.5), ("S", 0.5, 0.7), ("AA", 0.7, 1.0), ("F", 1.0, 1.2), ("AA", 1.2, 1.6))
    made = postprocess(weights, rig, spoken, times)
    mouth = MouthSolver(rig).measure(made)
    assert mouth.jaw[np.abs(times - 0.6) < 0.07].max() < 2.05
    assert mouth.jaw[np.abs(times - 0.35) < 0.05].min() > 7
    bitten = np.abs(times - 1.1) < 0.05
    assert made[bitten, rig.index["mouthLabiodental"]].min() > 0.7
    marks = rig.template.landmarks
    surface = rig.vertices(made[bitten].astype(np.float32))
    edge, lip = surface[:, marks["incisor_upper"], 1], surface[:, marks["lip_inner_lower"], 1]
    assert np.abs(edge - lip).max() * rig.template.mm_per_unit < 3.5  # the lip is at the teeth
    assert mouth.upper_lip[bitten].min() > 0.5  # and the upper lip above their edges


@pytest.mark.parametrize("fps", [25.0, 30.0, 60.0])
def test_lips_part_and_close_no_faster_than_people_can(rig, fps):
    from kmtalk.articulation.mouth_solver import MouthSolver

    spoken = phones(("AA", 0.1, 0.5), ("P", 0.5, 0.58), ("AA", 0.58, 1.0), ("M", 1.0, 1.08), ("AY", 1.08, 1.6))
    times = frame_times(round(2 * fps), fps)
    weights = np.zeros((len(times), len(rig.shape_names)))
    weights[:, rig.index["jawOpen"]] = 0.5 * (np.abs(times - 0.8) > 0.04)  # a jump in a vowel
    gap = MouthSolver(rig).measure(postprocess(weights, rig, spoken, times)).aperture
    assert np.abs(np.diff(gap)).max() * fps < 440
    assert np.interp([0.54, 1.04], times, gap).max() < 0.8
    assert gap[np.abs(times - 0.3) < 0.1].min() > 10


def test_styles_are_picked_mixed_or_left_at_their_mean():
    assert style_mixture(SMALL.styles, "b").tolist() == [0, 1]
    assert style_mixture(SMALL.styles, parse_style("a:1,b:3")).tolist() == [0.25, 0.75]
    assert style_mixture(SMALL.styles, parse_style("mean")).tolist() == [0.5, 0.5]
    for wrong in ("c", {"a": 0.0}, {"a": 1.0, "c": 1.0}, {"a": float("nan")}, {"a": 2.0, "b": -1.0}):
        with pytest.raises(InputError, match="style"):
            style_mixture(SMALL.styles, wrong)
    with pytest.raises(InputError, match="shares"):
        parse_style("a:much")


def test_intensity_scales_jaw_and_lips_apart(rig):
    weights = np.full((1, len(rig.shape_names)), 0.2)
    out = scale_mouth_weights(weights, rig, AnimationSettings.create(intensity="jaw=2, lips=0.5").intensity)
    assert out[0, rig.index["jawOpen"]] == pytest.approx(0.4)
    assert out[0, rig.index["mouthFunnel"]] == pytest.approx(0.1)
    assert AnimationSettings.create(intensity="1.5").intensity.lips == 1.5
    for wrong in ("much", "jaw=-1", "nose=1", "9"):
        with pytest.raises(InputError, match="intensity"):
            AnimationSettings.create(intensity=wrong)


def test_weights_are_kept_in_safetensors_and_others_are_refused(tmp_path):
    network = small()
    network.save(tmp_path / "n.safetensors", {"seed": 3})
    again = load_network(tmp_path / "n.safetensors")
    b = batch([20], [[0, 19]])
    with torch.no_grad():
        assert torch.allclose(network(b)[1], again(b)[1], atol=5e-3)  # weights are stored as float16
    assert again.config == network.config
    (tmp_path / "bad.safetensors").write_bytes((tmp_path / "n.safetensors").read_bytes()[:5000])
    for path in (tmp_path / "bad.safetensors", tmp_path / "none.safetensors", asset_path("head.safetensors")):
        with pytest.raises(InputError, match="weights"):
            load_network(path)
