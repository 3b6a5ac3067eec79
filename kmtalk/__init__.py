"""kmtalk: speech in, a talking 3D face mesh out (KMTalk, Xu et al., ECCV 2024).

>>> from kmtalk import KMTalk
>>> animation = KMTalk().animate("speech.wav", template="face.obj")
>>> animation.save("out")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from kmtalk.animation import Animation
    from kmtalk.errors import InputError
    from kmtalk.face.template import Template
    from kmtalk.pipeline import KMTalk
    from kmtalk.speech.alignment import Alignment

__all__ = ["Alignment", "Animation", "InputError", "KMTalk", "Template", "__version__"]

_HOMES = {
    "Alignment": "kmtalk.speech.alignment",
    "Animation": "kmtalk.animation",
    "InputError": "kmtalk.errors",
    "KMTalk": "kmtalk.pipeline",
    "Template": "kmtalk.face.template",
}


def __getattr__(name: str) -> Any:
    # on demand: the rendering process imports this package and must never import torch
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'kmtalk' has no attribute {name!r}")
