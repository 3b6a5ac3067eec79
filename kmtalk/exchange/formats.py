"""The output formats and how a file name selects one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kmtalk.errors import InputError


@dataclass(frozen=True)
class Format:
    """One output format.

    Attributes:
        name: Name for `--formats`.
        suffixes: Endings of its file names; the first is the default.
        description: One line for help texts.
        can_bake: Whether it can hold vertex positions per frame instead of blend shapes.
    """

    name: str
    suffixes: tuple[str, ...]
    description: str
    can_bake: bool = False


FORMATS: tuple[Format, ...] = (
    Format("glb", (".glb",), "glTF: named shapes and their weights (Blender, Unity, Unreal, three.js)", can_bake=True),
    Format("usd", (".usd", ".usdc", ".usda"), "USD: blend shapes (Blender, Unreal, Maya, Houdini)", can_bake=True),
    Format("abc", (".abc",), "Alembic: vertices per frame (Maya, Houdini, Blender, Unreal)"),
    Format("pc2", (".pc2",), "PC2 point cache with its neutral OBJ (3ds Max, Blender)"),
    Format("mdd", (".mdd",), "MDD point cache with its neutral OBJ (LightWave, Maya, Blender)"),
    Format("obj", (".obj",), "OBJ sequence, named face.####.obj"),
    Format("csv", (".csv",), "the 52 ARKit curves as a Live Link Face take (Unreal, MetaHuman)"),
    Format("ovr", (".ovr.json",), "OVR LipSync viseme cues"),
    Format("rhubarb", (".rhubarb.json",), "Rhubarb Lip Sync mouth cues, JSON"),
    Format("tsv", (".tsv",), "Rhubarb Lip Sync mouth cues, TSV"),
    Format("json", (".json",), "the 52 ARKit curves as JSON"),
    Format("npz16", (".f16.npz",), "arrays, motion as float16"),
    Format("npz", (".npz",), "arrays for Python: the whole animation; kmtalk reads it back"),
    Format("html", (".html",), "self-contained web page that plays the face with its sound"),
    Format("mp4", (".mp4",), "video with sound"),
)


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
