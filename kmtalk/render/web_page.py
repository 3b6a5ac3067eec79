"""A page that plays a face with its sound, by itself: three.js, the model and the sound are inside, nothing is loaded.

viewer/ holds the page's parts: viewer.js is built of web/ (``make viewer``: three.js from npm, bundled by esbuild).
"""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path

import soundfile
import soxr

from kmtalk.speech.audio import Audio

MAX_SAMPLE_RATE, TARGET_SAMPLE_RATE = 96_000, 48_000
_PARTS = Path(__file__).parent / "viewer"


def write_web_page(
    path: Path,
    model: bytes,
    title: str,
    fps: float,
    frames: int,
    timeline: Mapping[str, object],
    audio: Audio | None,
) -> None:
    """Write the page of a GLB ``model``; ``timeline`` are a timeline's (``exchange.timeline``), empty where unknown."""
    known = {
        "title": title,
        "fps": fps,
        "frames": frames,
        "sound": None if audio is None else f"data:audio/flac;base64,{_encode_flac(audio)}",
        "words": timeline.get("words", []),
        "phones": timeline.get("phones", []),
        "keys": timeline.get("keys", []),
        "aperture": timeline.get("aperture"),
    }
    # "<" must not end the script that holds the JSON
    inside = {
        "TITLE": html.escape(title),
        "FACTS": json.dumps(known, separators=(",", ":")).replace("<", "\\u003c"),
        "MODEL": base64.b64encode(gzip.compress(model, 6, mtime=0)).decode("ascii"),
        "STYLE": (_PARTS / "style.css").read_text(encoding="utf-8"),
        "SCRIPT": (_PARTS / "viewer.js").read_text(encoding="utf-8"),
    }
    page = (_PARTS / "page.html").read_text(encoding="utf-8")
    # in one pass: what is put in is not searched again
    path.write_text(re.sub(r"@([A-Z]+)@", lambda m: inside[m[1]], page), encoding="utf-8")


def _encode_flac(audio: Audio) -> str:
    """Two channels and 96 kHz at most: browsers play no more."""
    samples, rate = audio.original, audio.original_rate
    if samples.shape[1] > 2:
        samples = samples.mean(axis=1, keepdims=True)
    if rate > MAX_SAMPLE_RATE:
        samples, rate = soxr.resample(samples, rate, TARGET_SAMPLE_RATE), TARGET_SAMPLE_RATE
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
