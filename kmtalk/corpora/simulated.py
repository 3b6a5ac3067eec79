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

from kmtalk.articulation.speaker import STYLES, Speaker, Style
from kmtalk.articulation.targets import canonical
from kmtalk.assets import asset
from kmtalk.corpora.augment import augmented, silence, surrounded
from kmtalk.corpora.clip import Clip
from kmtalk.corpora.voices import VOICES, Voice, available, ipa_words, speak
from kmtalk.errors import InputError
from kmtalk.face.rig import Rig
from kmtalk.progress import Progress
from kmtalk.speech.align import AlignmentFailed
from kmtalk.speech.alignment import Alignment, Phone
from kmtalk.speech.audio import SAMPLE_RATE, from_samples, load_audio
from kmtalk.speech.sphinx import PocketSphinxAligner

SOURCE = "simulated"
MANIFEST = "corpus.json"
VERSION = 1
RATES = (25.0, 30.0)
LONGEST = 9.0  # seconds of one clip
STILL_SHARE = 0.04  # of the clips are a muted microphone
PLAIN_SHARE = 0.35  # are left as they were spoken
NAMED_SHARE = 0.6  # are in a style that has a name; the others are speakers drawn at random
POPULATION = "population"
"""Style of speakers drawn at random: to the network one style, the average of many."""

PROMPTS: dict[str, tuple[str, str]] = {
    "fr_CA_f_June": ("fr", "asterisk-core-sounds-fr"),
    "it_IT_m_Carlo": ("it", "asterisk-core-sounds-it"),
    "it_IT_f_Menardi": ("it", "asterisk-core-sounds-it"),
    "ru_RU_f_IvrvoiceRU": ("ru", "asterisk-core-sounds-ru"),
}
"""Human voices by folder of sounds, with their language and the Debian package that has the words. Allison
Smith's are not among them: hers are the voice never seen, on which benchmarks measure."""

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FORTUNES = Path("/usr/share/games/fortunes")
SOUNDS = Path("/usr/share/asterisk/sounds")
DOCUMENTS = Path("/usr/share/doc")


@dataclass(frozen=True)
class _Said:
    """One utterance as it was spoken: samples at SAMPLE_RATE, its phones, who said it."""

    samples: np.ndarray
    alignment: Alignment
    voice: str


def sentences(language: str, count: int, rng: random.Random) -> list[str]:
    """Sentences to speak: our own (data/simulated), Debian's fortunes where installed, spelling and numbers."""
    rows = [line.split("\t") for line in asset("simulated/sentences.txt").read_text().splitlines() if line[:1] != "#"]
    own = [text for tongue, text in rows if tongue == language]
    if language != "en":
        return [own[i % len(own)] for i in range(count)]
    found: set[str] = set()
    for path in sorted(FORTUNES.glob("*")) if FORTUNES.is_dir() else []:
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


def _human_prompts(folder: str, count: int, rng: random.Random, warn: Callable[[str], None]) -> Iterator[_Said]:
    """A human voice's prompts, aligned by espeak-ng's phones of their words; those that fit."""
    language, package = PROMPTS[folder]
    document = DOCUMENTS / package / f"core-sounds-{language}.txt.gz"
    needed = available(Voice("espeak", ""))
    if needed:
        warn(f"{folder} left out: {needed}")
        return
    if not (SOUNDS / folder).is_dir() or not document.is_file():
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
        path = SOUNDS / folder / f"{name}.wav"
        if not path.is_file() or made >= count:
            continue
        audio = load_audio(path)
        phones = [[canonical(p) for p in _letters(word)] for word in ipa_words(language, texts[name])]
        try:
            alignment = aligner.align_phones(audio, [p for p in phones if p])
        except AlignmentFailed:
            continue
        made += 1
        yield _Said(audio.samples, alignment, folder)


def _letters(word: str) -> list[str]:
    """One IPA word → its phones: affricates and diphthongs whole, marks with the letter before."""
    return re.findall(r"(?:aɪ|aʊ|eɪ|oʊ|ɔɪ|tʃ|dʒ|tɕ|ts|[^\W\d_ˈˌːˑʲʰ])[ːˑʲʰ\u0303]*", word)


def _spoken(voice: Voice, count: int, rng: random.Random, warn: Callable[[str], None]) -> Iterator[_Said]:
    for text in sentences(voice.language, count, rng):
        varied = Voice(voice.engine, voice.name, voice.language, rng.uniform(0.85, 1.15), rng.uniform(0.7, 1.3))
        try:
            audio, alignment = speak(varied, text)
        except InputError as error:
            warn(f"one sentence left out: {error}")
            continue
        yield _Said(audio.samples, alignment, voice.label)


def build(
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
        missing = available(voice)
        if missing:
            warn(f"{voice.label} left out: {missing}")
        else:
            voices.append(voice)
    if not voices:
        raise InputError("no synthetic voice is installed: pip install espeakng-loader")
    speaker, rng = Speaker(rig), random.Random(seed)
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    (folder / "motion").mkdir(exist_ok=True)
    # a voice's share: recorded people speak more truly than formants
    share = {"piper": 5.0, "flite": 2.0, "festival": 1.5, "espeak": 0.7}
    human = [f for f in PROMPTS if (SOUNDS / f).is_dir()]
    total = sum(share[v.engine] for v in voices) + 2.0 * len(human)
    streams = [
        _spoken(v, max(1, round(clips * share[v.engine] / total)), random.Random(rng.random()), warn) for v in voices
    ]
    streams += [_human_prompts(f, round(clips * 2.0 / total), random.Random(rng.random()), warn) for f in PROMPTS]
    rows: list[dict[str, object]] = []
    with progress.stage("corpus", clips) as told:
        for stream in streams:
            for said in stream:
                rows.append(_write(folder, len(rows), said, speaker, seed))
                told(len(rows))
        for _ in range(max(1, round(STILL_SHARE * len(rows)))):
            rows.append(_write(folder, len(rows), None, speaker, seed))
    temporary = folder / (MANIFEST + ".part")
    facts = {"version": VERSION, "source": SOURCE, "seed": seed, "names": list(rig.names), "clips": rows}
    temporary.write_text(json.dumps(facts) + "\n")
    temporary.replace(folder / MANIFEST)
    return len(rows)


def _write(folder: Path, number: int, said: _Said | None, speaker: Speaker, seed: int) -> dict[str, object]:
    rng = np.random.default_rng([seed, number])
    done = "muted"
    if said is None:
        samples, alignment = silence(float(rng.uniform(2, 5)), rng), Alignment(status="silent")
    elif rng.random() < PLAIN_SHARE:
        samples, alignment, done = said.samples, said.alignment, ""
    else:
        samples, alignment, done = augmented(said.samples, said.alignment, rng)
        if rng.random() < 0.5:
            samples, alignment = surrounded(samples, alignment, rng)
    most = int(LONGEST * SAMPLE_RATE)
    if len(samples) > most:
        samples = samples[:most]
        kept = tuple(p for p in alignment.phones if p.end <= LONGEST)
        alignment = Alignment(kept, status=alignment.status, aligner=alignment.aligner)
    samples = (samples / max(1.0, float(np.abs(samples).max(initial=0)))).astype(np.float32)
    fps = float(rng.choice(RATES))
    name, style = POPULATION, Style.from_seed(int(rng.integers(1 << 30)))
    if rng.random() < NAMED_SHARE:
        name = str(rng.choice(sorted(STYLES)))
        style = STYLES[name]
    audio = from_samples(samples, SAMPLE_RATE)
    weights = np.zeros((max(1, round(audio.duration * fps)), len(speaker.rig.names)), np.float32)
    if said is not None:
        weights = speaker.mouth(alignment, audio, fps, style, number).astype(np.float32)
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


def load_simulated(folder: Path, rig: Rig) -> list[Clip]:
    """Clips of a corpus made by ``build``; raises InputError where it is none, is torn, or has another rig."""
    try:
        facts = json.loads((folder / MANIFEST).read_text())
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
            clips.append(_read(folder, row, len(names)))
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{folder}: clip {row} is damaged ({type(error).__name__}); build it again") from None
    return clips


def _read(folder: Path, row: dict[str, Any], shapes: int) -> Clip:
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
