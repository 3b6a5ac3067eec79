"""From a sound to its words and phones: with its text, with a TextGrid, or by transcription."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from whisper import Whisper

from kmtalk.errors import InputError
from kmtalk.expression.emotion import EMOTIONS
from kmtalk.expression.text_cues import split_text_cues
from kmtalk.progress import Progress
from kmtalk.settings import RecognitionSettings, SoundSettings
from kmtalk.shared_property import shared_property
from kmtalk.sound_input import describe_silence, read_speech
from kmtalk.speech.aligner_registry import AlignerRegistry
from kmtalk.speech.alignment import Alignment, read_textgrid
from kmtalk.speech.alignment_pipeline import Transcript, empty_alignment
from kmtalk.speech.audio import Audio
from kmtalk.speech.openai_whisper import OpenAIWhisper
from kmtalk.speech.recognition import SpeechRecognizer
from kmtalk.speech.spoken_text import parse_spoken_text
from kmtalk.speech.text import check_spoken_text
from kmtalk.speech.transcribe import find_weights, load_transcriber
from kmtalk.speech.transcriber import Transcriber

Speech = str | Path | Audio


class SpeechReader:
    """Finds the words and phones of sounds. Whisper and the aligners are loaded once, at first use.

    Args:
        recognition: Settings of transcription and alignment.
        warn: Called with each one-line warning.
        progress: Receives the stages "read", "transcribe" and "align".

    Raises:
        InputError: A setting cannot be used.
    """

    def __init__(self, recognition: RecognitionSettings, warn: Callable[[str], None], progress: Progress) -> None:
        self._loading = threading.RLock()
        self._recognition, self._warn, self._progress = recognition, warn, progress
        self._aligners = AlignerRegistry(recognition.aligner, recognition.acoustic_model, recognition.dictionary)

    @shared_property
    def transcriber(self) -> Transcriber:
        """The transcriber with its Whisper model."""
        return load_transcriber(self._recognition.whisper, self._recognition.whisper_engine)

    def loaded_model(self, name: str) -> Whisper | None:
        """The Whisper model `name`, where the transcriber has loaded it in openai-whisper; else None."""
        loaded = self.__dict__.get("transcriber")
        return loaded.model if name == self._recognition.whisper and isinstance(loaded, OpenAIWhisper) else None

    def read(
        self,
        speech: Speech,
        text: str | None = None,
        textgrid: str | Path | Alignment | None = None,
        tier: str | None = None,
        language: str | None = None,
        sound: SoundSettings | None = None,
    ) -> tuple[Audio, Alignment]:
        """Read a sound and find its words and phones; arguments, result and errors are those of `KMTalk.align`."""
        spoken = None
        if text is not None:
            check_spoken_text(text)
            spoken = parse_spoken_text(text)
            said, _, others = split_text_cues(spoken.text, language or "en")
            check_spoken_text(said)
            if others or spoken.left_out:
                listed = ", ".join([*spoken.left_out[:8], *others])
                self._warn(f"the text: {listed} left out: not spoken, and none of {', '.join(EMOTIONS)}")
            segments = tuple(replace(s, text=split_text_cues(s.text, language or "en")[0]) for s in spoken.segments)
        with self._progress.stage("read"):
            audio = read_speech(speech, sound)
            alignment = None
            if isinstance(textgrid, Alignment):
                alignment = textgrid
            elif textgrid is not None:
                try:
                    alignment = read_textgrid(textgrid, audio.duration, tier, self._warn)
                except InputError as error:  # what is wrong with the sound may be why the TextGrid does not fit it
                    raise InputError("; ".join([str(error), *audio.notes])) from None
            for line in audio.notes:
                self._warn(line)
            if audio.is_silent:
                self._warn(describe_silence(audio))
            if alignment is not None:
                return audio, alignment
        if audio.is_silent:
            return audio, Alignment(status="silent")
        if self._aligners.name == "uniform":
            return audio, empty_alignment("asked for")
        recognizer = SpeechRecognizer(self._aligners, self._load_transcriber, self._warn, self._progress)
        if spoken is not None:
            return audio, recognizer.align_text(audio, Transcript(said, language or "en", segments), language is None)
        return audio, recognizer.align(audio, language)

    def _load_transcriber(self, wanted: bool) -> Transcriber | None:
        """The transcriber; where it is not `wanted` for itself, None unless its weights are at hand."""
        if wanted or "transcriber" in self.__dict__:
            return self.transcriber
        at_hand = find_weights(self._recognition.whisper, self._recognition.whisper_engine)
        return None if at_hand is None else self.transcriber
