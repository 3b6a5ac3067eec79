"""Measures how much of an edit to one key CMC follows by itself, before pinned poses are blended in.

    python benchmarks/edit_response.py [WEIGHTS]

For every shape, at 6 keys of the sample speech drawn at random (phones as found by kmtalk), the pose is changed by 0.3
and by 0.1. Printed are the motion's changes as shares of that change: in the same shape at that key (own), the largest
in another shape at that key (cross), and the largest more than half a second beyond the neighbouring keys (far).
WEIGHTS: by default assets/completion.safetensors.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from kmtalk import KMTalk
from kmtalk.assets import asset_path
from kmtalk.motion.inference import predict_motion
from kmtalk.motion.model import load_network
from kmtalk.motion.styles import DEFAULT_STYLE, style_mixture

FPS = 30.0
FAR_FRAMES = round(0.5 * FPS)  # frames beyond the neighbouring keys that count as far


def main() -> None:
    talk = KMTalk()
    animation = talk.animate(asset_path("speech.wav"))
    path = Path(sys.argv[1]) if sys.argv[1:] else asset_path("completion.safetensors")
    network, features = load_network(path), talk.predictor.encode_audio(animation.audio)
    names, keys, count = network.config.shape_names, animation.keys.frames, len(animation.weights)
    shares, frames = style_mixture(network.config.styles, DEFAULT_STYLE), np.arange(count)

    def predict(edits: np.ndarray | None = None) -> np.ndarray:
        return predict_motion(network, features, animation.alignment, keys, count, FPS, shares, edits)

    before = predict()
    for amount in (0.3, 0.1):
        rng, rows = np.random.default_rng(0), []
        for shape in range(len(names)):
            for key in rng.choice(np.arange(3, len(keys) - 3), 6, replace=False).tolist():
                frame, change = keys[key], np.zeros((len(keys), len(names)), np.float32)
                change[key, shape] = amount if before[frame, shape] < 0.6 else -amount
                share = (predict(change) - before) / change[key, shape]
                far = (frames < keys[key - 1] - FAR_FRAMES) | (frames > keys[key + 1] + FAR_FRAMES)
                cross = np.abs(np.delete(share[frame], shape)).max()
                rows.append((shape, share[frame, shape], cross, np.abs(share[far]).max()))
        shape_of, own, cross, far = np.array(rows).T
        medians = [np.median(own[shape_of == s]) for s in range(len(names))]
        print(
            f"{path.name}: edits by {amount:g}, {len(names)} shapes x 6 keys: own {np.median(own):.2f} in median, "
            f"minimum {own.min():.2f}, lowest median of a shape {min(medians):.2f}; cross "
            f"{np.median(cross):.2f} in median; far {far.max():.2f} at most"
        )


if __name__ == "__main__":
    main()
