"""The ``mfa`` command of a conda environment, where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import soundfile
from whisper.tokenizer import LANGUAGES

from kmtalk.errors import InputError
from kmtalk.speech.alignment import Alignment, read_textgrid
from kmtalk.speech.alignment_pipeline import AlignmentError, Transcript
from kmtalk.speech.audio import SAMPLE_RATE, Audio


def mfa_language(language: str) -> str:
    """MFA's name of an ISO 639-1 language, as its models' names begin with it."""
    return "mandarin" if language == "zh" else LANGUAGES.get(language, language)


def published_model_name(language: str) -> str:
    """MFA's published model for an ISO 639-1 language: "german_mfa"; English has the ARPAbet one."""
    if language == "en":
        return "english_us_arpa"
    return f"{mfa_language(language)}_mfa"


class MfaCommandAligner:
    """Runs ``mfa align``. One call costs 5–17 s to start, so many clips go in one (``align_batch``)."""

    name = "mfa-cli"

    def __init__(self, acoustic_model: str | None = None, dictionary: str | None = None) -> None:
        """Model names or paths; the defaults are MFA's published ones for the language that is spoken.
        Raises InputError where the command is missing or is not version 3."""
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
            found = match[0] if match else "an unknown version"
            raise InputError(f"{command}: is {found}, and kmtalk knows Montreal Forced Aligner >=3,<4")
        self._acoustic, self._dictionary = acoustic_model, dictionary

    def align(self, audio: Audio, transcript: Transcript) -> Alignment:
        (found,) = self.align_batch([(audio, transcript)])
        if isinstance(found, AlignmentError):
            raise found
        return found

    def align_batch(self, clips: Sequence[tuple[Audio, Transcript]]) -> list[Alignment | AlignmentError]:
        """All clips, of one language, in one call: an alignment for each, or why there is none."""
        if not clips:
            return []
        acoustic = self._acoustic or published_model_name(clips[0][1].language)
        with tempfile.TemporaryDirectory(prefix="kmtalk-mfa-") as folder:
            corpus, out = Path(folder) / "corpus", Path(folder) / "out"
            corpus.mkdir()
            for n, (audio, transcript) in enumerate(clips):
                soundfile.write(corpus / f"{n:06d}.wav", audio.samples, SAMPLE_RATE, subtype="PCM_16")
                (corpus / f"{n:06d}.lab").write_text(transcript.text, encoding="utf-8")
            call = [self._command, "align", str(corpus), self._dictionary or acoustic, acoustic, str(out)]
            call += ["--clean", "--single_speaker", "--output_format", "long_textgrid"]
            done = subprocess.run(call, capture_output=True, text=True, check=False)
            alignments: list[Alignment | AlignmentError] = []
            for n, (audio, _) in enumerate(clips):
                path = out / f"{n:06d}.TextGrid"
                if not path.is_file():
                    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
                    reason = (lines or ["no message"])[-1][:160]
                    alignments.append(AlignmentError(f"mfa align gave no result ({reason})"))
                    continue
                try:
                    found = read_textgrid(path, audio.duration)
                except InputError as error:
                    alignments.append(AlignmentError(str(error)))
                else:
                    alignments.append(Alignment(found.phones, found.words, "aligned", None, self.name))
            return alignments
