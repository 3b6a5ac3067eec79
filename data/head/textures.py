"""The materials of skin, eyes, teeth, tongue and mouth, and the files of their textures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from part_textures import eye_color, mouth_color, teeth_color, tongue_textures
from PIL import Image
from skin_texture import SkinTextures

from kmtalk.face.appearance import Material
from kmtalk.face.template import Template

SKIN = Material(
    "skin",
    roughness=1.0,
    subsurface=0.6,
    base_color_texture="skin_color.jpg",
    normal_texture="skin_normal.jpg",
    roughness_texture="skin_roughness.jpg",
)
MOUTH_LINING = Material("mouth", subsurface=0.3, roughness=0.7, base_color_texture="mouth_color.jpg")
EYE = Material("eye", roughness=0.05, base_color_texture="eye_color.jpg")
TEETH = Material("teeth", roughness=0.16, base_color_texture="teeth_color.jpg")
TONGUE = Material(
    "tongue", subsurface=0.3, roughness=0.42, base_color_texture="tongue_color.jpg", normal_texture="tongue_normal.jpg"
)


def write_textures(folder: Path, skin: SkinTextures) -> list[Path]:
    """Write the textures of all these materials into a folder, which is created; returns the files."""
    tongue = tongue_textures()
    images = {
        SKIN.base_color_texture: skin.color,
        SKIN.normal_texture: skin.normal,
        SKIN.roughness_texture: skin.roughness,
        MOUTH_LINING.base_color_texture: mouth_color(),
        EYE.base_color_texture: eye_color(),
        TEETH.base_color_texture: teeth_color(),
        TONGUE.base_color_texture: tongue[0],
        TONGUE.normal_texture: tongue[1],
    }
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(folder / str(name), image) for name, image in images.items()]


def _write(path: Path, image: np.ndarray) -> Path:
    """Write a JPEG: colour at half resolution of hue; channels that are data at full resolution."""
    is_color = path.stem.endswith("color")
    Image.fromarray(image).save(path, quality=90, subsampling="4:2:0" if is_color else "4:4:4", optimize=True)
    return path


def vertex_colors(template: Template, folder: Path) -> np.ndarray:
    """Return the colours (V, 3) uint8 sRGB of a template's vertices, read from its textures in a folder.

    They colour the lips and eyes of meshes to which the rig is fitted.
    """
    assert template.appearance is not None
    out = np.full((len(template.vertices), 3), 255, np.uint8)
    for part in template.appearance.split(template.faces):
        if part.material.base_color_texture is None:
            continue
        with Image.open(folder / part.material.base_color_texture) as picture:
            small = np.asarray(picture.convert("RGB").resize((512, 512), Image.Resampling.BOX))
        column, row = np.clip((part.uv % 1.0 * 512).astype(int), 0, 511).T
        out[part.vertex_indices] = small[row, column]
    return out
