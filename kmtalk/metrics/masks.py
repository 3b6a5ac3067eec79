"""Masks from files in the formats of published code, or from a template's regions."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.template import Template
from kmtalk.metrics.result import Mask
from kmtalk.pickles import load_restricted_pickle
from kmtalk.text_files import read_json_file, read_text_file

REGION_BY_MASK = {"lips": "lips", "upper": "upper_face"}
"""Region of a template for each mask: "lips" for LVE, "upper" for FDD."""


def load_mask(path: str | Path, part: str | None = None) -> Mask:
    """Read a mask of vertex indices.

    Args:
        path: FILE or FILE:PART. The file is text with numbers (lve.txt, fdd.txt), .npy, .json (a list, or lists by
            name) or .pkl (FLAME_masks.pkl).
        part: Name of one of several masks in a .json or .pkl ("lips", "forehead").

    Returns:
        The mask, its indices sorted.

    Raises:
        InputError: The file or the part does not exist, or the file is not a mask.
    """
    path = Path(path)
    if part is None and not path.is_file() and ":" in str(path):
        before, _, part = str(path).rpartition(":")
        path = Path(before)
    if not path.is_file():
        raise InputError(f"{path}: no such mask file")
    suffix = path.suffix.lower()
    try:
        content: object
        if suffix == ".npy":
            content = np.load(path, allow_pickle=False)
        elif suffix == ".pkl":
            content = load_restricted_pickle(path)
        elif suffix == ".json":
            content = read_json_file(path)
        else:
            content = [int(word) for word in re.split(r"[\s,;]+", read_text_file(path).strip()) if word]
    except InputError:
        raise
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not a mask ({str(error)[:80]}); it must contain vertex indices") from None
    name = path.name
    if isinstance(content, dict):
        if part is None or part not in content:
            names = ", ".join(str(k) for k in content)
            raise InputError(f"{path}: has the masks {names[:200]}; select one as {path.name}:PART")
        content, name = content[part], f"{path.name}:{part}"
    try:
        indices = np.asarray(content)
    except ValueError:
        indices = np.zeros(0)
    if indices.ndim != 1 or not indices.size or indices.dtype.kind not in "iu" or indices.min() < 0:
        raise InputError(f"{path}: not a mask; it must contain vertex indices, integers of 0 or more")
    return Mask(name, np.unique(indices).astype(np.int64))


def mask_from_template(template: Template, mask_name: str) -> Mask:
    """Make a mask from a region of the template; `mask_name` is a key of `REGION_BY_MASK`.

    Raises InputError where the template lacks the region.
    """
    region = template.regions.get(REGION_BY_MASK[mask_name])
    if region is None or not len(region):
        raise InputError(f"{template.display_name}: has no region {REGION_BY_MASK[mask_name]}; use a mask file")
    return Mask(f"{template.name} {REGION_BY_MASK[mask_name]}", np.unique(region).astype(np.int64))
