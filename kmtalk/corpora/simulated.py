"""The simulated corpus: speech of many voices with the simulated speaker's motion.

Sound and phones come from synthetic voices, which tell their own phones, and from human prompts of
Debian, which are aligned; the motion is articulation/'s. Every figure on it is to be called simulated.
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

from kmtalk.articulation.speaker import SimulatedSpeaker
from kmtalk.articulation.styles import SPEAKING_STYLES, SpeakingStyle
from kmtalk.articulation.targets import canonical_phone
from kmtalk.assets import asset_path
from kmtalk.corpora.augmentation import augment, make_silence, pad_with_room_tone
from kmtalk.corpora.clip import Clip
from kmtalk.corpora.voices import VOICES, Voice, ipa_words, missing_requirement, synthesize
from kmtalk.errors import InputError
from kmtalk.face.rig import Rig
from kmtalk.progress import Progress
from kmtalk.speech.alignment import Alignment, Phone
from kmtalk.speech.alignment_pipeline import AlignmentError
from kmtalk.speech.audio import SAMPLE_RATE, audio_from_samples, load_audio
from kmtalk.speech.pocketsphinx_aligner import PocketSphinxAligner

SOURCE = "simulated"
MANIFEST_NAME = "corpus.json"
VERSION = 1
FRAME_RATES = (25.0, 30.0)
MAX_SECONDS = 9.0  # seconds of one clip
SILENT_SHARE = 0.04  # of the clips are a muted microphone
UNAUGMENTED_SHARE = 0.35  # are left as they were spoken
NAMED_STYLE_SHARE = 0.6  # are in a style that has a name; the others are speakers drawn at random
POPULATION_STYLE = "population"
"""Style of speakers drawn at random: to the network one style, the average of many."""

PROMPT_VOICES: dict[str, tuple[str, str]] = {
    "fr_CA_f_June": ("fr", "asterisk-core-sounds-fr"),
    "it_IT_m_Carlo": ("it", "asterisk-core-sounds-it"),
    "it_IT_f_Menardi": ("it", "asterisk-core-sounds-it"),
    "ru_RU_f_IvrvoiceRU": ("ru", "asterisk-core-sounds-ru"),
}
"""Human voices by folder of sounds, with their language and the Debian package that has the words. Allison
Smith's are not among them: hers are the voice never seen, on which benchmarks measure."""

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FORTUNES_DIR = Path("/usr/share/games/fortunes")
PROMPTS_DIR = Path("/usr/share/asterisk/sounds")
DOC_DIR = Path("/usr/share/doc")


@dataclass(frozen=True)
class _Utterance:
    """One utterance as it was spoken: samples at SAMPLE_RATE, its phones, who said it."""

    samples: np.ndarray
    alignment: Alignment
    voice: str


def make_sentences(language: str, count: int, rng: random.Random) -> list[str]:
    """Sentences to speak: our own (data/simulated), Debian's fortunes where installed, spelling and numbers."""
    rows = [
        line.split("\t") for line in asset_path("simulated/sentences.txt").read_text().splitlines() if line[:1] != "#"
    ]
    own = [text for tongue, text in rows if tongue == language]
    if language != "en":
        return [own[i % len(own)] for i in range(count)]
    found: set[str] = set()
    for path in sorted(FORTUNES_DIR.glob("*")) if FORTUNES_DIR.is_dir() else []:
        if path.suffix in (".dat", ".u8") or path.is_dir():
            continue
        for saying in path.read_text("utf-8", "ignore").split("\n%\n"):
            for sentence in re.split(r"(?<=[.!?])\s+", " ".join(saying.split())):
                if 25 < len(sentence) < 110 and re.fullmatch(r"[A-Za-z ,.'!?;-]+", sentence):
                    found.add(sentence)
    sayings = sorted(found)
    rng.shuffle(sayings)
    spelled = []
    for _ in range(count // 8):
        letters = rng.sample("abcdefghijklmnopqrstuvwxyz", 3)
        digits = rng.sample(DIGITS, 4)
        spelled.append(f"{', '.join(letters).upper()}, {' '.join(digits)}, {rng.choice(['now', 'please', 'again'])}.")
    pool = own + spelled
    pool += sayings[: max(0, count - len(pool))]
    rng.shuffle(pool)
    return [pool[i % len(pool)] for i in range(count)]


def _align_prompts(folder: str, count: int, rng: random.Random, warn: Callable[[str], None]) -> Iterator[_Utterance]:
    """A human voice's prompts, aligned by espeak-ng's phones of their words; those that fit."""
    language, package = PROMPT_VOICES[folder]
    document = DOC_DIR / package / f"core-sounds-{language}.txt.gz"
    needed = missing_requirement(Voice("espeak", ""))
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
    fit = [n for n, t in sorted(texts.items()) if 15 < len(t) < 200 and not any(c.isdigit() or c in "([*#" for c in t)]
    rng.shuffle(fit)
    aligner = PocketSphinxAligner()
    made = 0
    for name in fit:
        path = PROMPTS_DIR / folder / f"{name}.wav"
        if not path.is_file() or made >= count:
            continue
        audio = load_audio(path)
        phones = [[canonical_phone(p) for p in _split_ipa(word)] for word in ipa_words(language, texts[name])]
        try:
            alignment = aligner.align_phones(audio, [p for p in phones if p])
        except AlignmentError:
            continue
        made += 1
        yield _Utterance(audio.samples, alignment, folder)


def _split_ipa(word: str) -> list[str]:
    """One IPA word → its phones: affricates and diphthongs whole, marks with the letter before."""
    return re.findall(r"(?:aɪ|aʊ|eɪ|oʊ|ɔɪ|tʃ|dʒ|tɕ|ts|[^\W\d_ˈˌːˑʲʰ])[ːˑʲʰ\u0303]*", word)


def _synthesize_utterances(
    voice: Voice, count: int, rng: random.Random, warn: Callable[[str], None]
) -> Iterator[_Utterance]:
    for text in make_sentences(voice.language, count, rng):
        varied = Voice(voice.engine, voice.name, voice.language, rng.uniform(0.85, 1.15), rng.uniform(0.7, 1.3))
        try:
            audio, alignment = synthesize(varied, text)
        except InputError as error:
            warn(f"one sentence left out: {error}")
            continue
        yield _Utterance(audio.samples, alignment, voice.label)


def build_simulated_corpus(
    folder: Path,
    rig: Rig,
    clips: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda line: None,
) -> int:
    """Make the corpus in ``folder`` with about ``clips`` clips of every voice that is installed.

    In a new process the same seed and the same installed voices give the same clips (synthesizers carry
    state from one sentence to the next). Returns how many clips there are;
    raises InputError where no voice is installed.
    """
    progress = progress or Progress()
    voices = []
    for voice in VOICES:
        missing = missing_requirement(voice)
        if missing:
            warn(f"{voice.label} left out: {missing}")
        else:
            voices.append(voice)
    if not voices:
        raise InputError("no synthetic voice is installed: pip install espeakng-loader")
    speaker, rng = SimulatedSpeaker(rig), random.Random(seed)
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    (folder / "motion").mkdir(exist_ok=True)
    # a voice's share: recorded people speak more truly than formants
    share = {"piper": 5.0, "flite": 2.0, "festival": 1.5, "espeak": 0.7}
    human = [f for f in PROMPT_VOICES if (PROMPTS_DIR / f).is_dir()]
    total = sum(share[v.engine] for v in voices) + 2.0 * len(human)
    streams = [
        _synthesize_utterances(v, max(1, round(clips * share[v.engine] / total)), random.Random(rng.random()), warn)
        for v in voices
    ]
    streams += [_align_prompts(f, round(clips * 2.0 / total), random.Random(rng.random()), warn) for f in PROMPT_VOICES]
    rows: list[dict[str, object]] = []
    with progress.stage("corpus", clips) as told:
        for stream in streams:
            for said in stream:
                rows.append(_write_clip(folder, len(rows), said, speaker, seed))
                told(len(rows))
        for _ in range(max(1, round(SILENT_SHARE * len(rows)))):
            rows.append(_write_clip(folder, len(rows), None, speaker, seed))
    temporary = folder / (MANIFEST_NAME + ".part")
    facts = {"version": VERSION, "source": SOURCE, "seed": seed, "names": list(rig.names), "clips": rows}
    temporary.write_text(json.dumps(facts) + "\n")
    temporary.replace(folder / MANIFEST_NAME)
    return len(rows)


def _write_clip(
    folder: Path, number: int, said: _Utterance | None, speaker: SimulatedSpeaker, seed: int
) -> dict[str, object]:
    rng = np.random.default_rng([seed, number])
    done = "muted"
    if said is None:
        samples, alignment = make_silence(float(rng.uniform(2, 5)), rng), Alignment(status="silent")
    elif rng.random() < UNAUGMENTED_SHARE:
        samples, alignment, done = said.samples, said.alignment, ""
    else:
        samples, alignment, done = augment(said.samples, said.alignment, rng)
        if rng.random() < 0.5:
            samples, alignment = pad_with_room_tone(samples, alignment, rng)
    most = int(MAX_SECONDS * SAMPLE_RATE)
    if len(samples) > most:
        samples = samples[:most]
        kept = tuple(p for p in alignment.phones if p.end <= MAX_SECONDS)
        alignment = Alignment(kept, status=alignment.status, aligner=alignment.aligner)
    samples = (samples / max(1.0, float(np.abs(samples).max(initial=0)))).astype(np.float32)
    fps = float(rng.choice(FRAME_RATES))
    name, style = POPULATION_STYLE, SpeakingStyle.from_seed(int(rng.integers(1 << 30)))
    if rng.random() < NAMED_STYLE_SHARE:
        name = str(rng.choice(sorted(SPEAKING_STYLES)))
        style = SPEAKING_STYLES[name]
    audio = audio_from_samples(samples, SAMPLE_RATE)
    weights = np.zeros((max(1, round(audio.duration * fps)), len(speaker.rig.names)), np.float32)
    if said is not None:
        weights = speaker.mouth_weights(alignment, audio, fps, style, number).astype(np.float32)
    stem = f"{number:05d}"
    soundfile.write(folder / "audio" / f"{stem}.flac", samples, SAMPLE_RATE)
    np.savez_compressed(folder / "motion" / f"{stem}.npz", weights=np.round(weights * 65535).astype(np.uint16))
    return {
        "name": stem,
        "voice": said.voice if said else "none",
        "style": name,
        "fps": fps,
        "changes": done,
        "phones": [[p.label, round(p.start, 4), round(p.end, 4)] for p in alignment.phones],
    }


def load_simulated_corpus(folder: Path, rig: Rig) -> list[Clip]:
    """Clips of a corpus made by ``build_simulated_corpus``; raises InputError where it is none, is torn, or has another rig."""
    try:
        facts = json.loads((folder / MANIFEST_NAME).read_text())
        version, names, rows = facts["version"], tuple(facts["names"]), facts["clips"]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{folder}: not a simulated corpus ({error}); kmtalk corpus build simulated makes one"
        ) from None
    if version != VERSION or names != rig.names:
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
        raise InputError(f"{folder}: clip {name} lacks its {'sound' if motion.is_file() else 'motion'}")
    with np.load(motion) as file:
        weights = file["weights"].astype(np.float32) / 65535
    if weights.ndim != 2 or weights.shape[1] != shapes:
        raise InputError(f"{folder}: clip {name} has motion of another rig; build it again")
    alignment = Alignment(tuple(Phone(*p) for p in row["phones"]), status="given", aligner=row["voice"])
    return Clip(name, audio, alignment, weights, float(row["fps"]), str(row["style"]), SOURCE)
