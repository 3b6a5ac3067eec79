"""The panel in the sidebar of the 3D viewport, and the preferences."""

from typing import ClassVar

import bpy
from bpy.props import StringProperty
from bpy.types import Context

from .operators import Animate, Cancel, Complete, current_job


class Preferences(bpy.types.AddonPreferences):
    """Preferences of the extension."""

    bl_idname = __package__

    command: StringProperty(
        name="Command",
        description="Path of the kmtalk command. Without, it is that of the variable KMTALK, or the one on PATH",
        subtype="FILE_PATH",
    )

    def draw(self, _context: Context) -> None:
        self.layout.prop(self, "command")


class SpeechPanel(bpy.types.Panel):
    """Animates a face by speech."""

    bl_idname = "KMTALK_PT_speech"
    bl_label = "kmtalk"
    bl_category = "kmtalk"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"

    def draw(self, context: Context) -> None:
        layout, settings = self.layout, context.scene.kmtalk
        layout.use_property_split = True
        layout.use_property_decorate = False
        names = ("filepath", "target", "text", "language", "style", "emotion", "at_current_frame", "only_keys")
        for name in names:
            layout.prop(settings, name)
        job = current_job()
        if job is None:
            layout.operator(Animate.bl_idname, icon="PLAY_SOUND")
            layout.operator(Complete.bl_idname, icon="CURVE_DATA")
            return
        if job.fraction is None:
            layout.label(text=f"{job.stage} …", icon="SORTTIME")
        else:
            layout.progress(text=job.stage, factor=job.fraction)
        layout.operator(Cancel.bl_idname, icon="CANCEL")


class AdvancedPanel(bpy.types.Panel):
    """Settings that are seldom needed."""

    bl_idname = "KMTALK_PT_advanced"
    bl_parent_id = SpeechPanel.bl_idname
    bl_label = "Advanced"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_options: ClassVar[set[str]] = {"DEFAULT_CLOSED"}

    def draw(self, context: Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        for name in ("head_bone", "textgrid", "landmarks"):
            layout.prop(context.scene.kmtalk, name)
