"""Point caches: PC2 (3ds Max, Blender), MDD (LightWave, Maya, Blender) and OBJ sequences.

PC2 and MDD hold positions only; each is written with the neutral mesh as OBJ, in the same vertex order.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.motion import Motion
from kmtalk.face.template import write_obj


def write_pc2(path: Path, motion: Motion) -> None:
    """Write PC2 version 1: little-endian float32 positions, one sample per frame, sample n on frame n."""
    with path.open("wb") as file:
        vertices = len(motion.rig.template.vertices)
        file.write(struct.pack("<12siiffi", b"POINTCACHE2\0", 1, vertices, 0.0, 1.0, len(motion)))
        for chunk in motion.vertex_chunks():
            file.write(np.ascontiguousarray(chunk, "<f4").tobytes())


def write_mdd(path: Path, motion: Motion) -> None:
    """Write MDD: big-endian, the times n / fps in seconds, then float32 positions per frame."""
    with path.open("wb") as file:
        file.write(struct.pack(">ii", len(motion), len(motion.rig.template.vertices)))
        file.write((np.arange(len(motion)) / motion.fps).astype(">f4").tobytes())
        for chunk in motion.vertex_chunks():
            file.write(np.ascontiguousarray(chunk, ">f4").tobytes())


NEUTRAL_COMMENT = "neutral; kmtalk"


def write_neutral_obj(path: Path, motion: Motion) -> None:
    """Write the neutral mesh that a point cache deforms, as OBJ."""
    write_obj(path, motion.rig.template, comment=NEUTRAL_COMMENT)


def neutral_path(path: Path) -> Path:
    """Return where the neutral mesh of a point cache is written: face-neutral.obj beside face.pc2."""
    return path.with_name(f"{path.stem}-neutral.obj")


def is_neutral_obj(path: Path) -> bool:
    """Return whether a file is a neutral mesh that `write_neutral_obj` wrote."""
    with path.open("rb") as file:
        return file.readline(80).rstrip() == f"# {NEUTRAL_COMMENT}".encode()


def sequence_path(path: Path, frame: int) -> Path:
    """Insert a frame number: face.####.obj and 7 give face.0007.obj. Raises InputError for a name without #."""
    placeholder = re.search(r"#+", path.name)
    if placeholder is None:
        raise InputError(
            f"{path}: the name of an OBJ sequence needs #### for the frame number, such as {path.stem}.####.obj"
        )
    return path.with_name(
        f"{path.name[: placeholder.start()]}{frame:0{len(placeholder[0])}d}{path.name[placeholder.end() :]}"
    )


def write_obj_sequence(path: Path, motion: Motion) -> None:
    """Write one OBJ per frame, numbered from 0; the name of `path` contains #### for the frame number."""
    template, frame = motion.rig.template, 0
    lines = "".join(f"f {a} {b} {c}\n" for a, b, c in template.faces + 1)
    for chunk in motion.vertex_chunks():
        for vertices in chunk:
            with sequence_path(path, frame).open("w", encoding="utf-8", newline="\n") as file:
                np.savetxt(file, vertices, "v %.7g %.7g %.7g")
                file.write(lines)
            frame += 1
