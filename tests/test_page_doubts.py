"""What the web page says about words that the sound hardly supports, and about speech without phones."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from conftest import SAID, SPEECH
from pages import LAID_OUT, Opened, needs_browser
from PIL import Image

from kmtalk.speech.audio import audio_from_samples

NO_PHONES = "no phones: the mouth follows the sound alone"
SPAN = (9.1, 10.4)  # seconds


def facts_of(path):
    return json.loads(path.read_text().split('id="facts">')[1].split("</script>")[0])


def luminance(colour):
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)


def colours(page):
    """The colours of the marks and of what they are drawn on."""
    read = "names => names.map(n => getComputedStyle(document.body).getPropertyValue(n).trim())"
    return page.evaluate(read, ["--doubt", "--doubt-soft", "--accent-soft"])


def marked(page):
    """Which pixels (H, W) of the timeline have the colour of the marks."""
    shown = np.array(Image.open(io.BytesIO(page.locator("#timeline").screenshot())).convert("RGB")).astype(int)
    mark = [int(colours(page)[0][i : i + 2], 16) for i in (1, 3, 5)]
    return np.abs(shown - mark).sum(2) < 100  # smoothed edges


@pytest.fixture(scope="module")
def doubtful(talk):
    """The demo with "possible" given for "premier", and no phones from 9.1 s on."""
    found = talk.animate(SPEECH, text=SAID.replace("premier", "possible"))
    alignment = found.alignment
    words = tuple(w for w in alignment.words if w.end < SPAN[0])
    phones = tuple(p for p in alignment.phones if p.end < SPAN[0])
    return replace(found, alignment=replace(alignment, words=words, phones=phones, unaligned=(SPAN,)))


def until(page, condition):
    """Wait until a condition in JavaScript holds; the page's policy forbids the browser to wait for it by itself."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(condition)


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_wrong_word_and_a_span_without_phones_are_marked(browser, kmtalk, doubtful, tmp_path, scheme):
    if scheme == "light":
        doubtful.save(tmp_path / "a.html")
    else:  # also from the extras of a GLB
        doubtful.save(tmp_path / "a.glb")
        assert kmtalk("view", "a.glb").returncode == 0
    opened = Opened(browser, tmp_path / "a.html", color_scheme=scheme)
    page = opened.page
    (word,) = [w for w in doubtful.alignment.words if w.score < 0.05]
    assert word.text == "possible"
    assert page.locator("#doubts button").all_inner_texts() == ["1 doubtful word", "1 span without phones"]
    assert page.locator("#doubts button").nth(0).get_attribute("title").startswith("Words with a score below 0.05")
    assert NO_PHONES in page.locator("#doubts button").nth(1).get_attribute("title")
    page.click("#zoom-all")
    page.evaluate(LAID_OUT)

    box = page.locator("#timeline").bounding_box()
    length = float(page.inner_text("#length"))

    def place(time):
        return 64 + time / length * (box["width"] - 72)

    seen = marked(page)
    for column in np.flatnonzero(seen.any(0)):
        assert any(place(a) - 2 <= column <= place(b) + 2 for a, b in ((word.start, word.end), SPAN))
    wave = np.flatnonzero(seen[:, round(place(word.start)) + 2 : round(place(word.end)) - 2].any(1))
    assert 2 <= np.ptp(wave) <= 6  # a wavy line and no bar
    hatch = seen[:, round(place(SPAN[0])) + 3 : round(place(SPAN[1])) - 3]
    rows = np.flatnonzero(hatch.any(1))
    assert np.ptp(rows) >= 15
    assert 0.1 < hatch[rows[3] : rows[-3]].mean() < 0.6

    doubt, *below = colours(page)
    for ground in below:  # WCAG 1.4.11
        light, dark = sorted((luminance(doubt), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 3

    said = f"“possible”, score {word.score:.2f}"
    for number, (start, text) in enumerate([(word.start, said), (SPAN[0], NO_PHONES)]):
        page.locator("#doubts button").nth(number).click()
        assert page.evaluate("kmtalk.time()") == pytest.approx(start, abs=1e-3)
        assert page.inner_text("#status") == text
        ending = f"document.querySelector('#timeline').getAttribute('aria-valuetext').endsWith({json.dumps(text)})"
        until(page, ending)
        page.mouse.move(box["x"] + place(start + 0.1), box["y"] + 20)
        assert text in page.inner_text("#tip")
    page.mouse.move(box["x"] + place(0.3), box["y"] + 20)
    assert "“thank”" in page.inner_text("#tip")
    assert "score" not in page.inner_text("#tip")
    opened.close()


@needs_browser
@pytest.mark.slow
def test_nothing_is_marked_where_nothing_is_doubtful(browser, spoken, tmp_path):
    """Also where the scores are unknown."""
    unknown = tuple(replace(w, score=None) for w in spoken.alignment.words)
    for name, alignment in (
        ("a.html", spoken.alignment),
        ("b.html", replace(spoken.alignment, words=unknown)),
    ):
        replace(spoken, alignment=alignment).save(tmp_path / name)
        opened = Opened(browser, tmp_path / name)
        assert opened.page.locator("#doubts").is_hidden()
        opened.page.click("#zoom-all")
        opened.page.evaluate(LAID_OUT)
        assert not marked(opened.page).any()
        opened.page.evaluate("kmtalk.seek(8.5)")
        until(opened.page, "document.querySelector('#time').textContent === '8.50'")
        assert opened.page.get_attribute("#timeline", "aria-valuetext") == "8.50 seconds, frame 255"
        opened.close()


@needs_browser
@pytest.mark.slow
def test_the_marks_fit_a_phone(browser, doubtful, tmp_path):
    doubtful.save(tmp_path / "a.html")
    opened = Opened(browser, tmp_path / "a.html")
    for width, height in ((390, 844), (844, 390)):
        opened.page.set_viewport_size({"width": width, "height": height})
        if height < width and opened.page.locator("#shapes").is_visible():
            opened.page.click("#toggle-shapes")
        opened.page.evaluate(LAID_OUT)
        for button in opened.page.locator("#doubts button").all():
            box = button.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["y"] + box["height"] <= height
    opened.close()


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_the_page_sounds_as_loud_as_the_recording(spoken, tmp_path, channels):
    """One voice in one of many channels, and in the opposite phase in two, is as loud as it was."""
    voice = spoken.audio.original[:, 0]
    samples = np.zeros((len(voice), channels), np.float32)
    samples[:, 0] = voice
    if channels == 2:
        samples[:, 1] = -voice
    replace(spoken, audio=audio_from_samples(samples, spoken.audio.original_rate)).save(tmp_path / "a.html")
    facts = facts_of(tmp_path / "a.html")
    sound, _ = soundfile.read(io.BytesIO(base64.b64decode(facts["sound"].split(",")[1])), always_2d=True)
    assert sound.shape[1] == (channels if channels <= 2 else 1)
    assert np.abs(sound).max() == pytest.approx(np.abs(voice).max(), abs=1e-3)
    pairs = np.frombuffer(base64.b64decode(facts["waveform"]), np.int8).reshape(-1, 2)
    loud = int(np.abs(voice).argmax() / spoken.audio.original_rate * facts["waveform_rate"])
    assert np.abs(pairs[loud]).max() == 127
    assert np.median(np.abs(pairs).max(1)) < 40
