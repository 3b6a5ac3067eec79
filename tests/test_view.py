"""The web page in a real browser: playback, sound sync, sliders; it loads nothing and logs nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import ROOT, SAID, SPEECH

from kmtalk.face.motion import Motion
from kmtalk.render.comparison import compare_motions

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    *("--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--use-angle=swiftshader"),
    *("--enable-unsafe-swiftshader", "--disable-background-networking"),
]
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (make chromium)")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


class Opened:
    """A browser page that records messages, errors and requests."""

    def __init__(self, browser, path, **options):
        self.context = browser.new_context(offline=True, viewport={"width": 1000, "height": 700}, **options)
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda m: self.said.append(f"{m.type}: {m.text}"))
        self.page.on("pageerror", lambda e: self.said.append(f"page error: {e}"))
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.page.goto(Path(path).as_uri())
        self.page.evaluate("kmtalk.ready")

    def close(self):
        self.context.close()
        assert self.said == []
        assert [url for url in self.asked if not url.startswith(("file:", "blob:", "data:"))] == []


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
        seen = np.array(list(page.page.evaluate("Array.from(kmtalk.positions())"))).reshape(-1, 3)
        assert np.abs(seen - spoken.vertices[frame]).max() * 1000 < 0.05


@needs_browser
@pytest.mark.slow
def test_it_plays_with_the_sound_in_step(page):
    page.page.evaluate("kmtalk.seek(1.0); kmtalk.play()")
    # read within an animation frame: software rendering draws only a few per second
    read = "new Promise(done => requestAnimationFrame(() => done([kmtalk.time(), kmtalk.frame()])))"
    seen = []
    for _ in range(8):
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
    before = np.array(page.page.evaluate("Array.from(kmtalk.positions())")).reshape(-1, 3)
    page.page.fill("#shape-search", "jawOpen")
    slider = page.page.locator("#shapes input[type=range]:visible").first
    slider.evaluate("s => { s.value = 0.8; s.dispatchEvent(new Event('input', {bubbles: true})); }")
    after = np.array(page.page.evaluate("Array.from(kmtalk.positions())")).reshape(-1, 3)
    moved = np.linalg.norm(after - before, axis=1)
    assert moved.max() * 1000 > 10
    assert page.page.evaluate("kmtalk.weights().jawOpen") == pytest.approx(0.8, abs=0.01)
    page.page.click("text=Reset all")
    again = np.array(page.page.evaluate("Array.from(kmtalk.positions())")).reshape(-1, 3)
    assert np.array_equal(again, before)
    page.page.fill("#shape-search", "")


@needs_browser
@pytest.mark.slow
def test_the_timeline_scrubs_and_the_picture_changes(page):
    page.page.evaluate("kmtalk.seek(0.1)")
    shut = page.page.screenshot()
    box = page.page.locator("canvas").last.bounding_box()
    page.page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.6)
    page.page.wait_for_timeout(300)
    assert page.page.evaluate("kmtalk.time()") > 0.5
    assert page.page.screenshot() != shut


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
        seen = np.array(opened.page.evaluate("Array.from(kmtalk.positions())")).reshape(-1, 3)
        assert np.abs(seen - spoken.vertices[100]).max() * 1000 < 0.05
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
@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm here")
def test_the_bundle_is_what_its_sources_make(tmp_path):
    """The shipped bundle is what esbuild builds from web/ with three.js from npm."""
    web = tmp_path / "web"
    shutil.copytree(ROOT / "web", web, ignore=shutil.ignore_patterns("node_modules"))
    (tmp_path / "kmtalk" / "render" / "viewer").mkdir(parents=True)
    for command in (["npm", "ci", "--silent"], ["npm", "run", "build", "--silent"]):
        ran = subprocess.run(command, cwd=web, capture_output=True, text=True, check=False)
        if command[1] == "ci" and ran.returncode:
            pytest.skip("npm reaches no registry")
        assert ran.returncode == 0, ran.stderr
    made = tmp_path / "kmtalk" / "render" / "viewer" / "viewer.js"
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
    from dataclasses import replace

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
