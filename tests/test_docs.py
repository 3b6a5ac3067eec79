"""The documentation: its commands run as written, its links lead somewhere, and the site builds."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import typer
import yaml
from conftest import FACE, FIXTURES, ROOT, SHARED, SPEECH, needs_detector

from kmtalk import Template
from kmtalk.animation import FORMATS
from kmtalk.cli import app
from kmtalk.cli.commands import typer_app
from kmtalk.corpora.registry import load_mesh_corpus
from kmtalk.face.files.load import load_template
from kmtalk.face.rig_file import save_rig_file
from kmtalk.face.shape_names import SEVEN_LANDMARKS
from kmtalk.face.template import write_obj

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SITE_FREE = ("http://", "https://", "mailto:")


def blocks(page, kind):
    """The contents of a page's code blocks of a kind."""
    found = re.findall(r"^```([^\n]*)\n(.*?)^```", page.read_text(), flags=re.S | re.M)
    return [text for tag, text in found if tag.strip() == kind]


def commands(page):
    """The kmtalk commands of a page's sh blocks, without comments."""
    lines = [line.split("  #")[0].strip() for text in blocks(page, "sh") for line in text.splitlines()]
    return [line for line in lines if line.startswith("kmtalk ")]


def names(page):
    return page.relative_to(ROOT).as_posix()


def tiny_configs(folder):
    """The shipped configs under their own names, reduced to toy size, on the corpora of the desk."""
    folder.mkdir(parents=True)
    small = {
        "encoder": "log-mel", "batch_size": 4, "max_crop_seconds": 1.0, "eval_every": 1000, "feature_cache": None,
        "steps": {"key_motion": 2, "completion": 2, "joint": 1},
    }  # fmt: skip
    for path in sorted((ROOT / "data" / "configs").glob("*.yaml")):
        config = yaml.safe_load(path.read_text()) | small
        config["network"] |= {"d_model": 32, "num_heads": 4, "num_layers": 1}
        config["corpora"] = [c for c in config["corpora"] if c["kind"] not in ("grid", "rig")]
        for corpus in config["corpora"]:
            corpus["path"] = f"../../{'corpora/simulated' if corpus['kind'] == 'simulated' else corpus['kind'].upper()}"
        (folder / path.name).write_text(yaml.safe_dump(config))
        if path.stem == "paper-vocaset":
            config["corpora"][0]["keys_from"] = "../../faceformer"
            (folder / "completes-faceformer.yaml").write_text(yaml.safe_dump(config))


def put_corpora(folder, place):
    """Miniatures of VOCASET and BIWI (simulated), another system's predictions, a prediction to film, and GRID."""
    (folder / "VOCASET").symlink_to(place / "vocaset")
    (folder / "BIWI").symlink_to(place / "biwi")
    if SHARED.is_dir():
        (folder / "GRID").symlink_to(SHARED / "data" / "grid")
    for name in ("faceformer", "predicted/mine"):
        (folder / name).mkdir(parents=True)
    corpus = load_mesh_corpus("vocaset", place / "vocaset")
    for clip in corpus.clips:
        rest, count = corpus.templates[clip.subject], len(clip.frames) - 1
        half = rest + 0.5 * (clip.frames.read(0, count) - rest)
        np.save(folder / "faceformer" / f"{clip.name}.npy", half.reshape(count, -1).astype(np.float32))
    clip = corpus.split_clips("test")[0]
    shown = folder / "predicted" / "mine"
    np.save(shown / "CLIP.npy", np.load(folder / "faceformer" / f"{clip.name}.npy"))
    write_obj(shown / "SUBJECT.obj", Template(corpus.templates[clip.subject], corpus.faces))
    (folder / "CLIP.wav").write_bytes(clip.audio.read_bytes())
    for name, first in (("lve", 200), ("fdd", 1000)):
        (folder / f"{name}.txt").write_text(", ".join(map(str, range(first, first + 60))))


@pytest.fixture
def desk(request, talk, tmp_path):
    """An empty folder with the input files of the pages; the sound is the first three seconds of the sample speech.

    No German model is available: rede.wav is English, and german_mfa is a small English model.
    """
    sound, rate = soundfile.read(SPEECH)
    for name in ("assets/speech.wav", "speech.wav", "rede.wav", "recordings/a.wav", "recordings/deep/b.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, sound[: 3 * rate], rate)
    (tmp_path / "clips.csv").write_text("speech,text,style,seed\nspeech.wav,,clear,3\n")
    (tmp_path / "german_mfa.zip").write_bytes((FIXTURES / "kmtalk_arpa.zip").read_bytes())
    (tmp_path / "german_mfa.dict").write_bytes((FIXTURES / "corpus.dict").read_bytes())
    (tmp_path / "face.obj").write_bytes(FACE.read_bytes())
    face, template = load_template(FACE), talk.rig.template
    write_obj(tmp_path / "another.obj", Template(face.vertices * [1.1, 1.0, 1.0], face.faces))
    points = {name: template.vertices[template.landmarks[name]].tolist() for name in SEVEN_LANDMARKS}
    (tmp_path / "points.json").write_text(json.dumps(points))
    save_rig_file(tmp_path / "face.kmrig", talk.fit(FACE))
    plain = talk.animate(tmp_path / "speech.wav", "light", motion="rules")
    np.save(tmp_path / "other.npy", plain.vertices)
    tiny_configs(tmp_path / "data" / "configs")
    if re.search(r"\b(VOCASET|BIWI|GRID)\b", request.node.callspec.params["page"].read_text()):
        put_corpora(tmp_path, request.getfixturevalue("corpora"))
    return tmp_path


@needs_detector
@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=names)
def test_the_commands_of_a_page_run_as_written(page, desk, monkeypatch, capfd):
    """In this process, through the entry point of the kmtalk script: the models' libraries are imported once."""
    monkeypatch.chdir(desk)
    left_out = []
    for line in commands(page):
        arguments = shlex.split(line)[1:]
        if "GRID" in arguments and not (desk / "GRID").exists():
            left_out.append(line)
            continue
        code = app(arguments, standalone_mode=False)
        assert not code, f"{line}\n{capfd.readouterr().err}"
        for made in re.findall(r"(?<=-o )\S+\.\w+", line):
            assert (desk / made).stat().st_size > 100, line
    python = "\n".join(blocks(page, "python"))
    if python and (page.parent.name == "guides" or page.name == "README.md"):
        (desk / "page.py").write_text(python)
        ran = subprocess.run([sys.executable, "page.py"], cwd=desk, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{page.name}\n{ran.stderr}"
    if left_out:
        pytest.skip(f"../shared is not here; not run: {'; '.join(left_out)}")


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_commands_stand_in_blocks_that_are_checked(page):
    """In sh blocks nothing but kmtalk commands, which are run; in console blocks commands whose options exist."""
    root = typer.main.get_command(typer_app)
    fenced = re.findall(r"^```([^\n]*)\n(.*?)^```", page.read_text(), flags=re.S | re.M)
    for tag, text in fenced:
        for line in text.splitlines():
            if tag.strip() == "sh":
                assert line.startswith("kmtalk ") or not line.strip(), line
            else:
                assert not line.startswith("kmtalk "), line
            called = re.match(r"\$ (?:kmtalk|.* -m kmtalk\.cli) (.*)", line)
            if tag.strip() == "console" and called and "--install-completion" not in line:
                parse(root, shlex.split(called[1].split("  #")[0]))


def parse(command, arguments):
    """Parse a command line without running it; unknown commands and options raise."""
    with command.make_context("kmtalk", arguments) as context:
        if hasattr(command, "commands"):
            _, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            parse(inner, rest)


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links_and_pictures_exist(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) + re.findall(r"(?:src|href)=\"([^\"#]+)", text)
    for target in targets:
        if not target.startswith(SITE_FREE):
            assert (page.parent / target).exists(), target


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_the_site_builds_and_its_table_has_every_format(site):
    page = (site / "reference" / "file-formats" / "index.html").read_text()
    rows = "".join(re.findall(r"<table>.*?</table>", page, flags=re.S))
    for known in FORMATS:
        for suffix in known.suffixes:
            assert f"<code>{suffix}</code>" in rows, suffix


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160
