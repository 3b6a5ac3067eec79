"""The research bench on miniature corpora in VOCASET's and BIWI's layouts: every number is on simulated motion."""

from __future__ import annotations

import json
import pickle
import shutil

import av
import numpy as np
import pytest
import soundfile
import torch
import trimesh
import yaml
from conftest import ROOT, needs_detector, phones

from kmtalk import InputError, Template, metrics
from kmtalk.animation import load_animation
from kmtalk.corpora.check import check
from kmtalk.corpora.folder import load_folder, load_rig_folder
from kmtalk.corpora.meshes import load_meshes
from kmtalk.corpora.miniature import build_miniature
from kmtalk.corpora.simulated import build, load_simulated
from kmtalk.face.template import write_obj
from kmtalk.motion.inference import place_keys
from kmtalk.motion.model import load_network
from kmtalk.pickles import load_pickle
from kmtalk.research.tables import load_table
from kmtalk.training.config import Config, load_config
from kmtalk.training.corpora import prepare
from kmtalk.training.loop import Trainer


@pytest.fixture(scope="module")
def clips(tmp_path_factory, rig):
    folder = tmp_path_factory.mktemp("simulated")
    build(folder, rig, clips=48, seed=3)
    return load_simulated(folder, rig)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory, clips, rig):
    """A folder with each of the four layouts."""
    place = tmp_path_factory.mktemp("corpora")
    for layout in ("vocaset", "vocaset-raw", "biwi", "biwi-raw"):
        (place / layout).mkdir()
        build_miniature(place / layout, layout, clips, rig, longest=6.0)
    return place


@pytest.fixture
def own(corpora, tmp_path):
    """A copy of the processed VOCASET to spoil."""
    shutil.copytree(corpora / "vocaset", tmp_path / "vocaset")
    return tmp_path / "vocaset"


@pytest.mark.parametrize(("kind", "vertices", "fps"), [("vocaset", 5023, 30.0), ("biwi", 23370, 25.0)])
def test_both_layouts_hold_the_same_sentences(corpora, kind, vertices, fps):
    processed, raw = (load_meshes(kind, corpora / folder) for folder in (kind, f"{kind}-raw"))
    assert processed.source.startswith("simulated") and raw.source.startswith("simulated")
    assert processed.count == raw.count == vertices
    named = {c.name: c for c in raw.clips}
    assert len(processed.clips) == 9 and set(named) == {c.name for c in processed.clips}
    for clip in processed.clips[::4]:
        other = named[clip.name]
        assert clip.fps == other.fps == fps and len(clip.frames) == len(other.frames)
        assert np.abs(clip.frames.read(3, 6) - other.frames.read(3, 6)).max() < 1e-6
        assert abs(len(clip.samples()) - len(other.samples())) < 16
        assert clip.alignment().phones == other.alignment().phones
    assert processed.splits == raw.splits


def test_splits_are_faceformers(corpora):
    vocaset, biwi = (load_meshes(kind, corpora / kind) for kind in ("vocaset", "biwi"))
    assert {n: len(m) for n, m in vocaset.splits.items()} == {"train": 6, "val": 1, "test": 2}
    assert {n: len(m) for n, m in biwi.splits.items()} == {"train": 5, "val": 1, "test-a": 2, "test-b": 1}
    assert vocaset.splits["test"] == tuple(f"FaceTalk_170809_00138_TA_sentence{n}" for n in (21, 22))
    assert biwi.splits["test-b"] == ("F1_e37",)
    # the raw frames are 60 a second, and every second makes 30
    whole = load_meshes("vocaset", corpora / "vocaset", fps=60.0).clips[0]
    half = load_meshes("vocaset", corpora / "vocaset").clips[0]
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
    held = load_pickle(path / "templates.pkl")
    (path / "templates.pkl").write_bytes(pickle.dumps({k: v * 1000 for k, v in held.items()}))


def spoil_order(path):
    order = np.random.default_rng(0).permutation(5023)
    for file in (path / "vertices_npy").glob("*.npy"):
        held = np.load(file)
        np.save(file, held.reshape(len(held), -1, 3)[:, order].reshape(held.shape))


def spoil_clock(path):
    """Frames at 50 a second that pass for 60: as 25 for 30."""
    for file in (path / "vertices_npy").glob("*.npy"):
        held = np.load(file)
        np.save(file, held[np.linspace(0, len(held) - 1, round(len(held) * 5 / 6)).round().astype(int)])


def spoil_numbers(path):
    file = next((path / "vertices_npy").glob("*.npy"))
    held = np.load(file)
    held[2 * int(np.random.default_rng(5).integers(1, len(held) // 2 - 1)), 7] = np.nan
    np.save(file, held)


def spoil_scale_of_sound(path):
    """Whole numbers that pass for parts of one."""
    file = next((path / "wav").glob("*.wav"))
    samples, rate = soundfile.read(file)
    soundfile.write(file, 20000 * samples, rate, subtype="FLOAT")


def spoil_sound(path):
    file = next((path / "wav").glob("*.wav"))
    samples, rate = soundfile.read(file)
    soundfile.write(file, 0 * samples, rate)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_unit, "1000 times the template's size"),
        (spoil_templates_unit, "no head's size in m; in mm it is"),
        (spoil_order, "another order of vertices"),
        (spoil_clock, "motion is as long as its sound"),
        (spoil_numbers, "not finite"),
        (spoil_sound, "is silent"),
        (spoil_scale_of_sound, "where 1 is full scale"),
    ],
)
def test_what_is_wrong_with_a_corpus_is_found(own, spoil, said):
    assert all(f.verdict != "wrong" for f in check(load_meshes("vocaset", own)))
    spoil(own)
    found = [f for f in check(load_meshes("vocaset", own)) if f.verdict == "wrong"]
    assert len(found) == 1, found
    assert said in f"{found[0].what}: {found[0].note}"


def test_a_biwi_of_30_fps_is_found_out(corpora, tmp_path):
    shutil.copytree(corpora / "biwi", tmp_path / "biwi")
    for file in (tmp_path / "biwi" / "vertices_npy").glob("*.npy"):
        held = np.load(file)
        np.save(file, held[np.linspace(0, len(held) - 1, round(len(held) * 30 / 25)).round().astype(int)])
    found = [f for f in check(load_meshes("biwi", tmp_path / "biwi")) if f.verdict == "wrong"]
    assert [f.what for f in found] == ["motion is as long as its sound"]
    assert "at 30 fps they would fit" in found[0].note


def test_gaps_are_named_and_left_out(own):
    next((own / "wav").glob("*sentence01.wav")).unlink()
    next((own / "vertices_npy").glob("*sentence02.npy")).unlink()
    corpus = load_meshes("vocaset", own)
    assert len(corpus.clips) == 7 and len(corpus.missing) == 2
    assert any(f.what == "left out" and f.verdict == "look" for f in check(corpus))


def test_only_the_emotional_takes_of_biwi_count(corpora, tmp_path):
    """The neutral ones have the same numbers, and would double every split."""
    shutil.copytree(corpora / "biwi-raw", tmp_path / "biwi")
    for take in sorted((tmp_path / "biwi" / "faces").glob("*/e*")):
        shutil.copytree(take, take.parent / take.name[1:])
        shutil.copy(
            tmp_path / "biwi" / "wav" / f"{take.parent.name}_{take.name}.wav",
            tmp_path / "biwi" / "wav" / f"{take.parent.name}_{take.name[1:]}.wav",
        )
    corpus = load_meshes("biwi", tmp_path / "biwi")
    assert len(corpus.clips) == 9 and len(corpus.missing) == 9
    assert corpus.splits == load_meshes("biwi", corpora / "biwi-raw").splits


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_any_age_are_read(tmp_path, protocol):
    held = {
        "F1": np.arange(6, dtype=np.float32).reshape(2, 3),
        "F2": {"audio": np.arange(4, dtype=np.int16), "sample_rate": 22000},
        "F3": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "F4": np.arange(3, dtype=">f4"),
    }
    (tmp_path / "t.pkl").write_bytes(pickle.dumps(held, protocol=protocol))
    read = load_pickle(tmp_path / "t.pkl")
    assert np.array_equal(read["F1"], held["F1"]) and np.array_equal(read["F3"], held["F3"])
    assert np.array_equal(read["F2"]["audio"], held["F2"]["audio"]) and np.array_equal(read["F4"], held["F4"])


def test_no_pickle_makes_bytes_pass_for_objects(tmp_path):
    """A numpy dtype whose state says that plain bytes are Python objects: numpy would follow them into memory."""
    records = np.zeros(2, dtype=[("a", "f8")])
    for held in (np.array([{}], dtype=object), records, records.dtype):
        (tmp_path / "t.pkl").write_bytes(pickle.dumps({"F1": held}))
        with pytest.raises(InputError, match="not a pickle of arrays alone"):
            load_pickle(tmp_path / "t.pkl")


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
    clip = load_meshes("vocaset", own).clips[0]
    item = {"name": "../../out", "fps": 60, "audio": str(clip.audio), "motion": str(clip.frames.path)}
    manifest = {"name": "x", "templates": {"someone": "vocaset/FLAME_sample.ply"}, "clips": [item]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"clips\.0\.name"):
        load_folder(tmp_path)


def test_pickles_that_are_more_than_arrays_are_refused(own, kmtalk):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    (own / "templates.pkl").write_bytes(pickle.dumps({"FaceTalk_170809_00138_TA": Evil()}))
    done = kmtalk("corpus", "check", own)
    assert done.returncode == 2 and "ran" not in done.stdout
    assert len(done.stderr.strip().splitlines()) == 1 and "builtins.print" in done.stderr


def test_folders_with_a_manifest(corpora, own, tmp_path, rig, clips):
    held = load_meshes("vocaset", own)
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
    corpus = load_folder(tmp_path)
    assert corpus.source == "mine" and corpus.count == 5023 and corpus.faces is not None
    assert [c.name for c in corpus.split("test")] == ["two"]
    assert not [f for f in check(corpus) if f.verdict == "wrong"]
    manifest["clips"][0]["fsp"] = 3
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"manifest\.json: clips\.0\.fsp"):
        load_folder(tmp_path)
    clip = next(c for c in clips if c.alignment.phones)
    soundfile.write(tmp_path / "a.wav", clip.samples(), 16000)
    np.save(tmp_path / "a.npy", clip.weights[:, [rig.index["jawOpen"]]])
    (tmp_path / "textgrids").mkdir()
    shutil.copy(held.clips[0].textgrid, tmp_path / "textgrids" / "a.TextGrid")
    of_rig = {"name": "rigged", "shapes": ["jawOpen"],
              "clips": [{"name": "a", "audio": "a.wav", "motion": "a.npy", "fps": clip.fps}]}  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(of_rig))
    (read,) = load_rig_folder(tmp_path, rig)
    assert np.allclose(read.weights[:, rig.index["jawOpen"]], clip.weights[:, rig.index["jawOpen"]])
    assert read.weights.sum() == pytest.approx(clip.weights[:, rig.index["jawOpen"]].sum(), rel=1e-5)


def tiny(tmp_path, name, corpus, **changes):
    """A shipped config at toy size, on a miniature corpus."""
    held = yaml.safe_load((ROOT / "data" / "configs" / f"{name}.yaml").read_text())
    held |= {"encoder": "log-mel", "check_every": 1000, "longest": 1.0, "learning_rate": 1e-3}
    held["network"] |= {"width": 32, "heads": 4, "blocks": 1}
    held["steps"] = {"keys": 3, "completion": 3, "together": 2}
    held["corpora"][0]["path"] = str(corpus)
    held |= changes
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(held))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "split"), [("paper-vocaset", "vocaset", "test"), ("paper-biwi", "biwi", "test-b")]
)
def test_the_papers_configs_train_and_are_scored(kmtalk, tmp_path, corpora, name, kind, split):
    (tmp_path / "lve.txt").write_text(", ".join(map(str, range(200, 260))))
    trained = kmtalk("train", tiny(tmp_path, name, corpora / kind, longest=0.6), "-o", "run")
    assert trained.returncode == 0, trained.stderr
    assert f"kept apart (simulated, in the layout of {kind.upper()}, split val): LVE" in trained.stderr
    weights = "run/network.safetensors"
    done = kmtalk(
        "evaluate", corpora / kind, "--corpus", kind, "--split", split, "--network", f"mine={weights}",
        "--lips", "lve.txt", "--upper", "lve.txt", "-o", "predicted",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(p.suffix in (".npy", ".obj") for p in (tmp_path / "predicted" / "mine").iterdir())
    rows = done.stdout.splitlines()
    assert rows[0] == "rest (nothing moves)" and "mine" in rows
    assert all("simulated" in row for row in rows if row.startswith("  "))
    assert sum("LVE" in row and "mask lve.txt:" in row for row in rows) == 2
    assert sum("FDD" in row for row in rows) == 4
    # what was left on disk scores the same, as another system's
    again = kmtalk(
        "evaluate", corpora / kind, "--corpus", kind, "--split", split, "--predictions", "mine=predicted/mine",
        "--lips", "lve.txt", "--upper", "lve.txt",
    )  # fmt: skip

    def lve(text):
        return [float(r.split()[1]) for r in text.splitlines() if r.startswith("  LVE")]

    assert lve(again.stdout) == pytest.approx(lve(done.stdout), rel=1e-3)


@needs_detector
@pytest.mark.slow
def test_vertices_by_frame_are_filmed_and_exported(kmtalk, tmp_path, corpora):
    corpus = load_meshes("vocaset", corpora / "vocaset")
    clip = corpus.split("test")[0]
    truth = clip.frames.read(0, len(clip.frames))
    np.save(tmp_path / "clip.npy", truth.reshape(len(truth), -1))
    write_obj(tmp_path / "face.obj", Template(corpus.templates[clip.subject], corpus.faces))
    given = ("render", "clip.npy", "--template", "face.obj", "--speech", clip.audio)
    done = kmtalk(*given, "-o", "out", "--formats", "npz,pc2,mp4")
    assert done.returncode == 0, done.stderr
    held = load_animation(tmp_path / "out" / "animation.npz")
    assert held.fps == 30 and np.abs(held.vertices - truth).max() < 1e-3  # the npz holds shapes as float16
    with av.open(str(tmp_path / "out" / "animation.mp4")) as video:
        frames = [f.to_ndarray(format="gray").astype(int) for f in video.decode(video=0)]
    assert len(frames) == len(truth)
    opened = int(np.argmax(np.abs(truth - truth[0]).max((1, 2))))
    assert np.abs(frames[opened] - frames[0]).max() > 20  # the mouth moves on the screen
    np.save(tmp_path / "other.npy", truth[:, :100])
    other = kmtalk("render", "other.npy", *given[2:], "-o", "x.mp4")
    assert other.returncode == 2 and len(other.stderr.strip().splitlines()) == 1 and "other.npy" in other.stderr


@pytest.mark.slow
def test_keys_of_another_system_are_completed(kmtalk, tmp_path, corpora):
    """The paper's Table 2: what another system made (here the truth at half its size) gives the key motions."""
    corpus = load_meshes("vocaset", corpora / "vocaset")
    (tmp_path / "other").mkdir()
    for clip in corpus.clips:
        rest = corpus.templates[clip.subject]
        half = rest + 0.5 * (clip.frames.read(0, len(clip.frames) - 1) - rest)
        np.save(tmp_path / "other" / f"{clip.name}.npy", half.reshape(len(half), -1).astype(np.float32))
    (tmp_path / "lve.txt").write_text(", ".join(map(str, range(200, 260))))
    kind = {"kind": "vocaset", "path": str(corpora / "vocaset"), "lips": "lve.txt", "keys_from": "other"}
    trained = kmtalk("train", tiny(tmp_path, "paper-vocaset", corpora, corpora=[kind]), "-o", "run")
    assert trained.returncode == 0, trained.stderr
    assert "key reconstruction" not in trained.stderr  # LKMA is not asked
    evaluate = (
        "evaluate", corpora / "vocaset", "--corpus", "vocaset", "--lips", "lve.txt", "--upper", "lve.txt",
        "--network", "both=run/network.safetensors",
    )  # fmt: skip
    done = kmtalk(*evaluate, "--keys-from", "other", "--predictions", "other=other")
    assert done.returncode == 0, done.stderr
    lves = [float(r.split()[1]) for r in done.stdout.splitlines() if r.startswith("  LVE")]
    assert lves[2] == pytest.approx(lves[0] / 4, rel=0.02)  # half of every motion is left to make
    next((tmp_path / "other").glob("*sentence22.npy")).unlink()
    gone = kmtalk(*evaluate, "--keys-from", "other")
    assert gone.returncode == 2 and "sentence22.npy" in gone.stderr and len(gone.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_four_clips_are_learnt_by_heart(tmp_path, corpora):
    """LVE under 1e-7 m² (0.32 mm) on the clips that were learnt; simulated motion, every tenth vertex of it."""
    held = load_meshes("vocaset", corpora / "vocaset")
    four = held.split("train")[:4]
    moved = np.ptp(np.concatenate([c.frames.read(0, 200)[:, ::10] for c in four]), axis=0).max(1)
    (tmp_path / "lips.txt").write_text(" ".join(map(str, np.argsort(-moved)[:30])))
    clips = []
    for clip in four:
        np.save(tmp_path / f"{clip.name}.npy", clip.frames.read(0, len(clip.frames))[:, ::10])
        clips.append(
            {"name": clip.name, "identity": clip.subject, "fps": 30, "audio": str(clip.audio),
             "motion": f"{clip.name}.npy", "textgrid": str(clip.textgrid)}
        )  # fmt: skip
    # a template wants triangles: these are not looked at
    ring = [[0, 1, 2]]
    for subject in {c.subject for c in four}:
        trimesh.Trimesh(held.templates[subject][::10], ring, process=False).export(tmp_path / f"{subject}.obj")
    templates = {c.subject: f"{c.subject}.obj" for c in four}
    manifest = {"name": "four", "unit": "m", "templates": templates, "clips": clips,
                "splits": {"train": [c.name for c in four]}}  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    corpus = {"kind": "folder", "path": str(tmp_path), "lips": "lips.txt"}
    path = tiny(
        tmp_path, "paper-vocaset", tmp_path, corpora=[corpus], batch=4, learning_rate=3e-3, longest=6.0, given=0.5,
        network={"width": 96, "heads": 4, "blocks": 1, "dropout": 0.0, "head": "basis", "components": 24},
        steps={"keys": 0, "completion": 0, "together": 600},
        losses={"reconstruction": 1, "velocity": 0.1, "latent": 0, "text": 0, "closure": 0, "power": 0},
    )  # fmt: skip
    run = Trainer(load_config(path), prepare(load_config(path), tmp_path / "run"), tmp_path / "run")
    assert sum(map(len, run.task.groups)) == 4
    run.run()
    pairs = [(run.infer(e), e.motion[: len(e.motion)]) for e in run.task.groups[0]]
    mask = metrics.load_mask(tmp_path / "lips.txt")
    made = metrics.lve([p for p, _ in pairs], [g for _, g in pairs], mask)
    rest = metrics.lve([0 * g for _, g in pairs], [g for _, g in pairs], mask)
    assert made.value < 1e-7 < 1e-5 < rest.value, (made.value, rest.value)


@pytest.mark.slow
def test_tables_are_run_and_simulation_is_not_set_beside_the_published(kmtalk, tmp_path, corpora):
    (tmp_path / "lve.txt").write_text(", ".join(map(str, range(200, 260))))
    given = ("--path", corpora / "vocaset", "--config", tiny(tmp_path, "paper-vocaset", corpora / "vocaset"),
             "--lips", "lve.txt", "--upper", "lve.txt", "-o", "runs")  # fmt: skip
    done = kmtalk("reproduce", "table", 5, *given)
    assert done.returncode == 0, done.stderr
    assert "simulated motion: published figures" in done.stdout
    rows = [r for r in done.stdout.splitlines() if " measured LVE" in r]
    assert [r[:32].strip() for r in rows] == ["rest (nothing moves)", "audio gate", "sum"]
    assert all("published -  " in r and "simulated" in r for r in rows)
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*/network.safetensors")}
    assert len(kept) == 2
    again = kmtalk("reproduce", "table", 5, *given)
    assert again.stdout == done.stdout
    assert kept == {p: p.stat().st_mtime_ns for p in kept}
    timed = kmtalk("reproduce", "table", 8, *given)
    assert timed.returncode == 0 and "ms a frame" in timed.stdout
    for arguments, said in (((2, *given), "--predictions NAME=DIR"), ((9, *given), "table 9")):
        wrong = kmtalk("reproduce", "table", *arguments)
        assert wrong.returncode == 2 and said in wrong.stderr and len(wrong.stderr.strip().splitlines()) == 1


def test_every_row_of_every_table_is_a_config():
    base = load_config(ROOT / "data" / "configs" / "paper-vocaset.yaml").model_dump()
    for number in range(1, 9):
        for row in load_table(number).rows:
            held = dict(base)
            for key, value in row.changes.items():
                held[key] = {**held[key], **value} if isinstance(value, dict) else value
            assert Config.model_validate(held).encoder == base["encoder"]


def test_keys_may_be_a_share_of_the_frames():
    alignment = phones(("AA", 0.2, 0.5), ("P", 0.5, 0.6))
    assert len(place_keys(alignment, 100, 30.0, "uniform:0.2")) == 20
    assert len(place_keys(alignment, 100, 30.0, "uniform")) == len(place_keys(alignment, 100, 30.0, "phones"))


def test_sizes_are_the_papers(kmtalk):
    done = kmtalk("corpus", "size", *sorted((ROOT / "data" / "configs").glob("paper-*.yaml")))
    assert done.returncode == 0, done.stderr
    whole = {row.split()[0]: int(row.split()[5].replace(",", "")) for row in done.stdout.splitlines()[1:3]}
    assert 90e6 < whole["paper-vocaset"] < 97e6
    assert 480e6 < whole["paper-biwi"] < 495e6


def test_weights_of_another_mesh_are_refused(kmtalk, corpora, tmp_path):
    (tmp_path / "lve.txt").write_text("1 2 3")
    done = kmtalk(
        "evaluate", corpora / "vocaset", "--corpus", "vocaset", "--lips", "lve.txt", "--upper", "lve.txt",
        "--network", f"a={ROOT / 'assets' / 'network.safetensors'}",
    )  # fmt: skip
    assert done.returncode == 2 and "weights of a rig" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_clips_that_nobody_aligned_ask_for_it(own, tmp_path):
    shutil.rmtree(own / "textgrids")
    (tmp_path / "lve.txt").write_text("1 2 3")
    corpora = [{"kind": "vocaset", "path": str(own), "lips": str(tmp_path / "lve.txt")}]
    config = load_config(tiny(tmp_path, "paper-vocaset", own, corpora=corpora))
    with pytest.raises(InputError, match="kmtalk corpus align"):
        prepare(config, tmp_path / "run")


def test_the_feed_forward_may_be_wider(tmp_path):
    from kmtalk.motion.model import Network, Shape

    narrow, wide = (
        Network(Shape("log-mel", 80, width=32, heads=4, blocks=1, head="vertices", vertices=9, feed=k)) for k in (2, 4)
    )
    assert sum(p.numel() for p in wide.parameters()) > sum(p.numel() for p in narrow.parameters())
    wide.save(tmp_path / "wide.safetensors")
    assert load_network(tmp_path / "wide.safetensors").shape.feed == 4
    assert torch.equal(load_network(tmp_path / "wide.safetensors").mean, wide.mean)
