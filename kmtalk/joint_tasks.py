"""What the joint model does for users: a span made anew, frames between edited keys, a voice for a moving face, and the
face of a sound.

Animations have their own frame rate and the joint model another (`kmtalk.joint.clock.MOTION_RATE`): what is not made
anew is never resampled. N frames of an animation, R shapes of its rig; mel frames and motion frames are the model's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import soxr

from kmtalk.animation import Animation
from kmtalk.errors import InputError
from kmtalk.expression.text_cues import split_text_cues
from kmtalk.face.motion import frame_count, frame_times, resample_motion
from kmtalk.face.rig import Rig
from kmtalk.joint.clock import HOP_SAMPLES, MEL_RATE, MOTION_RATE, SAMPLE_RATE
from kmtalk.joint.clock import MEL_FRAMES_PER_MOTION_FRAME as STEP
from kmtalk.joint.joint_flow import JointFlow, Known, Style, frames_of, silent_mel
from kmtalk.joint.motion_stream import is_mouth
from kmtalk.joint.reading import align_phones, read_phones
from kmtalk.joint.text import phones_of_text
from kmtalk.joint.tokens import Span, alignment_of_spans, spans_of_alignment
from kmtalk.joint.vocoder import Vocoder
from kmtalk.joint_conversion import (
    finish_mouth,
    heard_mel,
    level_gain,
    mel_of_samples,
    motion_at_model_rate,
    mouth_shapes,
    on_rig_of,
    style_of,
    voice_of,
)
from kmtalk.keys import KeyMotions, locate_key_frames
from kmtalk.motion.key_editing import apply_key_change, edit_window, find_edits
from kmtalk.settings import SoundSettings
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import MIX, Audio, audio_from_samples, choose_channel
from kmtalk.speech.audio import SAMPLE_RATE as ANALYSIS_RATE
from kmtalk.speech.spoken_text import parse_spoken_text

Part = Literal["both", "face", "sound"]

SHORTEST_SPAN = 0.1  # seconds
FADE_SECONDS = 0.01  # over which made sound is cross-faded with the sound around it
EASE_FRAMES = 3  # of an animation, over which a span that is made anew leaves the frames around it


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
        InputError: The span lies outside the clip or is shorter than `SHORTEST_SPAN`, the face listens to another's
            sound, or the rig lacks shapes.
    """
    check_span(animation, start, stop)
    if animation.provenance.role == "listener":
        raise InputError(f"{animation.audio.source}: the face listens to another's sound; give one that speaks")
    duration, audio = animation.audio.duration, animation.audio
    frames = frames_of(duration)
    times, motion_times = frame_times(frames, MEL_RATE), frame_times(frames // STEP, MOTION_RATE)
    outside = (motion_times < start) | (motion_times >= stop)
    voice = np.asarray(soxr.resample(_channel(audio), audio.original_rate, SAMPLE_RATE), np.float32)
    gain = level_gain(np.asarray(soxr.resample(voice, SAMPLE_RATE, ANALYSIS_RATE)))
    heard = np.ones(frames, bool) if part == "face" else (times < start) | (times >= stop)
    characters = flow.characters_of(audio.samples, frames)
    known = Known(
        spans_of_alignment(animation.alignment, duration),
        mel_of_samples(voice * gain, frames),
        heard,
        motion_at_model_rate(animation, flow, frames),
        np.repeat(outside[:, None], len(flow.network.config.channels), 1) if part != "sound" else None,
        characters=None if characters is None else characters * heard[:, None],
    )
    speaker = None if part == "face" else voice_of(audio)
    made = flow.sample(frames, known, voice=speaker, style=style_of(animation, flow), seed=seed)
    out = animation
    if part != "face":
        assert vocoder is not None
        out = replace(out, audio=_with_sound(audio, made.mel, gain, vocoder, start, stop))
    if part != "sound":
        weights = animation.weights.copy()
        at = frame_times(len(animation.motion), animation.fps)
        inside = np.flatnonzero((at >= start) & (at < stop))
        sampled = on_rig_of(out, flow, made.weights)
        if len(inside):
            weights[inside] = _eased(sampled, animation.weights, int(inside[0]), int(inside[-1]) + 1)
        out = replace(out, motion=replace(animation.motion, weights=weights))
        out = replace(out, keys=animation.keys.with_poses_from(out.motion))
    return _made_jointly(out)


def check_span(animation: Animation, start: float, stop: float) -> None:
    """Raise InputError where a span in seconds is too short, or lies outside an animation."""
    duration = animation.audio.duration
    if not 0 <= start < stop <= duration + 1e-6:
        raise InputError(f"the span from {start:g} to {stop:g} s does not lie in the clip, which has {duration:.2f} s")
    if stop - start < SHORTEST_SPAN:
        raise InputError(f"the span from {start:g} to {stop:g} s is shorter than {SHORTEST_SPAN:g} s")


def _eased(sampled: np.ndarray, base: np.ndarray, first: int, end: int) -> np.ndarray:
    """Return frames [first, end) of `sampled` (N, R), which leave the frames of `base` around them without a step.

    The frames around them were known to the model, but come back from its frame rate slightly changed: that change is
    taken from the first and the last frames.
    """
    out = sampled[first:end].copy()
    for k in range(min(EASE_FRAMES, end - first)):
        left = 1 - (k + 1) / (EASE_FRAMES + 1)
        if first > 0:
            out[k] += left * (base[first - 1] - sampled[first - 1])
        if end < len(base):
            out[-1 - k] += left * (base[end] - sampled[end])
    return np.clip(out, 0, 1)


def complete_keys(animation: Animation, flow: JointFlow, seed: int = 0) -> Animation:
    """Complete an animation after its keys were edited: the joint model fills the frames between the keys.

    The model samples twice with the same noise: with the former poses of the keys around the edits, and with the edited
    ones; all other frames, and what is not the mouth, are known. The difference is added to the motion, as that of CMC
    is (`kmtalk.motion.key_editing`).

    Args:
        animation: An animation whose keys may have been edited; returned unchanged where none was.
        flow: The joint model.
        seed: Seed of the samples.

    Returns:
        A new animation that meets the pinned keys exactly.

    Raises:
        InputError: The rig lacks shapes of the joint model.
    """
    base, keys, count, fps = animation.weights, animation.keys, len(animation.motion), animation.fps
    changed, edited = find_edits(keys, base)
    if not edited:
        return animation
    window = edit_window(edited, np.union1d(keys.original_frames, keys.frames), count, fps)
    total = frames_of(animation.audio.duration)
    config = flow.network.config
    motion_times = frame_times(total // STEP, MOTION_RATE)
    free = window[np.clip(np.floor(motion_times * fps).astype(int), 0, count - 1)] > 0
    sound, characters = heard_mel(animation.audio, total), flow.characters_of(animation.audio.samples, total)
    spans = spans_of_alignment(animation.alignment, animation.audio.duration)
    flow.check_rig(animation.motion.rig)
    names = mouth_shapes(flow)
    mouth = [config.shape_names.index(n) for n in names]
    columns = [animation.motion.rig.index[n] for n in names]
    scale = np.maximum(animation.motion.rig.shape_gains(tuple(names)), 1e-6)

    def sampled(frames: np.ndarray, poses: np.ndarray) -> np.ndarray:
        given = motion_at_model_rate(animation, flow, total)
        at = np.clip(np.floor((frames + 0.5) / fps * MOTION_RATE).astype(int), 0, len(given) - 1)
        given[np.ix_(at, mouth)] = np.clip(poses[:, columns] / scale, 0, 1)
        known = np.repeat(~free[:, None], len(config.channels), 1)
        known[at] = True
        known[:, ~is_mouth(config.channels)] = True
        made = flow.sample(
            total,
            Known(spans, sound, None, given, known, characters=characters),
            style=style_of(animation, flow),
            seed=seed,
        )
        return on_rig_of(animation, flow, made.weights)

    edited_poses = np.where(changed[:, None], keys.poses, base[keys.frames])
    difference = sampled(keys.frames, edited_poses) - sampled(keys.original_frames, base[keys.original_frames])
    delta = np.zeros(base.shape)
    delta[:, columns] = difference[:, columns] * window[:, None]
    out = apply_key_change(animation.motion, animation.alignment, keys, delta)
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
        text: What the face says, in English, with cues and speakers' names as for `kmtalk speak`, which are not spoken.
        voice: Voice vector (256,); None for `JointFlow.default_voice`.
        seed: Seed of the sample.

    Returns:
        The animation with the same motion, another sound of the same length and its alignment.

    Raises:
        InputError: The text has nothing to speak or too much for the motion, or the rig lacks shapes.
    """
    frames = frames_of(animation.audio.duration)
    weights = motion_at_model_rate(animation, flow, frames)
    voice = flow.default_voice if voice is None else voice
    phones = phones_of_text(split_text_cues(parse_spoken_text(text).text, "en")[0])
    expected = flow.durations(phones.spans, voice=voice)
    spans = align_phones(read_phones(flow.network, weights), expected)
    made = flow.sample(frames, Known(spans, weights=weights), voice=voice, style=style_of(animation, flow), seed=seed)
    length = round(animation.audio.duration * SAMPLE_RATE)
    samples = vocoder.synthesize(made.mel)[:length]
    audio = audio_from_samples(np.pad(samples, (0, length - len(samples))), SAMPLE_RATE, "voice")
    alignment = alignment_of_spans(spans, "joint model, from the motion", phones.words)
    keys = KeyMotions(locate_key_frames(alignment, len(animation.motion), animation.fps), animation.motion)
    made_jointly = _made_jointly(animation).provenance.model_copy(update={"sound": SoundSettings()})
    return replace(animation, audio=audio, alignment=alignment, keys=keys, provenance=made_jointly)


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
        The sound at 22,050 Hz, its phones and words, and weights (N, R) of the whole face, whose mouth is postprocessed
        by the phones.

    Raises:
        InputError: The text has nothing to speak, or there is no such style.
    """
    voice = flow.default_voice if voice is None else voice
    phones = phones_of_text(text)
    spans = flow.durations(phones.spans, voice=voice, style=style, rate=rate)
    made = flow.sample(spans[-1].stop, Known(spans), voice=voice, style=style, seed=seed)
    audio = audio_from_samples(np.clip(vocoder.synthesize(made.mel), -1, 1), SAMPLE_RATE, "speech")
    alignment = alignment_of_spans(spans, "joint model", phones.words)
    out = _at_frame_rate(made.weights, flow, rig, frame_count(audio.duration, fps), fps)
    return audio, alignment, finish_mouth(out, flow, rig, alignment, fps, audio.samples)


def _at_frame_rate(weights: np.ndarray, flow: JointFlow, rig: Rig, count: int, fps: float) -> np.ndarray:
    """Return the model's weights (M, R') on the default head at `count` frames."""
    out = np.zeros((count, len(rig.shape_names)))
    columns = [rig.index[n] for n in flow.network.config.shape_names]
    out[:, columns] = resample_motion(weights, MOTION_RATE, frame_times(count, fps))
    return out


def face_of_sound(
    flow: JointFlow,
    rig: Rig,
    audio: Audio,
    alignment: Alignment,
    fps: float,
    style: Style = None,
    seed: int = 0,
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

    Returns:
        Weights (N, R) of mouth, jaw and tongue, postprocessed by the phones; the others are zero, and all for silence.

    Raises:
        InputError: The style is unknown, or the rig lacks shapes of the joint model.
    """
    flow.check_rig(rig)
    count = frame_count(audio.duration, fps)
    if audio.is_silent:
        return np.zeros((count, len(rig.shape_names)))
    frames = frames_of(audio.duration)
    spans = spans_of_alignment(alignment, audio.duration)
    known = Known(spans, heard_mel(audio, frames), characters=flow.characters_of(audio.samples, frames))
    made = flow.sample(frames, known, style=style, seed=seed)
    out = finish_mouth(_at_frame_rate(made.weights, flow, rig, count, fps), flow, rig, alignment, fps, audio.samples)
    mouth = np.zeros(out.shape[1], bool)
    mouth[[rig.index[n] for n in mouth_shapes(flow)]] = True
    return np.where(mouth, out, 0.0)


def face_of_listener(
    flow: JointFlow, rig: Rig, other: Audio, other_face: Animation | None, fps: float, seed: int = 0
) -> np.ndarray:
    """Sample the face of one who listens.

    Args:
        flow: A joint model that listens (`JointConfig.listens`).
        rig: The default head's rig.
        other: The sound of the one who speaks.
        other_face: The animation of the one who speaks, as long as the sound; None where it is not seen.
        fps: Frames per second of the result.
        seed: Seed of the sample.

    Returns:
        Weights (N, R) of the whole face.

    Raises:
        InputError: The model does not listen, or a rig lacks its shapes.
    """
    flow.check_rig(rig)
    frames = frames_of(other.duration)
    seen = None if other_face is None else motion_at_model_rate(other_face, flow, frames)
    silence = [Span("SIL", 0, frames, 0)]
    known = Known(silence, silent_mel(frames), other_mel=heard_mel(other, frames), other_weights=seen)
    made = flow.sample(frames, known, seed=seed)
    return np.clip(_at_frame_rate(made.weights, flow, rig, frame_count(other.duration, fps), fps), 0, 1)


def _channel(audio: Audio) -> np.ndarray:
    """Return the voice (S',) at the rate of the recording: the chosen channel, or the mix of all."""
    return choose_channel(audio.original, audio.channel, audio.source)


def _channel_shares(audio: Audio) -> np.ndarray:
    """Return how loud the voice is in each of the C channels, (C,), relative to `_channel`."""
    voice = _channel(audio).astype(np.float64)
    power = max(float(voice @ voice), 1e-12)
    shares: np.ndarray = audio.original.T.astype(np.float64) @ voice / power
    if audio.channel != MIX:
        shares = np.where(np.isclose(shares, 1.0, atol=1e-6), shares, 0.0)
    return shares


def _with_sound(audio: Audio, mel: np.ndarray, gain: float, vocoder: Vocoder, start: float, stop: float) -> Audio:
    """Replace the voice from `start` to `stop` by that of the mel spectrogram of the whole clip, which is `gain` times
    as loud."""
    rate, total = audio.original_rate, len(audio.original)
    first = max(0, int(start * MEL_RATE) - vocoder.context)
    last = min(len(mel), int(np.ceil(stop * MEL_RATE)) + vocoder.context)
    sound = soxr.resample(vocoder.synthesize(mel[first:last]), SAMPLE_RATE, rate) / gain
    offset = round(first * HOP_SAMPLES / SAMPLE_RATE * rate)
    begin, end = round(start * rate), min(round(stop * rate), total)
    new = sound[begin - offset : end - offset]
    end = begin + len(new)
    fade = min(round(FADE_SECONDS * rate), len(new) // 2)
    share = np.ones(len(new), np.float32)
    if begin > 0:  # at the clip's own ends there is nothing to fade into
        share[:fade] = np.linspace(0, 1, fade, endpoint=False)
    if end < total:
        share[len(new) - fade :] = np.linspace(1, 0, fade, endpoint=False)
    original = audio.original.copy()
    for c, loudness_share in enumerate(_channel_shares(audio)):
        if loudness_share:
            original[begin:end, c] = share * loudness_share * new + (1 - share) * original[begin:end, c]
    return audio_from_samples(
        original, rate, audio.source, channel=audio.channel, track=audio.track, voice_only=audio.voice_only
    )
