"""The output formats: how a file name selects one, and the functions that write them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from kmtalk.errors import InputError
from kmtalk.exchange import arkit, point_cache, viseme_cues
from kmtalk.exchange.alembic import write_alembic
from kmtalk.exchange.character import CHARACTER_SUFFIXES, write_character
from kmtalk.exchange.gltf import write_glb
from kmtalk.exchange.npz import write_npz
from kmtalk.exchange.timeline import timeline_data
from kmtalk.exchange.usd import write_usd
from kmtalk.expression.gaze import turn_eyes
from kmtalk.face.motion import Motion
from kmtalk.render.camera import VIEW_ANGLES
from kmtalk.render.video import render_video
from kmtalk.render.web_page import write_web_page
from kmtalk.settings import ExportSettings

if TYPE_CHECKING:
    from kmtalk.animation.animation import Animation

Advance = Callable[[int], None]
"""Receives the number of frames that are done."""


MOST_EYE_TURN = 20.0  # degrees; a camera further aside is not looked at


def facing_camera(animation: Animation, view: str) -> Motion:
    """Return the motion with eyes that look at the camera of a view, where the animation's gaze is "camera".

    The camera of the view "portrait" stands aside, and eyes that look straight ahead would miss the viewer.
    """
    motion, made = animation.motion, animation.provenance.settings
    left, up = np.degrees(VIEW_ANGLES[view])
    if made is None or not made.expression or made.gaze != "camera" or not 0 < left < MOST_EYE_TURN:
        return motion
    return replace(motion, weights=turn_eyes(motion.weights, motion.rig.shape_names, float(left), float(up)))


@dataclass(frozen=True)
class Format:
    """One output format.

    Attributes:
        name: Name for `--formats`.
        suffixes: Endings of its file names; the first is the default.
        description: One line for help texts.
        write: Writes an animation to a path.
        can_bake: Whether it can hold vertices per frame instead of blend shapes.
        has_mesh: Whether it contains the mesh; curves and cues do not.
        is_multi_file: Whether further files are written beside the one that is named.
    """

    name: str
    suffixes: tuple[str, ...]
    description: str
    write: Callable[[Animation, Path, ExportSettings, Advance], object]
    can_bake: bool = False
    has_mesh: bool = True
    is_multi_file: bool = False


def _write_npz(animation: Animation, path: Path, vertices: Literal["float32", "float16"] | None) -> None:
    a = animation
    write_npz(path, a.motion, a.keys, a.alignment, a.audio, a.provenance, vertices)


def _write_glb(animation: Animation, path: Path, settings: ExportSettings, advance: Advance) -> None:
    timeline = timeline_data(animation.motion, animation.alignment, animation.keys, animation.audio)
    source = _character_source(animation)
    if settings.bake or source is None:
        write_glb(path, animation.motion, settings.bake, timeline)
        return
    if not source.is_file():
        raise InputError(
            f"{source}: the character's file is no longer there; put it back, use --bake for its face alone, or write "
            "another format than glb"
        )
    write_character(path, source, animation.motion, timeline)


def _character_source(animation: Animation) -> Path | None:
    """The file of the character that was animated; None for other templates."""
    source = Path(animation.template.source)
    return source if source.suffix.lower() in CHARACTER_SUFFIXES else None


def _write_abc(animation: Animation, path: Path, settings: ExportSettings, advance: Advance) -> None:
    motion = animation.motion
    name = animation.template.name.replace("/", "_") or "face"
    write_alembic(path, motion.vertex_chunks(), len(motion), animation.template.faces, motion.fps, name)


def _write_point_cache(write: Callable[[Path, Motion], None], animation: Animation, path: Path) -> None:
    write(path, animation.motion)
    # named so that it does not replace the user's own face.obj
    point_cache.write_neutral_obj(path.with_name(f"{path.stem}-neutral.obj"), animation.motion)


def _write_html(animation: Animation, path: Path, settings: ExportSettings, advance: Advance) -> None:
    a = animation
    with tempfile.TemporaryDirectory(prefix="kmtalk-") as folder:
        model = Path(folder) / "animation.glb"
        timeline, source = timeline_data(a.motion, a.alignment, a.keys, a.audio), _character_source(a)
        if source is not None and source.is_file():
            write_character(model, source, a.motion)
        else:
            write_glb(model, _with_preview_colors(a.motion))
        write_web_page(path, model.read_bytes(), a.fps, len(a.motion), timeline, a.audio)


def _with_preview_colors(motion: Motion) -> Motion:
    """The motion on a mesh with its preview colours, where it has no colours of its own."""
    template = motion.rig.template
    if template.colors is not None or template.preview_colors is None:
        return motion
    colored = replace(template, colors=template.preview_colors)
    return replace(motion, rig=replace(motion.rig, template=colored))


# fmt: off
FORMATS: tuple[Format, ...] = (
    Format("glb", (".glb",), "glTF: named shapes and their weights (Blender, Unity, Unreal, three.js)",
           _write_glb, can_bake=True),
    Format("usd", (".usd", ".usdc", ".usda"), "USD: blend shapes (Blender, Unreal, Maya, Houdini)",
           lambda a, path, settings, _: write_usd(path, a.motion, settings.bake), can_bake=True, is_multi_file=True),
    Format("abc", (".abc",), "Alembic: vertices per frame (Maya, Houdini, Blender, Unreal)", _write_abc),
    Format("pc2", (".pc2",), "PC2 point cache with its neutral OBJ (3ds Max, Blender)",
           lambda a, path, *_: _write_point_cache(point_cache.write_pc2, a, path), is_multi_file=True),
    Format("mdd", (".mdd",), "MDD point cache with its neutral OBJ (LightWave, Maya, Blender)",
           lambda a, path, *_: _write_point_cache(point_cache.write_mdd, a, path), is_multi_file=True),
    Format("obj", (".obj",), "OBJ sequence, named face.####.obj",
           lambda a, path, *_: point_cache.write_obj_sequence(path, a.motion), is_multi_file=True),
    Format("csv", (".csv",), "the 52 ARKit curves as a Live Link Face take (Unreal, MetaHuman)",
           lambda a, path, *_: arkit.write_live_link_csv(path, a.motion), has_mesh=False),
    Format("ovr", (".ovr.json",), "OVR LipSync viseme cues",
           lambda a, path, *_: viseme_cues.write_ovr(path, a.alignment, a.audio.duration), has_mesh=False),
    Format("rhubarb", (".rhubarb.json",), "Rhubarb Lip Sync mouth cues, JSON",
           lambda a, path, *_: viseme_cues.write_rhubarb_json(path, a.alignment, a.audio.duration), has_mesh=False),
    Format("tsv", (".tsv",), "Rhubarb Lip Sync mouth cues, TSV",
           lambda a, path, *_: viseme_cues.write_rhubarb_tsv(path, a.alignment, a.audio.duration), has_mesh=False),
    Format("json", (".json",), "the 52 ARKit curves as JSON",
           lambda a, path, *_: arkit.write_arkit_json(path, a.motion), has_mesh=False),
    Format("npz16", (".f16.npz",), "arrays, with the motion of all vertices as float16",
           lambda a, path, *_: _write_npz(a, path, "float16")),
    Format("npz", (".npz",), "arrays for Python: the whole animation; kmtalk reads it back",
           lambda a, path, s, _: _write_npz(a, path, "float32" if s.bake else None), can_bake=True),
    Format("html", (".html",), "self-contained web page that plays the face with its sound", _write_html),
    Format("mp4", (".mp4",), "video with sound",
           lambda a, path, s, advance: render_video(facing_camera(a, s.view), a.audio, path, s, advance)),
)
# fmt: on


def all_suffixes() -> str:
    """All suffixes, comma-separated, for messages."""
    return ", ".join(e for f in FORMATS for e in f.suffixes)


def format_from_path(path: Path) -> Format | None:
    """The format with the longest suffix that the file name ends with (".ovr.json" before ".json"), or None."""
    name = path.name.lower()
    matches = [(len(s), f) for f in FORMATS for s in f.suffixes if name.endswith(s) and name != s]
    return max(matches, key=lambda match: match[0], default=(0, None))[1]


def parse_formats(names: str) -> list[Format]:
    """Parse comma-separated format names such as "usd,abc"; raises InputError for an unknown name or none."""
    known = {f.name: f for f in FORMATS}
    wanted = [n.strip().lower().removeprefix(".") for n in names.split(",") if n.strip()]
    for name in wanted:
        if name not in known:
            raise InputError(f"{name}: no such format; choose from {', '.join(known)}")
    if not wanted:
        raise InputError(f"no format given; choose from {', '.join(known)}")
    return [known[n] for n in wanted]
