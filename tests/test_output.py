from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import av
import imageio_ffmpeg
import numpy as np
import pygltflib
import pytest
import soundfile
from conftest import FACE, SAID, SPEECH, phones
from PIL import Image

from kmtalk import InputError
from kmtalk.animation import Animation
from kmtalk.face.motion import Motion
from kmtalk.keys import KeyMotions, locate_key_frames
from kmtalk.output import atomic_write
from kmtalk.speech.alignment import read_textgrid
from kmtalk.speech.audio import SAMPLE_RATE, audio_from_samples


@pytest.fixture(scope="module")
def folder(spoken, tmp_path_factory):
    path = tmp_path_factory.mktemp("out") / "a" / "speech-kmtalk"
    written = spoken.save(path)
    assert [p.name for p in written] == [
        *("animation.glb", "animation.mp4", "animation.npz", "import_blender.py", "keys.json"),
        *("speech.TextGrid", "speech.wav"),
    ]
    return path


def test_npz_holds_what_is_promised(folder, spoken, rig, tmp_path):
    with np.load(folder / "animation.npz", allow_pickle=False) as z:
        assert "vertices" not in z.files
    spoken.save(tmp_path / "baked.npz", bake=True)
    assert (folder / "animation.npz").stat().st_size < 0.2 * (tmp_path / "baked.npz").stat().st_size
    with np.load(tmp_path / "baked.npz", allow_pickle=False) as z:
        n = round(spoken.audio.duration * 30)
        assert z["vertices"].shape == (n, len(rig.template.vertices), 3)
        assert z["vertices"].dtype == np.float32
        assert np.abs(z["vertices"] - spoken.vertices).max() < 1e-6  # m; sums may differ in their last bits
        assert z["weights"].shape == (n, len(z["shape_names"]))
        assert float(z["fps"]) == 30
        assert z["phone_times"].shape == (len(z["phones"]), 2)
        assert z["key_frames"][0] == 0
        assert z["key_frames"][-1] == n - 1
        marks = dict(zip(z["landmark_names"].tolist(), z["landmark_vertices"].tolist(), strict=True))
        needed = "lip_inner_upper lip_inner_lower mouth_left mouth_right chin subnasale eye_outer_left eye_outer_right"
        assert set(needed.split()) <= set(marks)
        # the mouth can be measured with numpy alone: every p b m closes
        v = z["vertices"].astype(float)
        mm = 90 / np.linalg.norm(v[0, marks["eye_outer_left"]] - v[0, marks["eye_outer_right"]])
        aperture = np.linalg.norm(v[:, marks["lip_inner_upper"]] - v[:, marks["lip_inner_lower"]], axis=1) * mm
        times = (np.arange(n) + 0.5) / 30
        closures = [
            aperture[(times > start - 0.06) & (times < end + 0.04)].min()
            for label, (start, end) in zip(z["phones"], z["phone_times"], strict=True)
            if label in ("P", "B", "M")
        ]
        assert len(closures) >= 9
        assert max(closures) < 1.0
        assert aperture.max() > 6


def test_keys_json_names_poses(folder, spoken):
    keys = json.loads((folder / "keys.json").read_text())
    assert keys["fps"] == 30
    assert [k["frame"] for k in keys["keys"]] == spoken.keys.frames.tolist()
    assert keys["keys"][0]["time"] == pytest.approx(0.5 / 30, abs=1e-6)
    shut = next(k for k in keys["keys"] if k["phone"] == "P")
    assert set(shut["weights"]) <= set(spoken.shape_names)


def test_textgrid_is_read_back(folder, spoken):
    assert len(read_textgrid(folder / "speech.TextGrid", spoken.audio.duration).phones) == len(spoken.alignment.phones)


def test_glb_carries_the_same_mouth_and_materials(folder, spoken, rig):
    document = pygltflib.GLTF2().load(str(folder / "animation.glb"))
    blob = document.binary_blob()
    names = document.meshes[0].extras["targetNames"]
    assert names == list(rig.shape_names)
    assert len(document.animations) == 1
    assert len(document.meshes[0].primitives[0].targets) == len(names) >= 52

    def floats(accessor):
        view = document.bufferViews[accessor.bufferView]
        return np.frombuffer(blob, np.float32, view.byteLength // 4, view.byteOffset)

    sampler = document.animations[0].samplers[0]
    times, weights = (floats(document.accessors[i]) for i in (sampler.input, sampler.output))
    assert np.allclose(times, np.arange(len(spoken.weights)) / 30, atol=1e-5)
    weights = weights.reshape(len(times), -1)
    assert weights.min() >= 0
    assert weights.max() <= 1
    # reconstruct a frame from the file alone
    frame = int(spoken.weights[:, rig.index["jawOpen"]].argmax())
    submeshes = rig.template.appearance.split(rig.template.faces)
    assert len(submeshes) == len(document.meshes[0].primitives) >= 9
    for submesh, primitive in zip(submeshes, document.meshes[0].primitives, strict=True):
        vertices = floats(document.accessors[primitive.attributes.POSITION]).reshape(-1, 3).copy()
        for weight, target in zip(weights[frame], primitive.targets, strict=True):
            accessor = document.accessors[target["POSITION"]]
            sparse = accessor.sparse
            view = document.bufferViews[sparse.indices.bufferView]
            kinds = {pygltflib.UNSIGNED_SHORT: np.uint16, pygltflib.UNSIGNED_INT: np.uint32}
            kind = kinds[sparse.indices.componentType]
            index = np.frombuffer(blob, kind, sparse.count, view.byteOffset)
            view = document.bufferViews[sparse.values.bufferView]
            offsets = np.frombuffer(blob, np.float32, 3 * sparse.count, view.byteOffset).reshape(-1, 3)
            vertices[index] += weight * offsets
        expected = spoken.vertices[frame][submesh.vertex_indices]
        assert np.abs(vertices - expected).max() * 1000 < 0.05  # mm


def frames_of(path):
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]


def test_video_plays_in_browsers_with_sound_in_step(folder, spoken):
    path = folder / "animation.mp4"
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.codec_context.name == "h264"
        assert video.codec_context.pix_fmt == "yuv420p"
        assert audio.codec_context.name == "aac"
        assert video.average_rate == 30
        starts = [float(s.start_time * s.time_base) for s in (video, audio)]
        first = [float(next(container.decode(s)).time) for s in (video,)]
        assert abs(starts[0] - starts[1]) < 0.001
        assert abs(first[0] - starts[0]) < 0.001
    assert len(frames_of(path)) == len(spoken.weights)
    head = path.read_bytes()[:64]
    assert head.find(b"moov") > 0  # faststart: the index is at the start of the file


def test_sound_in_the_video_is_the_sound_given(tmp_path, rig):
    """A click in the sound is at the same time in the sound track of the video."""
    samples = np.zeros(SAMPLE_RATE, np.float32)
    samples[8000:8040] = 0.9
    audio = audio_from_samples(samples, SAMPLE_RATE)
    still = Motion(rig, np.zeros((30, len(rig.shape_names)), np.float32), 30.0)
    Animation(still, phones(), KeyMotions(locate_key_frames(phones(), 30, 30.0), still), audio).render(
        tmp_path / "v.mp4", size=(64, 64)
    )
    out = tmp_path / "sound.wav"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(tmp_path / "v.mp4"), "-ac", "1", str(out)]
    subprocess.run(command, check=True)
    back, rate = soundfile.read(out)
    assert np.abs(back).argmax() / rate == pytest.approx(0.501, abs=0.002)


def dark(picture):
    """Number of pixels as dark as the inside of the mouth."""
    return int((picture.astype(int).sum(2) < 150).sum())


def test_an_open_mouth_shows_its_inside_and_a_closed_one_does_not(tmp_path, rig, tone):
    weights = np.zeros((30, len(rig.shape_names)), np.float32)
    weights[15:, rig.index["jawOpen"]] = 0.5
    audio = audio_from_samples(*soundfile.read(tone, dtype="float32"))
    motion = Motion(rig, weights, 30.0)
    animation = Animation(motion, phones(), KeyMotions(locate_key_frames(phones(), 30, 30.0), motion), audio)
    for quality in ("draft", "high"):
        path = tmp_path / f"{quality}.mp4"
        animation.render(path, size=(256, 256), quality=quality, frame="face", view="front")
        pictures = frames_of(path)
        assert len(pictures) == 30
        shut, open_ = (pictures[n][145:205, 95:160].astype(int).sum(2) for n in (5, 25))  # around the mouth
        assert (open_ < shut - 120).sum() > 60, quality  # the inside is dark
        assert (shut < 110).sum() < 30, quality
        moved = np.abs(pictures[25].astype(int) - pictures[5]).sum(2) > 60
        assert moved[:60].sum() < 10  # the camera is fixed: nothing moves above the brows


def test_contact_sheet_has_a_cell_for_each_phone(tmp_path, rig, tone):
    audio = audio_from_samples(*soundfile.read(tone, dtype="float32"))
    weights = np.zeros((30, len(rig.shape_names)), np.float32)
    weights[10:20, rig.index["jawOpen"]] = 0.5
    spoken = phones(("B", 0.1, 0.2), ("AA", 0.4, 0.6))
    motion = Motion(rig, weights, 30.0)
    Animation(motion, spoken, KeyMotions(locate_key_frames(spoken, 30, 30.0), motion), audio).save_contact_sheet(
        tmp_path / "s.png"
    )
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    assert sheet.shape == (250, 8 * 224, 3)
    shut, open_ = dark(sheet[:224, :224]), dark(sheet[:224, 224:448])
    assert open_ > 2 * shut + 500


def test_a_failed_write_leaves_nothing(tmp_path, spoken):
    with pytest.raises(InputError, match="even"):
        spoken.save(tmp_path / "new" / "v.mp4", size=(511, 511))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_what_others_wrote(tmp_path):
    def stopped() -> None:
        with atomic_write(tmp_path / "new" / "deep" / "a.npz") as temporary:
            temporary.write_text("half")
            (tmp_path / "new" / "b.npz").write_text("another run's")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert [p.name for p in tmp_path.rglob("*")] == ["new", "b.npz"]


def test_into_a_folder_that_is_there_only_the_new_is_named(tmp_path, talk, tone):
    (tmp_path / "notes.txt").write_text("mine")
    written = talk.animate(tone, text="la").save(tmp_path, video=False)
    assert [p.name for p in written] == [
        *("animation.glb", "animation.npz", "import_blender.py", "keys.json", "speech.TextGrid", "speech.wav"),
    ]
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_the_template_keeps_its_units_order_and_pose(tmp_path, talk, rig):
    lines = FACE.read_text().splitlines()
    turned = [
        "v {2} {0} {1}".format(*(float(x) * 100 for x in line.split()[1:])) if line.startswith("v ") else line
        for line in lines
    ]
    path = tmp_path / "turned.obj"
    path.write_text("\n".join(turned))
    animation = talk.animate(SPEECH, template=path, text=SAID)
    reference = talk.animate(SPEECH, "light", text=SAID)
    expected = reference.vertices[..., [2, 0, 1]] * 100
    assert np.abs(animation.vertices - expected).max() < 1e-2  # cm
    animation.render(tmp_path / "t.mp4", size=(128, 128))
    reference.render(tmp_path / "r.mp4", size=(128, 128))
    a, b = (frames_of(tmp_path / n)[100].astype(int) for n in ("t.mp4", "r.mp4"))
    assert np.abs(a - b).mean() < 3  # rendered upright whatever the axes of the file


def test_a_template_wound_the_other_way_is_lit_alike(tmp_path, talk, light_rig, tone):
    head = light_rig.template
    assert head.appearance is not None
    appearance = replace(head.appearance, uv_faces=head.appearance.uv_faces[:, ::-1].copy())
    turned = replace(head, faces=head.faces[:, ::-1].copy(), appearance=appearance)
    for name, template in (("turned", turned), ("plain", head)):
        talk.animate(tone, template, text="la").render(tmp_path / f"{name}.mp4", size=(128, 128))
    a, b = (frames_of(tmp_path / f"{n}.mp4")[15].astype(int) for n in ("turned", "plain"))
    assert np.abs(a - b).mean() < 2
