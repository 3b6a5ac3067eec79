"""Animation: one clip's talking face, and the files that it is written to."""

from kmtalk.animation.animation import Animation, check_formats_of_vertices, load_animation, write_glb_page
from kmtalk.animation.formats import DEFAULT_FOLDER_FORMATS, FORMATS, Format, format_from_path, parse_formats
from kmtalk.animation.planned import check_save, folder_formats, has_video

__all__ = [
    "DEFAULT_FOLDER_FORMATS",
    "FORMATS",
    "Animation",
    "Format",
    "check_formats_of_vertices",
    "check_save",
    "folder_formats",
    "format_from_path",
    "has_video",
    "load_animation",
    "parse_formats",
    "write_glb_page",
]
