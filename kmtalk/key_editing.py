"""Edited keys: an animation whose key motions were edited in Python or in keys.json, and its completion."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from kmtalk.animation import Animation
from kmtalk.errors import InputError
from kmtalk.exchange.keys_json import KeyFile, apply_key_edits, content_digest
from kmtalk.motion.key_editing import update_edited_motion
from kmtalk.motion.predictor import MotionPredictor
from kmtalk.motion.styles import resolve_style, style_mixture
from kmtalk.progress import Progress


def complete_animation(animation: Animation, predictor: MotionPredictor, progress: Progress) -> Animation:
    """Complete an animation after its keys were edited.

    Args:
        animation: An animation whose `keys` may have been edited; returned unchanged where none was.
        predictor: The network whose CMC follows edited keys.
        progress: Receives the stages "encode" and "complete".

    Returns:
        A new animation that meets the pinned keys exactly (see `kmtalk.motion.key_editing`).

    Raises:
        InputError: The animation consists of imported vertices, which have no keys.
    """
    settings = animation.provenance.settings
    if settings is None:
        raise InputError("imported vertices have no keys to edit (--import-motion makes keys of them)")
    with progress.stage("encode"):
        features = predictor.encode_audio(animation.audio)
    with progress.stage("complete"):
        style = settings.style if settings.motion == "network" else None
        weights = update_edited_motion(
            animation.motion,
            animation.alignment,
            animation.keys,
            predictor.network,
            features,
            style_mixture(predictor.network.config.styles, resolve_style(predictor.network.config.styles, style)),
            animation.audio.duration,
        )
        completed = replace(animation.motion, weights=weights)
    return replace(animation, motion=completed, keys=animation.keys.with_poses_from(completed))


def apply_key_file(file: KeyFile, path: Path, base: Animation) -> Animation:
    """The animation `base` with the edits of a keys.json that was written for the same clip.

    Args:
        file: Contents of the keys.json.
        path: Its path, for messages.
        base: The animation before the edits.

    Raises:
        InputError: The file was written for another clip, sound or mesh, or names shapes that the rig lacks.
    """
    # 29.97 may stand for 30000/1001
    if len(base.motion) != file.frames or not math.isclose(base.fps, file.fps, rel_tol=1e-5):
        raise InputError(
            f"{path}: belongs to a clip of {file.frames} frames at {file.fps:g} fps, not to {base.audio.source} "
            f"({len(base.motion)} at {base.fps:g})"
        )
    for kind, recorded, actual, remedy in (
        ("sound", file.audio_digest, content_digest(base.audio.original), "give the sound that it was made from"),
        (
            "mesh",
            file.mesh_digest,
            content_digest(base.template.vertices),
            f"give its mesh ({file.template}) with --template",
        ),
    ):
        if recorded and recorded != actual:
            raise InputError(f"{path}: belongs to another {kind}; {remedy}")
    return replace(base, keys=apply_key_edits(file, path, base.motion))
