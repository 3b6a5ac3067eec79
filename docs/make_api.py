"""Generate docs/api.md from the docstrings. Run `python docs/make_api.py`."""

from __future__ import annotations

from pathlib import Path

import griffe
from griffe2md import render_object_docs

HERE = Path(__file__).parent
OBJECTS = (
    "pipeline.KMTalk",
    "animation.Animation",
    "animation.load_animation",
    "keys.KeyMotions",
    "face.motion.Motion",
    "face.rig.Rig",
    "face.template.Template",
    "face.mouth.MouthMeasurer",
    "face.mouth.MouthMeasurements",
    "face.fit.FittedRig",
    "speech.alignment.Alignment",
    "speech.audio.Audio",
    "render.plots",
    "metrics.result.MetricResult",
    "metrics.result.Mask",
    "metrics.vertices",
    "metrics.mouth",
    "metrics.samples",
    "metrics.beats",
    "metrics.masks",
    "batch.runner.run_batch",
    "errors.InputError",
)
HEAD = """# The Python interface

Generated from the docstrings by `python docs/make_api.py`. In array shapes, N is the number of frames, V of vertices
and R of blend shapes. Frame n is at (n + 0.5) / fps seconds.

"""


def api_page() -> str:
    """The text of the page in Markdown."""
    package = griffe.load("kmtalk", search_paths=[HERE.parent], docstring_parser="google")
    config = {
        "heading_level": 2,
        "show_root_full_path": True,
        "show_if_no_docstring": False,
        "inherited_members": False,
        "members_order": "source",
        "show_bases": False,
        "filters": ["!^_"],
    }
    pages = [render_object_docs(package[name], config) for name in OBJECTS]
    lines = [line.rstrip() for page in pages for line in page.splitlines()]
    out: list[str] = []
    for line in lines:
        if line or (out and out[-1]):
            out.append(line)
    return HEAD + "\n".join(out).strip() + "\n"


if __name__ == "__main__":
    (HERE / "api.md").write_text(api_page(), encoding="utf-8")
