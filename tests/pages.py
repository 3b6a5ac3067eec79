"""Web pages in a real browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    *("--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--use-angle=swiftshader"),
    *("--enable-unsafe-swiftshader", "--disable-background-networking"),
]
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (make chromium)")

LAID_OUT = """async () => {
    const boxes = () => JSON.stringify([...document.querySelectorAll('body *')].map(e => e.getBoundingClientRect()))
    const drawn = () => new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))
    let before = ''
    for (let now = boxes(), n = 0; n < 3; n = now === before ? n + 1 : 0, before = now, now = boxes()) await drawn()
}"""
"""Waits until no element has moved for three drawn frames; a page of this size may take a second on a busy machine."""


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
