"""Metrics compared with values computed by hand and with torchmetrics."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from conftest import phones
from torchmetrics.multimodal import LipVertexError

from kmtalk import InputError, metrics
from kmtalk.metrics import Mask

EXACT = {"rel": 0, "abs": 1e-6}


def still(frames=2, vertices=4):
    return np.zeros((frames, vertices, 3))


def moved(*changes, frames=2, vertices=4):
    """An array of zeros with some (frame, vertex, axis) set to a value."""
    out = still(frames, vertices)
    for (frame, vertex, axis), value in changes:
        out[frame, vertex, axis] = value
    return out


def test_lve_is_the_mean_over_frames_of_the_worst_lip():
    # frame 0: one lip vertex off by 3 and 4 in two axes: 25; frame 1: off by 2: 4; a cheek off by 100 is not counted
    pred = moved(((0, 1, 0), 3), ((0, 1, 1), 4), ((0, 2, 0), 1), ((1, 2, 2), 2), ((1, 3, 0), 100))
    made = metrics.lve(pred, still(), lips=[1, 2], unit="mm")
    assert made.value == pytest.approx((25 + 4) / 2, **EXACT)
    assert made.root_mm == pytest.approx(14.5**0.5, **EXACT)
    assert metrics.lip_max(pred, still(), [1, 2], "mm").value == pytest.approx((5 + 2) / 2, **EXACT)
    assert metrics.lve(pred, still(), [1, 2]).root_mm == pytest.approx(1000 * 14.5**0.5, rel=1e-9)
    # frames are pooled over clips: 3 frames with 25, 4 and 0
    several = metrics.lve([pred.reshape(2, 12), still(1)], [still(), still(1)], [1, 2], "mm")
    assert several.value == pytest.approx(29 / 3, **EXACT)


def test_lve_is_that_of_torchmetrics():
    rng = np.random.default_rng(0)
    pred, gt = rng.normal(size=(2, 30, 50, 3))
    lips = [3, 7, 8, 20, 41]
    theirs = LipVertexError(mouth_map=lips)(torch.from_numpy(pred), torch.from_numpy(gt))
    assert metrics.lve(pred, gt, lips).value == pytest.approx(float(theirs), rel=1e-6)


def test_errors_over_all_vertices():
    pred = moved(((0, 0, 0), 3), ((0, 0, 1), 4), ((1, 1, 2), 2))
    assert metrics.mve(pred, still(), unit="m").value == pytest.approx(1000 * (5 + 2) / 8, **EXACT)
    assert metrics.mve(pred, still(), [1], unit="m").unit == "mm"
    # from frame 0 to 1, vertex 0 moves by -5 and vertex 1 by 2, at 25 fps, over 4 vertices
    assert metrics.velocity_error(pred, still(), 25.0, unit="mm").value == pytest.approx((5 + 2) * 25 / 4, **EXACT)
    assert metrics.velocity_error(pred, still(), 25.0, unit="mm").unit == "mm/s"


def test_fdd_is_codetalkers():
    # squared distances over time: truth (0, 4) and (0, 0) → SD 2 and 0, mean 1; prediction (1, 1) and (0, 16) → 0 and 8
    gt = moved(((1, 0, 0), 2))
    pred = moved(((0, 0, 0), 1), ((1, 0, 0), 1), ((1, 1, 1), 4))
    rest = np.zeros((4, 3))
    signed = metrics.fdd(pred, gt, rest, [0, 1], "mm")
    assert signed.value == pytest.approx(1 - 4, **EXACT)
    assert "root" not in str(signed) and "FDD (signed" in str(signed)  # a signed difference has no root
    clips = [pred, gt], [gt, pred]
    assert metrics.fdd(*clips, rest, [0, 1], "mm").value == pytest.approx(0, **EXACT)
    assert metrics.fdd(*clips, [rest, rest], [0, 1], "mm", absolute=True).value == pytest.approx(3, **EXACT)
    # relative to another template: truth (1, 1), prediction (0, 0); (0, 16) is unchanged
    other = rest.copy()
    other[0, 0] = 1
    assert metrics.fdd(pred, gt, other, [0, 1], "mm").value == pytest.approx(0 - 4, **EXACT)


def test_samples():
    gt = still(1)
    samples = np.stack([moved(((0, 1, 0), 1.0), frames=1), moved(((0, 1, 0), 5.0), frames=1)])
    assert metrics.mean_estimate_error([samples], gt, np.array([1]), "mm").value == pytest.approx(9, **EXACT)
    assert metrics.coverage_error([samples], gt, np.array([1]), "mm").value == pytest.approx(1, **EXACT)
    assert metrics.diversity([samples], np.array([1, 2]), "mm").value == pytest.approx(4 / 2, **EXACT)
    # every frame has equal weight: a clip of one frame off by 1 and an exact clip of three frames
    longer = np.stack([still(3), still(3) + 1])
    both = metrics.coverage_error([samples, longer], [gt, still(3)], np.array([1]), "mm")
    assert both.value == pytest.approx(1 / 4, **EXACT)


def test_warping_forgives_time_and_not_size():
    assert metrics.ldtw([np.array([0, 1, 1, 2])], [np.array([0, 1, 2, 2])]).value == pytest.approx(0, **EXACT)
    assert metrics.ldtw([np.ones(3)], [np.zeros(3)]).value == pytest.approx(1, **EXACT)
    # (0, 0), 0 against 1, then (2, 2): one millimetre, over two and three frames
    assert metrics.ldtw([np.array([0, 2])], [np.array([0, 1, 2])]).value == pytest.approx(1 / 5, **EXACT)
    # jitter brings a closed mouth no nearer to a speaking one
    spoken = 5 * np.clip(np.sin(np.arange(90) / 4), 0, None)
    still, noise = np.zeros(90), 1e-5 * np.random.default_rng(0).normal(size=90)
    assert metrics.ldtw([still + noise], [spoken]).value == pytest.approx(
        metrics.ldtw([still], [spoken]).value, abs=5e-5
    )


def test_beats():
    made = metrics.beat_consistency(np.array([1.0, 2.0, 9.0]), np.array([1.0, 2.1]))
    assert made.value == pytest.approx((1 + np.exp(-0.5)) / 2, **EXACT)
    rate, fps = 16000, 50.0
    clicks = np.zeros(3 * rate)
    for at in (0.5, 1.25, 2.0):
        clicks[round(at * rate) : round((at + 0.05) * rate)] = 0.3
    heard = metrics.audio_beats(clicks)
    assert np.abs(heard[:, None] - [0.5, 1.25, 2.0]).min(0).max() < 0.03
    times = (np.arange(150) + 0.5) / fps
    nods = metrics.motion_beats(np.cos(2 * np.pi * times)[:, None], fps)  # zero velocity at 0.5, 1, 1.5, 2, 2.5
    assert np.abs(nods[:, None] - [0.5, 1.0, 1.5, 2.0, 2.5]).min(0).max() <= 1 / fps
    with pytest.raises(InputError, match="no beats in the audio"):
        metrics.beat_consistency(nods, metrics.audio_beats(np.zeros(rate)))


def mouth(aperture):
    return np.stack([aperture, 0 * aperture, 0 * aperture], 1)


def test_clips_that_are_too_short_are_left_out():
    rng = np.random.default_rng(1)
    short, long = (mouth(5 + rng.normal(size=n)) for n in (2, 90))
    for fps in (30.0, 120.0):
        assert np.isnan(metrics.band_power([(short, fps)]).value)
        assert np.isnan(metrics.audiovisual_lead([(short, np.zeros(4000), fps)]).value)
    assert metrics.band_power([(short, 30.0), (long, 30.0)]) == metrics.band_power([(long, 30.0)])
    sound = rng.normal(size=48000) * 0.1
    assert metrics.audiovisual_lead([(short, sound, 30.0), (long, sound, 30.0)]) == metrics.audiovisual_lead(
        [(long, sound, 30.0)]
    )


def test_contacts():
    aperture = np.full(100, 10.0)
    aperture[[20, 60, 80]] = 0.5, 3.0, 3.9
    alignment = phones(("P", 0.19, 0.22), ("B", 0.38, 0.42), ("F", 0.59, 0.62), ("V", 0.79, 0.82), ("M", 0.9, 0.95))
    given = [(mouth(aperture), alignment, 100.0)]
    assert metrics.closure_rate(given).value == pytest.approx(1 / 3, **EXACT)
    assert metrics.labiodental_rate(given).value == pytest.approx(1, **EXACT)
    assert "of 3 p b m under 1 mm" in str(metrics.closure_rate(given))
    assert np.isnan(metrics.closure_rate([(mouth(aperture), phones(("S", 0.1, 0.2)), 100.0)]).value)


def test_stillness_is_a_share_of_the_range():
    # speech from 1 to 2 s opens by 10 mm; in silence, 0.1 to 0.9 s moves by ±1 mm and 2.1 to 2.9 s does not move
    fps, aperture = 10.0, np.zeros(30)
    aperture[10:20] = 10.0
    aperture[1:9] = [1, -1] * 4
    given = [(mouth(aperture + 1), phones(("AA", 1.0, 2.0)), fps)]
    wide = np.percentile(aperture, 95) - aperture.min()
    assert metrics.stillness(given).value == pytest.approx((1 / wide + 0) / 2, **EXACT)


def test_speed_and_power():
    fps, size, hertz = 50.0, 2.0, 6.0
    wave = size * np.sin(2 * np.pi * hertz * np.arange(401) / fps)
    # the difference of a sampled sine is a sine of amplitude 2 A sin(ω/2) fps; its power is half the amplitude squared
    speed = 2 * size * np.sin(np.pi * hertz / fps) * fps
    assert metrics.band_power([(mouth(wave), fps)]).value == pytest.approx(speed**2 / 2, rel=1e-6)
    assert metrics.band_power([(mouth(size * np.sin(2 * np.pi * np.arange(401) / fps)), fps)]).value < 1e-6
    ramp = mouth(np.arange(50) * 3.0)
    assert metrics.speed_percentile([(ramp, 25.0)]).value == pytest.approx(75, **EXACT)


def test_lips_that_lead_are_found_to():
    rate, fps = 16000, 50.0
    clock = np.arange(4 * rate) / rate
    level = np.exp(-0.5 * ((clock % 1 - 0.5) / 0.08) ** 2)
    sound = 1e-3 * 10 ** (2.5 * level) * np.sin(2 * np.pi * 200 * clock)
    times = (np.arange(200) + 0.5) / fps
    for ahead in (0.0, 0.1):
        opening = np.exp(-0.5 * (((times + ahead) % 1 - 0.5) / 0.08) ** 2)
        made = metrics.audiovisual_lead([(mouth(np.cumsum(opening)), sound, fps)]).value
        assert made == pytest.approx(ahead, abs=0.021)


def test_mouths_against_real_lips():
    still = [1.0, 1, 1, 9]
    real = np.stack([[0.0, 1, 2, 3], [0.0, 2, 0, 2], still, still, still], 1)
    made = np.stack([[3.0, 2, 1, 0], [0.0, 4, 0, 4], *np.ones((3, 4))], 1)
    clip = metrics.MouthComparison(real, made, np.array([True, True, True, False]), phones(), np.zeros(10), 25.0)
    r = [m.value for m in metrics.correlation([clip])]
    assert r == [pytest.approx(-1, **EXACT), pytest.approx(1, **EXACT), 0, 0, 0]
    error = [m.value for m in metrics.rmse([clip])]
    assert error == pytest.approx([((9 + 1 + 1) / 3) ** 0.5, (4 / 3) ** 0.5, 0, 0, 0], **EXACT)


def test_a_result_says_what_it_is():
    made = metrics.lve(still() + 1e-3, still(), Mask("lve.txt", np.array([1, 2]))).with_source(
        "VOCASET test", "FaceTalk_1"
    )
    assert str(made).startswith("LVE 3e-06 m² (root 1.73 mm) | mean of 2 frames of max | mask lve.txt:")
    assert str(made).endswith("(2 vertices) | identity FaceTalk_1 | VOCASET test")
    assert Mask("a", np.array([2, 1])).digest == Mask("b", np.array([1, 2])).digest != Mask("a", np.array([1])).digest
    with pytest.raises(InputError, match="cannot be converted to a root in mm"):
        _ = metrics.lve(still(), still(), [1], "units").root_mm


@pytest.mark.parametrize(
    ("pred", "gt", "said"),
    [
        (still(2), still(3), "must have the same shape"),
        (still(2, 2), still(2, 2), "has vertex 3, but the mesh has 2"),
        ([still()], [still(), still()], "1 predicted clips, but 2"),
    ],
)
def test_what_does_not_fit_is_refused(pred, gt, said):
    with pytest.raises(InputError, match=said):
        metrics.lve(pred, gt, [3])


def test_masks_come_from_files(tmp_path, rig):
    (tmp_path / "lve.txt").write_text("5, 3, 9\n")
    assert metrics.load_mask(tmp_path / "lve.txt").indices.tolist() == [3, 5, 9]
    (tmp_path / "lips.json").write_text(json.dumps([1, 2]))
    assert metrics.load_mask(tmp_path / "lips.json").indices.tolist() == [1, 2]
    np.save(tmp_path / "m.npy", np.array([4, 4, 1]))
    assert metrics.load_mask(tmp_path / "m.npy").indices.tolist() == [1, 4]
    (tmp_path / "FLAME_masks.pkl").write_bytes(pickle.dumps({"lips": np.array([8, 2])}, protocol=2))
    named = metrics.load_mask(tmp_path / "FLAME_masks.pkl", "lips")
    assert named.indices.tolist() == [2, 8] and named.name == "FLAME_masks.pkl:lips"
    with pytest.raises(InputError, match="has the masks lips; select one"):
        metrics.load_mask(tmp_path / "FLAME_masks.pkl")
    (tmp_path / "bad.txt").write_text("one two")
    with pytest.raises(InputError, match="not a mask"):
        metrics.load_mask(tmp_path / "bad.txt")
    assert len(metrics.mask_from_template(rig.template, "lips").indices) > 50


def test_pickles_that_would_run_something_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    (tmp_path / "masks.pkl").write_bytes(pickle.dumps({"lips": Evil()}))
    with pytest.raises(InputError, match=r"asks for builtins\.print"):
        metrics.load_mask(tmp_path / "masks.pkl", "lips")
