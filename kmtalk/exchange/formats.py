"""Which file is of which format: by the end of its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kmtalk.errors import InputError


@dataclass(frozen=True)
class Format:
    """``suffixes`` how its files' names do; ``description`` it is, for people; ``can_bake`` whether it can hold vertices by frame
    instead of shapes."""

    name: str
    suffixes: tuple[str, ...]
    description: str
    can_bake: bool = False


FORMATS: tuple[Format, ...] = (
    Format("glb", (".glb",), "glTF: named shapes and their weights (Blender, Unity, Unreal, three.js)", can_bake=True),
    Format("usd", (".usd", ".usdc", ".usda"), "USD: blend shapes (Blender, Unreal, Maya, Houdini)", can_bake=True),
    Format("abc", (".abc",), "Alembic: vertices by frame (Maya, Houdini, Blender, Unreal)"),
    Format("pc2", (".pc2",), "PC2 point cache and its neutral OBJ (3ds Max, Blender)"),
    Format("mdd", (".mdd",), "MDD point cache and its neutral OBJ (LightWave, Maya, Blender)"),
    Format("obj", (".obj",), "OBJ sequence, named face.####.obj"),
    Format("csv", (".csv",), "ARKit's 52 curves as a Live Link Face take (Unreal, MetaHuman)"),
    Format("ovr", (".ovr.json",), "viseme cues of OVR LipSync"),
    Format("rhubarb", (".rhubarb.json",), "mouth cues of Rhubarb Lip Sync, JSON"),
    Format("tsv", (".tsv",), "mouth cues of Rhubarb Lip Sync, TSV"),
    Format("json", (".json",), "ARKit's 52 curves as JSON"),
    Format("npz16", (".f16.npz",), "arrays, motion as float16"),
    Format("npz", (".npz",), "arrays for Python; holds everything, kmtalk reads it back"),
    Format("html", (".html",), "a page that plays the face with its sound, by itself"),
    Format("mp4", (".mp4",), "video with sound"),
)


def all_suffixes() -> str:
    """All endings, for messages."""
    return ", ".join(e for f in FORMATS for e in f.suffixes)


def format_from_path(path: Path) -> Format | None:
    """The format that a file's name asks for; None for a folder's."""
    name = path.name.lower()
    return next((f for f in FORMATS if name.endswith(f.suffixes) and len(name) > len(f.suffixes[0])), None)


def parse_formats(names: str) -> list[Format]:
    """Formats by name, as "usd,abc"; raises InputError for an unknown one."""
    known = {f.name: f for f in FORMATS}
    wanted = [n.strip().lower().removeprefix(".") for n in names.split(",") if n.strip()]
    for name in wanted:
        if name not in known:
            raise InputError(f"{name}: no such format; one of {', '.join(known)}")
    if not wanted:
        raise InputError(f"no format given; one of {', '.join(known)}")
    return [known[n] for n in wanted]
