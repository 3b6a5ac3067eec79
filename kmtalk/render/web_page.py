"""Self-contained web page that plays a face with its sound.

The page embeds three.js, the model and the sound, and loads nothing from outside. Its parts are in viewer/; viewer.js
is built from web/ with `make viewer` (three.js from npm, bundled by esbuild).
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

import numpy as np
import soundfile
import soxr

from kmtalk.speech.audio import Audio

MAX_SAMPLE_RATE, TARGET_SAMPLE_RATE = 96_000, 48_000  # Hz; sound above the first is resampled to the second
WAVEFORM_RATE = 500  # intervals per second
_PARTS = Path(__file__).parent / "viewer"


def write_web_page(
    path: Path,
    glb: bytes,
    fps: float,
    frame_count: int,
    timeline: Mapping[str, object],
    audio: Audio | None,
) -> None:
    """Write a web page that plays a GLB model.

    Args:
        path: The .html file.
        glb: The bytes of the GLB.
        fps: Frames per second.
        frame_count: Number of frames.
        timeline: The data of `exchange.timeline.timeline_data`; all but `title` may be missing.
        audio: The sound, or None.
    """
    sound = waveform = None
    if audio is not None:
        samples = audio.playback()
        sound = f"data:audio/flac;base64,{_encode_flac(samples, audio.original_rate)}"
        waveform = _encode_waveform(samples, audio.original_rate)
    facts = {
        "title": timeline["title"],
        "fps": fps,
        "frames": frame_count,
        "sound": sound,
        "waveform": waveform,
        "waveform_rate": WAVEFORM_RATE,
        "words": timeline.get("words", []),
        "phones": timeline.get("phones", []),
        "unaligned": timeline.get("unaligned", []),
        "keys": timeline.get("keys", []),
        "aperture": timeline.get("aperture"),
        "focus": timeline.get("focus"),
    }
    # escape "<" so that the JSON cannot end its script element
    parts = {
        "TITLE": html.escape(str(timeline["title"])),
        "FACTS": json.dumps(facts, separators=(",", ":")).replace("<", "\\u003c"),
        "MODEL": base64.b64encode(gzip.compress(glb, 6, mtime=0)).decode("ascii"),
        "STYLE": (_PARTS / "style.css").read_text(encoding="utf-8"),
        "SCRIPT": (_PARTS / "viewer.js").read_text(encoding="utf-8"),
    }
    page = (_PARTS / "page.html").read_text(encoding="utf-8")
    # in one pass: inserted text is not searched for placeholders
    path.write_text(re.sub(r"@([A-Z]+)@", lambda m: parts[m[1]], page), encoding="utf-8", errors="replace")


def _encode_flac(samples: np.ndarray, rate: int) -> str:
    """Encode samples (S, C) of one or two channels as base64 FLAC with at most 96 kHz, the limit of browsers."""
    if rate > MAX_SAMPLE_RATE:
        samples, rate = soxr.resample(samples, rate, TARGET_SAMPLE_RATE), TARGET_SAMPLE_RATE
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _encode_waveform(samples: np.ndarray, rate: int) -> str:
    """Encode the least and greatest sample of each interval as base64 int8 pairs; 127 is the clip's peak.

    Over both channels, not of their mean: that of channels in opposite phase is nothing.
    """
    edges = np.arange(0, len(samples), rate / WAVEFORM_RATE).astype(int)
    low, high = np.minimum.reduceat(samples.min(axis=1), edges), np.maximum.reduceat(samples.max(axis=1), edges)
    envelope = np.stack([low, high], axis=1)
    scaled = np.round(envelope * (127 / max(float(np.abs(envelope).max()), 1e-9)))
    return base64.b64encode(scaled.astype(np.int8).tobytes()).decode("ascii")
