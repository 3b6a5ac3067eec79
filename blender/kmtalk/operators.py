"""The operators: Animate, Complete and Cancel. kmtalk works in the background, and its result is written in one go."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

import bpy
from bpy.props import BoolProperty, IntProperty
from bpy.types import Context, Event, Object

from .animation_data import (
    check_not_tweaked,
    curves_of,
    driven_shapes,
    head_shapes_of,
    make_shape_keys,
    remove_markers,
    shape_path,
    write_keyframes,
    write_markers,
    write_shape_animation,
    write_sound_strip,
)
from .head_bone import HeadBone, find_head_bone, write_head_animation
from .key_edits import edit_key_file, read_edits
from .mesh_files import PlacedMesh, check_object_mode, collect_objects, write_meshes
from .process import Job, KMTalkError, find_command
from .settings import Options
from .take import Take

POLL_SECONDS = 0.1

_jobs: list[Job] = []


def current_job() -> Job | None:
    """Return the command that is running, if any."""
    return _jobs[0] if _jobs else None


def cancel_job() -> None:
    """Cancel the command that is running."""
    for job in _jobs:
        job.close()


class _Background:
    """An operator that runs a command of kmtalk while Blender goes on.

    `begin` starts the command, and raises KMTalkError where it cannot. `end` writes the result into the scene and
    returns a message. In scripts, wait=True waits for the result, as does Blender without user interface.
    """

    wait: BoolProperty(name="Wait", description="Wait until the work is done", options={"HIDDEN", "SKIP_SAVE"})

    @classmethod
    def poll(cls, context: Context) -> bool:
        if current_job() is not None:
            cls.poll_message_set("kmtalk is at work already")
            return False
        return context.scene is not None

    def invoke(self, context: Context, _event: Event) -> set[str]:
        return self._run(context, self.wait)

    def execute(self, context: Context) -> set[str]:
        return self._run(context, self.wait or bpy.app.background)

    def _run(self, context: Context, wait: bool) -> set[str]:
        try:
            self._job = self.begin(context)
        except KMTalkError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if wait:
            self._job.wait()
            return self._finish(context)
        _jobs.append(self._job)
        manager = context.window_manager
        manager.progress_begin(0, 100)
        manager.modal_handler_add(self)
        self._timer = manager.event_timer_add(POLL_SECONDS, window=context.window)
        return {"RUNNING_MODAL"}

    def modal(self, context: Context, event: Event) -> set[str]:
        if event.type == "ESC" and event.value == "PRESS":
            self._job.close()
        if self._job.closed:
            self._leave(context)
            self.report({"INFO"}, "kmtalk was cancelled")
            return {"CANCELLED"}
        if event.type == "TIMER" and self._job.finished:
            self._leave(context)
            return self._finish(context)
        if event.type == "TIMER":
            context.workspace.status_text_set(f"kmtalk: {self._job.stage} (ESC cancels)")
            context.window_manager.progress_update(100 * (self._job.fraction or 0))
            _redraw(context)
        return {"PASS_THROUGH"}

    def cancel(self, context: Context) -> None:
        """Called by Blender when it closes or opens another file."""
        self._job.close()
        self._leave(context)

    def _leave(self, context: Context) -> None:
        _jobs.clear()
        context.window_manager.event_timer_remove(self._timer)
        context.window_manager.progress_end()
        if context.workspace is not None:
            context.workspace.status_text_set(None)
        _redraw(context)

    def _finish(self, context: Context) -> set[str]:
        try:
            if self._job.error:
                raise KMTalkError(self._job.error)
            message = self.end(context)
        except KMTalkError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        finally:
            self._job.close()
        for warning in self._job.messages:
            self.report({"WARNING"}, f"kmtalk: {warning}")
        self.report({"INFO"}, message)
        return {"FINISHED"}


def _redraw(context: Context) -> None:
    for area in context.screen.areas if context.screen else ():
        if area.type == "VIEW_3D":
            area.tag_redraw()


class Animate(_Background, Options, bpy.types.Operator):
    """Make the selected face speak a recording. Settings that are not given are those of the panel"""

    bl_idname = "kmtalk.animate"
    bl_label = "Animate"
    bl_options: ClassVar[set[str]] = {"UNDO"}  # without REGISTER, which would run it again from the Redo panel

    frame_start: IntProperty(
        name="Start", description="Frame at which the sound begins", options={"HIDDEN", "SKIP_SAVE"}
    )

    def begin(self, context: Context) -> Job:
        scene = context.scene
        command = find_command(command_preference(context))
        self._sound = _existing_file(self._option(scene, "filepath"), "Sound")
        self._only_keys = self._option(scene, "only_keys")
        self._start = scene.frame_current if scene.kmtalk.at_current_frame else scene.frame_start
        if self.properties.is_property_set("frame_start"):
            self._start = self.frame_start
        objects = collect_objects(context, scene.kmtalk.target)
        self._head: HeadBone | None = find_head_bone(objects, self._option(scene, "head_bone"))
        folder = Path(tempfile.mkdtemp(prefix="kmtalk-"))
        try:
            self._places: list[PlacedMesh] = write_meshes(context, objects, folder / "face.glb")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        arguments = ["animate", str(self._sound), f"--template={folder / 'face.glb'}"]
        arguments += [f"--output={folder / 'out'}", "--formats=npz", "--quiet"]
        arguments.append(f"--fps={scene.render.fps / scene.render.fps_base!r}")
        for name in ("textgrid", "landmarks"):
            if self._option(scene, name):
                arguments.append(f"--{name}={_existing_file(self._option(scene, name), name)}")
        for name in ("text", "language", "style", "emotion"):
            value = self._option(scene, name).strip()
            if value:  # text and emotion may be files
                arguments.append(f"--{name}={bpy.path.abspath(value)}")
        return Job([*command, *arguments], folder)

    def _option(self, scene: bpy.types.Scene, name: str) -> str | bool:
        """A setting: the operator's where it is given, else the panel's."""
        return getattr(self if self.properties.is_property_set(name) else scene.kmtalk, name)

    def end(self, context: Context) -> str:
        scene, name = context.scene, self._sound.stem
        take = Take.load(self._job.folder / "out" / "animation.npz")
        objects = [place.find_object() for place in self._places]
        for found in objects:
            check_not_tweaked(found.data.shape_keys)
        if self._head:
            check_not_tweaked(bpy.data.objects.get(self._head.armature_name))
        folder = _store(self._job.folder / "out", name)
        turned = head_shapes_of(take) if self._head else ()
        former_strip = ""
        for found in objects:
            record = found.kmtalk
            former_strip = former_strip or record.strip
            remove_markers(scene, record.start, record.start + record.frames)
        shapes: set[str] = set()
        for found, place in zip(objects, self._places, strict=True):
            make_shape_keys(found, place, take, turned)
            keys = found.data.shape_keys
            if keys is not None:
                written = write_shape_animation(keys, take, name, self._start, self._only_keys, turned)
                shapes |= set(written)
                self._warn_of(found, driven_shapes(keys, written))
        if self._head:
            write_head_animation(self._head, take, name, self._start, self._only_keys)
        write_markers(scene, take, self._start)
        strip = ""
        try:
            strip = write_sound_strip(scene, self._sound, self._start, former_strip)
        except KMTalkError as error:  # the face speaks all the same
            self.report({"WARNING"}, str(error))
        scene.frame_end = max(scene.frame_end, self._start + len(take) - 1)
        for found in objects:
            record = found.kmtalk
            record.folder, record.sound, record.strip = folder, name, strip
            record.start, record.frames, record.only_keys = self._start, len(take), self._only_keys
        bone = f" and the bone {self._head.bone_name}" if self._head else ""
        return f"{name}: {len(take)} frames, {len(take.phones)} phones on {len(shapes)} shapes{bone}"

    def _warn_of(self, found: Object, driven: list[str]) -> None:
        if driven:
            self.report(
                {"WARNING"},
                f"{found.name}: {len(driven)} shape keys have drivers, which win over keyframes ({driven[0]} …); "
                "delete the drivers",
            )
        others = [o.name for o in bpy.data.objects if o.data == found.data and o != found]
        if others:
            self.report({"WARNING"}, f"{found.name}: shares its mesh with {', '.join(others)}, which moves as well")


class Complete(_Background, bpy.types.Operator):
    """Animate the frames around the keyframes that you have changed again. Changed keyframes stay as they are"""

    bl_idname = "kmtalk.complete"
    bl_label = "Complete"
    bl_options: ClassVar[set[str]] = {"UNDO"}

    def begin(self, context: Context) -> Job:
        command = find_command(command_preference(context))
        objects = collect_objects(context, context.scene.kmtalk.target)
        record = next((found.kmtalk for found in objects if found.kmtalk.folder), None)
        if record is None:
            raise KMTalkError(f"{objects[0].name}: has no animation of kmtalk yet; press Animate first")
        self._start, self._folder = record.start, record.folder
        source = Path(bpy.path.abspath(record.folder))
        take = Take.load(source / "animation.npz")
        edits, keyed = read_edits([found.data.shape_keys for found in self._faces(context)], take, record.start)
        document, self._missed = edit_key_file(source / "keys.json", take, edits, keyed)
        self._count = len(edits)
        folder = Path(tempfile.mkdtemp(prefix="kmtalk-"))
        (folder / "keys.json").write_text(json.dumps(document), encoding="utf-8")
        arguments = ["complete", str(folder / "keys.json"), str(source / "animation.npz")]
        return Job([*command, *arguments, f"--output={folder / 'out'}", "--formats=npz", "--quiet"], folder)

    def _faces(self, context: Context) -> list[Object]:
        """All mesh objects of the animation that have shape keys."""
        meshes = [o for o in context.scene.objects if o.type == "MESH" and o.data.shape_keys is not None]
        return [found for found in meshes if found.kmtalk.folder == self._folder]

    def end(self, context: Context) -> str:
        take = Take.load(self._job.folder / "out" / "animation.npz")
        faces = self._faces(context)
        for found in faces:
            check_object_mode(found)
        folder = _store(self._job.folder / "out", faces[0].kmtalk.sound if faces else "")
        for found in faces:
            record, curves = found.kmtalk, curves_of(found.data.shape_keys)
            frames = take.frames(record.only_keys)
            for column, name in enumerate(take.names):
                curve = curves.get((shape_path(name), 0))
                if curve is not None:
                    write_keyframes(curve, self._start + frames, take.weights[frames, column], record.only_keys)
            record.folder = folder
        if self._missed > 0.01:
            self.report({"WARNING"}, f"the face's shapes meet the edited keys to {self._missed:.2f} only")
        return f"{self._count} edited keys"


class Cancel(bpy.types.Operator):
    """Stop kmtalk. The scene stays as it is"""

    bl_idname = "kmtalk.cancel"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, _context: Context) -> bool:
        return current_job() is not None

    def execute(self, _context: Context) -> set[str]:
        cancel_job()
        return {"FINISHED"}


def command_preference(context: Context) -> str:
    """Return the path of the command from the extension's preferences, or an empty string."""
    addon = context.preferences.addons.get(__package__)
    return bpy.path.abspath(addon.preferences.command) if addon else ""


def _existing_file(given: str, label: str) -> Path:
    """The path of a setting; raises KMTalkError if there is no such file."""
    if not given:
        raise KMTalkError(f"{label}: no file is given; choose a recording")
    path = Path(os.path.abspath(bpy.path.abspath(given)))
    if not path.is_file():
        raise KMTalkError(f"{path}: no such file; choose another")
    return path


def _store(source: Path, sound: str) -> str:
    """Move an animation's arrays and keys to a new folder beside the blend file, and return that folder.

    Every run has its own, because undo brings back the animation of the run before. While the blend file is not saved,
    the folder is temporary.
    """
    saved = bool(bpy.data.filepath)
    base = "//kmtalk" if saved else str(Path(bpy.app.tempdir) / "kmtalk")
    name, number = bpy.path.clean_name(sound), 0
    try:
        while True:
            folder = f"{base}/{name}" + (f".{number:03}" if number else "")
            path = Path(bpy.path.abspath(folder))
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.mkdir()
                break
            except FileExistsError:
                number += 1
        for file in ("animation.npz", "keys.json"):
            shutil.move(source / file, path / file)
    except OSError as error:
        raise KMTalkError(
            f"{bpy.path.abspath(base)}: cannot be written ({error.strerror}); save the blend file "
            "in a folder of your own"
        ) from None
    return folder
