"""Reads and writes .kmrig files, fitted rigs as npz without pickle, and keeps the user's cache of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from kmtalk.array_files import load_arrays
from kmtalk.assets import asset_path
from kmtalk.errors import InputError
from kmtalk.face.fit import FittedRig
from kmtalk.face.fit_report import FitReport
from kmtalk.face.joints import HEAD_NAMES
from kmtalk.face.rig import ARKIT_NAMES, LIGHT_HEAD, SPEECH_NAMES
from kmtalk.face.rig_arrays import find_source, rig_from_arrays, rig_to_arrays
from kmtalk.face.template import Template
from kmtalk.output import atomic_write

FORMAT_VERSION = 6  # of the file format and of the fitting method; a new version invalidates cached rigs
RIG_SUFFIX = ".kmrig"


def save_rig_file(path: Path, fitted: FittedRig) -> None:
    """Write the rig, the landmarks of the fit and the fit report to a .kmrig file."""
    arrays = rig_to_arrays(fitted.rig)
    metadata = {"version": FORMAT_VERSION, "report": fitted.report.to_dict()}
    arrays |= {"metadata": np.array(json.dumps(metadata)), "fit_landmarks": fitted.landmarks.astype(np.float64)}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_rig_file(path: str | Path) -> FittedRig:
    """Read a rig written by `save_rig_file`.

    Raises:
        InputError: The file is missing, damaged, not a .kmrig file or of another version.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: file not found; create it with kmtalk fit face.obj -o {path.name}")
    try:
        arrays = load_arrays(path)
        metadata = json.loads(str(arrays["metadata"]))
        if metadata["version"] != FORMAT_VERSION:
            raise InputError(f"{path}: written by another version of kmtalk; fit the mesh again with kmtalk fit")
        rig = rig_from_arrays(arrays)
        rig = replace(rig, template=find_source(rig.template, path))
        marks = arrays["fit_landmarks"]
        if (
            marks.ndim != 2
            or not np.isfinite(marks).all()
            or not {*ARKIT_NAMES, *SPEECH_NAMES, *HEAD_NAMES} <= set(rig.shape_names)
        ):
            raise ValueError("its arrays are inconsistent")
        report = metadata["report"] | {k: tuple(metadata["report"][k]) for k in ("warnings", "notes")}
        return FittedRig(rig, marks, FitReport(**report))
    except InputError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path}: not a .kmrig file, or damaged ({reason[:80]}); fit the mesh again with kmtalk fit"
        ) from None


def rig_cache_dir() -> Path:
    """Return the folder of the user's cache of fitted rigs; the folder may not exist."""
    return user_cache_path("kmtalk", appauthor=False) / "rigs"


def fit_cache_key(template: Template, landmarks: Mapping[str, np.ndarray] | None, refine: bool) -> str:
    """Return a hash of everything a fit depends on: the content of the mesh, not the name or date of its file."""
    digest = hashlib.sha256(f"{FORMAT_VERSION} {refine}".encode())
    for asset in (LIGHT_HEAD, "landmarks.safetensors"):
        digest.update(hashlib.sha256(asset_path(asset).read_bytes()).digest())
    arrays = {"vertices": template.vertices, "faces": template.faces}
    arrays |= {f"shape {k}": v for k, v in sorted(template.shapes.items())}
    arrays |= {f"part {k}": v for k, v in sorted(template.parts.items())}
    arrays |= {f"mark {k}": v for k, v in sorted((landmarks or {}).items())}
    arrays |= {f"joint {j.part} {j.parent}": np.append(j.weights, j.position) for j in template.joints}
    digest.update(json.dumps([template.expressions, template.shape_map]).encode())
    for name, values in arrays.items():
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def load_cached_rig(key: str) -> FittedRig | None:
    """Return the cached rig of a key; None if there is none or its file is damaged."""
    path = rig_cache_dir() / f"{key}{RIG_SUFFIX}"
    try:
        return load_rig_file(path) if path.is_file() else None
    except InputError:
        return None


def store_cached_rig(key: str, fitted: FittedRig) -> None:
    """Store a rig in the cache, or nothing where it cannot be written."""
    with suppress(InputError), atomic_write(rig_cache_dir() / f"{key}{RIG_SUFFIX}") as temporary:
        save_rig_file(temporary, fitted)
