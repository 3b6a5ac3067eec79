"""A part of the hostile cases, the same in every run; `make hostile` runs all."""

from __future__ import annotations

import pytest
from judge import CLEAN, FAULTS
from pool import Pool
from run import all_cases, every
from seeds import make_seeds

KINDS = (
    "animation.npz", "emotion cues", "FBX", "GLB", "glTF", "joint model", "keys.json", "kmrig", "landmarks",
    "manifest of a corpus", "manifest of clips", "map of shapes", "MFA acoustic model", "MFA dictionary", "motion .npy",
    "network", "OBJ", "option", "pickle", "Piper voice", "PLY", "sound", "STL", "text", "TextGrid", "USD", "video",
    "VRM", "YAML configuration",
)  # fmt: skip
STEP = 60
"""One of so many cases of each kind, beside the valid files."""


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    return make_seeds(tmp_path_factory.mktemp("seeds"))


@pytest.fixture(scope="module")
def verdicts(seeds):
    with Pool(seeds, 1) as pool:
        return list(pool.run(every(all_cases(seeds), STEP)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_inputs_are_refused_in_one_line_or_come_out_right(verdicts, kind):
    of_kind = [v for v in verdicts if v.case.kind == kind]
    assert {v.verdict for v in of_kind} & set(CLEAN)
    assert [f"{v.verdict}: {v.case.name}: {v.note}" for v in of_kind if v.verdict in FAULTS] == []


@pytest.mark.slow
def test_there_are_1500_cases_of_all_kinds_and_they_are_the_same_in_every_run(seeds):
    names = [case.name for case in all_cases(seeds)]
    assert len(names) >= 1500
    assert names == [case.name for case in all_cases(seeds)]
    assert {name.split(":")[0] for name in names} >= set(KINDS) - {"option"}
