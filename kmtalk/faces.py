"""The faces that speech animates: the default head, and rigs of meshes that users bring."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.files.load import load_template
from kmtalk.face.fit import FittedRig
from kmtalk.face.joints import choose_joints
from kmtalk.face.landmark_file import load_landmarks
from kmtalk.face.motion import Motion, frame_times
from kmtalk.face.rig import Rig, load_full_head, load_light_head
from kmtalk.face.rig_file import RIG_SUFFIX, fit_cache_key, load_cached_rig, load_rig_file, store_cached_rig
from kmtalk.face.rigging import rig_template
from kmtalk.face.source_head import SourceHead, load_source_head
from kmtalk.face.template import Template
from kmtalk.motion.gain import apply_gain
from kmtalk.motion.postprocessing import seal_retargeted_bilabials
from kmtalk.progress import Progress
from kmtalk.settings import CharacterSettings
from kmtalk.shared_property import shared_property
from kmtalk.speech.alignment import Alignment

LIGHT_TEMPLATE = "light"
Face = str | Path | Template | FittedRig
Landmarks = str | Path | Mapping[str, np.ndarray]


def is_light_head(template: object) -> bool:
    """Return whether a template is the name of the default head's light version, and no file."""
    return isinstance(template, str | Path) and Path(template).name == LIGHT_TEMPLATE and not Path(template).exists()


class Faces:
    """Loads and fits faces. The default head is loaded once, at first use; fitted rigs are cached on the disk.

    Args:
        warn: Called with each one-line warning.
        inform: Called with one line on how each mesh is animated.
        progress: Receives the stages "read mesh" and "fit".
    """

    def __init__(self, warn: Callable[[str], None], inform: Callable[[str], None], progress: Progress) -> None:
        self._loading = threading.RLock()
        self._warn, self._inform, self._progress = warn, inform, progress

    @shared_property
    def rig(self) -> Rig:
        """The rig of the default head's light version, whose weights the network predicts."""
        return load_light_head()

    @shared_property
    def full_rig(self) -> Rig:
        """The rig of the default head, which has the same shapes."""
        return load_full_head()

    @shared_property
    def source_head(self) -> SourceHead:
        """The default head with the landmarks and gradients that fitting a rig needs."""
        return load_source_head(self.rig)

    def rig_for(
        self, template: Face | None, landmarks: Landmarks | None, character: CharacterSettings | None = None
    ) -> Rig:
        """Return the rig of a face, with a warning where its fit is doubtful; raises InputError where it is none."""
        if character is not None and character.model_fields_set and not is_mesh_file(template):
            raise InputError("node, head bone and map are for the file of a character; give it with --template")
        if template is None:
            if landmarks is not None:
                raise InputError("landmarks belong to a mesh; give --template as well")
            return self.full_rig
        if is_light_head(template):
            return self.rig
        if isinstance(template, FittedRig):
            return template.rig
        if not isinstance(template, Template) and Path(template).suffix.lower() == RIG_SUFFIX:
            if landmarks is not None:
                raise InputError(f"{template}: is a fitted rig; give landmarks when fitting the mesh (kmtalk fit)")
            return load_rig_file(template).rig
        name = template.display_name if isinstance(template, Template) else str(template)
        fitted = self.fit(template, landmarks, character=character)
        base, vertices = self.rig.template.vertices, fitted.rig.template.vertices
        is_bare = Path(fitted.rig.template.source).suffix.lower() in ("", ".obj", ".ply", ".stl")
        if is_bare and fitted.report.method == "same topology" and np.allclose(vertices, base, 0, 1e-6):
            return self.rig  # assets/face.obj is the light head
        if fitted.report.confidence != "high":
            reasons = "; ".join(fitted.report.warnings) or "see the preview"
            hint = "" if fitted.rig.native_shapes is not None else "; --landmarks may help"
            self._warn(
                f"{name}: confidence {fitted.report.confidence}: {reasons} (look at the preview that kmtalk fit "
                f"writes{hint})"
            )
        for line in (fitted.describe(), *fitted.report.notes):
            self._inform(f"{name}: {line}")
        return fitted.rig

    def read_mesh(self, template: str | Path, character: CharacterSettings | None) -> Template:
        """Read the file of a mesh; raises InputError where it cannot be used."""
        c = character or CharacterSettings()
        with self._progress.stage("read mesh"):
            return load_template(template, c.node, c.head_bone, c.map)

    def fit(
        self,
        template: str | Path | Template,
        landmarks: Landmarks | None = None,
        *,
        character: CharacterSettings | None = None,
        refine: bool = False,
        reference: str | Path | FittedRig | None = None,
    ) -> FittedRig:
        """Fit the rig to a face mesh; arguments, result and errors are those of `KMTalk.fit`."""
        if not isinstance(template, Template):
            template = self.read_mesh(template, character)
        elif character is not None and character.model_fields_set:
            raise InputError(f"{template.display_name}: is read already; give node, head_bone and map to load_template")
        points = landmarks
        if isinstance(landmarks, str | Path):
            points = load_landmarks(landmarks, template.vertices)
        assert points is None or isinstance(points, Mapping)
        if reference is not None:
            base = reference if isinstance(reference, FittedRig) else load_rig_file(reference)
            if points is not None or refine:
                raise InputError(
                    f"{template.display_name}: a reference rig's shapes are transferred as they are; landmarks and "
                    "--refine are for fitting"
                )
            return rig_template(template, self.source_head, reference=base)
        key = fit_cache_key(template, points, refine)
        fitted = load_cached_rig(key)
        if fitted is None:
            with self._progress.stage("fit"):
                fitted = rig_template(template, self.source_head, points, refine)
            if fitted.report.method != "same topology":  # transfer by topology takes no time
                store_cached_rig(key, fitted)
        named = replace(fitted.rig.template, name=template.name, source=template.source, node=template.node)
        # the nodes of the bones may have other numbers than in the file whose fit is in the cache
        joints = choose_joints(template.joints, {joint.part for joint in named.joints})
        named = replace(named, units=template.units, joints=joints)
        if fitted.report.method != "same topology":
            named = replace(named, colors=template.colors)
        return replace(fitted, rig=replace(fitted.rig, template=named))

    def retarget(
        self, weights: np.ndarray, rig: Rig, alignment: Alignment, fps: float, gain: dict[str, float]
    ) -> Motion:
        """The motion of a rig by weights (N, R) of the default head."""
        retargeted = rig.retarget(np.clip(weights, 0, 1), self.rig.shape_names)
        is_default = rig is self.rig or rig is self.full_rig
        if not is_default and alignment.phones:  # weights that seal the default head's lips may open others
            times = frame_times(len(weights), fps)
            retargeted = seal_retargeted_bilabials(retargeted, rig, self.rig, alignment, times)
        return apply_gain(Motion(rig, retargeted, fps), gain)


def is_mesh_file(template: Face | None) -> bool:
    """Return whether a face is the file of a mesh, which is yet to be fitted."""
    return (
        isinstance(template, str | Path) and Path(template).suffix.lower() != RIG_SUFFIX and not is_light_head(template)
    )
