"""Vertex corpora: miniatures in the layouts of VOCASET and BIWI, and the errors that their check reports."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from conftest import needs_detector

from kmtalk import InputError, metrics
from kmtalk.articulation.mouth_solver import MouthSolver
from kmtalk.corpora.check import check_corpus
from kmtalk.corpora.folder import load_folder_corpus, load_rig_folder
from kmtalk.corpora.registry import load_mesh_corpus, locate_corpus_face
from kmtalk.face.motion import frame_times, resample_motion
from kmtalk.face.mouth import MouthMeasurer
from kmtalk.pickles import load_restricted_pickle


@pytest.mark.parametrize(("kind", "vertices", "fps"), [("vocaset", 5023, 30.0), ("biwi", 23370, 25.0)])
def test_both_layouts_hold_the_same_sentences(corpora, kind, vertices, fps):
    processed, raw = (load_mesh_corpus(kind, corpora / folder) for folder in (kind, f"{kind}-raw"))
    assert processed.source.startswith("simulated") and raw.source.startswith("simulated")
    assert processed.vertex_count == raw.vertex_count == vertices
    named = {c.name: c for c in raw.clips}
    assert len(processed.clips) == 9 and set(named) == {c.name for c in processed.clips}
    for clip in processed.clips[::4]:
        other = named[clip.name]
        assert clip.fps == other.fps == fps and len(clip.frames) == len(other.frames)
        assert np.abs(clip.frames.read(3, 6) - other.frames.read(3, 6)).max() < 1e-6
        assert abs(len(clip.load_samples()) - len(other.load_samples())) < 16
        assert clip.load_alignment().phones == other.load_alignment().phones
    assert processed.splits == raw.splits


def test_splits_are_faceformers(corpora):
    vocaset, biwi = (load_mesh_corpus(kind, corpora / kind) for kind in ("vocaset", "biwi"))
    assert {n: len(m) for n, m in vocaset.splits.items()} == {"train": 6, "val": 1, "test": 2}
    assert {n: len(m) for n, m in biwi.splits.items()} == {"train": 5, "val": 1, "test-a": 2, "test-b": 1}
    assert vocaset.splits["test"] == tuple(f"FaceTalk_170809_00138_TA_sentence{n}" for n in (21, 22))
    assert biwi.splits["test-b"] == ("F1_e37",)
    # the raw frames are at 60 fps; every second frame gives 30 fps
    whole = load_mesh_corpus("vocaset", corpora / "vocaset", fps=60.0).clips[0]
    half = load_mesh_corpus("vocaset", corpora / "vocaset").clips[0]
    assert len(half.frames) == -(-len(whole.frames) // 2)
    assert np.array_equal(half.frames.read(2, 4), whole.frames.read(4, 8)[::2])


@pytest.mark.parametrize("layout", ["vocaset", "vocaset-raw", "biwi", "biwi-raw"])
def test_a_sound_corpus_passes_its_check(kmtalk, corpora, layout):
    done = kmtalk("corpus", "check", corpora / layout, "--corpus", layout.removesuffix("-raw"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wrong" not in done.stdout and "simulated" in done.stdout


def spoil_unit(path):
    for file in (path / "vertices_npy").glob("*.npy"):
        np.save(file, np.load(file) * 1000)


def spoil_templates_unit(path):
    spoil_unit(path)
    held = load_restricted_pickle(path / "templates.pkl")
    (path / "templates.pkl").write_bytes(pickle.dumps({k: v * 1000 for k, v in held.items()}))


def spoil_order(path):
    order = np.random.default_rng(0).permutation(5023)
    for file in (path / "vertices_npy").glob("*.npy"):
        held = np.load(file)
        np.save(file, held.reshape(len(held), -1, 3)[:, order].reshape(held.shape))


def spoil_clock(path):
    """Resample to 50 fps, which the corpus takes for 60 fps (25 for 30)."""
    for file in (path / "vertices_npy").glob("*.npy"):
        held = np.load(file)
        np.save(file, held[np.linspace(0, len(held) - 1, round(len(held) * 5 / 6)).round().astype(int)])


def spoil_numbers(path):
    file = next((path / "vertices_npy").glob("*.npy"))
    held = np.load(file)
    held[2 * int(np.random.default_rng(5).integers(1, len(held) // 2 - 1)), 7] = np.nan
    np.save(file, held)


def spoil_scale_of_sound(path):
    """Scale the sound beyond -1 to 1, but not as far as integer samples, which are scaled when they are read."""
    file = next((path / "wav").glob("*.wav"))
    samples, rate = soundfile.read(file)
    soundfile.write(file, 3 * samples / np.abs(samples).max(), rate, subtype="FLOAT")


def spoil_sound(path):
    file = next((path / "wav").glob("*.wav"))
    samples, rate = soundfile.read(file)
    soundfile.write(file, 0 * samples, rate)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_unit, "1000 times the template's size"),
        (spoil_templates_unit, "not the size of a head in m; the unit may be mm"),
        (spoil_order, "different vertex order"),
        (spoil_clock, "motion and audio have the same length"),
        (spoil_numbers, "not finite"),
        (spoil_sound, "is silent"),
        (spoil_scale_of_sound, "where 1 is full scale"),
    ],
)
def test_what_is_wrong_with_a_corpus_is_found(own, spoil, said):
    assert all(f.verdict != "wrong" for f in check_corpus(load_mesh_corpus("vocaset", own)))
    spoil(own)
    found = [f for f in check_corpus(load_mesh_corpus("vocaset", own)) if f.verdict == "wrong"]
    assert len(found) == 1, found
    assert said in f"{found[0].check}: {found[0].note}"


def test_a_biwi_of_30_fps_is_found_out(corpora, tmp_path):
    shutil.copytree(corpora / "biwi", tmp_path / "biwi")
    for file in (tmp_path / "biwi" / "vertices_npy").glob("*.npy"):
        held = np.load(file)
        np.save(file, held[np.linspace(0, len(held) - 1, round(len(held) * 30 / 25)).round().astype(int)])
    found = [f for f in check_corpus(load_mesh_corpus("biwi", tmp_path / "biwi")) if f.verdict == "wrong"]
    assert [f.check for f in found] == ["motion and audio have the same length"]
    assert "30 fps would match" in found[0].note


def test_gaps_are_named_and_left_out(own):
    next((own / "wav").glob("*sentence01.wav")).unlink()
    next((own / "vertices_npy").glob("*sentence02.npy")).unlink()
    corpus = load_mesh_corpus("vocaset", own)
    assert len(corpus.clips) == 7 and len(corpus.skipped) == 2
    assert any(f.check == "left out" and f.verdict == "look" for f in check_corpus(corpus))


def test_gaps_between_frames_are_told(corpora, tmp_path):
    shutil.copytree(corpora / "vocaset-raw", tmp_path / "vocaset")
    held = load_restricted_pickle(tmp_path / "vocaset" / "subj_seq_to_idx.pkl")
    rows = held["FaceTalk_170809_00138_TA"]["sentence21"]
    for lost in (10, 11, 30):
        del rows[lost]
    del held["FaceTalk_170809_00138_TA"]["sentence22"][0]
    (tmp_path / "vocaset" / "subj_seq_to_idx.pkl").write_bytes(pickle.dumps(held))
    shutil.copytree(corpora / "biwi-raw", tmp_path / "biwi")
    (tmp_path / "biwi" / "faces" / "F1" / "e37" / "frame_004.vl").unlink()
    between, before = sorted(load_mesh_corpus("vocaset", tmp_path / "vocaset").frame_gaps)
    assert between == f"FaceTalk_170809_00138_TA_sentence21: 3 of {len(rows) + 3} frames are missing, the first is 10"
    assert before.startswith("FaceTalk_170809_00138_TA_sentence22: 1 of ") and before.endswith("the first is 0")
    (biwi,) = load_mesh_corpus("biwi", tmp_path / "biwi").frame_gaps
    assert biwi.startswith("F1_e37: 1 of ") and biwi.endswith("frames are missing, the first is 4")
    assert (
        load_mesh_corpus("biwi", corpora / "biwi-raw").frame_gaps
        == load_mesh_corpus("vocaset", corpora / "vocaset-raw").frame_gaps
        == ()
    )
    found = {f.check: f for f in check_corpus(load_mesh_corpus("vocaset", tmp_path / "vocaset"))}["gaps between frames"]
    assert found.verdict == "look" and "frames are missing" in found.note and "(and 1 more)" in found.note
    untold = {f.check: f for f in check_corpus(load_mesh_corpus("vocaset", corpora / "vocaset"))}["gaps between frames"]
    assert untold.verdict == "look" and "do not number their frames" in untold.note


@needs_detector
@pytest.mark.parametrize("kind", ["vocaset", "biwi"])
def test_mouths_are_measured_on_a_mesh_as_on_the_rig(corpora, simulated_clips, light_rig, kind):
    """The simulated speaker's mouth is measured correctly in mm on another mesh and on heads up to 6 % off in size."""
    corpus, solver = load_mesh_corpus(kind, corpora / kind), MouthSolver(light_rig)
    template, doubts = locate_corpus_face(corpus)
    assert not doubts
    spoken = [(c, c.load_samples()) for c in simulated_clips if c.alignment.phones]
    for clip in corpus.clips[::3]:
        heard = clip.load_file_samples()
        own = next(c for c, s in spoken if len(s) == len(heard) and np.allclose(s, heard, atol=1e-3))
        head = replace(template, vertices=corpus.templates[clip.subject])
        ruler = MouthMeasurer.from_template(head, metrics.MM_PER_UNIT.get(corpus.unit))
        made = ruler.measure(clip.frames.read(0, len(clip.frames))[:, ruler.vertex_indices]).lip_channels
        times = frame_times(len(made), clip.fps) - clip.time_offset
        truth = resample_motion(solver.measure(own.weights).lip_channels, own.fps, times)
        for k, most in enumerate((0.4, 0.2, 0.3, 0.5, 0.8)):
            assert np.corrcoef(truth[:, k], made[:, k])[0, 1] > 0.95, (clip.name, k)
            assert np.sqrt(np.mean((truth[:, k] - made[:, k]) ** 2)) < most, (clip.name, k)


def test_every_second_frame_keeps_its_time(corpora):
    """At 30 fps, sound and phones of VOCASET are delayed by 1/120 s, as each frame shows the pose 1/120 s earlier."""
    whole, half = (load_mesh_corpus("vocaset", corpora / "vocaset", fps=fps).clips[0] for fps in (60.0, 30.0))
    assert (whole.time_offset, half.time_offset) == (0, pytest.approx(1 / 120))
    assert np.array_equal(half.load_samples()[133:], whole.load_samples()) and not half.load_samples()[:133].any()
    early, late = whole.load_alignment().phones[0], half.load_alignment().phones[0]
    assert late.start - early.start == pytest.approx(1 / 120) and late.end - early.end == pytest.approx(1 / 120)
    # the same moment of the file: frame 2n at (2n + 0.5) / 60 s, delayed, is the time of frame n
    assert (2 * 7 + 0.5) / 60 + half.time_offset == pytest.approx((7 + 0.5) / 30)


@needs_detector
def test_a_face_that_was_found_badly_is_not_measured_on(kmtalk, corpora, tmp_path):
    vertices = np.random.default_rng(3).choice(5023, 7, replace=False).tolist()
    names = ("eye_outer_left", "eye_outer_right", "nose_tip", "mouth_left", "mouth_right", "lip_inner_upper", "chin")
    (tmp_path / "wild.json").write_text(json.dumps(dict(zip(names, vertices, strict=True))))
    done = kmtalk("evaluate", corpora / "vocaset", "--corpus", "vocaset", "--landmarks", "wild.json")
    assert done.returncode == 2 and not done.stdout and len(done.stderr.strip().splitlines()) == 1
    assert "was found with low confidence" in done.stderr or "no face" in done.stderr, done.stderr


def test_only_the_emotional_takes_of_biwi_count(corpora, tmp_path):
    """The neutral takes have the same numbers and would double every split."""
    shutil.copytree(corpora / "biwi-raw", tmp_path / "biwi")
    for take in sorted((tmp_path / "biwi" / "faces").glob("*/e*")):
        shutil.copytree(take, take.parent / take.name[1:])
        shutil.copy(
            tmp_path / "biwi" / "wav" / f"{take.parent.name}_{take.name}.wav",
            tmp_path / "biwi" / "wav" / f"{take.parent.name}_{take.name[1:]}.wav",
        )
    corpus = load_mesh_corpus("biwi", tmp_path / "biwi")
    assert len(corpus.clips) == 9 and len(corpus.skipped) == 9
    assert corpus.splits == load_mesh_corpus("biwi", corpora / "biwi-raw").splits


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_any_age_are_read(tmp_path, protocol):
    held = {
        "F1": np.arange(6, dtype=np.float32).reshape(2, 3),
        "F2": {"audio": np.arange(4, dtype=np.int16), "sample_rate": 22000},
        "F3": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "F4": np.arange(3, dtype=">f4"),
    }
    (tmp_path / "t.pkl").write_bytes(pickle.dumps(held, protocol=protocol))
    read = load_restricted_pickle(tmp_path / "t.pkl")
    assert np.array_equal(read["F1"], held["F1"]) and np.array_equal(read["F3"], held["F3"])
    assert np.array_equal(read["F2"]["audio"], held["F2"]["audio"]) and np.array_equal(read["F4"], held["F4"])


def test_no_pickle_makes_bytes_pass_for_objects(tmp_path):
    """A numpy dtype state that declares bytes to be Python objects, which numpy would dereference."""
    records = np.zeros(2, dtype=[("a", "f8")])
    for held in (np.array([{}], dtype=object), records, records.dtype):
        (tmp_path / "t.pkl").write_bytes(pickle.dumps({"F1": held}))
        with pytest.raises(InputError, match="not a pickle of arrays alone"):
            load_restricted_pickle(tmp_path / "t.pkl")


@pytest.mark.parametrize("spoil", ["empty", "short", "garbage", "other mesh", "template"])
def test_damaged_corpora_end_in_one_line(kmtalk, corpora, tmp_path, spoil):
    layout = "vocaset-raw" if spoil in ("short", "garbage") else "vocaset"
    folder = tmp_path / "corpus"
    shutil.copytree(corpora / layout, folder)
    if spoil == "empty":
        next((folder / "vertices_npy").glob("*.npy")).write_bytes(b"")
    elif spoil == "short":
        held = np.load(folder / "data_verts.npy")
        np.save(folder / "data_verts.npy", held[:-200])
    elif spoil == "garbage":
        (folder / "data_verts.npy").write_bytes((folder / "data_verts.npy").read_bytes()[:100_000])
    elif spoil == "other mesh":
        shutil.copy(corpora / "biwi" / "BIWI.ply", folder / "FLAME_sample.ply")
    else:
        (folder / "templates.pkl").write_bytes(pickle.dumps({"FaceTalk_170809_00138_TA": "abc"}))
    done = kmtalk("corpus", "check", folder)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr and str(folder) in done.stdout + done.stderr


def test_names_do_not_lead_out_of_the_output(corpora, own, tmp_path):
    clip = load_mesh_corpus("vocaset", own).clips[0]
    item = {"name": "../../out", "fps": 60, "audio": str(clip.audio), "motion": str(clip.frames.path)}
    manifest = {"name": "x", "templates": {"someone": "vocaset/FLAME_sample.ply"}, "clips": [item]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"clips\.0\.name"):
        load_folder_corpus(tmp_path)


def test_pickles_that_are_more_than_arrays_are_refused(own, kmtalk):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    (own / "templates.pkl").write_bytes(pickle.dumps({"FaceTalk_170809_00138_TA": Evil()}))
    done = kmtalk("corpus", "check", own)
    assert done.returncode == 2 and "ran" not in done.stdout
    assert len(done.stderr.strip().splitlines()) == 1 and "builtins.print" in done.stderr


def test_folders_with_a_manifest(corpora, own, tmp_path, light_rig, simulated_clips):
    held = load_mesh_corpus("vocaset", own)
    manifest = {
        "name": "mine",
        "unit": "m",
        "templates": {"anna": "vocaset/FLAME_sample.ply"},
        "splits": {"train": ["one"], "test": ["two"]},
        "clips": [
            {
                "name": name,
                "identity": "anna",
                "fps": 60,
                "audio": f"vocaset/wav/{clip.name}.wav",
                "motion": f"vocaset/vertices_npy/{clip.name}.npy",
                "textgrid": f"vocaset/textgrids/{clip.name}.TextGrid",
            }
            for name, clip in zip(("one", "two"), held.clips, strict=False)
        ],
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    corpus = load_folder_corpus(tmp_path)
    assert corpus.source == "mine" and corpus.vertex_count == 5023 and corpus.faces is not None
    assert [c.name for c in corpus.split_clips("test")] == ["two"]
    assert not [f for f in check_corpus(corpus) if f.verdict == "wrong"]
    manifest["clips"][0]["fsp"] = 3
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"manifest\.json: clips\.0\.fsp"):
        load_folder_corpus(tmp_path)
    clip = next(c for c in simulated_clips if c.alignment.phones)
    soundfile.write(tmp_path / "a.wav", clip.load_samples(), 16000)
    np.save(tmp_path / "a.npy", clip.weights[:, [light_rig.index["jawOpen"]]])
    (tmp_path / "textgrids").mkdir()
    shutil.copy(held.clips[0].textgrid, tmp_path / "textgrids" / "a.TextGrid")
    of_rig = {"name": "rigged", "shapes": ["jawOpen"],
              "clips": [{"name": "a", "audio": "a.wav", "motion": "a.npy", "fps": clip.fps}]}  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(of_rig))
    (read,) = load_rig_folder(tmp_path, light_rig)
    assert np.allclose(read.weights[:, light_rig.index["jawOpen"]], clip.weights[:, light_rig.index["jawOpen"]])
    assert read.weights.sum() == pytest.approx(clip.weights[:, light_rig.index["jawOpen"]].sum(), rel=1e-5)
