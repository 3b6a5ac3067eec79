"""keys.json: the key frames with their poses by shape name."""

from __future__ import annotations

import json
from pathlib import Path

from kmtalk.face.motion import Motion
from kmtalk.keys import KeyFrames


def write_keys(path: Path, motion: Motion, keys: KeyFrames) -> None:
    """Write frame, time in seconds, phone and the weights that are not zero, for every key frame."""
    entries = [
        {
            "frame": frame,
            "time": round(float(time), 6),
            "phone": label,
            "weights": {
                name: round(float(w), 5)
                for name, w in zip(motion.rig.names, motion.weights[frame], strict=True)
                if w > 1e-5
            },
        }
        for frame, time, label in zip(keys.frames.tolist(), keys.times, keys.labels, strict=True)
    ]
    document = {"fps": motion.fps, "frames": len(motion), "keys": entries}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
