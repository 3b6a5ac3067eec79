"""Motion of other systems: vertices by frame, taken over as an animation or as key motions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kmtalk.animation import Animation
from kmtalk.exchange.vertex_motion import read_vertex_motion
from kmtalk.face.motion import Motion
from kmtalk.face.rig import Rig
from kmtalk.face.weight_solver import solve_weights
from kmtalk.keys import KeyMotions, locate_key_frames
from kmtalk.progress import Progress
from kmtalk.settings import Provenance
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import Audio


def animation_from_vertex_cache(path: Path, rig: Rig, audio: Audio, fps: float | None) -> Animation:
    """An animation of vertices by frame; its rig has one shape per frame, and it has no keys to edit.

    Args:
        path: A .npy file, (N, V, 3) or (N, 3V), positions or offsets from the neutral.
        rig: Rig of the mesh that the vertices belong to.
        audio: The sound.
        fps: Frames per second; None derives it from the durations of sound and motion.

    Raises:
        InputError: The file does not fit the mesh or the sound.
    """
    vertices = read_vertex_motion(path, rig.template, audio.duration, fps)
    names = tuple(f"frame_{n:05d}" for n in range(len(vertices.offsets)))
    frame_rig = Rig(rig.template, names, vertices.offsets, rig.upright_vertices)
    motion, alignment = Motion(frame_rig, np.eye(len(names), dtype=np.float32), vertices.fps), Alignment()
    keys = KeyMotions(locate_key_frames(alignment, len(names), vertices.fps), motion)
    return Animation(motion, alignment, keys, audio, Provenance(settings=None))


def import_key_motions(animation: Animation, path: Path, fps: float | None, progress: Progress) -> float:
    """Replace an animation's key motions by the poses of another system's motion at the key frames; all are pinned.

    The paper integrates FaceFormer, CodeTalker and SelfTalk in this way (supplement, Table 2).

    Args:
        animation: The animation whose `keys` are replaced in place.
        path: A .npy file on the same mesh, (N, V, 3) or (N, 3V), positions or offsets from the neutral.
        fps: Frames per second of the file; None derives it from the durations of sound and motion.
        progress: Receives the stage "solve".

    Returns:
        Root mean square in mm of the part of the poses that the rig's shapes cannot express.

    Raises:
        InputError: The file does not fit the mesh or the sound.
    """
    rig = animation.motion.rig
    vertices = read_vertex_motion(path, rig.template, animation.audio.duration, fps)
    with progress.stage("solve"):
        weights, residual = solve_weights(rig, vertices.interpolate(animation.keys.times))
    for frame, label, pose in zip(animation.keys.frames.tolist(), animation.keys.phone_labels, weights, strict=True):
        animation.keys.insert_key(frame, label, pose, pinned=True)
    return residual
