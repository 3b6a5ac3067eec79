"""Landmarks given by hand: JSON, or MeshLab's picked points."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.shape_names import LANDMARK_NAMES, SEVEN_LANDMARKS, canonical_landmark_name


def load_landmarks(path: str | Path, vertices: np.ndarray) -> dict[str, np.ndarray]:
    """Landmark name → point (3,) in the mesh's units.

    JSON holds {"chin": [x, y, z], …}, with a vertex's number (from 0) instead of a point where one likes; MeshLab's
    .pp file holds named points, or seven without names in the order of names.SEVEN. Names that are
    not known are an error. Raises InputError.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: no such file of landmarks; give JSON or MeshLab's .pp") from None
    try:
        given = _parse_picked_points(text) if text.lstrip().startswith("<") else _parse_json(text)
    except (ValueError, KeyError, TypeError, AttributeError, ElementTree.ParseError) as error:
        reason = (str(error).splitlines() or ["empty"])[0]
        raise InputError(
            f'{path}: not a file of landmarks ({reason[:80]}); give {{"chin": [x, y, z], …}} or .pp'
        ) from None
    if given and all(name.strip().isdecimal() for name, _ in given):
        if len(given) != len(SEVEN_LANDMARKS):
            raise InputError(
                f"{path}: {len(given)} points without names; name them, or give seven: {', '.join(SEVEN_LANDMARKS)}"
            )
        given = [(name, point) for name, (_, point) in zip(SEVEN_LANDMARKS, given, strict=True)]
    out: dict[str, np.ndarray] = {}
    for name, point in given:
        standard = canonical_landmark_name(name)
        if standard is None:
            raise InputError(f"{path}: {name} is no landmark; known are {', '.join(LANDMARK_NAMES)}")
        out[standard] = _parse_point(path, name, point, vertices)
    if len(out) < 3:
        raise InputError(f"{path}: fewer than three landmarks; seven are good: {', '.join(SEVEN_LANDMARKS)}")
    return out


def _parse_json(text: str) -> list[tuple[str, Any]]:
    document = json.loads(text)
    if isinstance(document, dict) and isinstance(document.get("landmarks"), dict):
        document = document["landmarks"]  # the report that kmtalk fit wrote, corrected
    if isinstance(document, list):
        return [(str(entry["name"]), entry.get("point", entry.get("vertex"))) for entry in document]
    return [(str(name), point) for name, point in document.items()]


def _parse_picked_points(text: str) -> list[tuple[str, Any]]:
    if "<!ENTITY" in text:
        raise ValueError("entities are not read")
    root = ElementTree.fromstring(text)
    points = [p for p in root.iter("point") if p.get("active", "1") != "0"]
    return [(p.get("name", ""), [float(p.get(axis, "nan")) for axis in "xyz"]) for p in points]


def _parse_point(path: Path, name: str, point: Any, vertices: np.ndarray) -> np.ndarray:
    if isinstance(point, int) and not isinstance(point, bool):
        if not 0 <= point < len(vertices):
            raise InputError(f"{path}: {name}: the mesh has no vertex {point}; it has {len(vertices)}, counted from 0")
        return vertices[point].astype(np.float64)
    try:
        out = np.array(point, np.float64)
    except (TypeError, ValueError):
        out = np.zeros(0)
    if out.shape != (3,) or not np.isfinite(out).all():
        raise InputError(f"{path}: {name}: give a point [x, y, z] or a vertex's number")
    return out
