"""Units of the trade: frame rates, time codes, gains of single shapes, curves with few keys, other programs' files."""

from __future__ import annotations

import csv
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pygltflib as gl
import pytest
from conftest import FACE, SAID, SPEECH
from scipy.spatial.transform import Rotation, Slerp

from kmtalk import InputError
from kmtalk.animation import load_animation
from kmtalk.exchange.curve_reduction import reduce_curve, reduce_rotations, reduce_weights
from kmtalk.exchange.gltf import write_glb
from kmtalk.exchange.timeline import lip_aperture
from kmtalk.face.files.load import load_template
from kmtalk.face.landmark_file import load_landmarks
from kmtalk.face.motion import Motion
from kmtalk.face.rig import ARKIT_NAMES, NativeShapes
from kmtalk.motion.gain import apply_gain, check_gain
from kmtalk.settings import AnimationSettings
from kmtalk.speech.alignment import read_textgrid
from kmtalk.timecode import format_timecode, parse_timecode

NTSC_24, NTSC_30, NTSC_60 = 24000 / 1001, 30000 / 1001, 60000 / 1001


# frame rates and time codes


@pytest.mark.parametrize(
    ("given", "fps"),
    [
        ("23.976", NTSC_24), (23.976, NTSC_24), ("23.98", NTSC_24), ("24000/1001", NTSC_24), ("29.97", NTSC_30),
        ("30000/1001", NTSC_30), (NTSC_30, NTSC_30), ("59.94", NTSC_60), (59.94, NTSC_60), ("119.88", 120000 / 1001),
        ("24", 24), (25, 25), ("12.5", 12.5), ("29.9", 29.9),
    ],
)  # fmt: skip
def test_short_names_mean_the_exact_rates(given, fps):
    assert AnimationSettings.create(fps=given).fps == fps


@pytest.mark.parametrize("given", ["abc", "1/0", "0", "-24", "nan", "1e5", "24/"])
def test_other_rates_are_refused(given):
    with pytest.raises(InputError, match=r"^fps [^\n]*$"):
        AnimationSettings.create(fps=given)


@pytest.mark.parametrize(
    ("text", "fps", "frame"),
    [
        # SMPTE 12M: one drop-frame hour has 107,892 frames at 29.97 and 215,784 at 59.94
        ("01:00:00;00", NTSC_30, 107_892), ("01:00:00;00", NTSC_60, 215_784), ("00:00:59;29", NTSC_30, 1799),
        ("00:01:00;02", NTSC_30, 1800), ("00:01:00;04", NTSC_60, 3600), ("00:10:00;00", NTSC_30, 17_982),
        ("00:09:59;29", NTSC_30, 17_981), ("23:59:59;29", NTSC_30, 2_589_407), ("01:00:00:00", NTSC_24, 86_400),
        ("01:00:00:00", 24, 86_400), ("01:00:00:00", 25, 90_000), ("00:00:01:29", 30, 59), ("00:01:00:00", 30, 1800),
    ],
)  # fmt: skip
def test_time_codes_count_as_published(text, fps, frame):
    assert parse_timecode(text, fps) == frame
    assert format_timecode(frame, fps) == text


@pytest.mark.parametrize("fps", [NTSC_24, 24, 25, NTSC_30, 30, 48, 50, NTSC_60, 60, 120])
def test_time_codes_come_back(fps):
    frames = [*range(40_000), *range(100_000, 2_000_000, 997)]
    texts = [format_timecode(frame, fps) for frame in frames]
    assert [parse_timecode(text, fps) for text in texts] == frames
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    ("text", "fps", "said"),
    [
        ("00:01:00;00", NTSC_30, "give 00:01:00;02"), ("00:00:00:30", 30, "00 to 29"), ("1:2", 30, "01:00:00:00"),
        ("00:60:00:00", 30, "01:00:00:00"), ("24:00:00:00", 30, "01:00:00:00"), ("01:00:00:00", 12.5, "12.5 fps"),
    ],
)  # fmt: skip
def test_frames_without_a_time_code(text, fps, said):
    with pytest.raises(InputError, match=re.escape(said)):
        parse_timecode(text, fps)


def unreal_times(path: Path, newer: bool) -> np.ndarray:
    """Seconds of the rows of a Live Link Face CSV as an importer of Unreal takes them.

    The older importer takes the frames as sixtieths of a second; the newer as thirtieths, or as sixtieths where one is
    more than 30.
    """
    with path.open() as file:
        fields = [row["Timecode"].split(":") for row in csv.DictReader(file)]
    frames = [float(f[3]) for f in fields]
    rate = 60 if not newer or max(frames) > 30 else 30
    return np.array([3600 * int(f[0]) + 60 * int(f[1]) + int(f[2]) for f in fields]) + np.array(frames) / rate


@pytest.fixture(scope="module")
def minute(light_rig):
    """Weights of 61 seconds at any rate."""

    def make(fps):
        weights = np.zeros((round(61 * fps), len(light_rig.shape_names)), np.float32)
        return Motion(light_rig, weights, AnimationSettings.create(fps=fps).fps)

    return make


@pytest.mark.parametrize("fps", [12.5, 23.976, 24, 25, 29.97, 30, 50, 59.94, 60, 120])
@pytest.mark.parametrize("newer", [False, True])
def test_unreal_places_every_row_at_its_time(spoken, minute, tmp_path, fps, newer):
    """Frame n is at n / fps, where GLB has it as well."""
    motion = minute(fps)
    replace(spoken, motion=motion).save(tmp_path / "take.csv")
    times = unreal_times(tmp_path / "take.csv", newer)
    assert np.abs(times - np.arange(len(motion)) / motion.fps).max() < 1e-4
    text = (tmp_path / "take.csv").read_text()
    assert re.fullmatch(
        r"(\d\d:\d\d:\d\d:[0-5]\d\.\d{3}\n)+", "".join(f"{x.split(',')[0]}\n" for x in text.split()[1:])
    )


@pytest.mark.parametrize(
    ("fps", "given", "first"), [(25, "01:00:00:12", "01:00:00:28.800"), (29.97, "10:00:00;00", "10:00:00:00.000")]
)
def test_a_take_begins_at_its_time_code(spoken, minute, tmp_path, fps, given, first):
    animation = replace(spoken, motion=minute(fps))
    animation.save(tmp_path / "take.csv", timecode=given)
    times = unreal_times(tmp_path / "take.csv", newer=True)
    assert np.abs(times - times[0] - np.arange(len(times)) / animation.fps).max() < 1e-4
    assert (tmp_path / "take.csv").read_text().split()[1].startswith(f"{first},")
    animation.save(tmp_path / "take.json", timecode=given)
    frames = json.loads((tmp_path / "take.json").read_text())["frames"]
    assert frames[0]["timecode"] == given
    assert frames[-1]["timecode"] == format_timecode(
        parse_timecode(given, animation.fps) + len(frames) - 1, animation.fps
    )


def test_the_command_takes_a_rate_and_a_time_code(kmtalk, tmp_path):
    done = kmtalk("animate", SPEECH, "--text", SAID, "--fps", "23.976", "--timecode", "01:00:00:00", "-o", "out",
                  "--formats", "npz,glb,csv")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert load_animation(tmp_path / "out" / "animation.npz").fps == NTSC_24
    assert gl.GLTF2().load_binary(tmp_path / "out" / "animation.glb").animations[0].extras["fps"] == NTSC_24
    assert "\n01:00:00:00.000," in (tmp_path / "out" / "animation.csv").read_text()
    done = kmtalk("complete", "out/keys.json", SPEECH, "-o", "again.csv")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fps", "abc"], "fps abc: give frames per second"),
        (["--fps", "29.97", "--timecode", "00:01:00:00"], "leave this frame out"),
        (["--timecode", "soon"], "timecode soon"),
        (["--gain", "jawOpen"], "gain jawOpen: give the name of a shape and a factor"),
        (["--gain", "jawOpne=0.8"], "gain jawOpne: no such shape; did you mean jawOpen?"),
        (["--gain", "mouthSmil=0.8"], "did you mean mouthSmile?"),
        (["--gain", "jaw=1.2"], "gain jaw: no such shape"),
        (["--gain", "jawOpen=-1"], "from 0 to 10"),
        (["--reduce", "0.01", "--bake"], "leave bake out"),
    ],
)
def test_bad_units_are_one_line(kmtalk, tmp_path, arguments, said):
    done = kmtalk("animate", SPEECH, "--text", SAID, *arguments, "-o", "out.npz")
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


# gains


def test_gains_multiply_the_weights_and_come_back(kmtalk, spoken, tmp_path):
    gains = ("--gain", "jawOpen=0.8", "--gain", "browInnerUp=3,mouthLowerDown=1.2,mouthLowerDownRight=0.5")
    done = kmtalk("animate", SPEECH, "--text", SAID, *gains, "-o", "out", "--formats", "npz,glb")
    assert done.returncode == 0, done.stderr
    made = load_animation(tmp_path / "out" / "animation.npz")
    factors = {
        "jawOpen": 0.8,
        "mouthClose": 0.8,
        "browInnerUp": 3,
        "mouthLowerDownLeft": 1.2,
        "mouthLowerDownRight": 0.5,
    }
    for name, own, plain in zip(made.shape_names, made.weights.T, spoken.weights.T, strict=True):
        assert np.allclose(own, np.clip(plain * factors.get(name, 1), 0, 1), atol=1e-5), name
    assert made.provenance.settings.gain["jawOpen"] == 0.8
    document = gl.GLTF2().load_binary(tmp_path / "out" / "animation.glb")
    _, values = samples(document)
    assert np.allclose(values, made.weights, atol=1e-6)
    done = kmtalk("complete", "out/keys.json", SPEECH, "-o", "again.npz")
    assert "no key was edited" in done.stderr
    again = load_animation(tmp_path / "again.npz")
    assert np.abs(again.weights - made.weights).max() < 1e-4
    assert again.provenance == made.provenance


def test_a_gain_on_the_jaw_keeps_closed_lips_closed(talk, spoken):
    for factor in (0.5, 1.5):
        strong = talk.animate(SPEECH, textgrid=spoken.alignment, gain={"jawOpen": factor})
        times = (np.arange(len(strong.motion)) + 0.5) / strong.fps
        aperture = lip_aperture(strong.motion)
        for phone in spoken.alignment.phones:
            if phone.label in ("P", "B", "M"):
                assert aperture[(times > phone.start - 0.04) & (times < phone.end + 0.04)].min() < 1, phone


def test_gains_of_the_meshs_own_shapes(light_rig):
    """They scale the part that a shape has in the mixtures, also in the rig's offsets."""
    open_, smile = (light_rig.offsets[light_rig.index[n]] for n in ("jawOpen", "mouthSmileLeft"))
    mixing = np.zeros((len(light_rig.shape_names), 2))
    mixing[light_rig.index["jawOpen"], 0] = mixing[light_rig.index["mouthPucker"], 1] = 1
    native = NativeShapes(("Mund_auf", "mouthSmileLeft"), np.stack([open_, smile]), mixing)
    rig = replace(light_rig, native_shapes=native, offsets=np.einsum("rk,kvx->rvx", mixing, native.offsets))
    check_gain({"Mund_auf": 2, "mouthSmile": 1, "jawOpen": 1}, rig)
    with pytest.raises(InputError, match="did you mean Mund_auf"):
        check_gain({"Mund_aus": 2}, rig)
    weights = np.full((3, len(rig.shape_names)), 0.3, np.float32)
    scaled = apply_gain(Motion(rig, weights, 30.0), {"Mund_auf": 2})
    assert np.allclose(scaled.rig.morph_targets(scaled.weights)[2], [[0.6, 0.3]] * 3)
    assert np.allclose(scaled.rig.offsets[rig.index["jawOpen"]], 2 * open_)
    assert np.array_equal(scaled.weights, weights)


# curves with few keys


def random_curves():
    rng = np.random.default_rng(1)
    for _ in range(25):
        count = int(rng.integers(1, 250))
        yield rng.random(count)
        yield 0.5 + 0.05 * np.cumsum(rng.normal(size=count))
        yield (rng.random(count) > 0.8).astype(float)
        yield 0.5 + 0.5 * np.sin(np.arange(count) * rng.uniform(0.01, 0.5))
        yield np.full(count, 0.3)


@pytest.mark.parametrize("tolerance", [0, 0.002, 0.05])
def test_reduced_curves_stay_within_the_tolerance(tolerance):
    for values in random_curves():
        frames = np.arange(len(values))
        curve = reduce_curve(values, tolerance)
        assert np.abs(curve.evaluate(frames) - values).max() <= tolerance + 1e-9
        assert np.array_equal(values[curve.frames], curve.values)
        both = np.stack([values, values[::-1]], axis=1)
        keys = reduce_weights(both, tolerance)
        for column in both.T:
            assert np.abs(np.interp(frames, keys, column[keys]) - column).max() <= tolerance + 1e-9


def test_smooth_curves_need_few_keys_and_do_not_swing():
    values = 0.5 - 0.5 * np.cos(np.arange(301) * 2 * np.pi / 60)
    curve = reduce_curve(values, 0.002)
    assert len(curve) < 30
    jump = np.r_[np.zeros(30), np.ones(30)]
    between = reduce_curve(jump, 0.002).evaluate(np.linspace(0, 59, 1000))
    assert -0.01 < between.min() <= between.max() < 1.01


@pytest.mark.parametrize("tolerance", [0.001, 0.02])
def test_reduced_rotations(tolerance):
    angles = np.stack([0.2 * np.sin(np.arange(200) / 17), 0.1 * np.cos(np.arange(200) / 23), np.zeros(200)], axis=1)
    turns = Rotation.from_euler("xyz", angles)
    keys = reduce_rotations(turns.as_quat(), tolerance)
    shown = Slerp(keys, turns[keys])(np.arange(200))
    assert (shown.inv() * turns).magnitude().max() <= tolerance + 1e-9
    assert len(keys) < 80


def samples(document: gl.GLTF2, fps: float = 30.0) -> tuple[np.ndarray, np.ndarray]:
    """Key times in seconds and weights (M, K) of a GLB's first sampler."""
    sampler, blob = document.animations[0].samplers[0], document.binary_blob()

    def read(number):
        accessor = document.accessors[number]
        view = document.bufferViews[accessor.bufferView]
        return np.frombuffer(blob, np.float32, accessor.count, view.byteOffset)

    times = read(sampler.input)
    assert sampler.interpolation == "LINEAR"
    return times, read(sampler.output).reshape(len(times), -1)


@pytest.mark.parametrize("tolerance", [0.002, 0.05])
def test_a_reduced_glb_shows_the_frames(spoken, tmp_path, tolerance):
    spoken.save(tmp_path / "face.glb", reduce=tolerance)
    times, values = samples(gl.GLTF2().load_binary(tmp_path / "face.glb"))
    shown = np.stack([np.interp(np.arange(len(spoken.motion)) / 30, times, c) for c in values.T], axis=1)
    assert np.abs(shown - spoken.weights).max() <= tolerance + 1e-5
    assert (len(times) < len(spoken.motion)) == (tolerance > 0.01)
    assert times[-1] == pytest.approx((len(spoken.motion) - 1) / 30)


def test_a_still_glb_has_two_keys(light_rig, tmp_path):
    write_glb(
        tmp_path / "f.glb", Motion(light_rig, np.zeros((90, len(light_rig.shape_names)), np.float32), 30), reduce=0.01
    )
    assert len(samples(gl.GLTF2().load_binary(tmp_path / "f.glb"))[0]) == 2


def test_a_folder_with_few_keys_has_the_curves_for_blender(spoken, tmp_path):
    spoken.save(tmp_path / "out", formats="glb,csv", reduce=0.01)
    document = json.loads((tmp_path / "out" / "animation.curves.json").read_text())
    assert (document["fps"], document["frames"]) == (30, len(spoken.motion))
    assert list(document["curves"]) == list(spoken.shape_names)
    total = sum(len(keys) for keys in document["curves"].values())
    assert total < spoken.weights.size / 6
    assert "'animation.curves.json'" in (tmp_path / "out" / "import_blender.py").read_text()
    spoken.save(tmp_path / "plain", formats="glb")
    assert not (tmp_path / "plain" / "animation.curves.json").exists()


# files of other programs


def read_maya_anim(path: Path):
    """Strict reader of Maya's .anim files: the header, and by attribute a function that evaluates the curve.

    After the description of the format in Maya's documentation ("ANIM file format") and the reader in Maya's
    developer kit: words end at blanks and semicolons; numbers have no exponents.
    """
    lines = path.read_text(encoding="ascii").splitlines()
    number = re.compile(r"-?\d+(\.\d+)?")
    header, curves, at = {}, {}, 0
    while not lines[at].startswith("anim "):
        word, value = re.fullmatch(r"(\w+) (\S+);", lines[at]).groups()
        header[word], at = value, at + 1
    while at < len(lines):
        full, leaf, node, row, child, _ = re.fullmatch(r"anim (\S+) (\S+) (\S+) (\d+) (\d+) (\d+);", lines[at]).groups()
        assert (full, node, row, child) == (leaf, "blendShape1", "0", "0")
        assert lines[at + 1 : at + 8] == [
            "animData {", "  input time;", "  output unitless;", "  weighted 0;",
            "  preInfinity constant;", "  postInfinity constant;", "  keys {",
        ]  # fmt: skip
        at, keys = at + 8, []
        while lines[at] != "  }":
            assert lines[at].startswith("    ") and lines[at].endswith(";")
            words = lines[at][4:-1].split(" ")
            assert words[2:7] in (["linear", "linear", "1", "1", "0"], ["fixed", "fixed", "1", "1", "0"])
            assert len(words) == (11 if words[2] == "fixed" else 7)
            assert all(number.fullmatch(w) for w in words[:2] + words[4:])
            angle = float(words[7]) if words[2] == "fixed" else None
            keys.append((float(words[0]), float(words[1]), angle))
            at += 1
        assert lines[at + 1] == "}"
        at += 2
        curves[full] = keys
    return header, curves


def show_maya_curve(keys, times: np.ndarray) -> np.ndarray:
    """Values of a curve: straight lines, or cubics with the slopes that the tangents' angles have."""
    x, y = np.array([k[0] for k in keys]), np.array([k[1] for k in keys])
    if len(keys) == 1:
        return np.full(len(times), y[0])
    if keys[0][2] is None:
        return np.interp(times, x, y)
    slopes = np.array([math.tan(math.radians(k[2])) for k in keys])
    i = np.clip(np.searchsorted(x, times, side="right") - 1, 0, len(x) - 2)
    h = x[i + 1] - x[i]
    u = (times - x[i]) / h
    return (
        (1 + 2 * u) * (1 - u) ** 2 * y[i] + u * (1 - u) ** 2 * h * slopes[i]
        + u * u * (3 - 2 * u) * y[i + 1] + u * u * (u - 1) * h * slopes[i + 1]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fps", "unit"), [(24, "film"), (25, "pal"), (30, "ntsc"), (60, "ntscf"), (29.97, "sec"), (120, "sec")]
)
@pytest.mark.parametrize("tolerance", [0, 0.01])
def test_mayas_curves(spoken, tmp_path, fps, unit, tolerance):
    animation = replace(spoken, motion=replace(spoken.motion, fps=AnimationSettings.create(fps=fps).fps))
    animation.save(tmp_path / "face.anim", reduce=tolerance)
    header, curves = read_maya_anim(tmp_path / "face.anim")
    assert (header["animVersion"], header["timeUnit"], header["startTime"]) == ("1.1", unit, "0")
    length = 1 / animation.fps if unit == "sec" else 1
    frames = np.arange(len(animation.motion))
    assert float(header["endTime"]) == pytest.approx(frames[-1] * length, abs=1e-6)
    assert list(curves) == list(spoken.shape_names)
    for name, weights in zip(spoken.shape_names, spoken.weights.T, strict=True):
        assert np.abs(show_maya_curve(curves[name], frames * length) - weights).max() <= tolerance + 1e-5, name
    total = sum(map(len, curves.values()))
    assert total < spoken.weights.size / (6 if tolerance else 0.99)


def test_audio2face_json(spoken, tmp_path):
    spoken.save(tmp_path / "take.a2f.json")
    spoken.save(tmp_path / "take.json")
    document = json.loads((tmp_path / "take.a2f.json").read_text())
    assert list(document) == ["exportFps", "trackPath", "numPoses", "numFrames", "facsNames", "weightMat"]
    assert (document["exportFps"], document["trackPath"], document["numPoses"]) == (30, "speech.wav", 52)
    assert document["numFrames"] == len(document["weightMat"]) == len(spoken.motion)
    assert set(document["facsNames"]) == set(ARKIT_NAMES)
    plain = json.loads((tmp_path / "take.json").read_text())
    order = [document["facsNames"].index(name) for name in plain["names"]]
    weights = np.array(document["weightMat"])[:, order]
    assert np.abs(weights - [f["weights"] for f in plain["frames"]]).max() < 2e-5


@pytest.mark.parametrize("output", [["-o", "out", "--formats", "npz,usd"], ["-o", "x.usda"]])
def test_what_is_not_installed_is_said_first(tmp_path, output):
    """The sound does not exist, and is not read before."""
    code = "import sys; sys.modules['pxr'] = None; from kmtalk.cli import app; app()"
    command = [sys.executable, "-c", code, "animate", "none.wav", *output]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "pip install 'kmtalk[usd]'" in done.stderr


# text files of other programs


@pytest.mark.parametrize(
    "change",
    [
        lambda text: ("\ufeff" + text).encode(),
        lambda text: text.encode("utf-16"),
        lambda text: re.sub(r"(?m)^(f .*)$", r"\1  # tri", text).encode(),
        lambda text: re.sub(r"(?m)^(f .*)$", r"\1#tri", text).encode(),
        lambda text: re.sub(r"(?m)^(v .*)$", r"\1 # point", text).encode(),
        lambda text: re.sub(r"(?m)^f (\S+) ", r"f \1 \\\n ", text).encode(),
        lambda text: ("# made in C:\\models\\\n" + text).encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
    ],
    ids=[
        "bom",
        "utf-16",
        "comments",
        "comments without blanks",
        "comments of points",
        "continued",
        "path",
        "dos",
        "mac",
    ],
)
def test_obj_files_of_other_programs(tmp_path, change):
    expected = load_template(FACE)
    (tmp_path / "face.obj").write_bytes(change(FACE.read_text()))
    read = load_template(tmp_path / "face.obj")
    assert np.array_equal(read.vertices, expected.vertices)
    assert np.array_equal(read.faces, expected.faces)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_text_files_with_a_byte_order_mark(talk, spoken, tmp_path, encoding):
    spoken.save(tmp_path / "out", formats="csv")
    folder = tmp_path / "saved again"
    folder.mkdir()
    for name in ("speech.TextGrid", "keys.json"):
        (folder / name).write_bytes((tmp_path / "out" / name).read_text(encoding="utf-8").encode(encoding))
    assert [p.label for p in read_textgrid(folder / "speech.TextGrid").phones] == [
        p.label for p in spoken.alignment.phones
    ]
    assert len(talk.load_key_edits(folder / "keys.json", SPEECH).keys) == len(spoken.keys)
    points = {"nose_tip": 3, "chin": 5, "subnasale": [0.0, 0.1, 0.2]}
    (folder / "points.json").write_bytes(json.dumps(points).encode(encoding))
    assert len(load_landmarks(folder / "points.json", spoken.template.vertices)) == 3
    cues = [{"time": 0, "name": "happy", "amount": 0.5}]
    (folder / "cues.json").write_bytes(json.dumps(cues).encode(encoding))
    assert AnimationSettings.create(emotion=str(folder / "cues.json")).emotion[0].name == "happy"
