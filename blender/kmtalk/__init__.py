"""kmtalk for Blender: makes a face speak a recording. Calls the installed kmtalk command."""

import atexit

import bpy

from .operators import Animate, Cancel, Complete, cancel_job
from .panel import AdvancedPanel, Preferences, SpeechPanel
from .settings import SceneSettings, TakeRecord

_CLASSES = (SceneSettings, TakeRecord, Animate, Complete, Cancel, Preferences, SpeechPanel, AdvancedPanel)


def register() -> None:
    """Called by Blender when the extension is enabled."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.kmtalk = bpy.props.PointerProperty(type=SceneSettings)
    bpy.types.Object.kmtalk = bpy.props.PointerProperty(type=TakeRecord)
    if getattr(
        bpy.app, "module", False
    ):  # the package bpy does not disable extensions at its end, and hangs on their callbacks
        atexit.register(unregister)


def unregister() -> None:
    """Called by Blender when the extension is disabled."""
    atexit.unregister(unregister)
    cancel_job()
    for kind in (bpy.types.Object, bpy.types.Scene):
        if hasattr(kind, "kmtalk"):  # not where Blender is closing
            del kind.kmtalk
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
