"""The output formats: how a file name selects one, and the functions that write them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from kmtalk.blender_process import NEEDS_BLENDER, find_blender, run_in_blender
from kmtalk.errors import InputError
from kmtalk.exchange import arkit, point_cache, viseme_cues
from kmtalk.exchange.alembic import write_alembic
from kmtalk.exchange.character import write_character
from kmtalk.exchange.curves import write_curves_json, write_maya_anim
from kmtalk.exchange.gltf import read_glb_info, write_glb
from kmtalk.exchange.npz import write_npz
from kmtalk.exchange.page_model import page_model
from kmtalk.exchange.timeline import timeline_data
from kmtalk.exchange.usd import write_usd
from kmtalk.exchange.usd_character import USD_SUFFIXES, write_usd_character
from kmtalk.exchange.vrm_animation import write_vrm_animation
from kmtalk.expression.gaze import turn_eyes
from kmtalk.face.files.gltf_materials import read_gltf_appearance
from kmtalk.face.files.load import CHARACTER_SUFFIXES, character_glb
from kmtalk.face.motion import Motion
from kmtalk.render.camera import VIEW_ANGLES
from kmtalk.render.video import render_video
from kmtalk.render.web_page import write_web_page
from kmtalk.settings import ExportSettings
from kmtalk.working_folders import temporary_folder

if TYPE_CHECKING:
    from kmtalk.animation.animation import Animation

Advance = Callable[[int], None]
"""Receives the number of frames that are done."""


MOST_EYE_TURN = 20.0  # degrees; a camera further aside is not looked at


def facing_camera(animation: Animation, view: str) -> Motion:
    """Return the motion with eyes that look at the camera of a view, where the animation's gaze is "camera", or is at
    another who listens or speaks.

    The camera of the view "portrait" stands aside, and eyes that look straight ahead would miss the viewer.
    """
    motion, made = animation.motion, animation.provenance.settings
    left, up = np.degrees(VIEW_ANGLES[view])
    if made is None or not made.expression or not 0 < left < MOST_EYE_TURN:
        return motion
    if made.gaze != "camera" and animation.provenance.role == "speaker":
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
        needs: Module that writing it imports, and the extra of kmtalk that installs the module; None for none.
    """

    name: str
    suffixes: tuple[str, ...]
    description: str
    write: Callable[[Animation, Path, ExportSettings, Advance], object]
    can_bake: bool = False
    has_mesh: bool = True
    is_multi_file: bool = False
    needs: tuple[str, str] | None = None

    def check(self) -> None:
        """Raise InputError where a module that the format needs is not installed."""
        if self.name == "fbx":
            if find_blender() is None:
                raise InputError(f".fbx: {NEEDS_BLENDER}")
        elif self.needs is not None and importlib.util.find_spec(self.needs[0]) is None:
            raise InputError(
                f"{self.suffixes[0]}: {self.needs[0]} is not installed; pip install 'kmtalk[{self.needs[1]}]'"
            )


def with_appearance(animation: Animation) -> Animation:
    """Return the animation with the materials and textures of its character's file, as far as that is there."""
    source, template = _character_source(animation), animation.template
    if source is None or template.appearance is not None or not source.is_file():
        return animation
    appearance = read_gltf_appearance(source, template.node or None)
    if len(appearance.face_materials) != len(template.faces):
        return animation  # the file has changed
    rig = replace(animation.motion.rig, template=replace(template, appearance=appearance))
    return replace(animation, motion=replace(animation.motion, rig=rig))


def _write_npz(animation: Animation, path: Path, vertices: Literal["float32", "float16"] | None) -> None:
    a = animation
    write_npz(path, a.motion, a.keys, a.alignment, a.audio, a.provenance, vertices)


def _write_glb(animation: Animation, path: Path, settings: ExportSettings, advance: Advance) -> None:
    timeline = timeline_data(animation.motion, animation.alignment, animation.keys, animation.audio)
    source = _character_source(animation)
    is_whole = source is not None and source.suffix.lower() == ".vrm" and not (settings.bake or settings.animation_only)
    if path.suffix.lower() == ".vrm" and not is_whole:
        raise InputError(f"{path.name}: only a whole character of a .vrm file is written as .vrm; write .glb or .vrma")
    if settings.bake or source is None:
        if settings.animation_only:
            raise InputError("--animation-only: for a character of a .glb, .gltf or .vrm file, without --bake")
        write_glb(path, animation.with_materials.motion, settings.bake, timeline, settings.reduce)
        return
    if not source.is_file():
        raise InputError(_gone(source, "glb"))
    write_character(path, source, animation.motion, timeline, settings.reduce, settings.animation_only)


def _gone(source: Path, name: str) -> str:
    return (
        f"{source}: the character's file is no longer there; put it back, or beside the animation.npz, or use --bake "
        f"for its face alone, or write another format than {name}"
    )


def missing_source(animation: Animation) -> Path | None:
    """Return the file of the character that was animated where it is no longer there."""
    source = Path(animation.template.source)
    return source if source.suffix.lower() in (*CHARACTER_SUFFIXES, *USD_SUFFIXES) and not source.is_file() else None


def _character_source(animation: Animation) -> Path | None:
    """The glTF file of the character that was animated; None for other templates."""
    source = Path(animation.template.source)
    if source.suffix.lower() not in CHARACTER_SUFFIXES:
        return None
    return character_glb(source) if source.is_file() else source


def _write_usd(animation: Animation, path: Path, settings: ExportSettings, advance: Advance) -> None:
    source = Path(animation.template.source)
    if settings.bake or source.suffix.lower() not in USD_SUFFIXES:
        write_usd(path, animation.with_materials.motion, settings.bake)
        return
    if not source.is_file():
        raise InputError(_gone(source, "usd"))
    write_usd_character(path, source, animation.motion)


def _write_fbx(animation: Animation, path: Path, settings: ExportSettings, advance: Advance) -> None:
    with temporary_folder() as folder:
        model = folder / "animation.glb"
        _write_glb(animation, model, settings, advance)
        motion = animation.motion
        arguments = [str(model), str(path.resolve()), repr(float(motion.fps)), str(len(motion))]
        run_in_blender("convert.py", arguments, path.name)


def _write_abc(animation: Animation, path: Path, settings: ExportSettings, advance: Advance) -> None:
    motion = animation.motion
    name = animation.template.name.replace("/", "_") or "face"
    write_alembic(path, motion.vertex_chunks(), len(motion), animation.template.faces, motion.fps, name)


def _write_point_cache(write: Callable[[Path, Motion], None], animation: Animation, path: Path) -> None:
    write(path, animation.motion)
    point_cache.write_neutral_obj(point_cache.neutral_path(path), animation.motion)


def _write_html(animation: Animation, path: Path, settings: ExportSettings, advance: Advance) -> None:
    a = animation
    with temporary_folder() as folder:
        model = folder / "animation.glb"
        timeline, source = timeline_data(a.motion, a.alignment, a.keys, a.audio), _character_source(a)
        if source is not None and source.is_file():
            write_character(model, source, a.motion)
        else:
            write_glb(model, _with_preview_colors(a.motion), extras=timeline)
            timeline = dict(read_glb_info(model).extras)
        write_web_page(path, page_model(model)[0], a.fps, len(a.motion), timeline, a.audio)


def _with_preview_colors(motion: Motion) -> Motion:
    """The motion on a mesh with its preview colours, where it has no colours of its own."""
    template = motion.rig.template
    if template.colors is not None or template.preview_colors is None:
        return motion
    colored = replace(template, colors=template.preview_colors)
    return replace(motion, rig=replace(motion.rig, template=colored))


DEFAULT_FOLDER_FORMATS = "npz,glb"
"""Formats of an output folder where none are given."""
SHAPE_FORMATS = {"glb", "usd"}  # formats whose blend shapes the Blender script gives the keys of the reduced curves

# fmt: off
FORMATS: tuple[Format, ...] = (
    Format("glb", (".glb",), "glTF: named shapes and their weights (Blender, Unity, Unreal, three.js)",
           _write_glb, can_bake=True),
    Format("vrm", (".vrm",), "the VRM file of a VRM character, with the animation", _write_glb),
    Format("vrma", (".vrma",), "VRM animation for any VRM character (VRoid, VSeeFace, three-vrm)",
           lambda a, path, *_: write_vrm_animation(path, a.motion), has_mesh=False),
    Format("usd", (".usd", ".usdc", ".usda"), "USD: blend shapes (Blender, Unreal, Maya, Houdini)",
           _write_usd, can_bake=True, is_multi_file=True, needs=("pxr", "usd")),
    Format("fbx", (".fbx",), "FBX through Blender: shapes, bones, materials (Unity, Unreal, Maya, 3ds Max)",
           _write_fbx),
    Format("abc", (".abc",), "Alembic: vertices per frame (Maya, Houdini, Blender, Unreal)", _write_abc),
    Format("pc2", (".pc2",), "PC2 point cache with its neutral OBJ (3ds Max, Blender)",
           lambda a, path, *_: _write_point_cache(point_cache.write_pc2, a, path), is_multi_file=True),
    Format("mdd", (".mdd",), "MDD point cache with its neutral OBJ (LightWave, Maya, Blender)",
           lambda a, path, *_: _write_point_cache(point_cache.write_mdd, a, path), is_multi_file=True),
    Format("obj", (".obj",), "OBJ sequence, named face.####.obj",
           lambda a, path, *_: point_cache.write_obj_sequence(path, a.motion), is_multi_file=True),
    Format("csv", (".csv",), "the 52 ARKit curves as a Live Link Face take (Unreal, MetaHuman)",
           lambda a, path, s, _: arkit.write_live_link_csv(path, a.motion, s.timecode), has_mesh=False),
    Format("anim", (".anim",), "the weights of all shapes as editable curves (Maya)",
           lambda a, path, s, _: write_maya_anim(path, a.motion, s.reduce), has_mesh=False),
    Format("curves", (".curves.json",), "the weights of all shapes as keys with tangents, JSON",
           lambda a, path, s, _: write_curves_json(path, a.motion, s.reduce), has_mesh=False),
    Format("a2f", (".a2f.json",), "the 52 ARKit curves as JSON in the layout of Audio2Face",
           lambda a, path, *_: arkit.write_audio2face_json(path, a.motion, Path(a.audio.source).name), has_mesh=False),
    Format("ovr", (".ovr.json",), "OVR LipSync viseme cues",
           lambda a, path, *_: viseme_cues.write_ovr(path, a.alignment, a.audio.duration), has_mesh=False),
    Format("rhubarb", (".rhubarb.json",), "Rhubarb Lip Sync mouth cues, JSON",
           lambda a, path, *_: viseme_cues.write_rhubarb_json(path, a.alignment, a.audio.duration), has_mesh=False),
    Format("tsv", (".tsv",), "Rhubarb Lip Sync mouth cues, TSV",
           lambda a, path, *_: viseme_cues.write_rhubarb_tsv(path, a.alignment, a.audio.duration), has_mesh=False),
    Format("json", (".json",), "the 52 ARKit curves as JSON",
           lambda a, path, s, _: arkit.write_arkit_json(path, a.motion, s.timecode), has_mesh=False),
    Format("npz16", (".f16.npz",), "arrays, with the motion of all vertices as float16",
           lambda a, path, *_: _write_npz(a, path, "float16")),
    Format("npz", (".npz",), "arrays for Python: the whole animation; kmtalk reads it back",
           lambda a, path, s, _: _write_npz(a, path, "float32" if s.bake else None), can_bake=True),
    Format("html", (".html",), "self-contained web page that plays the face with its sound", _write_html),
    Format("mp4", (".mp4",), "video with sound",
           lambda a, path, s, step: render_video(facing_camera(a.with_materials, s.view), a.audio, path, s, step)),
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
    """Parse comma-separated format names such as "usd,abc".

    Raises:
        InputError: A name is unknown, there is none, or a format needs a module that is not installed.
    """
    known = {f.name: f for f in FORMATS}
    wanted = [n.strip().lower().removeprefix(".") for n in names.split(",") if n.strip()]
    for name in wanted:
        if name not in known:
            raise InputError(f"{name}: no such format; choose from {', '.join(known)}")
    if not wanted:
        raise InputError(f"no format given; choose from {', '.join(known)}")
    formats = [known[n] for n in wanted]
    for chosen in formats:
        chosen.check()
    return formats
