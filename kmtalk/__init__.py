"""kmtalk: speech-driven 3D facial animation (KMTalk, Xu et al., ECCV 2024).

>>> from kmtalk import KMTalk
>>> animation = KMTalk().animate("speech.wav", template="face.obj")
>>> animation.save("out")
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# onnxruntime 1.29 and later sends names of models and its usage to its makers from when it is imported, and Ray counts
# its clusters: neither does so within kmtalk, unless the user has set these
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

if TYPE_CHECKING:
    from kmtalk.animation import Animation, load_animation
    from kmtalk.dialogue import Dialogue
    from kmtalk.errors import InputError
    from kmtalk.face.fit import FittedRig
    from kmtalk.face.motion import Motion
    from kmtalk.face.rig import Rig
    from kmtalk.face.template import Template
    from kmtalk.keys import KeyMotions
    from kmtalk.listener_settings import DialogueSettings, ListenerSettings
    from kmtalk.pipeline import KMTalk
    from kmtalk.settings import (
        AnimationSettings,
        CharacterSettings,
        ExportSettings,
        Intensity,
        RecognitionSettings,
        SoundSettings,
    )
    from kmtalk.speech.alignment import Alignment, Phone
    from kmtalk.speech.audio import Audio
    from kmtalk.stream_settings import StreamSettings
    from kmtalk.streaming.face_stream import FaceStream, StreamedPose

__all__ = [
    "Alignment",
    "Animation",
    "AnimationSettings",
    "Audio",
    "CharacterSettings",
    "Dialogue",
    "DialogueSettings",
    "ExportSettings",
    "FaceStream",
    "FittedRig",
    "InputError",
    "Intensity",
    "KMTalk",
    "KeyMotions",
    "ListenerSettings",
    "Motion",
    "Phone",
    "RecognitionSettings",
    "Rig",
    "SoundSettings",
    "StreamSettings",
    "StreamedPose",
    "Template",
    "__version__",
    "load_animation",
]

_MODULES = {
    "Alignment": "kmtalk.speech.alignment",
    "Animation": "kmtalk.animation",
    "AnimationSettings": "kmtalk.settings",
    "Audio": "kmtalk.speech.audio",
    "CharacterSettings": "kmtalk.settings",
    "Dialogue": "kmtalk.dialogue",
    "DialogueSettings": "kmtalk.listener_settings",
    "ExportSettings": "kmtalk.settings",
    "FaceStream": "kmtalk.streaming.face_stream",
    "FittedRig": "kmtalk.face.fit",
    "InputError": "kmtalk.errors",
    "Intensity": "kmtalk.settings",
    "KMTalk": "kmtalk.pipeline",
    "KeyMotions": "kmtalk.keys",
    "ListenerSettings": "kmtalk.listener_settings",
    "Motion": "kmtalk.face.motion",
    "Phone": "kmtalk.speech.alignment",
    "Rig": "kmtalk.face.rig",
    "RecognitionSettings": "kmtalk.settings",
    "SoundSettings": "kmtalk.settings",
    "StreamSettings": "kmtalk.stream_settings",
    "StreamedPose": "kmtalk.streaming.face_stream",
    "Template": "kmtalk.face.template",
    "load_animation": "kmtalk.animation",
}


def __getattr__(name: str) -> Any:
    # import on demand: the rendering process imports this package and must never import torch
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'kmtalk' has no attribute {name!r}")
