"""Landmark files that a user writes: JSON, or MeshLab's picked points (.pp)."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.shape_names import LANDMARK_NAMES, SEVEN_LANDMARKS, canonical_landmark_name
from kmtalk.text_files import parse_json, read_text_file

MAX_BYTES = 1 << 20
"""Bytes of a landmark file, which names some dozens of points."""


def load_landmarks(path: str | Path, vertices: np.ndarray) -> dict[str, np.ndarray]:
    """Read a file of landmarks.

    A JSON file holds `{"chin": [x, y, z], …}`; a vertex index (from 0) may replace a point. MeshLab's .pp file holds
    named points, or seven without names in the order of `SEVEN_LANDMARKS`.

    Args:
        path: The file.
        vertices: The mesh's vertices (V, 3).

    Returns:
        Landmark name → point (3,) in the mesh's units.

    Raises:
        InputError: If the file is missing or unreadable, a name is unknown, or fewer than three landmarks are given.
    """
    path = Path(path)
    text = read_text_file(path, limit=MAX_BYTES)
    try:
        entries = _parse_picked_points(text) if text.lstrip().startswith("<") else _parse_json(text, path)
    except InputError as error:
        raise InputError(f'{error}; write {{"chin": [x, y, z], …}}, or use a .pp file') from None
    except (ValueError, KeyError, TypeError, AttributeError, ElementTree.ParseError) as error:
        reason = (str(error).splitlines() or ["empty"])[0]
        raise InputError(
            f'{path}: not a landmark file ({reason[:80]}); write {{"chin": [x, y, z], …}}, or use a .pp file'
        ) from None
    if entries and all(name.strip().isdecimal() for name, _ in entries):
        if len(entries) != len(SEVEN_LANDMARKS):
            raise InputError(
                f"{path}: {len(entries)} points without names; name them, or give seven: {', '.join(SEVEN_LANDMARKS)}"
            )
        entries = [(name, point) for name, (_, point) in zip(SEVEN_LANDMARKS, entries, strict=True)]
    landmarks: dict[str, np.ndarray] = {}
    for name, point in entries:
        standard = canonical_landmark_name(name)
        if standard is None:
            raise InputError(f"{path}: unknown landmark {name}; known are {', '.join(LANDMARK_NAMES)}")
        if standard in landmarks:
            raise InputError(f"{path}: landmark {standard} is given twice; leave one out")
        landmarks[standard] = _parse_point(path, name, point, vertices)
    if len(landmarks) < 3:
        raise InputError(
            f"{path}: fewer than three landmarks; give these seven if possible: {', '.join(SEVEN_LANDMARKS)}"
        )
    return landmarks


def _parse_json(text: str, path: Path) -> list[tuple[str, Any]]:
    """Name and value of each landmark in JSON text."""
    document = parse_json(text, path)
    if isinstance(document, dict) and isinstance(document.get("landmarks"), dict):
        document = document["landmarks"]  # the report of `kmtalk fit`, edited by the user
    if isinstance(document, list):
        return [(str(entry["name"]), entry.get("point", entry.get("vertex"))) for entry in document]
    return [(str(name), point) for name, point in document.items()]


def _parse_picked_points(text: str) -> list[tuple[str, Any]]:
    """Name and coordinates of each active point in MeshLab's .pp text."""
    if "<!ENTITY" in text:
        raise ValueError("XML entities are not allowed")
    root = ElementTree.fromstring(text)
    points = [p for p in root.iter("point") if p.get("active", "1") != "0"]
    return [(p.get("name", ""), [float(p.get(axis, "nan")) for axis in "xyz"]) for p in points]


def _parse_point(path: Path, name: str, point: Any, vertices: np.ndarray) -> np.ndarray:
    """The point (3,) that coordinates or a vertex index give; raises InputError if they give none."""
    if isinstance(point, int) and not isinstance(point, bool):
        if not 0 <= point < len(vertices):
            raise InputError(
                f"{path}: {name}: vertex {point} does not exist; the mesh has {len(vertices)}, counted from 0"
            )
        return vertices[point].astype(np.float64)
    try:
        position = np.array(point, np.float64)
    except (TypeError, ValueError, OverflowError):
        position = np.zeros(0)
    if position.shape != (3,) or not np.isfinite(position).all():
        raise InputError(f"{path}: {name}: not a point; give [x, y, z] or a vertex index")
    low, high = vertices.min(0), vertices.max(0)
    if np.maximum(low - position, position - high).max() > np.linalg.norm(high - low):
        raise InputError(f"{path}: {name}: lies far from the mesh; give points in its units and axes")
    return position
