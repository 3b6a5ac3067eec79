"""Forced alignment with the installed `mfa` command (Montreal Forced Aligner 3)."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

import soundfile
from whisper.tokenizer import LANGUAGES

from kmtalk.errors import InputError
from kmtalk.speech.alignment import Alignment, read_textgrid
from kmtalk.speech.alignment_pipeline import AlignmentError
from kmtalk.speech.audio import SAMPLE_RATE, Audio
from kmtalk.speech.text import tokenize_words
from kmtalk.working_folders import temporary_folder


def mfa_language(language: str) -> str:
    """Return MFA's name for a language (ISO 639-1), which the names of its models begin with."""
    return "mandarin" if language == "zh" else LANGUAGES.get(language, language)


def published_model_name(language: str) -> str:
    """Return the name of MFA's published model for a language (ISO 639-1), such as "german_mfa".

    For English it is the ARPAbet model.
    """
    if language == "en":
        return "english_us_arpa"
    return f"{mfa_language(language)}_mfa"


class MfaCommandAligner:
    """Aligns with the command `mfa align`.

    One call takes 5–17 s to start; use `align_batch` for many clips.

    Args:
        language: ISO 639-1 code.
        acoustic_model: Name or path of an acoustic model; by default MFA's published model for the language.
        dictionary: Name or path of a dictionary; by default the one with the name of the acoustic model.

    Raises:
        InputError: The command is missing or is not version 3.
    """

    name = "mfa-cli"

    def __init__(self, language: str, acoustic_model: str | None = None, dictionary: str | None = None) -> None:
        command = shutil.which("mfa")
        if command is None:
            raise InputError(
                "the mfa command is not on the PATH; install Montreal Forced Aligner 3 with conda, "
                "or use --aligner mfa with a model zip, which needs no conda"
            )
        self._command = command
        version = subprocess.run([command, "version"], capture_output=True, text=True, check=False).stdout
        match = re.search(r"(\d+)\.(\d+)", version)
        if match is None or match[1] != "3":
            installed = f"version {match[0]}" if match else "an unknown version"
            raise InputError(f"{command}: is {installed}; install Montreal Forced Aligner >=3,<4")
        self._language, self._acoustic, self._dictionary = language, acoustic_model, dictionary

    def words(self, text: str, language: str) -> list[str]:
        """Return the words of a text; `mfa` itself finds them in the dictionary."""
        return tokenize_words(text, language)

    def align(self, audio: Audio, words: Sequence[str], wide_beam: bool = False) -> Alignment:
        """Return the alignment, in seconds of `audio`. Raises AlignmentError if `mfa align` gives no result."""
        (result,) = self.align_batch([(audio, words)])
        if isinstance(result, AlignmentError):
            raise result
        return result

    def align_batch(self, clips: Sequence[tuple[Audio, Sequence[str]]]) -> list[Alignment | AlignmentError]:
        """Align clips in one call. Returns one alignment or error per clip, in order."""
        if not clips:
            return []
        acoustic = self._acoustic or published_model_name(self._language)
        with temporary_folder() as folder:
            corpus, out = folder / "corpus", folder / "out"
            corpus.mkdir()
            for n, (audio, words) in enumerate(clips):
                soundfile.write(corpus / f"{n:06d}.wav", audio.samples, SAMPLE_RATE, subtype="PCM_16")
                (corpus / f"{n:06d}.lab").write_text(" ".join(words), encoding="utf-8")
            command = [self._command, "align", str(corpus), self._dictionary or acoustic, acoustic, str(out)]
            command += ["--clean", "--single_speaker", "--output_format", "long_textgrid"]
            completed = subprocess.run(command, capture_output=True, text=True, check=False)
            alignments: list[Alignment | AlignmentError] = []
            for n, (audio, _) in enumerate(clips):
                path = out / f"{n:06d}.TextGrid"
                if not path.is_file():
                    lines = [
                        line.strip() for line in (completed.stderr or completed.stdout).splitlines() if line.strip()
                    ]
                    reason = (lines or ["no message"])[-1][:160]
                    alignments.append(AlignmentError(f"mfa align gave no result ({reason})"))
                    continue
                try:
                    result = read_textgrid(path, audio.duration)
                except InputError as error:
                    alignments.append(AlignmentError(str(error)))
                else:
                    alignments.append(Alignment(result.phones, result.words, "aligned", None, self.name))
            return alignments
