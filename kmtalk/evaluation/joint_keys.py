"""The mouth between true poses at phone boundaries: the joint model beside smooth lines and CMC, on real lips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import soxr

from kmtalk.assets import asset_path
from kmtalk.face.rig import Rig
from kmtalk.joint.clock import MEL_FRAMES_PER_MOTION_FRAME as STEP
from kmtalk.joint.clock import MOTION_RATE, SAMPLE_RATE
from kmtalk.joint.corpus import JointClip
from kmtalk.joint.joint_flow import JointFlow, Known
from kmtalk.joint.mel import mel_spectrogram
from kmtalk.joint.motion_stream import is_mouth
from kmtalk.joint.tokens import alignment_of_spans
from kmtalk.metrics import fdd, lve, mask_from_template
from kmtalk.motion.inference import load_network_encoder, predict_motion
from kmtalk.motion.key_editing import interpolate_key_edits
from kmtalk.motion.model import KMTalkNetwork, load_network
from kmtalk.motion.styles import style_mixture
from kmtalk.mouth_animator import COMPLETION_FILE
from kmtalk.progress import Progress
from kmtalk.speech.audio import SAMPLE_RATE as ANALYSIS_RATE
from kmtalk.speech.encoders import SpeechFeatures

DRAWS = 4  # samples of the row that is a mean


def score_between_keys(
    flow: JointFlow, clips: Sequence[JointClip], rig: Rig, steps: int, progress: Progress
) -> list[str]:
    """Score the mouth between true poses at phone boundaries: lines, CMC, one sample, and the mean of several.

    LVE and FDD of the vertices of the lips, by clips with tracked lips; what is not the mouth is that of the clip. LVE
    also by frames of phones and of pauses.

    Args:
        flow: The joint model.
        clips: Clips with real motion.
        rig: The rig of the corpus.
        steps: Steps of the flow.
        progress: Receives the stage "between keys".

    Returns:
        The lines of a table.
    """
    network = load_network(asset_path(COMPLETION_FILE))  # the one that completes keys
    encoder = load_network_encoder(network)
    names = ["straight lines", "smooth lines", "CMC", "one sample", f"mean of {DRAWS}"]
    made: dict[str, list[np.ndarray]] = {name: [] for name in names}
    channels = flow.network.config.channels
    mouth = [rig.index[n] for n, m in zip(channels, is_mouth(channels), strict=True) if m]
    with progress.stage("between keys", len(clips)) as advance:
        for i, clip in enumerate(clips):
            keys = key_frames_of(clip)
            samples = clip.load_samples()
            mel = mel_spectrogram(samples)[: STEP * len(clip.weights)]
            heard = np.asarray(soxr.resample(samples, SAMPLE_RATE, ANALYSIS_RATE), np.float32)
            known = np.repeat(~is_mouth(channels)[None], len(clip.weights), 0)
            known[keys] = True
            characters = flow.characters_of(heard, len(mel))
            given = Known(clip.spans, mel, None, clip.weights, known, characters=characters)
            made["straight lines"].append(_lines(clip.weights, keys, smooth=False))
            made["smooth lines"].append(_lines(clip.weights, keys, smooth=True))
            made["CMC"].append(_cmc(network, encoder.encode(heard), clip, keys, rig))
            for name, draws in (("one sample", 1), (f"mean of {DRAWS}", DRAWS)):
                sampled = flow.sample(len(mel), given, style=clip.style, steps=steps, seed=i, draws=draws)
                made[name].append(sampled.weights)
            advance(i + 1)
    lips = mask_from_template(rig.template, "lips")
    scale = rig.template.mm_per_unit

    def vertices(weights: np.ndarray, clip: JointClip) -> np.ndarray:
        mixed = clip.weights.copy()
        mixed[:, mouth] = weights[:, mouth]
        return rig.vertices(mixed) * scale

    truth = [vertices(c.weights, c) for c in clips]
    neutral = rig.template.vertices * scale
    in_phones = [_phone_frames(c) for c in clips]
    source = f"held-out {', '.join(sorted({c.source for c in clips}))}; true poses at phone boundaries"
    lines = []
    for name, weights in made.items():
        pred = [vertices(w, c) for w, c in zip(weights, clips, strict=True)]
        results = [lve(pred, truth, lips, "mm"), fdd(pred, truth, neutral, lips, "mm", absolute=True)]
        for where, masks in (("phones", in_phones), ("pauses", [~m for m in in_phones])):
            made_there, true_there = ([v[m] for v, m in zip(side, masks, strict=True)] for side in (pred, truth))
            result = lve(made_there, true_there, lips, "mm")
            results.append(replace(result, name=f"{result.name} in {where}"))
        lines += [f"{name:12s} {result.with_source(source)}" for result in results]
    return lines


def _phone_frames(clip: JointClip) -> np.ndarray:
    """Return a mask (N,) of the motion frames in which a phone is spoken; the others are of pauses."""
    mask = np.zeros(len(clip.weights), bool)
    for span in clip.spans:
        if not span.is_pause:
            mask[span.start // STEP : -(-span.stop // STEP)] = True
    return mask


def key_frames_of(clip: JointClip) -> np.ndarray:
    """Return the motion frames (m,) at the boundaries of a clip's phones, with the first and the last."""
    last = len(clip.weights) - 1
    return np.unique(np.clip([0, last, *(s.start // STEP for s in clip.spans)], 0, last))


def _lines(weights: np.ndarray, keys: np.ndarray, smooth: bool) -> np.ndarray:
    """Join the poses (m, R) at the keys by straight lines, or by cubics with level ends: (N, R)."""
    frames = np.arange(len(weights))
    left = np.clip(np.searchsorted(keys, frames, side="right") - 1, 0, max(len(keys) - 2, 0))
    if len(keys) < 2:
        return np.repeat(weights[keys], len(weights), 0)
    t = (frames - keys[left]) / (keys[left + 1] - keys[left])
    rise = (t * t * (3 - 2 * t) if smooth else t)[:, None]
    out: np.ndarray = (1 - rise) * weights[keys[left]] + rise * weights[keys[left + 1]]
    return out


def _cmc(network: KMTalkNetwork, features: SpeechFeatures, clip: JointClip, keys: np.ndarray, rig: Rig) -> np.ndarray:
    """Complete the true poses at the keys by the CMC of `kmtalk complete`, which then meets them exactly: (N, R)."""
    columns = [rig.index[n] for n in network.config.shape_names]
    motion = predict_motion(
        network,
        features,
        alignment_of_spans(clip.spans, clip.voice),
        keys,
        len(clip.weights),
        MOTION_RATE,
        style_mixture(network.config.styles, clip.style if clip.style in network.config.styles else None),
        other_system_keys=clip.weights[keys][:, columns],
    )
    remaining = clip.weights[keys][:, columns] - motion[keys]
    out = clip.weights.copy()
    out[:, columns] = np.clip(motion + interpolate_key_edits(remaining, keys, len(motion)), 0, 1)
    return out
