"""What the joint model does for users: a span made anew, frames between edited keys, a voice for a moving face, and the
face of a sound.

Animations have their own frame rate and the joint model another (`kmtalk.joint.clock.MOTION_RATE`): what is not made
anew is never resampled. N frames of an animation, R shapes of its rig; mel frames and motion frames are the model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import soxr

from kmtalk.animation import Animation
from kmtalk.errors import InputError
from kmtalk.face.motion import frame_count, frame_times, resample_motion
from kmtalk.face.rig import Rig
from kmtalk.joint.clock import HOP_SAMPLES, MEL_RATE, MOTION_RATE, SAMPLE_RATE
from kmtalk.joint.clock import MEL_FRAMES_PER_MOTION_FRAME as STEP
from kmtalk.joint.joint_flow import JointFlow, Known, Style, frames_of
from kmtalk.joint.mel import mel_spectrogram
from kmtalk.joint.motion_stream import is_mouth
from kmtalk.joint.reading import align_phones, read_phones
from kmtalk.joint.text import phones_of_text
from kmtalk.joint.tokens import alignment_of_spans, spans_of_alignment
from kmtalk.joint.vocoder import Vocoder
from kmtalk.keys import KeyMotions, locate_key_frames
from kmtalk.motion.key_editing import find_edits, interpolate_key_edits
from kmtalk.motion.postprocessing import postprocess
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import Audio, audio_from_samples
from kmtalk.speech.prosody import loudness

Part = Literal["both", "face", "sound"]

SHORTEST_SPAN = 0.1  # seconds
FADE_SECONDS = 0.01  # over which made sound is cross-faded with the sound around it
KEY_WINDOW_SECONDS = 0.5  # beyond the keys next to an edit, frames stay as they were
FACE_DRAWS = 4
"""Samples whose mean is the face of a sound: nearer to the true lips than one (DESIGN: a third of the error less)."""


def fill_span(
    animation: Animation,
    flow: JointFlow,
    vocoder: Vocoder | None,
    start: float,
    stop: float,
    part: Part = "both",
    seed: int = 0,
) -> Animation:
    """Make a span of an animation anew so that it fits what is around it.

    Args:
        animation: The animation, on a rig with the shapes of the default head.
        flow: The joint model.
        vocoder: Turns the sound's mel spectrogram into sound; not needed for part "face".
        start: Start of the span in seconds.
        stop: End of the span in seconds.
        part: What is made anew.
        seed: Seed of the sample.

    Returns:
        The animation; frames and samples outside the span are bit for bit those that were given.

    Raises:
        InputError: The span lies outside the clip or is shorter than `SHORTEST_SPAN`, or the rig lacks shapes.
    """
    check_span(animation, start, stop)
    duration = animation.audio.duration
    frames = frames_of(duration)
    times, motion_times = frame_times(frames, MEL_RATE), frame_times(frames // STEP, MOTION_RATE)
    mel_known = (times < start) | (times >= stop)
    outside = (motion_times < start) | (motion_times >= stop)
    motion_known = np.repeat(outside[:, None], len(flow.network.config.channels), 1)
    known = Known(
        spans_of_alignment(animation.alignment, duration),
        mel_of(animation.audio, frames),
        mel_known if part != "face" else None,
        motion_at_model_rate(animation, flow, frames),
        motion_known if part != "sound" else None,
    )
    made = flow.sample(frames, known, voice=None, seed=seed)
    out = animation
    if part != "sound":
        inside = (frame_times(len(animation.motion), animation.fps) >= start) & (
            frame_times(len(animation.motion), animation.fps) < stop
        )
        weights = animation.weights.copy()
        weights[inside] = _finished(made.weights, animation, flow)[inside]
        out = replace(out, motion=replace(animation.motion, weights=weights))
        out = replace(out, keys=animation.keys.with_poses_from(out.motion))
    if part != "face":
        assert vocoder is not None
        out = replace(out, audio=_with_sound(animation.audio, made.mel, vocoder, start, stop))
    return _made_jointly(out)


def check_span(animation: Animation, start: float, stop: float) -> None:
    """Raise InputError where a span in seconds is too short, or lies outside an animation."""
    duration = animation.audio.duration
    if not 0 <= start < stop <= duration + 1e-6:
        raise InputError(f"the span from {start:g} to {stop:g} s does not lie in the clip, which has {duration:.2f} s")
    if stop - start < SHORTEST_SPAN:
        raise InputError(f"the span from {start:g} to {stop:g} s is shorter than {SHORTEST_SPAN:g} s")


def complete_keys(animation: Animation, flow: JointFlow, seed: int = 0) -> Animation:
    """Complete an animation after its keys were edited: the joint model fills the frames between the keys.

    The frames between an edited key and the keys next to it, and up to `KEY_WINDOW_SECONDS` beyond these, are unknown
    but for the poses of the keys; all others, and what is not the mouth, are known.

    Args:
        animation: An animation whose keys may have been edited; returned unchanged where none was.
        flow: The joint model.
        seed: Seed of the sample.

    Returns:
        A new animation that meets the pinned keys exactly.

    Raises:
        InputError: The rig lacks shapes of the joint model.
    """
    base, keys, count = animation.weights, animation.keys, len(animation.motion)
    frames, poses, fps = keys.frames, keys.poses, animation.fps
    _, edited = find_edits(keys, base)
    if not edited:
        return animation
    free = np.zeros(count, bool)
    margin = round(KEY_WINDOW_SECONDS * fps)
    for frame in edited:
        low = int(frames[max(int(np.searchsorted(frames, frame)) - 1, 0)])
        high = int(frames[min(int(np.searchsorted(frames, frame, side="right")), len(frames) - 1)])
        free[max(low - margin, 0) : high + margin + 1] = True
    total = frames_of(animation.audio.duration)
    config = flow.network.config
    target = animation.weights.copy()
    target[frames] = poses
    given = motion_at_model_rate(replace(animation, motion=replace(animation.motion, weights=target)), flow, total)
    at = np.clip(np.floor(frame_times(total // STEP, MOTION_RATE) * fps).astype(int), 0, count - 1)
    key_at = np.clip(np.floor((frames + 0.5) / fps * MOTION_RATE).astype(int), 0, total // STEP - 1)
    columns = [animation.motion.rig.index[n] for n in config.shape_names]
    given[key_at] = poses[:, columns]
    motion_known = np.repeat(~free[at][:, None], len(config.channels), 1)
    motion_known[key_at] = True
    motion_known[:, ~is_mouth(config.channels)] = True
    spans = spans_of_alignment(animation.alignment, animation.audio.duration)
    made = flow.sample(
        total, Known(spans, mel_of(animation.audio, total), None, given, motion_known), seed=seed, draws=FACE_DRAWS
    )
    out = base.copy()
    mouth = [animation.motion.rig.index[n] for n in _mouth_shapes(flow)]
    sampled = _finished(made.weights, animation, flow)
    for column in mouth:
        out[free, column] = sampled[free, column]
    remaining = np.where(keys.pinned[:, None] | free[frames][:, None], poses - out[frames], 0.0)
    out = np.clip(out + interpolate_key_edits(remaining, frames, count), 0, 1).astype(np.float32)
    out[~free] = base[~free]
    out[frames[keys.pinned]] = poses[keys.pinned]
    completed = replace(animation.motion, weights=out)
    return _made_jointly(replace(animation, motion=completed, keys=keys.with_poses_from(completed)))


def voice_for_face(
    animation: Animation,
    flow: JointFlow,
    vocoder: Vocoder,
    text: str,
    voice: np.ndarray | None = None,
    seed: int = 0,
) -> Animation:
    """Give a face that already moves a voice in time with its mouth.

    Phones are read from the motion and matched with those of the text; the sound is sampled with the motion known.

    Args:
        animation: The animation; its sound is replaced.
        flow: The joint model.
        vocoder: Turns the mel spectrogram into sound.
        text: What the face says, in English.
        voice: Voice vector (256,); None for `JointFlow.default_voice`.
        seed: Seed of the sample.

    Returns:
        The animation with the same motion, another sound and its alignment.

    Raises:
        InputError: The text has nothing to speak or too much for the motion, or the rig lacks shapes.
    """
    frames = frames_of(animation.audio.duration)
    weights = motion_at_model_rate(animation, flow, frames)
    voice = flow.default_voice if voice is None else voice
    phones = phones_of_text(text)
    expected = flow.durations(phones.spans, voice=voice)
    spans = align_phones(read_phones(flow.network, weights), expected)
    made = flow.sample(frames, Known(spans, weights=weights), voice=voice, seed=seed)
    samples = vocoder.synthesize(made.mel)[: round(animation.audio.duration * SAMPLE_RATE)]
    audio = audio_from_samples(samples, SAMPLE_RATE, animation.audio.source)
    alignment = alignment_of_spans(spans, "joint model, from the motion", phones.words)
    count, fps = len(animation.motion), animation.fps
    keys = KeyMotions(locate_key_frames(alignment, count, fps), animation.motion)
    return _made_jointly(replace(animation, audio=audio, alignment=alignment, keys=keys))


def _made_jointly(animation: Animation) -> Animation:
    """Record that the sound alone does not give this motion again."""
    return replace(animation, provenance=animation.provenance.model_copy(update={"role": "joint"}))


def speak_text(
    flow: JointFlow,
    vocoder: Vocoder,
    rig: Rig,
    text: str,
    fps: float,
    rate: float = 1.0,
    voice: np.ndarray | None = None,
    style: Style = None,
    seed: int = 0,
) -> tuple[Audio, Alignment, np.ndarray]:
    """Speak a text: sound and face in one sample.

    Args:
        flow: The joint model.
        vocoder: Turns the mel spectrogram into sound.
        rig: The default head's rig.
        text: The text, in English.
        fps: Frames per second of the motion.
        rate: Factor of the speaking rate.
        voice: Voice vector (256,); None for `JointFlow.default_voice`.
        style: Name of a style of the joint model, shares by name, or None for the mean of all.
        seed: Seed of the sample.

    Returns:
        The sound at 22,050 Hz, its phones and words, and weights (N, R) of the whole face, postprocessed by the phones.

    Raises:
        InputError: The text has nothing to speak, or there is no such style.
    """
    voice = flow.default_voice if voice is None else voice
    phones = phones_of_text(text)
    spans = flow.durations(phones.spans, voice=voice, style=style, rate=rate)
    made = flow.sample(spans[-1].stop, Known(spans), voice=voice, style=style, seed=seed)
    audio = audio_from_samples(np.clip(vocoder.synthesize(made.mel), -1, 1), SAMPLE_RATE, "speech")
    alignment = alignment_of_spans(spans, "joint model", phones.words)
    times = frame_times(frame_count(audio.duration, fps), fps)
    out = np.zeros((len(times), len(rig.shape_names)))
    out[:, [rig.index[n] for n in flow.network.config.shape_names]] = resample_motion(made.weights, MOTION_RATE, times)
    return audio, alignment, np.clip(postprocess(out, rig, alignment, times, loudness(audio.samples, times)), 0, 1)


def face_of_sound(
    flow: JointFlow,
    rig: Rig,
    audio: Audio,
    alignment: Alignment,
    fps: float,
    style: Style = None,
    seed: int = 0,
    draws: int = FACE_DRAWS,
) -> np.ndarray:
    """Sample the mouth of a sound.

    Args:
        flow: The joint model.
        rig: The default head's rig.
        audio: The sound.
        alignment: Its phones; without any, the sound alone is followed.
        fps: Frames per second of the result.
        style: Name of a style of the joint model, shares by name, or None for the mean of all.
        seed: Seed of the sample.
        draws: Samples whose mean is returned.

    Returns:
        Weights (N, R) of mouth, jaw and tongue, postprocessed by the phones; the others are zero, and all for silence.

    Raises:
        InputError: The style is unknown, or the rig lacks shapes of the joint model.
    """
    flow.check_rig(rig)
    times = frame_times(frame_count(audio.duration, fps), fps)
    if audio.is_silent:
        return np.zeros((len(times), len(rig.shape_names)))
    frames = frames_of(audio.duration)
    spans = spans_of_alignment(alignment, audio.duration) if alignment.phones else []
    made = flow.sample(frames, Known(spans, mel_of(audio, frames)), style=style, seed=seed, draws=draws)
    out = np.zeros((len(times), len(rig.shape_names)))
    names = _mouth_shapes(flow)
    columns = [flow.network.config.shape_names.index(n) for n in names]
    out[:, [rig.index[n] for n in names]] = resample_motion(made.weights[:, columns], MOTION_RATE, times)
    return postprocess(out, rig, alignment, times, loudness(audio.samples, times))


def mel_of(audio: Audio, frames: int) -> np.ndarray:
    """Return the mel spectrogram (`frames`, 80) of a clip, all its channels mixed; beyond its end is silence."""
    mono = np.asarray(soxr.resample(audio.playback().mean(1), audio.original_rate, SAMPLE_RATE), np.float32)
    wanted = frames * HOP_SAMPLES
    return mel_spectrogram(np.pad(mono[:wanted], (0, max(0, wanted - len(mono)))))


def motion_at_model_rate(animation: Animation, flow: JointFlow, frames: int) -> np.ndarray:
    """Return an animation's weights by the shapes of the joint model at its rate, (frames / 3, R).

    Raises:
        InputError: The animation's rig lacks shapes of the joint model.
    """
    names, rig = flow.network.config.shape_names, animation.motion.rig
    flow.check_rig(rig)
    times = frame_times(frames // STEP, MOTION_RATE)
    weights = animation.weights[:, [rig.index[n] for n in names]]
    return np.clip(resample_motion(weights, animation.fps, times), 0, 1).astype(np.float32)


def _mouth_shapes(flow: JointFlow) -> list[str]:
    channels = flow.network.config.channels
    return [name for name, mouth in zip(channels, is_mouth(channels), strict=True) if mouth]


def _finished(weights: np.ndarray, animation: Animation, flow: JointFlow) -> np.ndarray:
    """Return the model's weights at the animation's frames and by its shapes, postprocessed by its phones."""
    rig, times = animation.motion.rig, frame_times(len(animation.motion), animation.fps)
    out = np.zeros((len(times), len(rig.shape_names)))
    names: Sequence[str] = flow.network.config.shape_names
    out[:, [rig.index[n] for n in names]] = resample_motion(weights, MOTION_RATE, times)
    level = loudness(animation.audio.samples, times)
    return np.clip(postprocess(out, rig, animation.alignment, times, level), 0, 1).astype(np.float32)


def _with_sound(audio: Audio, mel: np.ndarray, vocoder: Vocoder, start: float, stop: float) -> Audio:
    """Replace the sound from `start` to `stop` by that of the mel spectrogram of the whole clip."""
    first = max(0, int(start * MEL_RATE) - vocoder.context)
    last = min(len(mel), int(np.ceil(stop * MEL_RATE)) + vocoder.context)
    sound = soxr.resample(vocoder.synthesize(mel[first:last]), SAMPLE_RATE, audio.original_rate)
    offset = round(first * HOP_SAMPLES / SAMPLE_RATE * audio.original_rate)
    begin, end = round(start * audio.original_rate), min(round(stop * audio.original_rate), len(audio.original))
    new = sound[begin - offset : end - offset]
    end = begin + len(new)
    fade = min(round(FADE_SECONDS * audio.original_rate), len(new) // 2)
    share = np.ones(len(new), np.float32)
    share[:fade] = np.linspace(0, 1, fade, endpoint=False)
    share[len(new) - fade :] = np.linspace(1, 0, fade, endpoint=False)
    original = audio.original.copy()
    original[begin:end] = share[:, None] * new[:, None] + (1 - share[:, None]) * original[begin:end]
    return audio_from_samples(original, audio.original_rate, audio.source, channel=audio.channel)
