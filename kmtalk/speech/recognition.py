"""From sound to phones: which language is spoken, which words, and when."""

from __future__ import annotations

from collections.abc import Callable

import whisper

from kmtalk.errors import InputError
from kmtalk.progress import Progress
from kmtalk.speech.aligner_registry import AlignerRegistry
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.alignment_pipeline import Transcript, empty_alignment
from kmtalk.speech.audio import Audio
from kmtalk.speech.transcriber import Transcriber
from kmtalk.speech.transcript_alignment import align_with_fallback

SURE_LANGUAGE = 0.8
"""Probability from which the detected language of a short clip is taken without a comparison."""

SHORT_SECONDS = 10.0
"""Clips shorter than this are too short to be sure of their language."""

MIN_LANGUAGE_PROBABILITY = 0.05


class SpeechRecognizer:
    """Finds the words and phones of clips.

    Args:
        aligners: The aligners.
        load_transcriber: Returns the transcriber; called with whether it is wanted for itself (True), or only where its
            weights are at hand (False), when it may return None.
        warn: Called with each one-line warning.
        progress: Receives the progress of each stage.
    """

    def __init__(
        self,
        aligners: AlignerRegistry,
        load_transcriber: Callable[[bool], Transcriber | None],
        warn: Callable[[str], None],
        progress: Progress,
    ) -> None:
        self._aligners, self._load_transcriber = aligners, load_transcriber
        self._warn, self._progress = warn, progress

    def align(self, audio: Audio, language: str | None) -> Alignment:
        """Transcribe and align a clip.

        Args:
            audio: The clip.
            language: ISO 639-1 code; None detects it. A doubtful language of a short clip is compared with those there
                is an aligner for: the one with the best score is taken.

        Raises:
            InputError: Whisper does not support the language, or its weights cannot be loaded.
        """
        transcriber = self._load_transcriber(True)
        assert transcriber is not None
        languages = [language]
        if language is None:
            with self._progress.stage("detect language"):
                languages = list(self._candidates(transcriber.detect_language(audio), audio.duration))
        results: list[tuple[float, Alignment, list[str], str]] = []
        for candidate in languages:
            with self._progress.stage("transcribe", round(audio.duration)) as advance:
                transcript = transcriber.transcribe(audio, candidate, advance=advance)
            warnings: list[str] = []
            found = self._align(audio, transcript, warnings.append)
            score = 0.0 if found.status != "aligned" else 0.5 if found.score is None else found.score
            results.append((score, found, warnings, transcript.language))
        best = max(results, key=lambda r: r[0])  # the first of equals: the most probable
        if best is not results[0]:
            heard, first = _name(best[3]), results[0][3]
            self._warn(
                f"the language is taken to be {heard}, which fits the sound better than {_name(first)} "
                f"(pass --language {first} if that is wrong)"
            )
        for line in best[2]:
            self._warn(line)
        return best[1]

    def align_text(self, audio: Audio, transcript: Transcript, detect: bool) -> Alignment:
        """Align a given text.

        Args:
            audio: The clip.
            transcript: The text, with segments where its times are known.
            detect: Whether another language than that of the transcript may be tried.
        """
        warnings: list[str] = []
        found = self._align(audio, transcript, warnings.append)
        if found.status == "uniform" and detect:
            transcriber = self._load_transcriber(False)
            if transcriber is not None:
                spoken, probability = next(iter(transcriber.detect_language(audio).items()))
                if spoken != transcript.language and probability >= SURE_LANGUAGE and self._aligners.has_model(spoken):
                    other = Transcript(transcript.text, spoken, transcript.segments)
                    again: list[str] = []
                    in_other = self._align(audio, other, again.append)
                    if in_other.status == "aligned":
                        self._warn(f"the language is taken to be {_name(spoken)}; --language sets it")
                        found, warnings = in_other, again
        for line in warnings:
            self._warn(line)
        return found

    def _align(self, audio: Audio, transcript: Transcript, warn: Callable[[str], None]) -> Alignment:
        if not transcript.text:
            warn("no words recognised: key frames are uniform (stride 3), the mouth follows the sound alone")
            return empty_alignment("no words recognised")

        def listen(part: Audio) -> Transcript | None:
            try:
                transcriber = self._load_transcriber(False)
            except InputError:
                return None
            return None if transcriber is None else transcriber.transcribe(part, transcript.language, with_words=True)

        with self._progress.stage("align"):
            aligners = self._aligners.for_language(transcript.language)
            return align_with_fallback(aligners, audio, transcript, warn, listen)

    def _candidates(self, probabilities: dict[str, float], duration: float) -> list[str]:
        """The languages to compare: the most probable one, and for a short clip those that it is confused with."""
        likely, probability = next(iter(probabilities.items()))
        sure = probability >= SURE_LANGUAGE and self._aligners.has_model(likely)
        if sure or duration >= SHORT_SECONDS:
            return [likely]
        others = [k for k, p in probabilities.items() if p >= MIN_LANGUAGE_PROBABILITY and self._aligners.has_model(k)]
        return list(dict.fromkeys([likely, *others[:2], *(["en"] if self._aligners.has_model("en") else [])]))


def _name(language: str) -> str:
    return str(whisper.tokenizer.LANGUAGES.get(language, language)).title()
