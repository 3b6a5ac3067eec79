from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, SHARED, launched, needs_shared, simulate

from kmtalk.articulation.targets import PHONES
from kmtalk.corpora.simulated import load_simulated_corpus
from kmtalk.errors import InputError
from kmtalk.motion.inference import predict_motion
from kmtalk.motion.model import load_network
from kmtalk.motion.phone_input import phone_activity
from kmtalk.speech.alignment import Alignment, Phone
from kmtalk.training.batches import apply_random_key_edits
from kmtalk.training.config import load_config
from kmtalk.training.tasks import make_rig_task
from kmtalk.training.trainer import Trainer

TINY = {
    "encoder": "log-mel",
    "network": {"d_model": 32, "num_heads": 4, "num_layers": 1, "dropout": 0.1},
    "steps": {"key_motion": 4, "completion": 4, "joint": 8},
    "batch_size": 4,
    "max_crop_seconds": 2.0,
    "eval_every": 8,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("corpus"), clips=24, seed=1)


def written(path, corpus, **changes):
    config = {**TINY, "corpora": [{"kind": "simulated", "path": str(corpus)}], **changes}
    path.write_text(yaml.safe_dump(config))
    return path


def trainer(tmp_path, corpus, light_rig, name, **changes):
    config = load_config(written(tmp_path / "config.yaml", corpus, **changes))
    task = make_rig_task(
        config, [load_simulated_corpus(corpus, light_rig)], [], light_rig, tmp_path / name / "features"
    )
    return Trainer(config, task, tmp_path / name)


def test_a_run_that_was_killed_goes_on_bit_for_bit(tmp_path, corpus, light_rig):
    trainer(tmp_path, corpus, light_rig, "whole").run()
    killed = trainer(tmp_path, corpus, light_rig, "killed")
    for _ in range(8):
        killed.train_step()
    killed.save_checkpoint()
    for _ in range(3):
        killed.train_step()  # lost, as it is after the last checkpoint
    trainer(tmp_path, corpus, light_rig, "killed").run()
    whole, again = ((tmp_path / n / "network.safetensors").read_bytes() for n in ("whole", "killed"))
    assert whole == again
    assert list((tmp_path / "whole" / "log").iterdir())  # TensorBoard logs
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["batch_size"] == 4


def test_a_checkpoint_of_another_config_is_refused(tmp_path, corpus, light_rig):
    trainer(tmp_path, corpus, light_rig, "run").run()
    with pytest.raises(InputError, match="another config or other corpora"):
        trainer(tmp_path, corpus, light_rig, "run", batch_size=3).run()
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"nothing")
    with pytest.raises(InputError, match="damaged"):
        trainer(tmp_path, corpus, light_rig, "run").run()


@pytest.mark.parametrize("head", ["rig", "vertices"])
@pytest.mark.slow
def test_it_learns(tmp_path, corpus, light_rig, head):
    """Overfitting four clips: the error falls to a small fraction of the neutral face's."""
    network = {
        "d_model": 64,
        "num_heads": 4,
        "num_layers": 1,
        "dropout": 0.0,
        "head": head,
    }
    steps = {"key_motion": 10, "completion": 20, "joint": 120 if head == "rig" else 25}
    config = load_config(
        written(tmp_path / "c.yaml", corpus, network=network, steps=steps, learning_rate=3e-3, eval_every=1000)
    )
    clips = [c for c in load_simulated_corpus(corpus, light_rig) if c.weights.any()][:4]
    run = Trainer(config, make_rig_task(config, [clips], [], light_rig, tmp_path / "features"), tmp_path / head)
    seen = [{k: float(v.detach()) for k, v in run.train_step().items()} for _ in range(config.steps.total)]
    begun, ended = (np.mean([s["reconstruction"] for s in part]) for part in (seen[10:14], seen[-10:]))
    assert ended < (0.15 if head == "rig" else 0.7) * begun
    assert seen[-1]["key reconstruction"] < 0.8 * seen[0]["key reconstruction"]


def test_phones_are_an_input_that_may_be_missing(tmp_path, corpus, light_rig):
    network = {**TINY["network"], "phone_input": True}
    run = trainer(tmp_path, corpus, light_rig, "phones", network=network, phone_dropout=0.3, voice_dropout=0.3)
    run.run()
    trained = load_network(tmp_path / "phones" / "network.safetensors")
    example = next(e for e in run.task.groups[0] if e.alignment.phones)
    count = len(example.motion)
    keys, shares = np.arange(0, count, 3), np.eye(len(trained.config.styles), dtype=np.float32)[0]

    def predicted(alignment):
        return predict_motion(trained, example.features, alignment, keys, count, example.fps, shares)

    other = replace(
        example.alignment,
        phones=tuple(replace(p, label="UW" if p.label != "UW" else "S") for p in example.alignment.phones),
    )
    made = [predicted(a) for a in (example.alignment, Alignment(), other)]
    assert all(np.isfinite(m).all() for m in made)
    assert np.abs(made[0] - made[1]).max() > 1e-4 and np.abs(made[0] - made[2]).max() > 1e-4


def test_the_phones_of_a_frame_name_its_neighbours():
    times = (np.arange(100) + 0.5) / 100
    alignment = Alignment((Phone("HH", 0.2, 0.3), Phone("UW1", 0.3, 0.5), Phone("P", 0.6, 0.7)))
    after, before = phone_activity(alignment, times).reshape(100, 2, -1).transpose(1, 0, 2)
    uw, p = PHONES.index("UW"), PHONES.index("P")
    inside = (times > 0.3) & (times < 0.5)
    assert (after[inside, uw] == 1).all() and (before[inside, uw] == 1).all()
    assert before[times > 0.51, uw].max() == 0 and after[times < 0.29, uw].max() == 0
    assert np.interp(0.58, times, after[:, uw]) == pytest.approx(np.exp(-1), abs=0.01)  # 80 ms after its end
    assert np.interp(0.52, times, before[:, p]) == pytest.approx(np.exp(-1), abs=0.01)
    assert not phone_activity(Alignment(), times).any()


def test_stages_train_what_they_name(tmp_path, corpus, light_rig):
    run = trainer(tmp_path, corpus, light_rig, "stages")
    network = run.module.network

    def moved(step):
        before = {k: v.clone() for k, v in network.state_dict().items()}
        step()
        return {k.split(".")[0] for k, v in network.state_dict().items() if not torch.equal(v, before[k])}

    assert set(run.train_step()) == {"key reconstruction"}
    run.step = 0
    run.optimizer.param_groups[0]["weight_decay"] = 0.0
    run.optimizer.state.clear()
    assert "flow_encoder" not in moved(run.train_step)  # LKMA alone
    run.step = 4
    run.train_step()  # the heads are initialised to zero and pass no gradient yet
    assert "flow_encoder" in moved(run.train_step)
    run.step = 10
    assert {"key reconstruction", "reconstruction"} <= set(run.train_step())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batchsize": 3}, "batchsize: unknown key"),
        ({"batch_size": 0}, "batch_size: "),
        ({"corpora": []}, "corpora: "),
        ({"encoder": "hubert"}, "encoder"),
        ({"network": {"d_model": 32, "depth": 2}}, "network.depth: unknown key"),
        ({"network": {"d_model": 36, "num_heads": 8}}, "multiple of num_heads"),
        ({"phone_dropout": 0.1}, "need network.phone_input"),
        ({"network": {"head": "pca"}}, "set components for head: pca"),
        ({"learning_rate": float("inf")}, "learning_rate: "),
        ({"max_crop_seconds": 0.01}, "max_crop_seconds: "),
    ],
)
def test_a_wrong_config_ends_in_one_line(kmtalk, tmp_path, corpus, changes, said):
    path = written(tmp_path / "wrong.yaml", corpus, **changes)
    done = kmtalk("train", path, "-o", tmp_path / "run")
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run" / "network.safetensors").exists()


def test_the_commands_build_train_and_animate(kmtalk, tmp_path, tone):
    built = kmtalk("corpus", "build", "simulated", "-o", "sim", "--clips", 20)
    assert built.returncode == 0, built.stderr
    assert "simulated" in built.stdout
    assert kmtalk("corpus", "build", "simulated", "-o", "sim").returncode == 2  # exists already
    written(tmp_path / "tiny.yaml", "sim")
    trained = kmtalk("train", "tiny.yaml", "-o", "run")
    assert trained.returncode == 0, trained.stderr
    weights = tmp_path / "run" / "network.safetensors"
    assert load_network(weights).config.styles == ("clear", "expressive", "neutral", "population", "relaxed")
    made = kmtalk("animate", tone, "--text", "la", "--network", weights, "--style", "clear", "--no-video", "-o", "out")
    assert made.returncode == 0, made.stderr
    again = kmtalk("train", "tiny.yaml", "-o", "run")  # already finished: the same weights, no error
    assert again.returncode == 0, again.stderr
    assert "resuming at step 16" in again.stderr
    wrong = kmtalk("animate", tone, "--text", "la", "--network", weights, "--style", "angry", "-o", "no")
    assert wrong.returncode == 2 and "angry" in wrong.stderr and not (tmp_path / "no").exists()


@needs_shared
def test_the_configs_that_are_shipped_are_right():
    for file in sorted((ROOT / "data" / "configs").glob("*.yaml")):
        config = load_config(file)
        assert config.steps.total > 1000
        grids = [c.path.resolve() for c in config.corpora if c.kind == "grid"]
        assert all(path.is_relative_to((SHARED / "data").resolve()) for path in grids)


@needs_shared
@pytest.mark.slow
def test_every_mouth_is_scored_on_held_out_lips_and_keeps_its_bars(kmtalk):
    """GRID s1, monocular tracking; with given phones, so that 242 clips need no transcription."""
    done = kmtalk("evaluate", SHARED / "data" / "grid", "--reference-phones")
    assert done.returncode == 0, done.stderr
    assert "GRID s1, tracked, monocular: 242 held-out clips" in done.stdout
    rows: dict[str, str] = {}
    for line in done.stdout.splitlines():
        if line[21:24] == " r ":
            rows[line[:21].strip()] = line[21:]
        elif rows and line.startswith(" " * 22):
            rows[list(rows)[-1]] += " " + line.strip()
    assert list(rows) == [
        "constant (mean pose)",
        "envelope",
        "rules",
        "network",
        "no postprocessing",
        "no CMC",
        "live",
        "real lips",
    ]

    def numbers(row):
        plain = re.sub(r"\[.*?\]", "", rows[row])
        found = re.search(
            r"r +(\S+) +(\S+) +(\S+) +(\S+) +(\S+)\s+RMSE +(\S+).*closed +(\S+) %.*speed +(\S+) mm.*"
            r"open (\S+) up (\S+) down  pressed (\S+) up .*mean (\S+)",
            plain,
        )
        return [float(g) for g in found.groups()]

    bars = {"rules": (0.75, 0.6, 0.66, 0.73, 3.3, 99, 0.55), "network": (0.88, 0.73, 0.78, 0.85, 2.2, 99, 0.87)}
    for row, (aperture, width, upper, lower, error, closed, read) in bars.items():
        made = numbers(row)
        assert made[0] >= aperture and made[1] >= width and made[2] >= upper and made[3] >= lower
        assert made[5] <= error and made[6] >= closed and 190 <= made[7] <= 290
        least = 0.6 if row == "rules" else 1.2
        assert least < made[8] < 2.4 and 5.5 < made[9] < 10.5 and made[10] < -1.2  # the lips open and close as they do
        assert made[11] > read
    live = numbers("live")  # knows no phones, and hears 150 ms ahead
    assert live[0] >= 0.87 and live[5] <= 2.3 and live[6] >= 97 and 160 <= live[7] <= 290 and live[11] > 0.85
    assert numbers("envelope")[0] < numbers("rules")[0] < numbers("network")[0]
    assert numbers("constant (mean pose)")[:3] == [0, 0, 0] and numbers("real lips")[:5] == [1, 1, 1, 1, 1]
    assert numbers("real lips")[-1] > 0.85


@pytest.mark.slow
def test_several_processes_train_with_the_same_command(tmp_path, corpus):
    path = written(tmp_path / "tiny.yaml", corpus)
    done = launched("train", path, "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr[-2000:]
    assert load_network(tmp_path / "run" / "network.safetensors").config.d_model == 32


def test_edited_keys_and_their_motion_agree():
    """An augmentation edit of the truth ends at the neighbouring keys and stays within [0, 1]."""
    rng = np.random.default_rng(3)
    motion = rng.random((60, 5)) * 0.4
    keys = np.array([0, 9, 17, 30, 44, 59])
    seen = 0
    for _ in range(20):
        located, made = apply_random_key_edits(motion, keys, rng)
        assert made.min() >= 0
        assert made.max() <= 1
        assert set(keys) <= set(located)
        change = made[located] - motion[located]
        touched = located[np.abs(change).max(1) > 1e-9]
        seen += len(touched)
        for frame in range(60):
            beside = (
                located[np.searchsorted(located, frame, side="right") - 1],
                located[min(np.searchsorted(located, frame), len(located) - 1)],
            )
            if not {*beside} & {*touched.tolist()}:
                assert np.allclose(made[frame], motion[frame])
    assert seen > 20
