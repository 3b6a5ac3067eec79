"""Animation: one clip's talking face, and the files that it is written to."""

from kmtalk.animation.animation import (
    DEFAULT_FOLDER_FORMATS,
    Animation,
    check_formats_of_vertices,
    check_output_path,
    load_animation,
    write_glb_page,
)
from kmtalk.animation.formats import FORMATS, Format, format_from_path, parse_formats

__all__ = [
    "DEFAULT_FOLDER_FORMATS",
    "FORMATS",
    "Animation",
    "Format",
    "check_formats_of_vertices",
    "check_output_path",
    "format_from_path",
    "load_animation",
    "parse_formats",
    "write_glb_page",
]
