"""An animation's sound and motion as the streams of the joint model, and the model's samples on an animation's rig.

Animations have their own frame rate, rig and level; the model has those of its training. N frames of an animation,
R shapes of its rig, M motion frames and R' shapes of the model.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import soxr

from kmtalk.animation import Animation
from kmtalk.errors import InputError
from kmtalk.face.motion import frame_times, resample_motion
from kmtalk.face.rig import Rig, load_light_head
from kmtalk.joint.clock import HOP_SAMPLES, MOTION_RATE, SAMPLE_RATE
from kmtalk.joint.clock import MEL_FRAMES_PER_MOTION_FRAME as STEP
from kmtalk.joint.joint_flow import JointFlow, Style
from kmtalk.joint.mel import mel_spectrogram
from kmtalk.joint.motion_stream import is_mouth
from kmtalk.motion.postprocessing import postprocess, seal_retargeted_bilabials
from kmtalk.motion.styles import resolve_style
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import SAMPLE_RATE as ANALYSIS_RATE
from kmtalk.speech.audio import SILENCE_DB, Audio, rms_level
from kmtalk.speech.prosody import loudness
from kmtalk.synthesis.voice_vector import VoiceEncoder

LEVEL_RANGE = (-20.0, -12.0)
"""Levels in dBFS, of the 95th percentile of 30 ms, that most clips of the training data have: the model is given others
at the nearer of these."""


def level_gain(samples: np.ndarray) -> float:
    """Return the factor that brings mono samples (S,) at 16 kHz to the levels of the training data."""
    level = float(np.percentile(rms_level(samples, window=0.03, hop=0.01), 95)) if len(samples) else SILENCE_DB
    if level < SILENCE_DB:
        return 1.0
    return float(10 ** ((np.clip(level, *LEVEL_RANGE) - level) / 20))


def heard_mel(audio: Audio, frames: int) -> np.ndarray:
    """Return the mel spectrogram (`frames`, 80) of what is analysed of a sound, at a level of the training data."""
    samples = audio.samples * level_gain(audio.samples)
    return mel_of_samples(np.asarray(soxr.resample(samples, ANALYSIS_RATE, SAMPLE_RATE), np.float32), frames)


def mel_of_samples(samples: np.ndarray, frames: int) -> np.ndarray:
    """Return the mel spectrogram (`frames`, 80) of samples (S,) at 22,050 Hz; beyond their end is silence."""
    wanted = frames * HOP_SAMPLES
    return mel_spectrogram(np.pad(samples[:wanted], (0, max(0, wanted - len(samples)))).astype(np.float32))


def motion_at_model_rate(animation: Animation, flow: JointFlow, frames: int) -> np.ndarray:
    """Return an animation's weights by the shapes of the joint model at its rate.

    Args:
        animation: The animation.
        flow: The joint model.
        frames: Number of mel frames.

    Returns:
        (frames / 3, R') float32, as the default head would be moved.

    Raises:
        InputError: The animation's rig lacks shapes of the joint model.
    """
    names, rig = flow.network.config.shape_names, animation.motion.rig
    flow.check_rig(rig)
    times = frame_times(frames // STEP, MOTION_RATE)
    given = animation.weights[:, [rig.index[n] for n in names]] / np.maximum(rig.shape_gains(names), 1e-6)
    return np.clip(resample_motion(given, animation.fps, times), 0, 1).astype(np.float32)


def mouth_shapes(flow: JointFlow) -> list[str]:
    """Return the names of the shapes of mouth, jaw and tongue."""
    channels = flow.network.config.channels
    return [name for name, mouth in zip(channels, is_mouth(channels), strict=True) if mouth]


def finish_mouth(
    weights: np.ndarray, flow: JointFlow, rig: Rig, alignment: Alignment, fps: float, samples: np.ndarray | None = None
) -> np.ndarray:
    """Postprocess the mouth by the phones, and nothing else of the face, whose motion goes on in pauses.

    Args:
        weights: (N, R) weights of the whole face on the default head.
        flow: The joint model.
        rig: The default head's rig.
        alignment: Phones.
        fps: Frames per second of the weights.
        samples: The sound at 16 kHz, by whose level pauses are told from speech without phones; None for none.

    Returns:
        (N, R) in [0, 1].
    """
    columns = [rig.index[n] for n in mouth_shapes(flow)]
    times = frame_times(len(weights), fps)
    mouth = np.zeros_like(weights, dtype=np.float64)
    mouth[:, columns] = weights[:, columns]
    level = None if samples is None else loudness(samples, times)
    out = weights.astype(np.float64)
    out[:, columns] = postprocess(mouth, rig, alignment, times, level, learned=True)[:, columns]
    return np.clip(out, 0, 1)


@lru_cache(maxsize=1)
def _default_head() -> Rig:
    return load_light_head()


def on_rig_of(animation: Animation, flow: JointFlow, weights: np.ndarray) -> np.ndarray:
    """Return the model's weights (M, R') on an animation's rig at its frames, (N, R).

    Its mouth is postprocessed by the animation's phones and sound. Shapes that the model does not have are those of the
    animation.
    """
    head, rig, alignment = _default_head(), animation.motion.rig, animation.alignment
    names, times = flow.network.config.shape_names, frame_times(len(animation.motion), animation.fps)
    whole = np.zeros((len(times), len(head.shape_names)))
    whole[:, [head.index[n] for n in names]] = resample_motion(weights, MOTION_RATE, times)
    finished = finish_mouth(whole, flow, head, alignment, animation.fps, animation.audio.samples)
    common = tuple(n for n in head.shape_names if n in rig.index)
    moved = rig.retarget(finished[:, [head.index[n] for n in common]], common)
    if alignment.phones:
        moved = seal_retargeted_bilabials(moved, rig, head, alignment, times)
    out = animation.weights.copy()
    columns = [rig.index[n] for n in names]
    out[:, columns] = moved[:, columns]
    return out


def style_of(animation: Animation, flow: JointFlow) -> Style:
    """Return the style in which an animation was made, where the model has it; else None, the mean of all."""
    settings = animation.provenance.settings
    try:
        return None if settings is None else resolve_style(flow.styles, settings.style)
    except InputError:
        return None


def voice_of(audio: Audio) -> np.ndarray | None:
    """Return the voice vector (256,) of a sound; None where it has too little speech or no encoder is installed."""
    try:
        return VoiceEncoder.load().encode(audio)
    except InputError:
        return None
