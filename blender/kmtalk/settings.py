"""The settings of a run, in the scene and as options of the operator, and the record of a run, in each object."""

import bpy
from bpy.props import BoolProperty, IntProperty, PointerProperty, StringProperty

STYLES = ("neutral", "clear", "relaxed", "expressive", "population", "natural", "natural-s4", "facegood", "mean")
EMOTIONS = ("friendly", "happy", "sad", "angry", "surprised", "afraid", "disgusted")


def _suggest_styles(_owner: object, _context: bpy.types.Context, typed: str) -> list[str]:
    return [name for name in STYLES if typed.lower() in name]


def _suggest_emotions(_owner: object, _context: bpy.types.Context, typed: str) -> list[str]:
    return [name for name in EMOTIONS if typed.lower() in name]


class Options:
    """Settings that the operator has as well, where scripts give them."""

    filepath: StringProperty(
        name="Sound", description="Sound or video file with speech", subtype="FILE_PATH", options={"SKIP_SAVE"}
    )
    text: StringProperty(
        name="Text",
        description="The spoken words, or a text file with them. Without, they are recognised",
        options={"SKIP_SAVE"},
    )
    textgrid: StringProperty(
        name="TextGrid",
        description="Praat TextGrid with the phones, which skips recognition and alignment",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    landmarks: StringProperty(
        name="Landmarks",
        description="Landmarks of the mesh (JSON or MeshLab .pp), where kmtalk does not find its face",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    language: StringProperty(
        name="Language",
        description="Spoken language as an ISO 639-1 code, such as en or de. Without, it is detected",
        options={"SKIP_SAVE"},
    )
    style: StringProperty(
        name="Style",
        description="Speaking style, or a mixture such as clear:0.5,relaxed:0.5",
        search=_suggest_styles,
        search_options={"SUGGESTION"},
        options={"SKIP_SAVE"},
    )
    emotion: StringProperty(
        name="Emotion",
        description="Emotion, with an amount from 0 to 1 such as happy:0.6, or a JSON file of cues",
        search=_suggest_emotions,
        search_options={"SUGGESTION"},
        options={"SKIP_SAVE"},
    )
    head_bone: StringProperty(
        name="Head Bone",
        description="Bone of the armature that turns with the head. Without, it is found by its name",
        options={"SKIP_SAVE"},
    )
    only_keys: BoolProperty(
        name="Keys Only at Phones",
        description="Keyframes only where a phone begins or ends, with Bézier curves between them, for editing by hand",
        options={"SKIP_SAVE"},
    )


def _is_character(_owner: object, found: bpy.types.Object) -> bool:
    return found.type in ("MESH", "ARMATURE")


class SceneSettings(Options, bpy.types.PropertyGroup):
    """Settings of the panel."""

    target: PointerProperty(
        name="Mesh",
        description="Mesh to animate, or the armature of a character. Without, the selected meshes are animated",
        type=bpy.types.Object,
        poll=_is_character,
    )
    at_current_frame: BoolProperty(
        name="Start at Current Frame",
        description="The sound begins at the current frame instead of the first frame of the scene",
    )


class TakeRecord(bpy.types.PropertyGroup):
    """The animation that an object has, which Complete reads."""

    folder: StringProperty(name="Folder", description="Folder of the animation's arrays and key frames")
    sound: StringProperty(name="Sound", description="Name of the sound")
    start: IntProperty(name="Start", description="Frame at which the sound begins")
    frames: IntProperty(name="Frames", description="Length of the animation in frames")
    only_keys: BoolProperty(name="Keys Only at Phones", description="Keyframes stand at key frames only")
    strip: StringProperty(name="Strip", description="Name of the sound's strip in the sequencer")
