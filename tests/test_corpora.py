from __future__ import annotations

import shutil

import numpy as np
import pytest
import soundfile
from conftest import SHARED, needs_shared, phones

from kmtalk import metrics
from kmtalk.articulation.mouth_solver import MouthSolver
from kmtalk.articulation.speaker import SimulatedSpeaker
from kmtalk.corpora import augmentation
from kmtalk.corpora.folder import load_rig_folder
from kmtalk.corpora.grid import FPS, fit_rig_to_tracking, held_out_clip_names, load_tracked_grid
from kmtalk.corpora.simulated import build_simulated_corpus, load_simulated_corpus
from kmtalk.errors import InputError
from kmtalk.face.motion import frame_times
from kmtalk.face.mouth import LIP_CHANNELS
from kmtalk.speech.audio import SAMPLE_RATE, rms_level
from kmtalk.synthesis.voices import VOICES, install_command, synthesize


@pytest.fixture(scope="module")
def simulated(tmp_path_factory, light_rig):
    folder = tmp_path_factory.mktemp("simulated")
    build_simulated_corpus(folder, light_rig, clips=30, seed=3)
    return folder


@pytest.mark.parametrize("voice", VOICES, ids=lambda v: v.display_name)
def test_a_voice_tells_its_own_phones(voice):
    missing = install_command(voice)
    if missing:
        pytest.skip(missing)
    text = {"en": "My papa may buy a map.", "de": "Mama backt Brot.", "ru": "Мама мыла раму."}
    audio, alignment = synthesize(voice, text.get(voice.language, "Mama, papa."))
    assert 0.4 < audio.duration < 5
    assert 6 <= len(alignment.phones) <= 20
    assert all(a.end <= b.start + 1e-6 for a, b in zip(alignment.phones, alignment.phones[1:], strict=False))
    assert alignment.phones[-1].end <= audio.duration + 0.05
    # vowels are louder than the closures of p b m and than the silence around the speech
    level = rms_level(audio.samples)
    vowel = [p for p in alignment.phones if p.label.lower().rstrip("012ː")[:1] in "aeiouæɑɐəɛɪ"]
    inside = np.mean([level[int((p.start + p.end) * 50)] for p in vowel])
    assert inside > np.percentile(level, 30) + 3


@pytest.mark.parametrize("kind", augmentation.AUGMENTATIONS)
def test_changed_speech_keeps_its_times(kind):
    """Four bursts labelled as phones: augmentation moves the labels with the bursts."""
    t = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    spans = [(0.3 + 0.4 * k, 0.45 + 0.4 * k) for k in range(4)]
    gate = sum(((t >= a) & (t < b)).astype(float) for a, b in spans)
    samples = (0.3 * gate * np.sign(np.sin(2 * np.pi * 150 * t))).astype(np.float32)
    marked = phones(*[("AA", a, b) for a, b in spans])
    change = augmentation.AUGMENTATIONS[kind][0]
    for seed in range(3):
        out, times = change(samples, marked, np.random.default_rng(seed))
        level = rms_level(out.astype(np.float32))
        assert not np.array_equal(out[: len(samples)], samples[: len(out)])
        for p in times.phones:
            burst = level[int((p.start + 0.03) * 100) : int((p.end - 0.03) * 100)].mean()
            gap = level[int((p.start - 0.08) * 100) : int((p.start - 0.03) * 100)].mean()
            assert burst > gap + 6


def test_a_simulated_corpus_pairs_sound_with_a_mouth_that_closes(simulated, light_rig):
    clips = load_simulated_corpus(simulated, light_rig)
    assert len(clips) >= 20
    assert len({c.alignment.aligner for c in clips}) >= 4
    assert {c.source for c in clips} == {"simulated"}
    solver = MouthSolver(light_rig)
    least = []
    for clip in clips:
        assert abs(len(clip.load_samples()) / SAMPLE_RATE - len(clip.weights) / clip.fps) < 0.1
        least += metrics.minimum_apertures(solver.measure(clip.weights).lip_channels, clip.alignment, clip.fps)
    assert len(least) > 30
    assert np.mean(np.array(least) < metrics.CLOSED_MM) > 0.98
    muted = [c for c in clips if c.alignment.aligner == "none"]
    assert muted and not any(c.weights.any() for c in muted)


def test_the_same_seed_makes_the_same_corpus(kmtalk, tmp_path):
    for name in ("one", "two"):
        assert kmtalk("corpus", "build", "simulated", "-o", name, "--clips", 24, "--seed", 5).returncode == 0
    one, two = (
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in ("one", "two")
    )
    assert len(one) > 40
    assert one == two


def test_a_torn_corpus_is_refused(simulated, light_rig, tmp_path):
    torn = tmp_path / "torn"
    shutil.copytree(simulated, torn)
    next((torn / "audio").iterdir()).unlink()
    with pytest.raises(InputError, match="the audio of clip .* is missing"):
        load_simulated_corpus(torn, light_rig)
    with pytest.raises(InputError, match="not a simulated corpus"):
        load_simulated_corpus(tmp_path, light_rig)
    mixed = tmp_path / "mixed"
    shutil.copytree(simulated, mixed)
    path = sorted((mixed / "audio").iterdir())[0]
    soundfile.write(path, np.zeros(20 * SAMPLE_RATE), SAMPLE_RATE)
    with pytest.raises(InputError, match="check that they belong together"):
        load_simulated_corpus(mixed, light_rig)[0].load_samples()


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize(("name", "folder", "step"), [("s1", "grid", 40), ("s4", "grid_s4", 5)])
def test_tracked_lips_are_met_on_the_rig_and_contacts_kept(light_rig, name, folder, step):
    speaker, solver = SimulatedSpeaker(light_rig), MouthSolver(light_rig)
    real, made, least, pauses = [], [], [], []
    clips = [c for i, c in enumerate(load_tracked_grid(SHARED / "data" / folder, name)) if i % step == 1]
    for clip in clips:
        weights = fit_rig_to_tracking(clip, speaker).weights
        fitted = solver.measure(weights).lip_channels
        pausing = ~clip.alignment.utterance_mask(frame_times(len(fitted), FPS))
        pauses.append(np.median(fitted[pausing, 0]))
        count = min(len(fitted), len(clip.mouth_measurements))
        real.append(clip.mouth_measurements[:count][clip.utterance_mask[:count]])
        made.append(fitted[:count][clip.utterance_mask[:count]])
        least += metrics.minimum_apertures(fitted, clip.alignment, 25.0)
    a, b = np.concatenate(real), np.concatenate(made)
    for k, channel in enumerate(LIP_CHANNELS):
        assert np.corrcoef(a[:, k], b[:, k])[0, 1] > 0.87, channel
    wide = a[:, 0] > 8
    assert np.abs(a[wide, 2:4].mean(0) - b[wide, 2:4].mean(0)).max() < 0.5  # the lips share an opening as they do
    assert np.mean(np.array(least) < metrics.CLOSED_MM) > 0.97
    assert np.median(pauses) < 0.5  # speaker 4 opens her mouth in some
    assert b[:, 0].min() >= 0


@needs_shared
@pytest.mark.slow
def test_curves_of_animators_move_the_rig_with_the_sound(kmtalk, tmp_path, light_rig):
    """One of FACEGOOD's takes: lips meet at p and m, round at u, and the jaw opens at a."""
    given = SHARED / "data" / "facegood"
    source = tmp_path / "facegood"
    (source / "audio").mkdir(parents=True)
    with np.load(given / "curves.npz") as file:
        arrays = dict(file)
    take = len(arrays["clip"]) - 1
    span = slice(arrays["start"][take], arrays["start"][take + 1])
    name = str(arrays["clip"][take])
    shutil.copy(given / "audio" / f"{name}.flac", source / "audio")
    rows = arrays["values"][span]
    arrays |= {"clip": arrays["clip"][take:], "start": np.array([0, len(rows)]), "values": rows}
    np.savez(source / "curves.npz", **arrays)
    done = kmtalk("corpus", "build", "facegood", "--source", source, "-o", tmp_path / "corpus")
    assert done.returncode == 0, done.stderr
    clips = load_rig_folder(tmp_path / "corpus", light_rig)
    assert len(clips) >= 4 and {c.style for c in clips} == {"facegood"}
    solver, middle = MouthSolver(light_rig), {"P": [], "M": [], "AA": [], "UW": [], "IY": []}
    for clip in clips:
        clip.load_samples()  # as long as its motion
        mouth = solver.measure(clip.weights)
        times = frame_times(len(clip.weights), clip.fps)
        for phone in clip.alignment.phones:
            if phone.label in middle:
                n = int(np.abs(times - (phone.start + phone.end) / 2).argmin())
                middle[phone.label].append((mouth.aperture[n], mouth.width[n], mouth.protrusion[n], mouth.jaw[n]))
    mean = {label: np.mean(values, axis=0) for label, values in middle.items()}
    assert max(mean["P"][0], mean["M"][0]) < 2.5 < mean["IY"][0] < mean["AA"][0]
    assert mean["UW"][1] < mean["IY"][1] - 1 and mean["UW"][2] > mean["IY"][2] + 0.6
    assert mean["AA"][3] > 6
    refused = kmtalk("corpus", "build", "facegood", "--source", tmp_path, "-o", tmp_path / "none")
    assert refused.returncode == 2 and "not FACEGOOD" in refused.stderr and not (tmp_path / "none").exists()
    assert kmtalk("corpus", "build", "facegood", "-o", tmp_path / "none").returncode == 2


@needs_shared
def test_held_out_clips_are_a_third_of_one_speaker_and_two_fifths_of_the_other():
    names = [c.name for c in load_tracked_grid(SHARED / "data" / "grid")]
    assert held_out_clip_names("s1") == set(names[::3])
    names = [c.name for c in load_tracked_grid(SHARED / "data" / "grid_s4", "s4")]
    assert held_out_clip_names("s4") == set(names[1::5] + names[3::5])
