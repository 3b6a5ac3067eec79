"""What people write by hand, as hypothesis imagines it: it is read, or refused in one line that names the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmtalk.batch.jobs import ALLOWED_COLUMNS, collect_jobs
from kmtalk.errors import InputError
from kmtalk.exchange.keys_json import KeyEntry, KeyFile, read_keys
from kmtalk.expression.emotion import EMOTIONS, parse_emotion
from kmtalk.face.files.load import load_template
from kmtalk.face.landmark_file import load_landmarks
from kmtalk.face.shape_names import LANDMARK_NAMES
from kmtalk.speech.alignment import read_textgrid
from kmtalk.text_files import read_text_file
from kmtalk.training.config import TrainingConfig, load_config

VERTICES = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])

quick = settings(
    max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
numbers = st.one_of(
    st.integers(), st.floats(), st.sampled_from((0, -1, 1e308, 2**63, 10**30)), st.floats(0, 1, width=32)
)
words = st.one_of(st.text(max_size=12), st.sampled_from((*LANDMARK_NAMES[:6], *EMOTIONS, "jawOpen", "sil", "AA1")))
scalars = st.one_of(st.none(), st.booleans(), numbers, words)


def trees(names: tuple[str, ...]) -> st.SearchStrategy:
    """JSON values whose objects have known names and others."""
    keys = st.one_of(st.sampled_from(names), st.text(max_size=5))
    return st.recursive(
        scalars,
        lambda part: st.one_of(st.lists(part, max_size=4), st.dictionaries(keys, part, max_size=6)),
        max_leaves=20,
    )


def lines(*shapes: st.SearchStrategy) -> st.SearchStrategy:
    """Lines of some shapes, in any order, with ends of any kind."""
    line = st.one_of(*shapes, st.text(max_size=20))
    return st.builds(lambda several, end: end.join(several), st.lists(line, max_size=12), st.sampled_from("\n\r"))


def tokens(word: str, most: int = 5) -> st.SearchStrategy:
    return st.builds(
        lambda values: " ".join([word, *map(str, values)]), st.lists(st.one_of(numbers, words), max_size=most)
    )


def read_or_refused(path: Path, content: str | bytes, read) -> object:
    """What `read` makes of the content; None where it is refused, which must be in one line that names the file."""
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    try:
        return read(path)
    except InputError as refusal:
        message = str(refusal)
        assert path.name in message, message
        assert len(message) < 2000
        return None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@quick
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff")))
def test_texts_come_back_in_every_encoding(tmp_path, encoding, text):
    content = text.encode(encoding)
    assert read_or_refused(tmp_path / "said.txt", content, read_text_file) == text


@quick
@given(content=st.binary())
def test_bytes_are_text_or_refused(tmp_path, content):
    read = read_or_refused(tmp_path / "said.txt", content, read_text_file)
    assert read is None or "\0" not in read


@quick
@given(document=trees((*KeyFile.model_fields, *KeyEntry.model_fields)))
def test_keys(tmp_path, document):
    file = read_or_refused(tmp_path / "keys.json", json.dumps(document), read_keys)
    assert file is None or file.frames > 0


@quick
@given(
    fps=numbers, frames=numbers, entries=st.lists(st.builds(dict, frame=numbers, time=numbers, phone=words),
    max_size=4),
    spans=st.lists(st.tuples(words, numbers, numbers), max_size=3),
)  # fmt: skip
def test_keys_whose_numbers_are_odd(tmp_path, fps, frames, entries, spans):
    document = {"kmtalk": "keys", "fps": fps, "frames": frames, "keys": entries, "phones": spans, "words": spans}
    file = read_or_refused(tmp_path / "keys.json", json.dumps(document), read_keys)
    if file is not None:
        assert 1 <= file.fps < 10_000 and all(0 <= entry.frame < file.frames for entry in file.keys)
        assert all(0 <= start < end for _, start, end in file.phones)


@quick
@given(
    document=st.one_of(
        trees(LANDMARK_NAMES[:8]), st.dictionaries(st.sampled_from(LANDMARK_NAMES), st.lists(numbers, max_size=4))
    )
)
def test_landmarks(tmp_path, document):
    points = read_or_refused(tmp_path / "marks.json", json.dumps(document), lambda p: load_landmarks(p, VERTICES))
    assert points is None or all(p.shape == (3,) and np.isfinite(p).all() for p in points.values())


point = st.builds(
    lambda x, y, z, name: f'<point x="{x}" y="{y}" z="{z}" name="{name}" active="1"/>', numbers, numbers, numbers, words
)


@quick
@given(content=st.builds("<PickedPoints>{}</PickedPoints>".format, lines(point)))
def test_picked_points(tmp_path, content):
    points = read_or_refused(tmp_path / "marks.pp", content, lambda p: load_landmarks(p, VERTICES))
    assert points is None or all(np.isfinite(p).all() for p in points.values())


@quick
@given(
    rows=st.one_of(
        trees(ALLOWED_COLUMNS),
        st.lists(st.dictionaries(st.sampled_from(ALLOWED_COLUMNS), scalars, max_size=4), max_size=3),
    )
)
def test_manifests_in_json(tmp_path, rows):
    jobs = read_or_refused(tmp_path / "clips.json", json.dumps(rows), lambda p: collect_jobs(p, tmp_path / "out"))
    assert jobs is None or all(job.output_dir.resolve().is_relative_to(tmp_path.resolve() / "out") for job in jobs)


@quick
@given(
    content=lines(
        st.builds(",".join, st.lists(st.one_of(st.sampled_from(ALLOWED_COLUMNS), st.text(max_size=8)), max_size=5))
    )
)
def test_manifests_in_csv(tmp_path, content):
    jobs = read_or_refused(tmp_path / "clips.csv", content, lambda p: collect_jobs(p, tmp_path / "out"))
    assert jobs is None or jobs


@quick
@given(
    rows=st.one_of(
        trees(("time", "name", "amount")),
        st.lists(st.builds(dict, time=numbers, name=words, amount=numbers), max_size=3),
    )
)
def test_emotion_cues(tmp_path, rows):
    cues = read_or_refused(tmp_path / "cues.json", json.dumps(rows), lambda p: parse_emotion(str(p)))
    assert cues is None or all(0 <= cue.amount <= 1 and np.isfinite(cue.time) for cue in cues)


@quick
@given(document=trees(tuple(TrainingConfig.model_fields)))
def test_configurations(tmp_path, document):
    config = read_or_refused(tmp_path / "train.yaml", yaml.safe_dump(document), load_config)
    assert config is None or config.corpora


@quick
@given(content=lines(tokens("v"), tokens("f"), tokens("o"), tokens("g"), tokens("#")))
def test_obj(tmp_path, content):
    mesh = read_or_refused(tmp_path / "face.obj", content, load_template)
    if mesh is not None:
        assert np.isfinite(mesh.vertices).all() and mesh.faces.min() >= 0 and mesh.faces.max() < len(mesh.vertices)


interval = st.builds(lambda a, b, text: f'xmin = {a}\nxmax = {b}\ntext = "{text}"', numbers, numbers, words)
GRID = (
    'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 1\ntiers? <exists>\nsize = 1\nitem []:\n'
)


@quick
@given(
    several=st.lists(interval, max_size=5),
    count=st.one_of(st.none(), numbers),
    name=st.sampled_from(("phones", "words", "x")),
)
def test_textgrids(tmp_path, several, count, name):
    size = len(several) if count is None else count
    body = "".join(f"        intervals [{k}]:\n{text}\n" for k, text in enumerate(several, 1))
    tier = f'    item [1]:\nclass = "IntervalTier"\nname = "{name}"\nxmin = 0\nxmax = 1\nintervals: size = {size}\n'
    alignment = read_or_refused(tmp_path / "a.TextGrid", GRID + tier + body, lambda p: read_textgrid(p, 1.0))
    assert alignment is None or all(0 <= p.start < p.end <= 1.1 for p in alignment.phones)
