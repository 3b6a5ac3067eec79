"""Verdicts: whether a command line was refused cleanly, came out right, or did something that it never may."""

from __future__ import annotations

import json
import os
import re
import struct
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from case import Case
from seeds import SECONDS, unpack_glb

CLEAN = ("refused", "right", "warned")
FAULTS = ("traceback", "crash", "hang", "memory", "silent", "left", "wordy", "refused a valid file")
VERDICTS = (*CLEAN, *FAULTS)
MAX_WEIGHT = 1.0 + 1e-3
MAX_COORDINATE = 1e7
"""No mesh is larger in its own units: a body in micrometres."""


@dataclass(frozen=True)
class Verdict:
    """What came of a case.

    Attributes:
        case: The case.
        verdict: One of `VERDICTS`.
        note: What was found.
        seconds: How long the command took.
        megabytes: Its memory above that of the process before it began.
    """

    case: Case
    verdict: str
    note: str
    seconds: float
    megabytes: int


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file under a folder; 0 for what is no file."""
    out = {}
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        regular = path.is_file() and not path.is_symlink()
        out[str(path.relative_to(folder))] = (facts.st_size, facts.st_mtime_ns) if regular else (0, 0)
    return out


def judge(case: Case, answer: Mapping[str, Any], folder: Path, before: Mapping[str, tuple[int, int]]) -> Verdict:
    """The verdict on a command that has ended in `folder`, which held `before` in work/."""
    stdout, stderr = ((folder / name).read_text("utf-8", "surrogateescape") for name in ("stdout", "stderr"))
    after = snapshot(folder / "work")
    verdict, note = _verdict(case, answer, folder, before, after, stdout, stderr)
    return Verdict(case, verdict, " ".join(note.split())[:400], answer["seconds"], answer["megabytes"])


def _verdict(
    case: Case,
    answer: Mapping[str, Any],
    folder: Path,
    before: Mapping[str, tuple[int, int]],
    after: Mapping[str, tuple[int, int]],
    stdout: str,
    stderr: str,
) -> tuple[str, str]:
    code, stopped = answer["code"], answer["stopped"]
    if stopped:
        return {"time": "hang", "memory": "memory"}[stopped], f"stopped after {answer['seconds']:.0f} s"
    if code < 0:
        return "crash", f"signal {-code}: {stderr[-200:]}"
    if "Traceback" in stderr or code not in ((0, 1, 2) if case.several_lines else (0, 2)):
        return "traceback", stderr[-400:] or f"exit code {code}"
    new = sorted(set(after) - set(before))
    changed = [name for name in before if after.get(name) != before[name]]
    allowed = [n for n in new if code != 2 and n.split("/")[0] in {o.split("/")[0] for o in case.outputs if o}]
    left = [*(n for n in new if n not in allowed), *(f"tmp/{n.name}" for n in (folder / "tmp").iterdir())]
    if left or changed:
        return "left", f"new: {left[:5]}, changed: {changed[:5]}; {stderr[-200:]}"
    fault = _wording(case, code, stderr, folder)
    if fault:
        return "wordy", f"{fault}: {stderr[:300]!r}"
    if code:
        return ("refused a valid file", stderr) if case.must_pass else ("refused", stderr)
    fault = _outputs(case, folder / "work", stdout, stderr)
    if fault:
        return "silent", fault
    return ("warned", stderr) if stderr.strip() else ("right", "")


def _wording(case: Case, code: int, stderr: str, folder: Path) -> str:
    """What is wrong with the lines on stderr."""
    lines = stderr.removesuffix("\n").split("\n") if stderr else []
    for line in lines:
        if not line.startswith("kmtalk: "):
            return "a line that does not begin with kmtalk:"
        if any(unicodedata.category(c) == "Cc" for c in line):
            return "control characters"
        if ".kmtalk-" in line or str(folder / "tmp") in line:
            return "names a hidden temporary file"
    if code != 2:
        return ""
    if len(lines) != 1:
        return f"{len(lines)} lines"
    if case.named and not any(_is_named(name, lines[0]) for name in case.named):
        return f"does not name {case.named[0]!r}"
    return ""


def _is_named(name: str, line: str) -> bool:
    """Whether a line holds a name, of which only the plain part must be spelled as it is."""
    if name in line:
        return True
    plain = max(re.findall(r"[A-Za-z0-9. ]+", name), key=len, default="")
    return bool(plain) and plain[:60] in line


def _outputs(case: Case, work: Path, stdout: str, stderr: str) -> str:
    """What is wrong with what a command says it has written."""
    if not case.outputs and re.search(r"(?<![\w-])(nan|inf)(?![\w-])", stdout, re.IGNORECASE):
        return f"nan or inf in {stdout[:200]!r}"
    for name in case.outputs[:1]:
        path = work / name
        if not name or os.path.isdir(path):
            continue
        if not path.is_file():
            return f"{name} was not written"
        fault = _content(path)
        if fault:
            return f"{name}: {fault} ({stderr[:150]})"
    return ""


def _content(path: Path) -> str:
    """What is wrong with a file that was written, or an empty text."""
    suffix, data = path.suffix.lower(), path.read_bytes()
    if suffix == ".json":
        document = json.loads(data, parse_constant=lambda name: float("nan"))
        if "keys" not in document:
            return ""
        weights = [w for key in document["keys"] for w in key["weights"].values()]
        good = np.isfinite(weights).all() and min(weights, default=0) >= 0 and max(weights, default=0) <= MAX_WEIGHT
        return "" if good and document["frames"] >= 1 and document["keys"] else "weights outside 0 to 1, or no keys"
    if suffix == ".csv":
        rows = [line.split(",") for line in data.decode("utf-8").splitlines()]
        values = np.array([row[2:] for row in rows[1:]], float)
        return "" if len(values) and np.isfinite(values).all() else "no rows, or values that are not finite"
    if suffix == ".pc2":
        count, frames = struct.unpack_from("<i", data, 16)[0], struct.unpack_from("<i", data, 28)[0]
        points = np.frombuffer(data, "<f4", offset=32)
        if points.size != 3 * count * frames or not points.size:
            return f"{points.size} numbers for {frames} frames of {count} vertices"
        if not np.isfinite(points).all():
            return "positions that are not finite"
        return "" if np.abs(points).max() < MAX_COORDINATE else f"a position of {np.abs(points).max():g}"
    if suffix == ".textgrid":
        times = [float(t) for t in re.findall(r"x(?:min|max) = (\S+)", data.decode("utf-8"))]
        return "" if times and all(0 <= t <= SECONDS + 0.1 for t in times) else f"times {times[:4]}"
    if suffix == ".glb":
        document, chunk = unpack_glb(data)
        for accessor in document["accessors"]:
            if accessor["componentType"] == 5126 and "bufferView" in accessor:
                view = document["bufferViews"][accessor["bufferView"]]
                start = view.get("byteOffset", 0)
                if not np.isfinite(np.frombuffer(chunk[start : start + view["byteLength"]], "<f4")).all():
                    return "values that are not finite"
        return ""
    return "" if data else "is empty"
