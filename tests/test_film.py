"""What the video shows: framing, views, backgrounds, shadows, textures and cut-outs, in the pixels of real renders."""

from __future__ import annotations

import json

import av
import numpy as np
import pytest
import soundfile
from conftest import SAID, SPEECH, phones
from PIL import Image

from kmtalk.animation import Animation
from kmtalk.face.appearance import Appearance, Material, texture_path
from kmtalk.face.motion import Motion
from kmtalk.face.rig import Rig
from kmtalk.face.template import Template
from kmtalk.keys import KeyMotions, locate_key_frames
from kmtalk.speech.audio import audio_from_samples

FPS = 4.0


@pytest.fixture
def film(tmp_path):
    """Renders one frame for each pose of a rig; returns the pictures (N, H, W, 3) as integers."""

    def render(rig, poses, **options):
        weights = np.zeros((4, len(rig.shape_names)), np.float32)
        for row, pose in enumerate(poses):
            for name, weight in pose.items():
                weights[row, rig.index[name]] = weight
        motion = Motion(rig, weights, FPS)
        audio = audio_from_samples(np.zeros(16000, np.float32), 16000)
        animation = Animation(motion, phones(), KeyMotions(locate_key_frames(phones(), 4, FPS), motion), audio)
        animation.render(tmp_path / "film.mp4", **({"size": 256, "background": "#3060c0"} | options))
        with av.open(str(tmp_path / "film.mp4")) as container:
            pictures = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
        return np.stack(pictures[: len(poses)])

    return render


def covered(picture):
    """Mask (H, W) of the pixels that are not background."""
    return np.abs(picture - picture[2, 2]).sum(2) > 60


@pytest.mark.parametrize("quality", ["draft", "high"])
def test_the_eyes_are_at_a_third_and_the_camera_holds_the_jaw(film, rig, quality):
    poses = [{}, {"eyeBlinkLeft": 1, "eyeBlinkRight": 1}, {"jawOpen": 1}]
    neutral, blink, jaw = film(rig, poses, frame="face", view="front", quality=quality)
    changed = np.abs(blink - neutral).sum(2) > 50
    rows, columns = np.nonzero(changed)
    assert np.median(rows) / 256 == pytest.approx(1 / 3, abs=0.06)
    assert np.median(columns) / 256 == pytest.approx(0.5, abs=0.1)
    assert not (np.abs(jaw - neutral).sum(2) > 60)[-4:].any()


def test_frames_differ_in_how_much_they_show(film, rig):
    face, head, body = (covered(film(rig, [{}], frame=f, view="front")[0]) for f in ("face", "head", "body"))
    assert face[:128].mean() > 1.3 * head[:128].mean()
    assert not head[:4].any()  # the whole hair is in the picture
    assert not any(edge.any() for edge in (body[:4], body[-4:], body[:, :4], body[:, -4:]))


def test_views_are_sides_of_the_head(film, rig):
    """From the front the silhouette is symmetric; in profile the face looks to the left of the picture."""
    front, profile = (covered(film(rig, [{}], view=view, frame="head")[0])[:160] for view in ("front", "profile"))
    assert (front ^ front[:, ::-1]).mean() < 0.02
    assert (profile ^ profile[:, ::-1]).mean() > 0.04
    assert np.abs(film(rig, [{}])[0] - film(rig, [{}], view="portrait", frame="face")[0]).mean() < 0.5


@pytest.mark.parametrize(
    ("name", "color"),
    [("white", (255, 255, 255)), ("black", (0, 0, 0)), ("green", (0, 177, 64)), ("#3060c0", (48, 96, 192))],
)
def test_backgrounds_are_exact_up_to_the_video_format(film, rig, name, color):
    picture = film(rig, [{}], background=name, size=128)[0]
    assert picture[:8, :8].reshape(-1, 3).mean(0) == pytest.approx(color, abs=3)


def test_the_studio_is_darker_in_the_corners(film, rig):
    picture = film(rig, [{}], background="studio", view="front")[0]
    assert picture[:4, :4].mean() < picture[60, :8].mean() - 5


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("background", "mauve", "background mauve: give studio, white, black, green, or a colour as #1a2b3c"),
        ("background", "#12345", "#12345"),
        ("view", "back", "view back: no such choice"),
        ("frame", "feet", "frame feet: no such choice"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(kmtalk, option, value, message):
    done = kmtalk("animate", SPEECH, "--text", SAID, "-o", "v.mp4", f"--{option}", value)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr


def plane(half, z):
    """A square of 2 × `half` at depth z that faces the camera, as (vertices, faces, uv)."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32)
    vertices = np.concatenate([corners * half, np.full((4, 1), z)], axis=1).astype(np.float32)
    return vertices, np.array([[0, 1, 2], [0, 2, 3]], np.int32), corners * [0.5, -0.5] + 0.5


def still_rig(pieces, materials):
    """A rig whose only shape does nothing, of planes with one material each."""
    vertices = np.concatenate([p[0] for p in pieces])
    faces = np.concatenate([p[1] + 4 * n for n, p in enumerate(pieces)])
    uv = np.concatenate([p[2] for p in pieces]).astype(np.float32)
    appearance = Appearance(tuple(materials), np.repeat(np.arange(len(pieces)), 2).astype(np.uint8), uv, faces)
    template = Template(vertices, faces.astype(np.int32), appearance=appearance)
    return Rig(template, ("nothing",), np.zeros((1, len(vertices), 3), np.float32))


WHITE = Material("white", base_color=(0.6, 0.6, 0.6, 1.0), roughness=1.0)


@pytest.mark.parametrize("quality", ["draft", "high"])
def test_what_stands_before_the_key_light_casts_a_soft_shadow(film, quality):
    """The key light comes from the upper left: the shadow of a small plane lies to its lower right."""
    wall = []
    for i in range(-8, 9):  # a wall of many vertices: the draft has its light per vertex
        for j in range(-8, 9):
            piece, faces, uv = plane(0.06, 0.0)
            wall.append((piece + np.array([0.12 * i, 0.12 * j, 0], np.float32), faces, uv))
    pieces = [*wall, plane(0.2, 0.25)]
    vertices = np.concatenate([p[0] for p in pieces])
    faces = np.concatenate([p[1] + 4 * n for n, p in enumerate(pieces)]).astype(np.int32)
    appearance = Appearance((WHITE,), np.zeros(len(faces), np.uint8), np.zeros((1, 2), np.float32), faces * 0)
    rig = Rig(
        Template(vertices, faces, appearance=appearance), ("nothing",), np.zeros((1, len(vertices), 3), np.float32)
    )
    picture = film(rig, [{}], view="front", quality=quality)[0].mean(2)
    lower_right, lower_left = picture[158:166, 158:166].mean(), picture[158:166, 90:98].mean()
    assert lower_right < 0.85 * lower_left
    steps = np.abs(np.diff(picture[162, 150:200]))
    assert 0 < steps.max() < 40  # no hard edge


def test_textures_have_their_colour(film):
    """A textured surface is as bright as one whose colour is the mean of the texture in linear light."""
    name = "tongue_color.jpg"
    srgb = np.asarray(Image.open(texture_path(name)).convert("RGB")) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).mean((0, 1))
    textured = Material("textured", roughness=1.0, base_color_texture=name)
    plain = Material("plain", base_color=(*linear.tolist(), 1.0), roughness=1.0)
    means = [
        film(still_rig([plane(1.0, 0.0)], [material]), [{}], view="front")[0][40:216, 40:216].mean((0, 1))
        for material in (textured, plain)
    ]
    assert means[0] == pytest.approx(means[1], abs=6)


@pytest.mark.parametrize("quality", ["draft", "high"])
def test_masked_materials_show_what_is_behind(film, quality):
    """Where a texture is transparent the background is seen, from either side of the surface."""
    name = "hair.png"
    with Image.open(texture_path(name)) as image:
        alpha = np.asarray(image.convert("RGBA").getchannel("A").resize((488, 488), Image.Resampling.BOX))
    material = Material("cards", roughness=1.0, base_color_texture=name, alpha_mode="MASK", double_sided=True)
    rig = still_rig([plane(1.0, 0.0)], [material])
    picture = film(rig, [{}], view="front", quality=quality, size=512)[0]
    solid = covered(picture)[12:500, 12:500]  # the square has a margin of 12 pixels
    assert 0.2 < solid.mean() < 0.8
    assert (solid == (alpha > 127)).mean() > 0.9


def test_high_quality_says_how_long_it_takes(kmtalk, tmp_path):
    soundfile.write(tmp_path / "a.wav", 0.1 * np.sin(np.arange(3 * 16000) / 20), 16000)
    given = ("animate", "a.wav", "--text", "la la la", "-o", "a.mp4", "--size", "512", "--quality", "high")
    done = kmtalk(*given)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "rendering 90 frames, about" in line]
    assert len(lines) == 1
    assert lines[0].endswith(" s")
    assert "rendering" not in kmtalk(*given, "--quiet").stderr
    events = [json.loads(line) for line in kmtalk(*given, "--json").stderr.splitlines()]
    assert any("rendering 90 frames" in e["message"] for e in events if e["event"] == "message")
