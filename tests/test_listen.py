"""Faces that listen, and dialogues: by rules, against what those rules promise and what is known of listeners."""

from __future__ import annotations

import json

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
import soxr
from characters import write_avatar
from conftest import SPEECH
from scipy.ndimage import binary_closing, gaussian_filter1d, label
from scipy.signal import find_peaks

from kmtalk import InputError, KMTalk, load_animation
from kmtalk.articulation.mouth_solver import MouthSolver
from kmtalk.cli.entry import app
from kmtalk.expression.layer import ExpressionSettings, expression_weights
from kmtalk.face.files.gltf_document import GltfDocument
from kmtalk.face.joints import EYE_DEGREES, HEAD_DEGREES
from kmtalk.face.motion import frame_times
from kmtalk.metrics import CLOSED_MM
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import SAMPLE_RATE, audio_from_samples, load_audio, rms_level
from kmtalk.speech.prosody import analyze_prosody

FPS = 30.0
FIRST = "Thank you for calling Super Awesome Company, Waldo's premier provider of perfect products."
SECOND = "If you know your party's extension, you may dial it at any time."
OPPOSITE = {"headPitchUp": "headPitchDown", "headYawLeft": "headYawRight", "headRollLeft": "headRollRight"}


@pytest.fixture(scope="module")
def said():
    """More than a minute of speech: the sample recording at six speeds, with pauses of several lengths."""
    samples = load_audio(SPEECH).samples
    parts = []
    for k, speed in enumerate((1.0, 0.9, 1.1, 0.95, 1.05, 1.15)):
        parts += [
            soxr.resample(samples, SAMPLE_RATE * speed, SAMPLE_RATE),
            np.zeros(int((0.3 + 0.15 * k) * SAMPLE_RATE)),
        ]
    return audio_from_samples(np.concatenate(parts).astype(np.float32), SAMPLE_RATE, "said")


@pytest.fixture(scope="module")
def listeners(talk, said):
    """Eight listeners to it."""
    return [talk.listen(said, "light", seed=seed) for seed in range(8)]


def curve(animation, name):
    return animation.weights[:, animation.motion.rig.index[name]].astype(float)


def rotation(animation, name="headPitchUp"):
    return HEAD_DEGREES * (curve(animation, name) - curve(animation, OPPOSITE[name]))


def gaze(animation):
    """Degrees (N,) to the left in space at which the left eye looks."""
    eye = EYE_DEGREES["Out"] * curve(animation, "eyeLookOutLeft") - EYE_DEGREES["In"] * curve(
        animation, "eyeLookInLeft"
    )
    return eye + rotation(animation, "headYawLeft")


def nods(animation):
    """Times at which the head is deepest in a first cycle of a nod."""
    pitch = rotation(animation)
    quick = pitch - gaussian_filter1d(pitch, 1.2 * animation.fps)
    deep = find_peaks(-quick, prominence=2.4, height=1.2)[0] / animation.fps
    return deep[np.diff(deep, prepend=-9.0) > 0.9]


def rates(animation):
    _, count = label(curve(animation, "eyeBlinkLeft") > 0.9)
    return 60 * count * animation.fps / len(animation.motion)


def pauses_of(audio):
    """Times at which pauses of 0.2 s and more begin, by level alone and from the whole clip."""
    level = rms_level(audio.samples)
    quiet = ~binary_closing(level > np.percentile(level, 95) - 25, np.ones(15))
    runs, count = label(quiet)
    starts = [np.flatnonzero(runs == k) for k in range(1, count + 1)]
    return np.array([0.01 * run[0] for run in starts if len(run) >= 20 and run[0] > 70])


def low_pitches_of(audio):
    """Times at which 110 ms of low pitch have been heard, from the whole clip."""
    prosody = analyze_prosody(audio.samples)
    voiced = prosody.voiced > 0.5
    low = voiced & (prosody.pitch_semitones < np.percentile(prosody.pitch_semitones[voiced], 26))
    runs, count = label(low)
    starts = [np.flatnonzero(runs == k) for k in range(1, count + 1)]
    return np.array([0.01 * run[0] + 0.11 for run in starts if len(run) >= 11])


def share_after(times, causes, least, most):
    """Share of times that come between `least` and `most` seconds after a cause."""
    wait = times[:, None] - causes
    return float(((wait > least) & (wait < most)).any(1).mean())


def test_nods_come_after_pauses_and_low_pitch_and_not_at_random(talk, said, listeners):
    pauses, lows = pauses_of(said), low_pitches_of(said)
    assert len(pauses) >= 8 and len(lows) >= 15
    rng = np.random.default_rng(0)
    made = [nods(one) for one in listeners]
    assert all(6 <= 60 * len(times) / said.duration <= 26 for times in made)

    def shares(trains):
        return np.array(
            [
                share_after(np.concatenate(trains), pauses, 0.3, 1.3),
                share_after(np.concatenate(trains), np.concatenate([pauses - 0.3, lows]), 0.7, 1.5),
            ]
        )

    def excess(trains):
        """In standard deviations of trains of nods that were moved at random."""
        moved = [shares([(t + rng.uniform(3, said.duration - 3)) % said.duration for t in trains]) for _ in range(200)]
        return (shares(trains) - np.mean(moved, axis=0)) / np.std(moved, axis=0)

    assert (excess(made) > 5).all()
    reverse = audio_from_samples(said.samples[::-1].copy(), SAMPLE_RATE)
    others = [nods(talk.listen(reverse, "light", seed=seed)) for seed in range(8)]
    assert (np.abs(excess(others)) < 3).all()  # those who listen to another sound do not nod after its cues


def test_nods_are_no_metronome(listeners):
    for one in listeners:
        assert np.diff(nods(one)).std() > 0.3 * np.diff(nods(one)).mean()
        depths = find_peaks(-rotation(one), prominence=2.0)[1]["prominences"]
        assert depths.std() > 0.15 * depths.mean()
        spectrum = np.abs(np.fft.rfft(rotation(one) - rotation(one).mean())) ** 2
        assert spectrum.max() < 0.2 * spectrum.sum()
    starts = [np.round(nods(one), 1).tolist() for one in listeners]
    assert len({tuple(times) for times in starts}) == len(starts)


@pytest.mark.parametrize("at", [2.0, 7.35, 23.1])
@pytest.mark.parametrize("then", ["silence", "noise", "end", "louder"])
def test_a_listener_knows_nothing_of_what_comes(talk, said, listeners, at, then):
    samples, cut = said.samples.copy(), int(at * SAMPLE_RATE)
    if then == "end":
        samples = samples[:cut]
    else:
        rng, rest = np.random.default_rng(1), samples[cut:]
        samples[cut:] = {"silence": 0 * rest, "noise": rng.normal(0, 0.1, len(rest)), "louder": 1.4 * rest}[then]
    other = talk.listen(audio_from_samples(samples, SAMPLE_RATE), "light")
    frames = int(at * FPS)
    assert np.array_equal(other.weights[:frames], listeners[0].weights[:frames])
    if then in ("silence", "noise"):
        assert np.abs(other.weights[frames:] - listeners[0].weights[frames:]).max() > 0.05


def test_a_quiet_recording_is_answered_as_a_loud_one(talk, said, listeners):
    quiet = talk.listen(audio_from_samples(said.samples * 0.2, SAMPLE_RATE), "light")
    apart = np.abs(nods(quiet)[:, None] - nods(listeners[0])).min(axis=1)
    assert len(nods(quiet)) == pytest.approx(len(nods(listeners[0])), rel=0.2) and (apart < 0.1).mean() > 0.8


def test_listeners_blink_less_than_speakers(talk, said, listeners):
    times = frame_times(len(listeners[0].motion), FPS)
    prosody = analyze_prosody(said.samples)
    speaking = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        weights = expression_weights(talk.rig, Alignment(), prosody, times, ExpressionSettings(), rng)
        speaking.append(60 * label(weights[:, talk.rig.index["eyeBlinkLeft"]] > 0.9)[1] / times[-1])
    listening = [rates(one) for one in listeners]
    assert 12 <= np.mean(listening) <= 23
    assert np.mean(listening) < 0.85 * np.mean(speaking)
    for one in listeners:
        _, count = label(curve(one, "eyeBlinkLeft") > 0.95)
        assert count == label(curve(one, "eyeBlinkLeft") > 0.05)[1]  # each one closes, and opens before the next


def test_listeners_look_at_the_other_more_than_speakers_do(talk, said, listeners):
    def looking(directions):
        return float(np.mean([np.abs(d) < 3 for d in directions]))

    times, prosody = frame_times(len(listeners[0].motion), FPS), analyze_prosody(said.samples)
    speaking = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        weights = expression_weights(talk.rig, Alignment(), prosody, times, ExpressionSettings(gaze="wander"), rng)
        index = talk.rig.index
        yaw = HEAD_DEGREES * (weights[:, index["headYawLeft"]] - weights[:, index["headYawRight"]])
        out, into = weights[:, index["eyeLookOutLeft"]], weights[:, index["eyeLookInLeft"]]
        speaking.append(EYE_DEGREES["Out"] * out - EYE_DEGREES["In"] * into + yaw)
    share = looking([gaze(one) for one in listeners])
    assert 0.7 <= share <= 0.85
    assert looking(speaking) < share - 0.1
    assert looking([gaze(talk.listen(said, "light", gaze="camera"))]) > 0.98


def test_the_head_is_calmer_than_a_speakers_and_never_still(talk, said, listeners):
    times, rng = frame_times(len(listeners[0].motion), FPS), np.random.default_rng(0)
    prosody = analyze_prosody(said.samples)
    weights = expression_weights(talk.rig, Alignment(), prosody, times, ExpressionSettings(), rng)
    for up, down in OPPOSITE.items():
        spoken = HEAD_DEGREES * (weights[:, talk.rig.index[up]] - weights[:, talk.rig.index[down]])
        for one in listeners:
            turned = rotation(one, up)
            assert 0.15 * spoken.std() < turned.std() < spoken.std()
            assert np.median(np.abs(np.diff(turned))) < 0.7 * np.median(np.abs(np.diff(spoken)))
            assert np.abs(np.diff(turned)).max() * FPS < 90
    for one in listeners:
        pitch = rotation(one)
        seconds = pitch[: len(pitch) // 30 * 30].reshape(-1, 30)
        assert np.ptp(seconds, axis=1).min() > 0.03


def test_factors_and_seed(talk, said, listeners):
    again = talk.listen(said, "light", seed=3)
    assert np.array_equal(again.weights, listeners[3].weights)
    none, often = (talk.listen(said, "light", nod=amount) for amount in (0, 2))
    assert len(nods(none)) < 0.3 * len(nods(listeners[0])) < len(nods(listeners[0])) < len(nods(often))
    still = talk.listen(said, "light", nod=0, head=0)
    assert not rotation(still).any() and rates(still) > 8
    assert np.array_equal(gaze(still) - rotation(still, "headYawLeft"), gaze(still))
    mouth = [k for name, k in again.motion.rig.index.items() if name.startswith(("jaw", "mouth", "tongue"))]
    assert not again.weights[:, mouth].any()


def test_brows_rise_after_a_rise_of_the_pitch(talk):
    """A voice of harmonics with two phrases: one ends high, one ends low."""
    time = np.arange(int(8.5 * SAMPLE_RATE)) / SAMPLE_RATE

    def voice(end):
        pitch = np.interp(time, [0.5, 1.0, 2.6, 3.0, 5.0, 5.5, 7.0], [150, 160, 140, end, 150, 160, 110])
        phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
        tone = sum(np.sin(k * phase) / k for k in range(1, 12))
        spoken = ((time > 0.5) & (time < 3.0)) | ((time > 5.0) & (time < 7.0))
        loud = gaussian_filter1d(spoken * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time)), 200)
        return audio_from_samples((0.2 * loud * tone).astype(np.float32), SAMPLE_RATE)

    times, raised = frame_times(int(8.5 * FPS), FPS), {}
    for end in (120, 220):
        brows = [curve(talk.listen(voice(end), "light", nod=0, seed=seed), "browInnerUp") for seed in range(6)]
        after = (times > 3.2) & (times < 4.6)
        raised[end] = np.mean([b[after].max() > 0.2 for b in brows])
        assert max(b[times < 3.2].max() for b in brows) == 0
    assert raised[120] == 0 and raised[220] >= 0.6


def test_smiles_are_answered_later_and_weaker(talk, spoken, tmp_path):
    cues = tmp_path / "smile.json"
    cues.write_text(
        json.dumps([{"time": 3.0, "name": "happy", "amount": 0.9}, {"time": 6.5, "name": "happy", "amount": 0}])
    )
    other = talk.animate(SPEECH, "light", textgrid=spoken.alignment, emotion=str(cues), fps=25)
    other.save(tmp_path / "other.npz")
    answer = talk.listen(SPEECH, "light", other_face=tmp_path / "other.npz")

    def edges(animation):
        smile = curve(animation, "mouthSmileLeft")
        above = np.flatnonzero(smile > 0.5 * smile.max()) / animation.fps
        return above[0], above[-1], smile.max()

    (begun, ended, most), (later, last, less) = edges(other), edges(answer)
    assert 0.4 < later - begun < 1.3 and 0.4 < last - ended < 1.5
    assert 0.35 * most < less < 0.7 * most
    assert curve(answer, "cheekSquintLeft").max() > 0.2
    unseen = talk.listen(SPEECH, "light")
    assert not curve(unseen, "mouthSmileLeft").any()
    assert np.array_equal(rotation(answer), rotation(unseen))
    assert not curve(talk.listen(SPEECH, "light", other_face=other, smile=0), "mouthSmileLeft").any()
    assert not curve(talk.listen(SPEECH, "light", other_face=spoken), "mouthSmileLeft").any()  # speech is no smile
    before = answer.weights[: int(3.0 * FPS)]
    assert np.array_equal(before, unseen.weights[: len(before)])
    own = talk.listen(SPEECH, "light", other_face=other, emotion="happy:0.9")
    assert curve(own, "mouthSmileLeft").max() == pytest.approx(0.9 * 0.85, abs=0.01)  # it is filled up, not added


def test_a_listeners_file_plays_the_other_and_can_be_edited(talk, tmp_path):
    made = talk.listen(SPEECH)
    made.save(tmp_path / "out", formats="npz,glb,csv", video=False)
    sound, rate = soundfile.read(tmp_path / "out" / "speech.wav")
    assert np.abs(sound).max() > 0.1 and len(sound) / rate == pytest.approx(len(made.motion) / FPS, abs=0.02)
    loaded = talk.load(tmp_path / "out" / "animation.npz")
    assert loaded.provenance == made.provenance and loaded.provenance.reaction == {"nod": 1.0, "smile": 1.0}
    frame = int(loaded.keys.frames[30])
    loaded.keys.set_weights(frame, mouthSmileLeft=0.5)
    completed = loaded.complete()
    assert curve(completed, "mouthSmileLeft")[frame] == pytest.approx(0.5)
    assert not curve(completed, "jawOpen").any()  # the other's speech moves no listener's mouth
    with pytest.raises(InputError, match=r"keys\.json: belongs to a face of a conversation"):
        talk.load_key_edits(tmp_path / "out" / "keys.json", SPEECH)


def test_a_character_nods_on_its_bone(talk, rig, tmp_path):
    write_avatar(tmp_path / "anna.glb", rig)
    listening = talk.listen(SPEECH, tmp_path / "anna.glb", nod=1.5)
    listening.save(tmp_path / "out.glb")
    document = GltfDocument.load(tmp_path / "out.glb").json
    targets = [channel["target"] for channel in document["animations"][-1]["channels"]]
    turned = {document["nodes"][t["node"]]["name"] for t in targets if t["path"] == "rotation"}
    assert {"Head", "Neck"} <= turned
    assert np.ptp(rotation(listening)) > 4


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Two files: the two sentences of the sample recording; and one file with them in its channels, in turn."""
    folder = tmp_path_factory.mktemp("sounds")
    samples, rate = soundfile.read(SPEECH)
    cut = int(6.4 * rate)
    soundfile.write(folder / "a.wav", samples[:cut], rate)
    soundfile.write(folder / "b.wav", soxr.resample(samples[cut:], rate, 22050), 22050)
    call = np.zeros((len(samples), 2))
    call[:cut, 0], call[cut:, 1] = samples[:cut], samples[cut:]
    soundfile.write(folder / "call.wav", call, rate)
    return folder


@pytest.fixture(scope="module")
def pair(talk, sounds):
    return talk.dialogue(
        sounds / "a.wav", sounds / "b.wav", text=f"[happy:0.8] {FIRST} [neutral]", second_text=SECOND, offset=6.4
    )


def apertures(talk, animation):
    """Lip opening (N,) in mm."""
    return MouthSolver(talk.rig).measure(animation.weights).lip_channels[:, 0]


def test_each_speaks_with_its_voice_and_listens_to_the_other(talk, pair):
    first, second = pair.first, pair.second
    assert len(first.motion) == len(second.motion) == round(10.5 * FPS) and first.fps == second.fps
    times = frame_times(len(first.motion), FPS)
    opened = apertures(talk, first), apertures(talk, second)
    early, late = (times > 0.3) & (times < 6.0), (times > 7.0) & (times < 10.2)
    assert opened[0][early].std() > 1.0 and opened[1][late].std() > 1.0
    assert opened[0][late].max() < CLOSED_MM and opened[1][early].max() < CLOSED_MM
    assert first.alignment.phones[-1].end < 6.6 and second.alignment.phones[0].start > 6.3
    speed = [np.median(np.abs(np.diff(rotation(a)[when]))) for a, when in
             ((first, early), (first, late), (second, late), (second, early))]  # fmt: skip
    assert speed[0] > 1.5 * speed[1] and speed[2] > 1.5 * speed[3] and min(speed) > 0
    for one in (first, second):
        turned = np.stack([rotation(one, name) for name in OPPOSITE])
        assert np.abs(np.diff(turned)).max() * FPS < 100  # the two layers fade into each other
    assert curve(second, "mouthSmileLeft")[times < 6.0].max() > 0.2  # the first one's smile is answered
    assert np.abs(rotation(first) - rotation(second)).mean() > 0.5


def test_two_files_and_two_channels_are_the_same(talk, sounds, pair):
    one = talk.dialogue(sounds / "call.wav", text=f"[happy:0.8] {FIRST} [neutral]", second_text=SECOND)
    for made, other in ((one.first, pair.first), (one.second, pair.second)):
        assert made.audio.original.shape[1] == other.audio.original.shape[1] == 2
        assert len(made.motion) == len(other.motion)
    again = talk.dialogue(sounds / "call.wav", text=f"[happy:0.8] {FIRST} [neutral]", second_text=SECOND)
    assert np.array_equal(one.first.weights, again.first.weights)
    assert np.array_equal(one.second.weights, again.second.weights)


def test_a_dialogue_is_two_folders_and_a_film(pair, tmp_path):
    written = pair.save(tmp_path / "out", size="160", formats="npz,glb")
    assert tmp_path / "out" / "dialogue.mp4" in written
    for name, made in (("first", pair.first), ("second", pair.second)):
        loaded = load_animation(tmp_path / "out" / name / "animation.npz")
        assert np.array_equal(loaded.weights, made.weights)
        assert loaded.audio.channel == made.audio.channel and not loaded.audio.is_silent
        assert np.allclose(loaded.audio.samples, made.audio.samples, atol=1e-3)
    frames = imageio_ffmpeg.read_frames(str(tmp_path / "out" / "dialogue.mp4"))
    meta = next(frames)
    assert meta["size"] == (320, 160) and meta["audio_codec"] == "aac"
    film = np.stack([np.frombuffer(f, np.uint8).reshape(160, 320, 3) for f in frames]).astype(float)
    assert len(film) == len(pair.first.motion)
    change = np.abs(np.diff(film, axis=0))
    for half in (change[:, :, :160], change[:, :, 160:]):  # each of the two moves, before and after the turn
        assert half[: int(6 * FPS)].mean() > 0.1 and half[int(7 * FPS) :].mean() > 0.1
    # the one who speaks moves its mouth more: the lower middle of its half
    mouths = [change[:, 85:125, x : x + 60].mean(axis=(1, 2, 3)) for x in (40, 200)]
    assert mouths[0][: int(6 * FPS)].mean() > mouths[1][: int(6 * FPS)].mean()
    assert mouths[1][int(7 * FPS) :].mean() > mouths[0][int(7 * FPS) :].mean()


def test_a_silent_one_only_listens_and_talking_at_once_is_said(sounds, tmp_path):
    lines = []
    talk = KMTalk(warn=lines.append)
    soundfile.write(tmp_path / "quiet.wav", np.zeros(8000), 16000)
    made = talk.dialogue(sounds / "a.wav", tmp_path / "quiet.wav", "light", text=FIRST, motion="rules")
    assert len(lines) == 1 and "quiet.wav" in lines[0] and "only listens" in lines[0]
    assert not curve(made.second, "jawOpen").any() and rotation(made.second).std() > 0.3
    lines.clear()
    talk.dialogue(sounds / "a.wav", sounds / "b.wav", "light", text=FIRST, second_text=SECOND, motion="rules")
    assert len(lines) == 1 and "both speak at once" in lines[0] and "--offset" in lines[0]
    plain = talk.dialogue(
        sounds / "a.wav", sounds / "b.wav", "light", text=FIRST, second_text=SECOND, motion="rules", expression=False,
        offset=6.4,
    )  # fmt: skip
    assert not rotation(plain.first).any() and curve(plain.first, "jawOpen").any()


@pytest.mark.parametrize("kind", ["silent", "noise", "tone"])
def test_without_speech_it_says_so_and_stays_alive(kind, tmp_path):
    time, rng = np.arange(10 * SAMPLE_RATE) / SAMPLE_RATE, np.random.default_rng(0)
    samples = {"silent": 0 * time, "noise": rng.normal(0, 0.1, len(time)), "tone": 0.3 * np.sin(2765 * time)}[kind]
    lines = []
    made = KMTalk(warn=lines.append).listen(audio_from_samples(samples, SAMPLE_RATE, f"{kind}.wav"), "light")
    assert lines == [f"{kind}.wav: no speech found in the sound: the face stays idle and does not react"]
    assert 0.2 < rotation(made).std() < 1.5 and rates(made) > 5


BAD = {
    "no file": (["listen", "missing.wav"], "missing.wav: no such file"),
    "no sound": (["listen", "text.wav"], "text.wav: cannot be decoded"),
    "no animation": (["listen", "a.wav", "--other-face", "a.wav"], "a.wav: not an animation.npz"),
    "another clip's": (["listen", "a.wav", "--other-face", "other.npz"], "other.npz: lasts 1.00 s, a.wav 2.00 s"),
    "no smiles": (["listen", "a.wav", "--other-face", "shapeless.npz"], "shapeless.npz: has no shapes mouthSmileLeft"),
    "too much": (["listen", "a.wav", "--nod", "3"], "nod 3"),
    "gain": (["listen", "a.wav", "--gain", "smirk=2"], "gain smirk"),
    "vrm": (["listen", "a.wav", "-o", "out.vrm"], "out.vrm: only a character of a .vrm file"),
    "one channel": (["dialogue", "a.wav"], "a.wav: has 1 channel; a dialogue in one sound has two"),
    "same channels": (["dialogue", "dual.wav"], "dual.wav: its two channels are the same"),
    "no offset": (["dialogue", "call.wav", "--offset", "2"], "offset 2: is for two sounds"),
    "negative": (["dialogue", "a.wav", "a.wav", "--offset", "-2"], "offset -2"),
    "second missing": (["dialogue", "a.wav", "missing.wav"], "missing.wav: no such file"),
    "second mesh": (["dialogue", "a.wav", "a.wav", "--second-template", "no.obj"], "no.obj: template not found"),
    "one file": (["dialogue", "a.wav", "a.wav", "-o", "out.glb"], "out.glb: a dialogue is written to a folder"),
    "large": (["dialogue", "a.wav", "a.wav", "--size", "8000x100"], "size 8000x100: two pictures"),
    "input": (["dialogue", "call/first/speech.wav", "a.wav", "-o", "call"], "call/first/speech.wav: is an input"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_said_in_one_line(case, talk, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    two = rng.normal(0, 0.1, (32000, 2))
    (tmp_path / "call" / "first").mkdir(parents=True)
    for name, samples in (("a", two[:, 0]), ("dual", two[:, [0, 0]]), ("call", two), ("call/first/speech", two[:, 0])):
        soundfile.write(f"{name}.wav", samples, 16000)
    (tmp_path / "text.wav").write_text("no sound")
    if case == "another clip's":
        talk.listen(audio_from_samples(np.zeros(16000), 16000), "light").save("other.npz")
    if case == "no smiles":
        rest = talk.rig.template.vertices
        np.save("motion.npy", np.repeat(rest[None], 60, axis=0))
        talk.from_vertices("motion.npy", talk.rig.template, "a.wav", 30.0).save("shapeless.npz")
    before = {*tmp_path.rglob("*")}
    capfd.readouterr()
    arguments, message = BAD[case]
    if case not in ("vrm", "one file", "large", "input"):  # without a video none waits for OpenGL
        arguments = [*arguments, "--no-video"]
    assert app(arguments, standalone_mode=False) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and message in said
    assert {*tmp_path.rglob("*")} == before


def test_the_commands_write_what_animate_writes(sounds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not app(["listen", str(sounds / "a.wav"), "--size", "96", "-o", "out"], standalone_mode=False)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"animation.npz", "animation.glb", "animation.mp4", "speech.wav", "keys.json", "speech.TextGrid"} <= names
    frames = imageio_ffmpeg.read_frames("out/animation.mp4")
    assert next(frames)["audio_codec"] == "aac"
    film = np.stack([np.frombuffer(f, np.uint8) for f in frames]).astype(float)
    assert np.abs(np.diff(film, axis=0)).mean() > 0.1
