"""Masks from the files that the field passes around, or from a template's own regions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.template import Template
from kmtalk.metrics.result import Mask
from kmtalk.pickles import load_restricted_pickle

MASK_REGIONS = {"lips": "lips", "upper": "upper_face"}
"""Masks that a template's own regions give: LVE's and FDD's."""


def load_mask(given: str | Path, part: str | None = None) -> Mask:
    """Read a mask: numbers in a text file (lve.txt, fdd.txt), .npy, .json (a list, or lists by name), FLAME_masks.pkl.

    ``part`` names one of several in a .json or .pkl ("lips", "forehead"), as "FILE:PART" does. Raises InputError for
    anything else.
    """
    path = Path(given)
    if part is None and not path.is_file() and ":" in str(given):
        before, _, part = str(given).rpartition(":")
        path = Path(before)
    if not path.is_file():
        raise InputError(f"{path}: no such mask")
    suffix = path.suffix.lower()
    try:
        held: object
        if suffix == ".npy":
            held = np.load(path, allow_pickle=False)
        elif suffix == ".pkl":
            held = load_restricted_pickle(path)
        elif suffix == ".json":
            held = json.loads(path.read_text())
        else:
            held = [int(word) for word in re.split(r"[\s,;]+", path.read_text().strip()) if word]
    except InputError:
        raise
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not a mask ({str(error)[:80]}); give indices of vertices") from None
    name = path.name
    if isinstance(held, dict):
        if part is None or part not in held:
            known = ", ".join(str(k) for k in held)
            raise InputError(f"{path}: holds {known[:200]}; name one after a colon: {path.name}:PART")
        held, name = held[part], f"{path.name}:{part}"
    try:
        indices = np.asarray(held)
    except ValueError:
        indices = np.zeros(0)
    if indices.ndim != 1 or not indices.size or indices.dtype.kind not in "iu" or indices.min() < 0:
        raise InputError(f"{path}: not a mask; give indices of vertices, whole numbers of 0 or more")
    return Mask(name, np.unique(indices).astype(np.int64))


def mask_from_template(template: Template, part: str) -> Mask:
    """A mask from the template's own regions, found geometrically: ``part`` is one of REGIONS."""
    region = template.regions.get(MASK_REGIONS[part])
    if region is None or not len(region):
        raise InputError(f"{template.display_name}: has no region {MASK_REGIONS[part]}; give a mask file")
    return Mask(f"{template.name} {MASK_REGIONS[part]}", np.unique(region).astype(np.int64))
