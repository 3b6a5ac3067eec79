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

from kmtalk.errors import InputError
from kmtalk.face.fit import Fitted
from kmtalk.face.report import Report
from kmtalk.face.rig import ARKIT_NAMES, HEAD_NAMES, SPEECH_NAMES, Own, Rig
from kmtalk.face.template import Template
from kmtalk.weights import asset

VERSION = 1  # of the file and of what fitting does: a new one makes cached rigs anew
SUFFIX = ".kmrig"
NEEDED_MARKS = {"lip_inner_upper", "lip_inner_lower", "mouth_left", "mouth_right", "chin", "subnasale"}
NEEDED_MARKS |= {"eye_outer_left", "eye_outer_right"}
NEEDED_REGIONS = {"lips", "mouth", "upper_face", "chin", "lip_pairs"}


def save_kmrig(path: Path, fitted: Fitted) -> None:
    """Write vertices, faces, names, offsets of the vertices that move, regions, landmarks and the report."""
    rig, t = fitted.rig, fitted.rig.template
    shapes = rig.offsets if rig.own is None else rig.own.offsets
    moving = np.flatnonzero(np.abs(shapes).max((0, 2)) > 0)
    facts = {
        "version": VERSION,
        "units": t.units,
        "name": t.name,
        "gain": rig.gain,
        "landmarks": {k: int(v) for k, v in t.landmarks.items()},
        "report": fitted.report.document(),
    }
    arrays: dict[str, np.ndarray] = {
        "facts": np.array(json.dumps(facts)),
        "vertices": t.vertices,
        "faces": t.faces,
        "names": np.array(rig.names),
        "moving": moving,
        "offsets": shapes[:, moving],
        "laid_by": fitted.landmarks.astype(np.float64),
    }
    if rig.own is not None:
        arrays |= {"own_names": np.array(rig.own.names), "own_mix": rig.own.mix}
    for name, values in (("colors", t.colors), ("tint", t.tint), ("upright", rig.upright)):
        if values is not None:
            arrays[name] = values
    arrays |= {f"region.{name}": np.asarray(index) for name, index in t.regions.items()}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_kmrig(path: str | Path) -> Fitted:
    """Read what ``save_kmrig`` wrote; raises InputError where the file is not that."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such rig; make it with kmtalk fit face.obj -o {path.name}")
    try:
        with np.load(path, allow_pickle=False) as file:
            facts = json.loads(str(file["facts"]))
            if facts["version"] != VERSION:
                raise InputError(f"{path}: made by another version of kmtalk; fit the mesh again")
            held = {name: file[name] for name in file.files}
        count = len(held["vertices"])
        full = np.zeros((len(held["offsets"]), count, 3), np.float32)
        full[:, held["moving"]] = held["offsets"]
        template = Template(
            vertices=held["vertices"],
            faces=held["faces"],
            units=facts["units"],
            name=facts["name"],
            colors=held.get("colors"),
            regions={k.removeprefix("region."): v for k, v in held.items() if k.startswith("region.")},
            landmarks=facts["landmarks"],
            tint=held.get("tint"),
        )
        own = None
        if "own_mix" in held:
            own = Own(tuple(held["own_names"].tolist()), full, held["own_mix"])
            full = np.einsum("rk,kvx->rvx", own.mix, full).astype(np.float32)
        rig = Rig(template, tuple(held["names"].tolist()), full, held.get("upright"), facts["gain"], own)
        _check(rig, held["laid_by"])
        report = facts["report"] | {k: tuple(facts["report"][k]) for k in ("doubts", "remarks")}
        return Fitted(rig, held["laid_by"], Report(**report))
    except InputError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path}: not a rig that kmtalk wrote, or damaged ({reason[:80]}); fit the mesh again"
        ) from None


def _check(rig: Rig, laid_by: np.ndarray) -> None:
    """Raise ValueError where the parts of a rig contradict one another."""
    t = rig.template
    count = len(t.vertices)
    shapes = rig.offsets if rig.own is None else rig.own.offsets
    per_vertex = [v for v in (t.colors, t.tint, rig.upright) if v is not None]
    indexes = [t.faces, *t.regions.values(), np.array(list(t.landmarks.values()))]
    sound = (
        all(v.shape == (count, 3) for v in (t.vertices, *per_vertex))
        and t.faces.ndim == 2
        and t.faces.shape[1] == 3
        and all(i.dtype.kind in "iu" and (not i.size or (i.min() >= 0 and i.max() < count)) for i in indexes)
        and all(np.isfinite(v).all() for v in (t.vertices, shapes, laid_by))
        and isinstance(rig.gain, float)
        and 0 < rig.gain < 100
        and len(rig.names) == len(rig.offsets)
        and (rig.own is None or rig.own.mix.shape == (len(rig.names), len(rig.own.names)))
        and (rig.own is None or len(rig.own.names) == len(shapes))
        and {*ARKIT_NAMES, *SPEECH_NAMES, *HEAD_NAMES} <= set(rig.names)
        and set(t.landmarks) >= NEEDED_MARKS
        and set(t.regions) >= NEEDED_REGIONS
        and t.mm_per_unit > 0
    )
    if not sound:
        raise ValueError("its parts contradict one another")


def rigs_folder() -> Path:
    """The user's cache of fitted rigs; not made yet."""
    return user_cache_path("kmtalk", appauthor=False) / "rigs"


def content_key(template: Template, landmarks: Mapping[str, np.ndarray] | None, refined: bool) -> str:
    """A name for everything that a fit depends on: the mesh's content, not its file's name or date."""
    digest = hashlib.sha256(f"{VERSION} {refined}".encode())
    for source in ("head.safetensors", "landmarks.safetensors"):
        digest.update(hashlib.sha256(asset(source).read_bytes()).digest())
    arrays = {"vertices": template.vertices, "faces": template.faces}
    arrays |= {f"shape {k}": v for k, v in sorted(template.shapes.items())}
    arrays |= {f"part {k}": v for k, v in sorted(template.parts.items())}
    arrays |= {f"mark {k}": v for k, v in sorted((landmarks or {}).items())}
    for name, values in arrays.items():
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def cached(key: str) -> Fitted | None:
    """The rig of that key; None where there is none or it is damaged."""
    path = rigs_folder() / f"{key}{SUFFIX}"
    try:
        return load_kmrig(path) if path.is_file() else None
    except InputError:
        return None


def keep(key: str, fitted: Fitted) -> None:
    """Put a rig into the cache, where there is room for one."""
    folder = rigs_folder()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
        os.close(handle)
        temporary = Path(name)
        try:
            save_kmrig(temporary, fitted)
            temporary.replace(folder / f"{key}{SUFFIX}")
        finally:
            temporary.unlink(missing_ok=True)
