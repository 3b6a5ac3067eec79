"""face.kmrig: a fitted rig as npz without pickle; and the cache of rigs by what was fitted."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from kmtalk.assets import asset_path
from kmtalk.errors import InputError
from kmtalk.face.fit import FittedRig
from kmtalk.face.fit_report import FitReport
from kmtalk.face.rig import ARKIT_NAMES, HEAD_NAMES, SPEECH_NAMES
from kmtalk.face.rig_arrays import rig_from_arrays, rig_to_arrays
from kmtalk.face.template import Template

VERSION = 2  # of the file and of what fitting does: a new one makes cached rigs anew
SUFFIX = ".kmrig"


def save_rig_file(path: Path, fitted: FittedRig) -> None:
    """Write the rig, the points it was laid on by, and the report."""
    arrays = rig_to_arrays(fitted.rig)
    facts = {"version": VERSION, "report": fitted.report.to_dict()}
    arrays |= {"facts": np.array(json.dumps(facts)), "laid_by": fitted.landmarks.astype(np.float64)}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_rig_file(path: str | Path) -> FittedRig:
    """Read what ``save_rig_file`` wrote; raises InputError where the file is not that."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such rig; make it with kmtalk fit face.obj -o {path.name}")
    try:
        with np.load(path, allow_pickle=False) as file:
            facts = json.loads(str(file["facts"]))
            if facts["version"] != VERSION:
                raise InputError(f"{path}: made by another version of kmtalk; fit the mesh again")
            held = {name: file[name] for name in file.files}
        rig = rig_from_arrays(held)
        if not np.isfinite(held["laid_by"]).all() or not {*ARKIT_NAMES, *SPEECH_NAMES, *HEAD_NAMES} <= set(rig.names):
            raise ValueError("its parts contradict one another")
        report = facts["report"] | {k: tuple(facts["report"][k]) for k in ("doubts", "remarks")}
        return FittedRig(rig, held["laid_by"], FitReport(**report))
    except InputError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path}: not a rig that kmtalk wrote, or damaged ({reason[:80]}); fit the mesh again"
        ) from None


def rig_cache_dir() -> Path:
    """The user's cache of fitted rigs; not made yet."""
    return user_cache_path("kmtalk", appauthor=False) / "rigs"


def fit_cache_key(template: Template, landmarks: Mapping[str, np.ndarray] | None, refine: bool) -> str:
    """A name for everything that a fit depends on: the mesh's content, not its file's name or date."""
    digest = hashlib.sha256(f"{VERSION} {refine}".encode())
    for source in ("head.safetensors", "landmarks.safetensors"):
        digest.update(hashlib.sha256(asset_path(source).read_bytes()).digest())
    arrays = {"vertices": template.vertices, "faces": template.faces}
    arrays |= {f"shape {k}": v for k, v in sorted(template.shapes.items())}
    arrays |= {f"part {k}": v for k, v in sorted(template.parts.items())}
    arrays |= {f"mark {k}": v for k, v in sorted((landmarks or {}).items())}
    for name, values in arrays.items():
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def load_cached_rig(key: str) -> FittedRig | None:
    """The rig of that key; None where there is none or it is damaged."""
    path = rig_cache_dir() / f"{key}{SUFFIX}"
    try:
        return load_rig_file(path) if path.is_file() else None
    except InputError:
        return None


def store_cached_rig(key: str, fitted: FittedRig) -> None:
    """Put a rig into the cache, where there is room for one."""
    folder = rig_cache_dir()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
        os.close(handle)
        temporary = Path(name)
        try:
            save_rig_file(temporary, fitted)
            temporary.replace(folder / f"{key}{SUFFIX}")
        finally:
            temporary.unlink(missing_ok=True)
