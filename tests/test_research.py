"""Research commands on miniature corpora in the layouts of VOCASET and BIWI; all numbers are on simulated motion."""

from __future__ import annotations

import json
import re
import shutil

import av
import numpy as np
import pytest
import torch
import trimesh
import yaml
from conftest import ROOT, launched, needs_detector, phones, small_wav2vec2

from kmtalk import InputError, Template, metrics
from kmtalk.animation import load_animation
from kmtalk.corpora.folder import load_folder_corpus
from kmtalk.corpora.mesh_corpus import SIMULATED_MARKER
from kmtalk.corpora.registry import load_mesh_corpus
from kmtalk.evaluation.tables import ReproductionSettings, load_table, reproduce
from kmtalk.face.template import write_obj
from kmtalk.motion.inference import select_key_frames
from kmtalk.motion.model import load_network
from kmtalk.training.config import TrainingConfig, load_config
from kmtalk.training.data import prepare_task
from kmtalk.training.trainer import Trainer


def tiny(tmp_path, name, corpus, **changes):
    """A shipped config reduced to toy size, on a miniature corpus."""
    held = yaml.safe_load((ROOT / "data" / "configs" / f"{name}.yaml").read_text())
    held |= {"encoder": "log-mel", "eval_every": 1000, "max_crop_seconds": 1.0, "learning_rate": 1e-3}
    held["network"] |= {"d_model": 32, "num_heads": 4, "num_layers": 1}
    held["steps"] = {"key_motion": 3, "completion": 3, "joint": 2}
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
    trained = kmtalk("train", tiny(tmp_path, name, corpora / kind, max_crop_seconds=0.6), "-o", "run")
    assert trained.returncode == 0, trained.stderr
    assert f"validation (simulated, in the layout of {kind.upper()}, split val): LVE" in trained.stderr
    weights = "run/network.safetensors"
    done = kmtalk(
        "evaluate", corpora / kind, "--corpus", kind, "--split", split, "--network", f"mine={weights}",
        "--lip-mask", "lve.txt", "--upper-face-mask", "lve.txt", "-o", "predicted",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(p.suffix in (".npy", ".obj") for p in (tmp_path / "predicted" / "mine").iterdir())
    rows = done.stdout.splitlines()
    assert rows[0] == "rest (nothing moves)" and "mine" in rows
    assert all("simulated" in row for row in rows if row.startswith("  "))
    assert sum("LVE" in row and "mask lve.txt:" in row for row in rows) == 2
    assert sum("FDD" in row for row in rows) == 4
    # predictions on disk score the same when read as another system's
    again = kmtalk(
        "evaluate", corpora / kind, "--corpus", kind, "--split", split, "--predictions", "mine=predicted/mine",
        "--lip-mask", "lve.txt", "--upper-face-mask", "lve.txt",
    )  # fmt: skip

    def lve(text):
        return [float(r.split()[1]) for r in text.splitlines() if r.startswith("  LVE")]

    assert lve(again.stdout) == pytest.approx(lve(done.stdout), rel=1e-3)


@needs_detector
@pytest.mark.slow
def test_vertices_by_frame_are_filmed_and_exported(kmtalk, tmp_path, corpora):
    corpus = load_mesh_corpus("vocaset", corpora / "vocaset")
    clip = corpus.split_clips("test")[0]
    truth = clip.frames.read(0, len(clip.frames))
    np.save(tmp_path / "clip.npy", truth.reshape(len(truth), -1))
    write_obj(tmp_path / "face.obj", Template(corpus.templates[clip.subject], corpus.faces))
    given = ("render", "clip.npy", "--template", "face.obj", "--speech", clip.audio)
    done = kmtalk(*given, "-o", "out", "--formats", "npz,pc2,mp4")
    assert done.returncode == 0, done.stderr
    held = load_animation(tmp_path / "out" / "animation.npz")
    assert held.fps == 30 and np.abs(held.vertices - truth).max() < 1e-3  # the npz stores shapes as float16
    with av.open(str(tmp_path / "out" / "animation.mp4")) as video:
        frames = [f.to_ndarray(format="gray").astype(int) for f in video.decode(video=0)]
    assert len(frames) == len(truth)
    opened = int(np.argmax(np.abs(truth - truth[0]).max((1, 2))))
    assert np.abs(frames[opened] - frames[0]).max() > 20  # the mouth moves in the video
    np.save(tmp_path / "other.npy", truth[:, :100])
    other = kmtalk("render", "other.npy", *given[2:], "-o", "x.mp4")
    assert other.returncode == 2 and len(other.stderr.strip().splitlines()) == 1 and "other.npy" in other.stderr


@pytest.mark.slow
def test_keys_of_another_system_are_completed(kmtalk, tmp_path, corpora):
    """The paper's Table 2: another system (here the truth at half its size) provides the key motions."""
    corpus = load_mesh_corpus("vocaset", corpora / "vocaset")
    (tmp_path / "other").mkdir()
    for clip in corpus.clips:
        rest = corpus.templates[clip.subject]
        half = rest + 0.5 * (clip.frames.read(0, len(clip.frames) - 1) - rest)
        np.save(tmp_path / "other" / f"{clip.name}.npy", half.reshape(len(half), -1).astype(np.float32))
    (tmp_path / "lve.txt").write_text(", ".join(map(str, range(200, 260))))
    kind = {"kind": "vocaset", "path": str(corpora / "vocaset"), "lip_mask": "lve.txt", "keys_from": "other"}
    trained = kmtalk("train", tiny(tmp_path, "paper-vocaset", corpora, corpora=[kind]), "-o", "run")
    assert trained.returncode == 0, trained.stderr
    assert "key reconstruction" not in trained.stderr  # LKMA is not trained
    evaluate = (
        "evaluate", corpora / "vocaset", "--corpus", "vocaset", "--lip-mask", "lve.txt", "--upper-face-mask", "lve.txt",
        "--network", "both=run/network.safetensors",
    )  # fmt: skip
    done = kmtalk(*evaluate, "--keys-from", "other", "--predictions", "other=other")
    assert done.returncode == 0, done.stderr
    lves = [float(r.split()[1]) for r in done.stdout.splitlines() if r.startswith("  LVE")]
    assert lves[2] == pytest.approx(lves[0] / 4, rel=0.02)  # half of every motion remains
    next((tmp_path / "other").glob("*sentence22.npy")).unlink()
    gone = kmtalk(*evaluate, "--keys-from", "other")
    assert gone.returncode == 2 and "sentence22.npy" in gone.stderr and len(gone.stderr.strip().splitlines()) == 1


@pytest.fixture
def four(tmp_path, corpora):
    """Four clips in a folder with a manifest, with every tenth vertex; lips.txt lists those that move most."""
    held = load_mesh_corpus("vocaset", corpora / "vocaset")
    clips = held.split_clips("train")[:4]
    moved = np.ptp(np.concatenate([c.frames.read(0, 200)[:, ::10] for c in clips]), axis=0).max(1)
    (tmp_path / "lips.txt").write_text(" ".join(map(str, np.argsort(-moved)[:30])))
    listed = []
    for clip in clips:
        np.save(tmp_path / f"{clip.name}.npy", clip.frames.read(0, len(clip.frames))[:, ::10])
        listed.append(
            {"name": clip.name, "identity": clip.subject, "fps": 30, "audio": str(clip.audio),
             "motion": f"{clip.name}.npy", "textgrid": str(clip.textgrid)}
        )  # fmt: skip
    # a template needs triangles; these are not used
    for subject in {c.subject for c in clips}:
        trimesh.Trimesh(held.templates[subject][::10], [[0, 1, 2]], process=False).export(tmp_path / f"{subject}.obj")
    manifest = {"name": "simulated four", "unit": "m", "templates": {c.subject: f"{c.subject}.obj" for c in clips},
                "clips": listed, "splits": {"train": [c.name for c in clips]}}  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


COMPONENTS = {"d_model": 96, "head": "pca", "components": 24}


def by_heart(folder, steps, network=COMPONENTS, rate=3e-3, **corpus):
    """A config that overfits the four clips, with a PCA output head unless `network` differs."""
    return tiny(
        folder, "paper-vocaset", folder,
        corpora=[{"kind": "folder", "path": str(folder), "lip_mask": "lips.txt"} | corpus],
        batch_size=4, learning_rate=rate, max_crop_seconds=6.0, teacher_forcing=0.5, steps=steps,
        network={"num_heads": 4, "num_layers": 1, "dropout": 0.0} | network,
        losses={"reconstruction": 1, "velocity": 0.1, "latent_consistency": 0, "text_consistency": 0, "lip_closure": 0,
                "band_power": 0},
    )  # fmt: skip


def trained(path, output):
    """Train to the end; returns the LVE in m² of the prediction and of the neutral face."""
    run = Trainer(load_config(path), prepare_task(load_config(path), output), output)
    run.run()
    examples = run.task.groups[0]
    assert len(examples) == 4
    truths, mask = [e.motion[: len(e.motion)] for e in examples], metrics.load_mask(path.parent / "lips.txt")
    made = metrics.lve([run.predict(e) for e in examples], truths, mask)
    return made.value, metrics.lve([0 * g for g in truths], truths, mask).value


@pytest.mark.slow
def test_four_clips_are_learnt_by_heart(four):
    """LVE under a hundredth of the neutral face's, on the training clips, with the paper's head; simulated motion."""
    steps = {"key_motion": 0, "completion": 0, "joint": 600}
    plan = by_heart(four, steps, {"d_model": 192, "head": "vertices"}, rate=2e-3)
    made, rest = trained(plan, four / "run")
    assert made < rest / 100 and rest > 1e-5


@pytest.mark.slow
def test_completion_mends_what_another_system_made(four):
    """The paper's Table 2: CMC completes the truth from keys at half its size, with a smaller error than the keys'."""
    corpus = load_folder_corpus(four)
    (four / "other").mkdir()
    for clip in corpus.clips:
        rest = corpus.templates[clip.subject]
        np.save(four / "other" / f"{clip.name}.npy", rest + 0.5 * (clip.frames.read(0, len(clip.frames)) - rest))
    plan = by_heart(four, {"key_motion": 0, "completion": 200, "joint": 0}, keys_from="other")
    made, rest = trained(plan, four / "run")
    assert made < 0.5 * rest / 4  # the error of the other system is a quarter of the neutral face's


@pytest.mark.slow
def test_wav2vec2_learns_along_with_lkma_and_rests_with_cmc(four, kmtalk):
    source = small_wav2vec2(four / "w2v")
    path = by_heart(four, {"key_motion": 3, "completion": 3, "joint": 0})
    path.write_text(
        yaml.safe_dump(yaml.safe_load(path.read_text()) | {"encoder": f"wav2vec2:{source}", "finetune_encoder": True})
    )
    run = Trainer(load_config(path), prepare_task(load_config(path), four / "run"), four / "run")

    def encoder_weights():
        return {k: v.clone() for k, v in run.module.network.finetuned_encoder.state_dict().items()}

    before = encoder_weights()
    for _ in range(3):
        run.train_step()
    between = encoder_weights()
    assert all(
        (between[k] != before[k]).any() for k in before if "k_proj.bias" not in k
    )  # a key bias does not change the softmax
    weights = run.run()
    assert all((encoder_weights()[k] == between[k]).all() for k in before)
    network = load_network(weights)
    assert network.config.encoder == f"wav2vec2-conv:{source}" and network.config.audio_dim == 32
    manifest = json.loads((four / "manifest.json").read_text())
    manifest["splits"]["test"] = manifest["splits"]["train"]
    (four / "manifest.json").write_text(json.dumps(manifest))
    scored = kmtalk("evaluate", four, "--corpus", "folder", "--lip-mask", "lips.txt", "--network", f"a={weights}")
    assert scored.returncode == 0 and not scored.stderr, scored.stderr
    assert scored.stdout.count("  LVE ") == 2 and "not measured: mouths and the upper face: " in scored.stdout
    small_wav2vec2(four / "w2v", seed=1)
    other = kmtalk("evaluate", four, "--corpus", "folder", "--lip-mask", "lips.txt", "--network", f"a={weights}")
    assert other.returncode == 2 and "not the encoder these weights were trained with" in other.stderr
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"encoder": "log-mel"}))
    with pytest.raises(InputError, match="finetune_encoder: only encoder wav2vec2"):
        load_config(path)


@pytest.mark.slow
def test_several_processes_learn_vertices(four):
    path = by_heart(four, {"key_motion": 2, "completion": 2, "joint": 2})
    done = launched("train", path, "-o", four / "run")
    assert done.returncode == 0, done.stderr[-2000:]
    network = load_network(four / "run" / "network.safetensors")
    assert network.config.vertex_count == load_folder_corpus(four).vertex_count


@pytest.mark.slow
def test_tables_are_run_and_simulation_is_not_set_beside_the_published(kmtalk, tmp_path, own):
    (tmp_path / "lve.txt").write_text(", ".join(map(str, range(200, 260))))
    given = ("--path", own, "--config", tiny(tmp_path, "paper-vocaset", own), "--lip-mask", "lve.txt",
             "--upper-face-mask", "lve.txt", "-o", "runs")  # fmt: skip
    mine = yaml.safe_load((ROOT / "data" / "paper" / "tables.yaml").read_text())
    mine[5]["rows"][0]["published"] = {"vocaset": {"LVE": "0.123", "FDD": "0.456"}}
    mine[5]["rows"].append({"name": "no CMC", "without_completion": True})
    mine[8]["rows"][0]["published"] = {"vocaset": {"ASR": "7 s", "whole": "9 s a clip"}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    done = kmtalk("reproduce", "table", 5, *given, "--tables", "mine.yaml")
    assert done.returncode == 0, done.stderr
    assert "simulated motion: published figures" in done.stdout and "0.123" not in done.stdout
    rows = [r for r in done.stdout.splitlines() if " measured LVE" in r]
    assert [r[:32].strip() for r in rows] == ["rest (nothing moves)", "audio gate", "sum", "no CMC"]
    assert all("published -  " in r and "simulated" in r for r in rows)
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*/network.safetensors")}
    assert len(kept) == 2  # the rows without CMC share one network, trained once
    # without its label the corpus counts as the real one and is compared with the published figures; no retraining
    (own / SIMULATED_MARKER).unlink()
    shown = kmtalk("reproduce", "table", 5, *given, "--tables", "mine.yaml")
    assert "audio gate                       published 0.123        measured LVE" in shown.stdout, shown.stderr
    assert "published 0.456        measured FDD (signed" in shown.stdout
    assert "published none         measured MVE" in shown.stdout
    assert kept == {p: p.stat().st_mtime_ns for p in kept}
    timed = kmtalk("reproduce", "table", 8, *given, "--tables", "mine.yaml")
    assert timed.returncode == 0 and "ms a frame" in timed.stdout
    assert timed.stdout.splitlines()[-1] == "published ASR 7 s, whole 9 s a clip"
    elsewhere = kmtalk("reproduce", "table", 8, *given, "--tables", "mine.yaml", "--split", "val")
    assert elsewhere.returncode == 0 and "ms a frame" in elsewhere.stdout and "ASR 7 s" not in elsewhere.stdout
    wrong = kmtalk("reproduce", "table", 2, *given)
    assert wrong.returncode == 2 and "--predictions NAME=DIR" in wrong.stderr
    assert len(wrong.stderr.strip().splitlines()) == 1


def test_published_figures_are_shown_for_the_same_data_only(tmp_path, own):
    """Table 1 of the shipped YAML without its trained row: the test split of what is labelled VOCASET has figures."""
    (tmp_path / "lve.txt").write_text(", ".join(map(str, range(200, 260))))
    corpus, folder = load_mesh_corpus("vocaset", own), tmp_path / "theirs"
    folder.mkdir()
    for clip in (*corpus.split_clips("test"), *corpus.split_clips("val")):
        np.save(folder / f"{clip.name}.npy", clip.frames.read(0, len(clip.frames)))
    config = load_config(tiny(tmp_path, "paper-vocaset", own))
    comparison = load_table(1).model_copy(update={"rows": ()})
    predictions = (("FaceFormer", folder), ("unknown", folder))

    def lines(split):
        mask = str(tmp_path / "lve.txt")
        where = ReproductionSettings("vocaset", own, tmp_path / "runs", split, mask, mask, predictions)
        return list(reproduce(1, comparison, config, where))

    for split in ("test", "val"):
        simulated = lines(split)
        assert simulated[1].startswith("simulated motion: published figures")
        assert all(" published -  " in line for line in simulated[2:]) and not any("e-5 mm" in x for x in simulated)
    (own / SIMULATED_MARKER).unlink()  # without its label the corpus passes for the real one
    shown = "\n".join(lines("test"))
    assert "\npublished: VOCA-Test; KMTalk from Table 6 of the paper's supplement" in shown
    assert "\nFaceFormer                       published 4.1090e-5 mm measured LVE" in shown
    assert "\nFaceFormer                       published 4.6675e-7 mm measured FDD (signed" in shown
    assert "\nFaceFormer                       published none         measured FDD (absolute)" in shown
    assert "\nunknown                          published none         measured LVE" in shown
    other = lines("val")
    assert other[1] == "split val: published figures are of split test and are not shown"
    assert all(" published -  " in line for line in other[2:]) and not any("e-5 mm" in x for x in other)


@pytest.mark.slow
def test_figures_of_completed_systems_are_shown(tmp_path, own):
    """Table 2 of the shipped YAML: "Original" beside the system, "After" beside the system with KMTalk."""
    (own / SIMULATED_MARKER).unlink()
    (tmp_path / "lve.txt").write_text(", ".join(map(str, range(200, 260))))
    (tmp_path / "theirs").mkdir()
    for clip in load_mesh_corpus("vocaset", own).clips:
        np.save(tmp_path / "theirs" / f"{clip.name}.npy", clip.frames.read(0, len(clip.frames)))
    mask, predictions = str(tmp_path / "lve.txt"), [("SelfTalk", tmp_path / "theirs")]
    where = ReproductionSettings("vocaset", own, tmp_path / "runs", "test", mask, mask, predictions)
    shown = "\n".join(reproduce(2, load_table(2), load_config(tiny(tmp_path, "paper-vocaset", own)), where))
    assert "\npublished: Table 2 of the paper's supplement, VOCA-Test\n" in shown
    for row, lve, fdd in (("SelfTalk", "3.2238", "4.0912"), ("SelfTalk with KMTalk", "2.6608", "3.6795")):
        assert f"\n{row:32s} published {lve}e-5 mm measured LVE" in shown
        assert f"\n{row:32s} published {fdd}e-7 mm measured FDD (signed" in shown


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"name": "a", "chnages": {}}], "mine.yaml: 1.rows.0.chnages: unknown key"),
        ([{"name": "odd", "changes": {"nope": {"a": 1}}}], "row odd: nope: unknown key"),
        ([{"name": "odd", "changes": {"key_placement": {"a": 1}}}], "row odd: key_placement: "),
        ([{"name": "slow", "corpus": {"fps": "fast"}}], "row slow: corpora.0.fps"),
        ([{"name": "same", "changes": {"seed": k}} for k in (1, 2)], "two rows are called same"),
    ],
)
def test_odd_tables_are_one_line(tmp_path, own, rows, said):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({1: {"title": "Odd", "rows": rows}}))
    config = load_config(tiny(tmp_path, "paper-vocaset", own))
    where = ReproductionSettings("vocaset", own, tmp_path / "runs", "test", None, None)
    with pytest.raises(InputError, match=said):
        list(reproduce(1, load_table(1, tmp_path / "mine.yaml"), config, where))
    with pytest.raises(InputError, match=r"table 2: mine\.yaml has 1"):
        load_table(2, tmp_path / "mine.yaml")


@needs_detector
def test_every_metric_is_printed_for_vertices(kmtalk, tmp_path, corpora):
    """Two samples per clip (the truth and half of it), and the truth alone."""
    corpus = load_mesh_corpus("vocaset", corpora / "vocaset")
    for name in ("two", "same"):
        (tmp_path / name).mkdir()
    for clip in corpus.split_clips("test"):
        rest, true = corpus.templates[clip.subject], clip.frames.read(0, len(clip.frames))
        np.save(tmp_path / "same" / f"{clip.name}.npy", true)
        np.save(tmp_path / "two" / f"{clip.name}_condition_A.npy", true)
        np.save(tmp_path / "two" / f"{clip.name}_condition_B.npy", rest + 0.5 * (true - rest))
    done = kmtalk("evaluate", corpora / "vocaset", "--corpus", "vocaset", "--predictions", "two=two",
                  "--predictions", "same=same")  # fmt: skip
    assert done.returncode == 0, done.stderr
    blocks, name = {}, ""
    for row in done.stdout.splitlines():
        if not row.startswith("  "):
            name = row
            blocks[name] = {}
            continue
        metric, number = re.match(r"  (.+?) (-?[\d.]+(?:e-?\d+)?)(?: |$)", row).groups()
        blocks[name][metric] = float(number)
        assert "simulated" in row and " | " in row
        assert "mask" in row or metric == "MVE"
    rest, truth, two, same = (
        blocks["rest (nothing moves)"],
        blocks["truth (the corpus itself)"],
        *map(blocks.get, ("two", "same")),
    )
    of_motion = {"closure rate", "labiodental rate", "silence stillness", "aperture speed", "4-10 Hz power",
                 "A/V lead", "beat consistency"}  # fmt: skip
    assert set(truth) == of_motion
    assert {k: same[k] for k in of_motion} == pytest.approx(truth, rel=1e-4)
    assert not of_motion & set(rest) and "aperture r" not in rest
    for channel, moved in (("aperture", 1), ("width", 1), ("upper lip", 0.2), ("lower lip", 1), ("inner width", 1)):
        assert same[f"{channel} r"] == pytest.approx(1, abs=1e-6) and same[f"{channel} RMSE"] < 1e-3
        assert rest[f"{channel} RMSE"] > moved
    assert same["LVE"] < 1e-14 and same["LDTW"] < 1e-3 < rest["LDTW"]
    # the mean of the two is off by a quarter of every offset, the better one by zero, the worse one by a half
    assert two["MEE"] == pytest.approx(rest["LVE"] / 16, rel=1e-3) and two["CE"] < 1e-14
    assert two["LVE"] == pytest.approx(rest["LVE"] / 8, rel=1e-3)
    assert two["diversity"] > 0 and "MEE" not in same


def test_every_row_of_every_table_is_a_config():
    base = load_config(ROOT / "data" / "configs" / "paper-vocaset.yaml").model_dump()
    for number in range(1, 9):
        for row in load_table(number).rows:
            held = dict(base)
            for key, value in row.changes.items():
                held[key] = {**held[key], **value} if isinstance(value, dict) else value
            assert TrainingConfig.model_validate(held).encoder == base["encoder"]


def test_keys_may_be_a_share_of_the_frames():
    alignment = phones(("AA", 0.2, 0.5), ("P", 0.5, 0.6))
    assert len(select_key_frames(alignment, 100, 30.0, "uniform:0.2")) == 20
    assert len(select_key_frames(alignment, 100, 30.0, "uniform")) == len(
        select_key_frames(alignment, 100, 30.0, "phones")
    )


def test_sizes_are_the_papers(kmtalk):
    done = kmtalk("corpus", "size", *sorted((ROOT / "data" / "configs").glob("paper-*.yaml")))
    assert done.returncode == 0, done.stderr
    whole = {row.split()[0]: int(row.split()[5].replace(",", "")) for row in done.stdout.splitlines()[1:3]}
    assert 90e6 < whole["paper-vocaset"] < 97e6
    assert 480e6 < whole["paper-biwi"] < 495e6


def test_weights_of_another_mesh_are_refused(kmtalk, corpora, tmp_path):
    (tmp_path / "lve.txt").write_text("1 2 3")
    done = kmtalk(
        "evaluate", corpora / "vocaset", "--corpus", "vocaset", "--lip-mask", "lve.txt", "--upper-face-mask", "lve.txt",
        "--network", f"a={ROOT / 'assets' / 'network.safetensors'}",
    )  # fmt: skip
    assert done.returncode == 2 and "weights of a rig" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_clips_that_nobody_aligned_ask_for_it(own, tmp_path):
    shutil.rmtree(own / "textgrids")
    (tmp_path / "lve.txt").write_text("1 2 3")
    corpora = [{"kind": "vocaset", "path": str(own), "lip_mask": str(tmp_path / "lve.txt")}]
    config = load_config(tiny(tmp_path, "paper-vocaset", own, corpora=corpora))
    with pytest.raises(InputError, match="kmtalk corpus align"):
        prepare_task(config, tmp_path / "run")


def test_the_feed_forward_may_be_wider(tmp_path):
    from kmtalk.motion.model import KMTalkNetwork, NetworkConfig

    narrow, wide = (
        KMTalkNetwork(
            NetworkConfig(
                "log-mel", 80, d_model=32, num_heads=4, num_layers=1, head="vertices", vertex_count=9, ffn_multiplier=k
            )
        )
        for k in (2, 4)
    )
    assert sum(p.numel() for p in wide.parameters()) > sum(p.numel() for p in narrow.parameters())
    wide.save(tmp_path / "wide.safetensors")
    assert load_network(tmp_path / "wide.safetensors").config.ffn_multiplier == 4
    assert torch.equal(load_network(tmp_path / "wide.safetensors").feature_mean, wide.feature_mean)
