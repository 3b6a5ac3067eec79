"""The simulated corpus: speech of many voices with the motion of the simulated speaker.

Audio comes from synthetic voices, which report their own phones, and from recorded prompts in Debian packages, which
are aligned; motion comes from `kmtalk.articulation`. Every figure on this corpus is labelled simulated.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from kmtalk.array_files import load_arrays
from kmtalk.articulation.speaker import SimulatedSpeaker
from kmtalk.articulation.styles import SPEAKING_STYLES, SpeakingStyle
from kmtalk.assets import asset_path
from kmtalk.corpora.augmentation import augment, make_silence, pad_with_room_tone
from kmtalk.corpora.clip import Clip
from kmtalk.errors import InputError
from kmtalk.face.rig import Rig
from kmtalk.progress import Progress
from kmtalk.speech.alignment import Alignment, Phone
from kmtalk.speech.alignment_pipeline import AlignmentError
from kmtalk.speech.audio import SAMPLE_RATE, audio_from_samples, load_audio
from kmtalk.speech.espeak import espeak
from kmtalk.speech.phones import canonical_phone, split_ipa
from kmtalk.speech.pocketsphinx_aligner import PocketSphinxAligner
from kmtalk.synthesis.voices import VOICES, Voice, install_command, installed_voices, synthesize

DATA_SOURCE = "simulated"
MANIFEST_NAME = "corpus.json"
FORMAT_VERSION = 1
FRAME_RATES = (25.0, 30.0)
MAX_SECONDS = 9.0  # longest clip, in s
SILENT_SHARE = 0.04  # share of clips that are a muted microphone
UNAUGMENTED_SHARE = 0.35  # share of spoken clips without augmentation
NAMED_STYLE_SHARE = 0.6  # share of clips in a named style; the others are speakers drawn at random
POPULATION_STYLE = "population"
"""Style name of all speakers drawn at random; the network learns one style for them, their average."""

PROMPT_VOICES: dict[str, tuple[str, str]] = {
    "fr_CA_f_June": ("fr", "asterisk-core-sounds-fr"),
    "it_IT_m_Carlo": ("it", "asterisk-core-sounds-it"),
    "it_IT_f_Menardi": ("it", "asterisk-core-sounds-it"),
    "ru_RU_f_IvrvoiceRU": ("ru", "asterisk-core-sounds-ru"),
}
"""Recorded voices by folder of sounds, with their language and the Debian package that has the texts.

Allison Smith's recordings are excluded: the benchmarks use them as an unseen voice.
"""

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FORTUNES_DIR = Path("/usr/share/games/fortunes")
PROMPTS_DIR = Path("/usr/share/asterisk/sounds")
DOC_DIR = Path("/usr/share/doc")


@dataclass(frozen=True)
class _Utterance:
    """One utterance before augmentation: samples (S,) at `SAMPLE_RATE`, its phones, and the name of its voice."""

    samples: np.ndarray
    alignment: Alignment
    voice: str


def make_sentences(language: str, count: int, rng: random.Random) -> list[str]:
    """Return `count` sentences to synthesize, repeated where there are too few.

    They are those of data/simulated and, for English, spelled letters with digits and the sentences of Debian's
    fortunes packages where installed.

    Args:
        language: ISO 639-1 code.
        count: Number of sentences.
        rng: Random generator.

    Returns:
        The sentences.
    """
    rows = [
        line.split("\t") for line in asset_path("simulated/sentences.txt").read_text().splitlines() if line[:1] != "#"
    ]
    own = [text for row_language, text in rows if row_language == language]
    if language != "en":
        return [own[i % len(own)] for i in range(count)]
    sentences: set[str] = set()
    for path in sorted(FORTUNES_DIR.glob("*")) if FORTUNES_DIR.is_dir() else []:
        if path.suffix in (".dat", ".u8") or path.is_dir():
            continue
        for fortune in path.read_text("utf-8", "ignore").split("\n%\n"):
            for sentence in re.split(r"(?<=[.!?])\s+", " ".join(fortune.split())):
                if 25 < len(sentence) < 110 and re.fullmatch(r"[A-Za-z ,.'!?;-]+", sentence):
                    sentences.add(sentence)
    fortunes = sorted(sentences)
    rng.shuffle(fortunes)
    spelled = []
    for _ in range(count // 8):
        letters = rng.sample("abcdefghijklmnopqrstuvwxyz", 3)
        digits = rng.sample(DIGITS, 4)
        spelled.append(f"{', '.join(letters).upper()}, {' '.join(digits)}, {rng.choice(['now', 'please', 'again'])}.")
    pool = own + spelled
    pool += fortunes[: max(0, count - len(pool))]
    rng.shuffle(pool)
    return [pool[i % len(pool)] for i in range(count)]


def _align_prompts(folder: str, count: int, rng: random.Random, warn: Callable[[str], None]) -> Iterator[_Utterance]:
    """Yield up to `count` prompts of a recorded voice, aligned with the phones that espeak-ng gives for their texts."""
    language, package = PROMPT_VOICES[folder]
    document = DOC_DIR / package / f"core-sounds-{language}.txt.gz"
    needed = install_command(Voice("espeak", ""))
    if needed:
        warn(f"{folder} left out: {needed}")
        return
    if not (PROMPTS_DIR / folder).is_dir() or not document.is_file():
        warn(f"{folder} left out: apt-get install {package}-wav {package}")
        return
    texts = {}
    for line in gzip.decompress(document.read_bytes()).decode("utf-8", "replace").splitlines():
        name, colon, text = line.partition(":")
        if colon and not line.startswith(";"):
            texts[name.strip()] = text.strip()
    suitable = [
        n for n, t in sorted(texts.items()) if 15 < len(t) < 200 and not any(c.isdigit() or c in "([*#" for c in t)
    ]
    rng.shuffle(suitable)
    aligner = PocketSphinxAligner()
    aligned = 0
    for name in suitable:
        path = PROMPTS_DIR / folder / f"{name}.wav"
        if not path.is_file() or aligned >= count:
            continue
        audio = load_audio(path)
        phones = [[canonical_phone(p) for p in split_ipa(word)] for word in espeak().ipa_words(language, texts[name])]
        try:
            alignment = aligner.align_phones(audio, [p for p in phones if p])
        except AlignmentError:
            continue
        aligned += 1
        yield _Utterance(audio.samples, alignment, folder)


def _synthesize_utterances(
    voice: Voice, count: int, rng: random.Random, warn: Callable[[str], None]
) -> Iterator[_Utterance]:
    """Yield `count` sentences of a synthetic voice with random rate and pitch."""
    for text in make_sentences(voice.language, count, rng):
        varied = Voice(voice.engine, voice.name, voice.language, rng.uniform(0.85, 1.15), rng.uniform(0.7, 1.3))
        try:
            audio, alignment = synthesize(varied, text)
        except InputError as error:
            warn(f"one sentence left out: {error}")
            continue
        yield _Utterance(audio.samples, alignment, voice.display_name)


def build_simulated_corpus(
    folder: Path,
    rig: Rig,
    clips: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda line: None,
) -> int:
    """Build the simulated corpus from all installed voices.

    In a new process the same seed and the same installed voices give the same clips (synthesizers keep state from one
    sentence to the next).

    Args:
        folder: Folder of the corpus.
        rig: Rig to animate.
        clips: Approximate number of clips, over all voices.
        seed: Random seed.
        progress: Progress display.
        warn: Receives warnings, such as voices that are not installed.

    Returns:
        The number of clips.

    Raises:
        InputError: No synthetic voice is installed.
    """
    progress = progress or Progress()
    voices = installed_voices(VOICES, warn)
    if not voices:
        raise InputError("no synthetic voice is installed; run pip install espeakng-loader")
    speaker, rng = SimulatedSpeaker(rig), random.Random(seed)
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    (folder / "motion").mkdir(exist_ok=True)
    # relative number of clips by engine: voices built from recordings are more natural than formant synthesis
    share = {"piper": 5.0, "flite": 2.0, "festival": 1.5, "espeak": 0.7}
    recorded = [f for f in PROMPT_VOICES if (PROMPTS_DIR / f).is_dir()]
    total = sum(share[v.engine] for v in voices) + 2.0 * len(recorded)
    streams = [
        _synthesize_utterances(v, max(1, round(clips * share[v.engine] / total)), random.Random(rng.random()), warn)
        for v in voices
    ]
    streams += [_align_prompts(f, round(clips * 2.0 / total), random.Random(rng.random()), warn) for f in PROMPT_VOICES]
    rows: list[dict[str, object]] = []
    with progress.stage("corpus", clips) as advance:
        for stream in streams:
            for utterance in stream:
                rows.append(_write_clip(folder, len(rows), utterance, speaker, seed))
                advance(len(rows))
        for _ in range(max(1, round(SILENT_SHARE * len(rows)))):
            rows.append(_write_clip(folder, len(rows), None, speaker, seed))
    temporary = folder / (MANIFEST_NAME + ".part")
    manifest = {
        "version": FORMAT_VERSION,
        "source": DATA_SOURCE,
        "seed": seed,
        "names": list(rig.shape_names),
        "clips": rows,
    }
    temporary.write_text(json.dumps(manifest) + "\n")
    temporary.replace(folder / MANIFEST_NAME)
    return len(rows)


def _write_clip(
    folder: Path, number: int, utterance: _Utterance | None, speaker: SimulatedSpeaker, seed: int
) -> dict[str, object]:
    """Write one clip (None: silence) and return its row of the manifest."""
    rng = np.random.default_rng([seed, number])
    changes = "muted"
    if utterance is None:
        samples, alignment = make_silence(float(rng.uniform(2, 5)), rng), Alignment(status="silent")
    elif rng.random() < UNAUGMENTED_SHARE:
        samples, alignment, changes = utterance.samples, utterance.alignment, ""
    else:
        samples, alignment, changes = augment(utterance.samples, utterance.alignment, rng)
        if rng.random() < 0.5:
            samples, alignment = pad_with_room_tone(samples, alignment, rng)
    max_samples = int(MAX_SECONDS * SAMPLE_RATE)
    if len(samples) > max_samples:
        samples = samples[:max_samples]
        kept = tuple(p for p in alignment.phones if p.end <= MAX_SECONDS)
        alignment = Alignment(kept, status=alignment.status, aligner=alignment.aligner)
    samples = (samples / max(1.0, float(np.abs(samples).max(initial=0)))).astype(np.float32)
    fps = float(rng.choice(FRAME_RATES))
    name, style = POPULATION_STYLE, SpeakingStyle.from_seed(int(rng.integers(1 << 30)))
    if rng.random() < NAMED_STYLE_SHARE:
        name = str(rng.choice(sorted(SPEAKING_STYLES)))
        style = SPEAKING_STYLES[name]
    audio = audio_from_samples(samples, SAMPLE_RATE)
    weights = np.zeros((max(1, round(audio.duration * fps)), len(speaker.rig.shape_names)), np.float32)
    if utterance is not None:
        weights = speaker.mouth_weights(alignment, audio, fps, style, number).astype(np.float32)
    stem = f"{number:05d}"
    soundfile.write(folder / "audio" / f"{stem}.flac", samples, SAMPLE_RATE)
    np.savez_compressed(folder / "motion" / f"{stem}.npz", weights=np.round(weights * 65535).astype(np.uint16))
    return {
        "name": stem,
        "voice": utterance.voice if utterance else "none",
        "style": name,
        "fps": fps,
        "changes": changes,
        "phones": [[p.label, round(p.start, 4), round(p.end, 4)] for p in alignment.phones],
    }


def load_simulated_corpus(folder: Path, rig: Rig) -> list[Clip]:
    """Load the clips of a corpus made by `build_simulated_corpus`.

    Raises InputError where the folder has none, a clip is damaged, or it was made for another rig.
    """
    try:
        manifest = json.loads((folder / MANIFEST_NAME).read_text())
        version, names, rows = manifest["version"], tuple(manifest["names"]), manifest["clips"]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{folder}: not a simulated corpus ({error}); make one with kmtalk corpus build simulated"
        ) from None
    if version != FORMAT_VERSION or names != rig.shape_names:
        raise InputError(f"{folder}: was made for another rig or version of kmtalk; build it again")
    clips = []
    for row in rows:
        try:
            clips.append(_read_clip(folder, row, len(names)))
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{folder}: clip {row} is damaged ({type(error).__name__}); build it again") from None
    return clips


def _read_clip(folder: Path, row: dict[str, Any], shapes: int) -> Clip:
    name = str(row["name"])
    audio, motion = folder / "audio" / f"{name}.flac", folder / "motion" / f"{name}.npz"
    if not audio.is_file() or not motion.is_file():
        raise InputError(
            f"{folder}: the {'audio' if motion.is_file() else 'motion'} of clip {name} is missing; build it again"
        )
    weights = load_arrays(motion)["weights"].astype(np.float32) / 65535
    if weights.ndim != 2 or weights.shape[1] != shapes:
        raise InputError(f"{folder}: clip {name} has motion of another rig; build it again")
    alignment = Alignment(tuple(Phone(*p) for p in row["phones"]), status="given", aligner=row["voice"])
    return Clip(name, audio, alignment, weights, float(row["fps"]), str(row["style"]), DATA_SOURCE)
