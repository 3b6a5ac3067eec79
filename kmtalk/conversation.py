"""Faces in a conversation: one that listens to a sound, and two that speak and listen in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soxr

from kmtalk.animation import Animation, load_animation
from kmtalk.dialogue_motion import Speaker, heard_speech
from kmtalk.errors import InputError
from kmtalk.expression.listener import ListenerSettings as ListenerLayer
from kmtalk.expression.listener import SeenSmile, listener_expression
from kmtalk.expression.mimicry import SMILE_SHAPES
from kmtalk.face.motion import Motion, frame_count, frame_times
from kmtalk.face.rig import Rig
from kmtalk.keys import KeyMotions, locate_key_frames
from kmtalk.listener_settings import LISTENER_FIELDS, DialogueSettings, ListenerSettings, reaction_of
from kmtalk.settings import AnimationSettings, Provenance, SoundSettings
from kmtalk.sound_input import read_speech, sound_settings_of
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import Audio, audio_from_samples, choose_channel
from kmtalk.speech.prosody import analyze_prosody, speech_activity

MOST_DURATION_DIFFERENCE = 0.1
"""Seconds by which the other's animation may be longer or shorter than the other's sound."""

OVERLAP_SHARE = 0.5
"""Share of the shorter speech in which both speak, from which on there may be no turns in the sounds."""

NEAR, FAR = 0.85, 0.45
"""Amplitude of a voice on its own side of the film and on the other."""


def listener_weights(
    rig: Rig,
    audio: Audio,
    other_face: str | Path | Animation | None,
    settings: ListenerSettings,
    warn: Callable[[str], None],
) -> np.ndarray:
    """Return the weights (N, R) of a face that listens, on the default head.

    Args:
        rig: The rig of the default head, with R shapes.
        audio: The sound that it listens to.
        other_face: The animation.npz of the face that it looks at, or that animation; None where it sees none.
        settings: How it listens.
        warn: Called with a line where there is no speech to listen to.

    Raises:
        InputError: The other face cannot be read, has no shapes of a smile, or lasts longer or shorter than the sound.
    """
    seen = None if other_face is None else _seen_smile(other_face, audio)
    heard = heard_speech(audio)
    if heard is None:
        warn(f"{audio.source}: no speech found in the sound: the face stays idle and does not react")
    layer = ListenerLayer(settings.nod, settings.head, settings.gaze, settings.emotion, settings.smile)
    times = frame_times(frame_count(audio.duration, settings.fps), settings.fps)
    rng = np.random.default_rng([settings.seed, 2])  # of the seed alone: what comes later in the sound changes nothing
    return listener_expression(heard, seen, times, layer, rng).weights(rig, times)


def listener_animation(motion: Motion, audio: Audio, settings: ListenerSettings) -> Animation:
    """The animation of a face that listens: it has no phones, and the other's sound for playback alone."""
    alignment = Alignment(status="silent")
    keys = KeyMotions(locate_key_frames(alignment, len(motion), settings.fps), motion)
    shared = {name: getattr(settings, name) for name in LISTENER_FIELDS}
    made = Provenance(
        settings=AnimationSettings.create(None, **shared),
        sound=sound_settings_of(audio),
        role="listener",
        reaction=reaction_of(settings),
    )
    return Animation(motion, alignment, keys, audio.unanalyzed(), made)


def load_other_face(other_face: str | Path | Animation, audio: Audio) -> Animation:
    """Load the animation of the one who is listened to.

    Raises:
        InputError: It cannot be read, or lasts longer or shorter than the sound.
    """
    name = _name_of(other_face)
    animation = other_face if isinstance(other_face, Animation) else load_animation(other_face)
    seconds = len(animation.motion) / animation.fps
    if abs(seconds - audio.duration) > MOST_DURATION_DIFFERENCE:
        raise InputError(
            f"{name}: lasts {seconds:.2f} s, {audio.source} {audio.duration:.2f} s; give the animation of that sound"
        )
    return animation


def _name_of(other_face: str | Path | Animation) -> str:
    return "the other face" if isinstance(other_face, Animation) else str(other_face)


def _seen_smile(other_face: str | Path | Animation, audio: Audio) -> SeenSmile:
    """The smile of the other's animation."""
    name, animation = _name_of(other_face), load_other_face(other_face, audio)
    index = animation.motion.rig.index
    if not all(shape in index for shape in SMILE_SHAPES):
        raise InputError(
            f"{name}: has no shapes {' and '.join(SMILE_SHAPES)}, by which a smile is seen; leave --other-face out"
        )
    weights = animation.weights[:, [index[shape] for shape in SMILE_SHAPES]]
    return SeenSmile((weights / animation.motion.rig.shape_gains(SMILE_SHAPES)).mean(axis=1), animation.fps)


def dialogue_animation(motion: Motion, voice: Speaker, settings: DialogueSettings, network_digest: str) -> Animation:
    """The animation of one face of a dialogue."""
    keys = locate_key_frames(voice.alignment, len(motion), settings.fps, settings.keys == "apex")
    fields = {name: getattr(settings, name) for name in AnimationSettings.model_fields} | {"emotion": voice.emotion}
    made = Provenance(
        settings=AnimationSettings.create(None, **fields),
        sound=sound_settings_of(voice.audio),
        network_digest=network_digest,
        role="dialogue",
        reaction=reaction_of(settings),
    )
    return Animation(motion, voice.alignment, KeyMotions(keys, motion), voice.audio, made)


def read_conversation(
    first: str | Path | Audio, second: str | Path | Audio | None, offset: float, sound: SoundSettings | None
) -> tuple[Audio, Audio]:
    """Read the sounds of a dialogue.

    Args:
        first: Sound of the first speaker, or a sound of two channels with one speaker in each.
        second: Sound of the second speaker; None where `first` has both.
        offset: Seconds at which `second` begins.
        sound: Track, and whether only speech counts.

    Returns:
        Two clips of the same sound, whose first channel is the first speaker and whose second is the other. Each has
        its own speaker's channel for analysis.

    Raises:
        InputError: A sound cannot be read, or one sound has not two channels that differ.
    """
    chosen = sound or SoundSettings()
    if second is None:
        if offset:
            raise InputError(f"offset {offset:g}: is for two sounds; the channels of one begin together")
        whole = read_speech(first, SoundSettings.create(chosen, channel="1"))
        _check_two_speakers(whole)
        samples, rate, sources, notes = whole.original, whole.original_rate, [whole.source] * 2, [whole.notes, ()]
    else:
        read = [read_speech(clip, sound) for clip in (first, second)]
        rate, sources = max(clip.original_rate for clip in read), [clip.source for clip in read]
        notes = [clip.notes for clip in read]
        parts = [_resampled(clip, rate) for clip in read]
        parts[1] = np.concatenate([np.zeros(round(offset * rate), np.float32), parts[1]])
        samples = np.zeros((max(map(len, parts)), 2), np.float32)
        for k, part in enumerate(parts):
            samples[: len(part), k] = part
    both = [
        audio_from_samples(
            samples, rate, source, channel=str(k), track=chosen.track, voice_only=chosen.voice_only, notes=told
        )
        for k, (source, told) in enumerate(zip(sources, notes, strict=True), 1)
    ]
    return both[0], both[1]


def _check_two_speakers(audio: Audio) -> None:
    channels = audio.original.shape[1]
    if channels != 2:
        raise InputError(
            f"{audio.source}: has {channels} channel{'s' * (channels > 1)}; a dialogue in one sound has two, one "
            "speaker in each; or give two sounds"
        )
    if np.array_equal(audio.original[:, 0], audio.original[:, 1]):
        raise InputError(f"{audio.source}: its two channels are the same; give a sound with one speaker in each")


def _resampled(audio: Audio, rate: int) -> np.ndarray:
    """The chosen channel of a sound as recorded, (S,) at `rate` Hz."""
    mono = choose_channel(audio.original, audio.channel, audio.source)
    return mono if audio.original_rate == rate else np.asarray(soxr.resample(mono, audio.original_rate, rate))


def overlap_warning(voices: Sequence[Speaker], fps: float) -> str | None:
    """A line for two who mostly speak at the same time, as two sounds do that were not recorded together; else None."""
    times = frame_times(len(voices[0].mouth), fps)
    talking = [_talking(voice, times) for voice in voices]
    least = min(t.sum() for t in talking)
    both = float(np.sum(talking[0] & talking[1]))
    if not least or both / least < OVERLAP_SHARE:
        return None
    names = " and ".join(dict.fromkeys(voice.audio.source for voice in voices))
    return f"{names}: both speak at once for {both / fps:.1f} s; --offset sets when the second of two sounds begins"


def _talking(voice: Speaker, times: np.ndarray) -> np.ndarray:
    if voice.audio.is_silent:
        return np.zeros(len(times), bool)
    return speech_activity(voice.alignment, analyze_prosody(voice.audio.samples), times) > 0.5


def film_sound(audio: Audio) -> Audio:
    """The sound of a dialogue for a film of both: each voice is louder on its own side, and heard on both."""
    mixed = audio.original @ np.array([[NEAR, FAR], [FAR, NEAR]], np.float32)
    peak = float(np.abs(mixed).max(initial=0))
    return replace(audio, original=mixed / max(peak, 1.0))
