"""The recipes of the README run as written, and its generated pages are up to date."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import FACE, FIXTURES, ROOT, SPEECH, needs_detector

README = (ROOT / "README.md").read_text()
RECIPES = README.split("## Recipes")[1].split("\n## ")[0]


def commands(text):
    """The kmtalk commands in the code blocks, without comments."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.S | re.M)
    lines = [line.split("  #")[0].strip() for kind, block in blocks if not kind for line in block.splitlines()]
    return [line for line in lines if line.startswith("kmtalk ")]


@pytest.fixture(scope="module")
def desk(talk, tmp_path_factory):
    """A folder with the input files of the recipes; the sound is the start of the demo.

    No German model is available: rede.wav is English, and german_mfa is a small English model.
    """
    folder = tmp_path_factory.mktemp("desk")
    sound, rate = soundfile.read(SPEECH)
    for name in ("speech.wav", "rede.wav", "recordings/a.wav", "recordings/deep/b.wav"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, sound[: 3 * rate], rate)
    (folder / "face.obj").write_bytes(FACE.read_bytes())
    (folder / "german_mfa.zip").write_bytes((FIXTURES / "kmtalk_arpa.zip").read_bytes())
    (folder / "german_mfa.dict").write_bytes((FIXTURES / "corpus.dict").read_bytes())
    (folder / "clips.csv").write_text("speech,text,style,seed\nspeech.wav,,clear,3\n")
    plain = talk.animate(folder / "speech.wav", motion="rules")
    np.save(folder / "other.npy", plain.vertices)
    plain.save(folder / "before.npz")
    return folder


@needs_detector
@pytest.mark.slow
def test_the_recipes_run_as_written(desk):
    lines = commands(RECIPES)
    assert len(lines) >= 12
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for line in lines:
        if "--ray auto" in line:  # needs a cluster; tests/test_batch.py covers it
            continue
        ran = subprocess.run(shlex.split(line), cwd=desk, capture_output=True, text=True, env=env, check=False)
        assert ran.returncode == 0, f"{line}\n{ran.stderr}"
    for made in ("face.kmrig", "face-fit.png", "out/animation.csv", "face.usd", "out/animation.html", "keys.json"):
        assert (desk / made).stat().st_size > 1000, made
    for made in ("compare.mp4", "out/deep/b/animation.npz", "out/speech/animation.npz", "rede-kmtalk/animation.mp4"):
        assert (desk / made).is_file(), made


def test_the_files_it_links_to_are_there():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_api_page_is_what_the_docstrings_say():
    made = runpy.run_path(str(ROOT / "docs" / "make_api.py"))["api_page"]()
    assert made == (ROOT / "docs" / "api.md").read_text(), "run python docs/make_api.py"


def test_every_format_of_the_table_is_written():
    from kmtalk.exchange.formats import FORMATS

    table = RECIPES.split("| ends with |")[1].split("\n\n")[0]
    for known in FORMATS:
        for end in known.suffixes:
            assert f"`{end}`" in table or f"####{end}`" in table, end
