"""Editing keys: completion reproduces pinned poses exactly, fills the frames around them and keeps distant frames."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from conftest import FACE, SAID, SPEECH

from kmtalk import InputError
from kmtalk.exchange.timeline import lip_aperture
from kmtalk.face.template import write_obj
from kmtalk.keys import KeyMotions, locate_key_frames
from kmtalk.motion.inference import predict_motion
from kmtalk.motion.styles import style_mixture
from kmtalk.settings import Provenance
from kmtalk.speech.alignment import Alignment, Phone


def moved_mm(before, after):
    """The largest vertex displacement per frame, in mm."""
    return np.linalg.norm(after.vertices - before.vertices, axis=2).max(1) * before.template.mm_per_unit


@pytest.fixture
def again(talk, spoken):
    """A copy of the animated demo whose keys a test may edit."""
    return talk.animate(SPEECH, textgrid=spoken.alignment)


def beside(keys, frame):
    frames = keys.frames
    return int(frames[frames < frame][-1]), int(frames[frames > frame][0])


def vowel_key(animation, label="AA"):
    return next(
        int(f) for f, name in zip(animation.keys.frames, animation.keys.phone_labels, strict=True) if name == label
    )


@pytest.mark.parametrize("fps", [24, 30, 60])
def test_a_pinned_key_is_met_exactly_and_the_change_is_local(talk, spoken, fps):
    before = talk.animate(SPEECH, textgrid=spoken.alignment, fps=fps)
    frame = vowel_key(before)
    opening = float(before.weights[frame, before.shape_names.index("jawOpen")])
    before.keys.set_weights(frame, jawOpen=opening + 0.2, mouthPucker=0.3)
    after = before.complete()
    assert np.array_equal(after.weights[frame], before.keys.pose_vector(frame))
    assert after.keys.nonzero_weights(frame)["mouthPucker"] == pytest.approx(0.3)
    moved = moved_mm(before, after)
    low, high = beside(before.keys, frame)
    reach = round(0.5 * fps)
    assert moved[frame] > 3
    assert moved[: max(0, low - reach)].max(initial=0) <= 0.1
    assert moved[high + reach + 1 :].max(initial=0) <= 0.1
    # no jump: the edit fades in and out over the neighbouring frames
    jaw = after.weights[:, after.shape_names.index("jawOpen")] - before.weights[:, before.shape_names.index("jawOpen")]
    assert abs(jaw[frame - 1]) > 0.03 or frame - 1 == low
    assert np.array_equal(after.keys.frames[after.keys.pinned], [frame])


def test_a_motion_in_another_style_can_be_edited(talk, spoken):
    animation = talk.animate(SPEECH, textgrid=spoken.alignment, style="natural-s4")
    animation.keys.set_weights(int(animation.keys.frames[8]), jawOpen=0.6)
    moved = animation.complete().weights
    assert moved[animation.keys.frames[8], talk.rig.index["jawOpen"]] == pytest.approx(0.6, abs=1e-3)


def test_cmc_itself_follows_the_keys(talk, again):
    """CMC itself, without the blend that makes pinned keys exact, responds to an edit in the edited shape."""
    network, features = talk.completion_predictor.network, talk.completion_predictor.encode_audio(again.audio)
    frames, count, names = again.keys.frames, len(again.weights), network.config.shape_names
    shares = style_mixture(network.config.styles, "natural")

    def predict(*edits):
        return predict_motion(network, features, again.alignment, frames, count, 30.0, shares, *edits)

    before = predict()
    for name in ("jawOpen", "mouthPucker", "mouthFunnel", "mouthStretchLeft"):
        for key in (8, 21, 34):
            at, shape, change = frames[key], names.index(name), np.zeros((len(frames), len(names)), np.float32)
            change[key, shape] = 0.3 if before[at, shape] < 0.6 else -0.3
            share = (predict(change) - before) / change[key, shape]
            assert 0.8 <= share[at, shape] <= 1.2
            assert np.abs(np.delete(share[at], shape)).max() <= 0.2
            far = np.abs(np.arange(count) - at) > 30
            assert np.abs(share[far]).max() <= 0.05


def test_nothing_edited_changes_nothing(again):
    assert np.array_equal(again.complete().weights, again.weights)


def test_neighbouring_closures_stay_closed(again):
    """A vowel edited to open wide next to p, b and m does not open their lips."""
    before = lip_aperture(again.motion)
    for frame, label in zip(again.keys.frames.tolist(), again.keys.phone_labels, strict=True):
        if label in ("AA", "AH", "ER", "IY", "AE"):
            again.keys.set_weights(frame, jawOpen=0.5)
    after = lip_aperture(again.complete().motion)
    times = (np.arange(len(after)) + 0.5) / again.fps
    for phone in again.alignment.phones:
        if phone.label in ("P", "B", "M"):
            near = (times > phone.start - 0.06) & (times < phone.end + 0.04)
            assert after[near].min() < max(1.0, before[near].min() + 0.3), phone


def test_a_closure_itself_can_be_edited(again):
    frame = vowel_key(again, "M")
    again.keys.set_weights(frame, jawOpen=0.3, mouthClose=0.0)
    after = again.complete()
    assert lip_aperture(after.motion)[frame] > 4
    assert np.array_equal(after.weights[frame], again.keys.pose_vector(frame))


def test_keys_are_moved_pinned_and_removed(again):
    frame = vowel_key(again)
    pose = again.keys.nonzero_weights(frame)
    again.keys.move(frame, frame + 1)
    after = again.complete()
    assert after.keys.nonzero_weights(frame + 1) == pytest.approx(pose)
    assert frame not in after.keys
    # a pinned pose survives later edits
    low, high = beside(after.keys, frame + 1)
    after.keys.set_weights(low, jawOpen=0.5)
    third = after.complete()
    assert third.keys.nonzero_weights(frame + 1) == pytest.approx(pose)
    third.keys.remove(high)
    assert high not in third.complete().keys


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda k: k.set_weights(10**6, jawOpen=0.1), "frames 0 to"),
        (lambda k: k.set_weights(5, jawOpne=0.1), "jawOpne"),
        (lambda k: k.set_weights(5, jawOpen=1.5), "0 to 1"),
        (lambda k: k.set_weights(5, jawOpen=float("nan")), "0 to 1"),
        (lambda k: k.move(4, 5), "not a key"),
        (lambda k: k.remove(0), "first and last"),
        (lambda k: k.move(int(k.frames[3]), int(k.frames[4])), "already"),
    ],
)
def test_wrong_edits_are_refused(again, edit, said):
    again.keys._keys.pop(4, None)
    with pytest.raises(InputError, match=said):
        edit(again.keys)


def test_the_commands(kmtalk, tmp_path):
    """`kmtalk keys`, an edit of the file and `kmtalk complete`, from the sound and from the npz."""
    assert kmtalk("animate", SPEECH, "--text", SAID, "-o", "before.npz").returncode == 0
    assert kmtalk("keys", SPEECH, "--text", SAID, "-o", "keys.json").returncode == 0
    document = json.loads((tmp_path / "keys.json").read_text())
    edited = next(k for k in document["keys"] if k["phone"] == "AA")
    edited["weights"]["jawOpen"] = 0.55
    (tmp_path / "keys.json").write_text(json.dumps(document))
    for source, name in ((SPEECH, "a.npz"), ("before.npz", "b.npz")):
        done = kmtalk("complete", "keys.json", source, "-o", name)
        assert (done.returncode, done.stderr) == (0, "kmtalk: keys.json: keys: 1 changed\n")
    with np.load(tmp_path / "before.npz") as z:
        jaw, before = z["shape_names"].tolist().index("jawOpen"), z["weights"]
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        assert a["weights"][edited["frame"], jaw] == np.float32(0.55)
        assert np.abs(a["weights"] - b["weights"]).max() < 1e-4
        far = np.abs(np.arange(len(before)) - edited["frame"]) > 60
        assert np.abs(a["weights"] - before)[far].max() < 1e-4
        assert a["key_pinned"].sum() == 1


def test_an_unedited_file_completes_to_the_same(kmtalk, tmp_path):
    assert kmtalk("keys", SPEECH, "--text", SAID, "--template", FACE, "-o", "k.json").returncode == 0
    done = kmtalk("complete", "k.json", SPEECH, "--template", FACE, "-o", "same.npz")
    assert done.returncode == 0
    assert done.stderr == "kmtalk: k.json: no key was edited\n"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda d: d["keys"][3]["weights"].update(jawOpen=1.5), "0 to 1"),
        (lambda d: d["keys"][3]["weights"].update(jawWide=0.5), "jawWide"),
        (lambda d: d["keys"][3].update(frame=9999), "9999"),
        (lambda d: d["keys"][3].update(frame=d["keys"][4]["frame"], time=None), "two keys"),
        (lambda d: d["keys"][3].update(frame=d["keys"][4]["frame"]), "two keys"),  # moved onto another, with its time
        (lambda d: d["keys"][3].update(time=9.9), "another frame"),
        (lambda d: d.pop("fps"), "fps"),
        (lambda d: d.update(keys=[]), "keys"),
        (lambda d: d["keys"][3].update(wieghts={}), "wieghts"),
        (
            lambda d: d.update(frames=12, keys=d["keys"][:1], original_frames=[], phones=[], words=[], word_scores=[]),
            "12 frames",
        ),
    ],
)
def test_a_wrong_file_is_one_line(talk, spoken, tmp_path, wrong, named):
    from kmtalk.exchange.keys_json import write_keys

    path = tmp_path / "keys.json"
    write_keys(
        path,
        spoken.motion,
        KeyMotions(locate_key_frames(spoken.alignment, len(spoken.motion), 30.0), spoken.motion),
        spoken.alignment,
        Provenance(),
        spoken.audio,
    )
    document = json.loads(path.read_text())
    wrong(document)
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=named) as refusal:
        talk.load_key_edits(path, SPEECH)
    assert "keys.json" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_another_systems_motion_is_keyed_and_completed(kmtalk, talk, again, tmp_path):
    """--import-motion with rule-based motion as the other system: its poses are reproduced at every key."""
    other = talk.animate(SPEECH, textgrid=again.alignment, motion="rules", fps=25, expression=False)
    offsets = (other.vertices - other.template.vertices).reshape(len(other.motion), -1)
    np.save(tmp_path / "other.npy", offsets)
    done = kmtalk("keys", SPEECH, "--text", SAID, "--import-motion", "other.npy", "-o", "keys.json")
    assert done.returncode == 0, done.stderr
    missed = float(done.stderr.split("other.npy: ")[1].split(" mm")[0])
    assert missed < 0.3
    assert kmtalk("complete", "keys.json", SPEECH, "-o", "out.npz").returncode == 0
    made = talk.load(tmp_path / "out.npz")
    assert made.keys.pinned.all()
    times = made.keys.times
    truth, own = lip_aperture(other.motion), lip_aperture(made.motion)
    wanted = np.interp(times, (np.arange(len(truth)) + 0.5) / 25, truth)
    at_keys = own[made.keys.frames]
    assert np.corrcoef(wanted, at_keys)[0, 1] > 0.97
    plain = lip_aperture(again.motion)
    assert (
        np.corrcoef(truth, np.interp((np.arange(len(truth)) + 0.5) / 25, (np.arange(len(own)) + 0.5) / 30, own))[0, 1]
        > np.corrcoef(truth, np.interp((np.arange(len(truth)) + 0.5) / 25, (np.arange(len(plain)) + 0.5) / 30, plain))[
            0, 1
        ]
    )


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (lambda count: np.zeros((10, 30), np.float32), "vertex order"),
        (lambda count: np.zeros((3, count, 3), np.float32), "--import-fps"),
        (lambda count: np.full((315, count, 3), np.nan, np.float32), "finite"),
        (lambda count: np.array([{"a": 1}], dtype=object), "not a .npy"),
    ],
)
def test_other_motion_that_does_not_fit(talk, again, tmp_path, array, named):
    np.save(tmp_path / "x.npy", array(len(again.template.vertices)), allow_pickle=True)
    with pytest.raises(InputError, match=named):
        talk.import_key_motions(again, tmp_path / "x.npy")


@pytest.mark.parametrize("fps", [24, 30, 25])
def test_phones_on_frames_survive_the_file(talk, spoken, tmp_path, fps):
    """Phone boundaries exactly on frames, as in hand-made TextGrids: an unedited key file pins nothing."""
    snapped = Alignment(
        tuple(Phone(p.label, round(p.start * fps) / fps, round(p.end * fps) / fps) for p in spoken.alignment.phones),
        status="given",
    )
    snapped = Alignment(tuple(p for p in snapped.phones if p.end - p.start > 0.5 / fps), status="given")
    made = talk.animate(SPEECH, textgrid=snapped, fps=fps)
    made.save(tmp_path / "out", formats="csv")
    assert not talk.load_key_edits(tmp_path / "out" / "keys.json", SPEECH).keys.pinned.any()


def test_an_edit_is_not_lost_nor_made_twice(again, talk, tmp_path):
    """Removed and added keys give the same completion whenever the animation is saved and loaded between."""
    frame = vowel_key(again)
    again.keys.remove(beside(again.keys, frame)[1])
    again.keys.set_weights(frame, jawOpen=0.5)
    again.save(tmp_path / "pending.npz")
    done = again.complete()
    later = talk.load(tmp_path / "pending.npz").complete()
    assert np.array_equal(later.weights, done.weights)
    done.save(tmp_path / "done", formats="npz")
    twice = talk.complete(talk.load_key_edits(tmp_path / "done" / "keys.json", tmp_path / "done" / "animation.npz"))
    assert np.abs(twice.weights - done.weights).max() < 1e-4


def test_keys_of_another_face_or_sound_are_refused(again, talk, tone, tmp_path):
    again.save(tmp_path / "out", formats="csv")
    keys = tmp_path / "out" / "keys.json"
    other = tmp_path / "wider.obj"
    wider = replace(again.template, vertices=again.template.vertices * np.array([1.2, 1, 1], np.float32))
    write_obj(other, wider)
    with pytest.raises(InputError, match="--template"):
        talk.load_key_edits(keys, SPEECH, other)
    sound, rate = soundfile.read(SPEECH)
    soundfile.write(tmp_path / "other.wav", sound[::-1], rate)
    with pytest.raises(InputError, match="another sound"):
        talk.load_key_edits(keys, tmp_path / "other.wav")


def test_a_moved_line_needs_no_new_time(again, talk, tmp_path):
    again.save(tmp_path / "out", formats="csv")
    path = tmp_path / "out" / "keys.json"
    document = json.loads(path.read_text())
    entry = next(k for k in document["keys"] if k["phone"] == "AA")
    entry["frame"] += 1
    path.write_text(json.dumps(document))
    edits = talk.load_key_edits(path, SPEECH).keys.change_counts
    assert edits == {"changed": 0, "added": 1, "removed": 1}
