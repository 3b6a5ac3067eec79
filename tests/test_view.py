"""The web page in a real browser: playback, sound sync, sliders; it loads nothing and logs nothing."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pygltflib as gl
import pytest
import soundfile
from characters import write_avatar
from conftest import ROOT, SAID, SPEECH
from pages import LAID_OUT, Opened, needs_browser
from PIL import Image

from kmtalk.face.appearance import Appearance, Material
from kmtalk.face.motion import Motion
from kmtalk.render.comparison import compare_motions

ON_TOP = """button => {
    const box = button.getBoundingClientRect()
    const above = document.elementFromPoint((box.left + box.right) / 2, (box.top + box.bottom) / 2)
    return [box.toJSON(), above?.closest('button')?.id ?? '']
}"""
"""The box of a button, and the id of the button that a click on its centre would meet."""


def positions(page):
    return np.array(page.evaluate("kmtalk.positions()")).reshape(-1, 3)


def in_file(template):
    """The template's vertices in the order of the GLB: by material, split at seams."""
    if template.appearance is None:
        return np.arange(len(template.vertices))
    return np.concatenate([part.vertex_indices for part in template.appearance.split(template.faces)])


def picture(page):
    """The face without what lies above it: (H, W, 3)."""
    page.add_style_tag(content="#stage button { opacity: 0 !important }")
    page.evaluate(LAID_OUT)
    return np.array(Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("RGB")).astype(int)


def painted(animation, materials, face_materials):
    """The animation with materials, and a seam of texture coordinates at x = 0."""
    template = animation.template
    right = template.vertices[template.faces].mean(1)[:, 0] > 0
    uv_faces = template.faces + len(template.vertices) * right[:, None]
    uv = np.tile(template.vertices[:, :2], (2, 1)).astype(np.float32)
    appearance = Appearance(materials, face_materials, uv, uv_faces.astype(np.int32))
    rig = replace(animation.motion.rig, template=replace(template, appearance=appearance))
    return replace(animation, motion=replace(animation.motion, rig=rig))


@pytest.fixture(scope="module")
def page(browser, spoken, tmp_path_factory):
    path = tmp_path_factory.mktemp("view") / "face.html"
    spoken.save(path)
    opened = Opened(browser, path)
    yield opened
    opened.close()


@needs_browser
@pytest.mark.slow
def test_every_frame_shows_its_own_pose(page, spoken):
    for frame in (0, 1, 57, 200, len(spoken.motion) - 1):
        page.page.evaluate("t => kmtalk.seek(t)", (frame + 0.5) / 30)
        assert page.page.evaluate("kmtalk.frame()") == frame
        seen = positions(page.page)
        assert np.abs(seen - spoken.vertices[frame, in_file(spoken.template)]).max() * 1000 < 0.05


@needs_browser
@pytest.mark.slow
def test_it_plays_with_the_sound_in_step(page):
    page.page.evaluate("kmtalk.seek(1.0); kmtalk.play()")
    # read within an animation frame: software rendering draws only a few per second
    read = "new Promise(done => requestAnimationFrame(() => done([kmtalk.time(), kmtalk.frame()])))"
    seen = []
    while page.page.evaluate(read)[0] == 1.0:  # the sound starts after a moment
        pass
    while len(seen) < 2 or (len(seen) < 8 and seen[-1][0] < 4):  # a busy machine takes a second to answer
        page.page.wait_for_timeout(250)
        seen.append(page.page.evaluate(read))
    page.page.evaluate("kmtalk.pause()")
    times = np.array([t for t, _ in seen])
    assert (np.diff(times) > 0).all()
    assert times[-1] > 2.0
    assert max(abs(t * 30 - 0.5 - f) for t, f in seen) <= 2.0
    assert page.page.evaluate("kmtalk.playing()") is False


@needs_browser
@pytest.mark.slow
def test_sliders_move_vertices_until_reset(page, rig):
    page.page.evaluate("kmtalk.seek(0.02)")
    before = positions(page.page)
    page.page.fill("#shape-search", "jawOpen")
    slider = page.page.locator("#shapes input[type=range]:visible").first
    slider.evaluate("s => { s.value = 0.8; s.dispatchEvent(new Event('input', {bubbles: true})); }")
    after = positions(page.page)
    moved = np.linalg.norm(after - before, axis=1)
    assert moved.max() * 1000 > 10
    assert page.page.evaluate("kmtalk.weights().jawOpen") == pytest.approx(0.8, abs=0.01)
    page.page.click("text=Reset all")
    again = positions(page.page)
    assert np.array_equal(again, before)
    page.page.fill("#shape-search", "")


@needs_browser
@pytest.mark.slow
def test_the_timeline_scrubs_and_the_picture_changes(page):
    page.page.evaluate("kmtalk.seek(0.1)")
    shut = page.page.screenshot()
    box = page.page.locator("canvas").last.bounding_box()
    page.page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.6)
    page.page.evaluate(LAID_OUT)
    assert page.page.evaluate("kmtalk.time()") > 0.5
    assert page.page.screenshot() != shut


@needs_browser
@pytest.mark.slow
def test_materials_and_seams_do_not_show_in_the_shape(browser, spoken, tmp_path):
    """A mesh that is split by material and at seams moves and is shaded like the whole mesh."""
    faces, vertices = spoken.template.faces, spoken.template.vertices
    grey = Material("one", (0.5, 0.5, 0.5, 1.0))
    low = (vertices[faces].mean(1)[:, 1] < -0.03).astype(np.uint8)
    whole = painted(spoken, (grey,), np.zeros(len(faces), np.uint8))
    split = painted(spoken, (grey, replace(grey, name="two")), low)
    pictures = []
    for animation in (whole, split):
        animation.save(tmp_path / "p.html")
        opened = Opened(browser, tmp_path / "p.html")
        opened.page.evaluate("kmtalk.seek(100.5 / 30)")
        seen = positions(opened.page)
        assert np.abs(seen - spoken.vertices[100, in_file(animation.template)]).max() * 1000 < 0.05
        pictures.append(picture(opened.page))
        opened.close()
    assert np.abs(pictures[0] - pictures[1]).max() <= 2


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("source", ["page", "glb", "other program"])
def test_the_eyes_are_at_a_third_of_the_picture(browser, kmtalk, spoken, tmp_path, source):
    """Also in a GLB of another program, by what its shapes move; F frames the whole model."""
    template = spoken.template
    is_eye = np.zeros(len(template.vertices), bool)
    is_eye[np.concatenate([template.regions["eye_left"], template.regions["eye_right"]])] = True
    materials = (Material("face", (0.3, 0.0, 0.0, 1.0)), Material("eye", (0.0, 0.0, 1.0, 1.0)))
    animation = painted(spoken, materials, is_eye[template.faces].all(1).astype(np.uint8))
    if source == "page":
        animation.save(tmp_path / "a.html")
    else:
        animation.save(tmp_path / "a.glb")
        if source == "other program":
            document = gl.GLTF2().load(str(tmp_path / "a.glb"))
            document.animations[0].extras = {}
            document.save(str(tmp_path / "a.glb"))
        assert kmtalk("view", "a.glb").returncode == 0
    opened = Opened(browser, tmp_path / "a.html")

    def eyes():
        shown = picture(opened.page)
        blue = shown[..., 2] > shown[..., 0] + 60
        assert blue.sum() > 50
        return np.flatnonzero(blue.any(1)).mean() / len(shown), shown

    height, _ = eyes()
    assert height == pytest.approx(1 / 3, abs=0.03)
    assert opened.page.get_attribute("#focus", "aria-pressed") == "true"
    opened.page.keyboard.press("f")
    _, whole = eyes()
    model = whole[..., 0] > whole[..., 1] + 40
    assert model.sum() > 0.1 * model.size
    assert not model[[0, -1]].any()
    assert not model[:, [0, -1]].any()
    assert opened.page.get_attribute("#focus", "aria-pressed") == "false"
    opened.page.click("#focus", force=True)
    assert eyes()[0] == pytest.approx(height, abs=0.005)
    opened.close()


@needs_browser
@pytest.mark.slow
def test_curves_of_shapes_on_demand(page, spoken):
    """A click on a shape's name shows its weights over time; the legend removes the curve."""
    page.page.set_viewport_size({"width": 1000, "height": 800})
    height = page.page.locator("#timeline").bounding_box()["height"]
    for name in ("jawOpen", "mouthPucker"):
        page.page.get_by_role("button", name=name, exact=True).click()
    assert page.page.locator("#timeline").bounding_box()["height"] > height + 40
    colours = page.page.eval_on_selector_all(
        "#legend button", "all => all.map(b => getComputedStyle(b, '::before').backgroundColor)"
    )
    assert len(set(colours)) == 2
    page.page.evaluate("kmtalk.seek(100.5 / 30)")
    box = page.page.locator("#timeline").bounding_box()
    page.page.mouse.move(box["x"] + 400, box["y"] + 20)
    tip = page.page.inner_text("#tip")
    frame = int(tip.split("frame ")[1].split()[0])
    weight = spoken.weights[frame, spoken.shape_names.index("jawOpen")]
    assert f"jawOpen {weight:.2f}" in tip
    page.page.get_by_role("button", name="Remove the curve of jawOpen").click()
    assert page.page.get_by_role("button", name="jawOpen", exact=True).get_attribute("aria-pressed") == "false"
    page.page.get_by_role("button", name="mouthPucker", exact=True).click()
    assert page.page.locator("#legend").is_hidden()
    assert page.page.locator("#timeline").bounding_box()["height"] == height


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("size", [(844, 390), (667, 375), (390, 844), (1280, 800)])
def test_everything_fits(page, size):
    """On phones, upright and lying, and on a desktop: face, controls and timeline are in view, side by side."""
    page.page.set_viewport_size({"width": size[0], "height": size[1]})
    for open_shapes in (False, True):
        if page.page.locator("#shapes").is_visible() != open_shapes:
            page.page.click("#toggle-shapes")
        page.page.evaluate(LAID_OUT)
        parts = ["header", "#stage", "#transport", "#shapes" if open_shapes else "#track"]
        boxes = [page.page.locator(part).bounding_box() for part in parts]
        for box in boxes:
            assert box["x"] >= 0
            assert box["y"] >= 0
            assert box["x"] + box["width"] <= size[0] + 1
            assert box["y"] + box["height"] <= size[1] + 1
        for n, one in enumerate(boxes):
            for other in boxes[:n]:
                across = min(one["x"] + one["width"], other["x"] + other["width"]) - max(one["x"], other["x"])
                down = min(one["y"] + one["height"], other["y"] + other["height"]) - max(one["y"], other["y"])
                assert min(across, down) < 1, (one, other)
        assert min(boxes[1]["width"], boxes[1]["height"]) > 180
        for button in page.page.locator("header button, #transport button, #stage button").all():
            box, on_top = button.evaluate(ON_TOP)  # at one moment: a layout that changes in between misleads
            assert box["right"] <= size[0]
            assert box["bottom"] <= size[1]
            assert on_top == (button.get_attribute("id") or "")
    page.page.set_viewport_size({"width": 1000, "height": 700})


def facts_of(path):
    text = path.read_text().split('id="facts">')[1].split("</script>")[0]
    return json.loads(text)


def test_the_title_names_sound_and_character(kmtalk, spoken, tmp_path):
    spoken.save(tmp_path / "out", formats="glb")
    spoken.save(tmp_path / "a.html")
    assert kmtalk("view", "out/animation.glb", "-o", "b.html").returncode == 0
    shutil.copy(tmp_path / "out" / "speech.wav", tmp_path / "hello.wav")
    document = gl.GLTF2().load(str(tmp_path / "out" / "animation.glb"))
    document.animations[0].extras = {}
    document.save(str(tmp_path / "bob.glb"))
    assert kmtalk("view", "bob.glb", "--audio", "hello.wav").returncode == 0
    for name, title in (
        ("a.html", "speech · kmtalk default head"),
        ("b.html", "speech · kmtalk default head"),
        ("bob.html", "hello · bob"),
    ):
        page = (tmp_path / name).read_text()
        assert f"<title>{title}</title>" in page
        assert f">{title}</h1>" in page


def test_the_waveform_is_that_of_the_sound(spoken, tmp_path):
    spoken.save(tmp_path / "a.html")
    facts = facts_of(tmp_path / "a.html")
    pairs = np.frombuffer(base64.b64decode(facts["waveform"]), np.int8).reshape(-1, 2)
    mono, rate = spoken.audio.original.mean(1), spoken.audio.original_rate
    assert len(pairs) == pytest.approx(spoken.audio.duration * facts["waveform_rate"], abs=1)
    assert np.abs(pairs).max() == 127
    loud = mono.argmax() / rate * facts["waveform_rate"]
    assert pairs[int(loud), 1] == pairs[:, 1].max()
    quiet = mono[: rate // 20]
    found = pairs[: facts["waveform_rate"] // 20]
    assert found.max() == pytest.approx(quiet.max() / np.abs(mono).max() * 127, abs=1)


@needs_browser
@pytest.mark.slow
def test_any_glb_with_and_without_sound(browser, kmtalk, spoken, tmp_path):
    """A GLB in an output folder uses the sound beside it and has its timeline; baked GLBs play as well."""
    spoken.save(tmp_path / "out", formats="glb")
    done = kmtalk("view", tmp_path / "out" / "animation.glb", "-o", "a.html")
    assert (done.returncode, done.stdout, done.stderr) == (0, "a.html\n", "")
    spoken.save(tmp_path / "baked.glb", bake=True)
    assert kmtalk("view", "baked.glb").returncode == 0
    for name, sound in (("a.html", True), ("baked.html", False)):
        opened = Opened(browser, tmp_path / name)
        facts = opened.page.evaluate("JSON.parse(document.getElementById('facts').textContent)")
        assert (facts["sound"] is not None) == sound
        assert len(facts["phones"]) == len(spoken.alignment.phones)
        assert facts["frames"] == len(spoken.motion)
        opened.page.evaluate("kmtalk.seek(100.5 / 30)")
        seen = positions(opened.page)
        assert np.abs(seen - spoken.vertices[100, in_file(spoken.template)]).max() * 1000 < 0.05
        opened.close()


def test_a_page_names_its_sound_safely(talk, tmp_path):
    """File names are escaped and cannot inject markup into the page."""
    path = tmp_path / "<script>alert(1)<" / "x&y.wav"
    path.parent.mkdir()
    shutil.copy(SPEECH, path)
    talk.animate(path, text=SAID).save(tmp_path / "p.html")
    page = (tmp_path / "p.html").read_text()
    assert "<script>alert(1)" not in page
    assert "x&amp;y" in page


@pytest.mark.parametrize(("name", "content"), [("x.glb", b"no"), ("x.glb", b"glTF" + b"\0" * 40), ("x.npz", b"no")])
def test_what_is_no_animation_is_one_line(kmtalk, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    done = kmtalk("view", name)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert name in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.slow
def test_the_bundle_is_what_its_sources_make(web):
    """The shipped bundle is what esbuild builds from web/ with three.js from npm."""
    (web.parent / "kmtalk" / "render" / "viewer").mkdir(parents=True)
    ran = subprocess.run(["npm", "run", "build", "--silent"], cwd=web, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    made = web.parent / "kmtalk" / "render" / "viewer" / "viewer.js"
    assert made.read_bytes() == (ROOT / "kmtalk" / "render" / "viewer" / "viewer.js").read_bytes()


def test_comparison_measures_and_shows(kmtalk, spoken, rig, tmp_path):
    """A jaw opened further by a known amount: the distances in mm are correct and the heat map shows them."""
    import av

    weights = spoken.weights[:45].copy()
    first = Motion(rig, weights, 30.0)
    wider = weights.copy()
    wider[20:, rig.index["jawOpen"]] = np.clip(weights[20:, rig.index["jawOpen"]] + 0.3, 0, 1)
    second = Motion(rig, wider, 30.0)
    found = compare_motions(first, second, ("a", "b"))
    apart = np.linalg.norm(first.vertices() - second.vertices(), axis=2) * rig.template.mm_per_unit
    assert found.mean == pytest.approx(apart.mean(), rel=1e-3)
    assert found.maximum == pytest.approx(apart.max(), rel=1e-3)
    assert found.lip_max == pytest.approx(apart[:, rig.template.regions["lips"]].max(1).mean(), rel=1e-3)
    sound = spoken.audio.original[: round(1.5 * spoken.audio.original_rate)]
    soundfile.write(tmp_path / "s.wav", sound, spoken.audio.original_rate)
    from kmtalk.keys import KeyMotions, locate_key_frames
    from kmtalk.speech.audio import load_audio

    for name, motion in (("a.npz", first), ("b.npz", second)):
        keys = KeyMotions(locate_key_frames(spoken.alignment, 45, 30.0), motion)
        replace(spoken, motion=motion, keys=keys, audio=load_audio(tmp_path / "s.wav")).save(tmp_path / name)
    done = kmtalk("compare", "a.npz", "b.npz", "-o", "c.mp4", "--size", "200", "--max-distance", "10")
    assert done.returncode == 0, done.stderr
    assert f"{found.maximum:.2f} mm" in done.stdout
    with av.open(str(tmp_path / "c.mp4")) as container:
        pictures = [f.to_ndarray(format="rgb24").astype(int) for f in container.decode(video=0)]
    assert len(pictures) == 45
    assert pictures[0].shape == (230, 600, 3)

    def hot(picture):
        heat = picture[:200, 400:]
        return int(((heat[..., 0] - heat[..., 2]) > 90).sum())

    assert hot(pictures[5]) < 30
    assert hot(pictures[40]) > 500
    left, middle = pictures[40][:200, :200], pictures[40][:200, 200:400]
    assert np.abs(left - middle).sum(2).max() > 60


def test_what_cannot_be_compared(kmtalk, spoken, talk, tone, tmp_path):
    spoken.save(tmp_path / "a.npz")
    talk.animate(tone, text="la").save(tmp_path / "short.npz")
    done = kmtalk("compare", "a.npz", "short.npz", "-o", "c.mp4")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "short.npz: 30 frames" in done.stderr
    assert not (tmp_path / "c.mp4").exists()


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("made", ["view", "save"])
def test_a_character_plays_its_speech_and_no_other_animation(browser, kmtalk, talk, spoken, light_rig, tmp_path, made):
    write_avatar(tmp_path / "avatar.glb", light_rig)
    animation = talk.animate(SPEECH, tmp_path / "avatar.glb", textgrid=spoken.alignment)
    animation.save(tmp_path / ("a.html" if made == "save" else "a.glb"))
    assert made == "save" or kmtalk("view", "a.glb").returncode == 0
    opened = Opened(browser, tmp_path / "a.html")
    opened.page.evaluate("kmtalk.seek(100.5 / 30)")
    shown = np.array(opened.page.evaluate("kmtalk.skinnedPositions()")).reshape(-1, 3)
    assert np.abs(shown - animation.vertices[100]).max() * animation.template.mm_per_unit < 0.1
    shown = picture(opened.page)
    assert shown.std() > 10  # the head is in the picture
    opened.close()
