"""The ``mfa`` command of a conda environment, where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import soundfile

from kmtalk.errors import InputError
from kmtalk.speech.align import AlignmentFailed, Transcript
from kmtalk.speech.alignment import Alignment, read_textgrid
from kmtalk.speech.audio import SAMPLE_RATE, Audio

NAMES = {"en": "english_us_arpa"}
"""Published models that align by default, by language; others are english-like "<language>_mfa"."""


class MfaCommandAligner:
    """Runs ``mfa align``. One call costs 5–17 s to start, so many clips go in one (``align_many``)."""

    name = "mfa-cli"

    def __init__(self, acoustic: str | None = None, dictionary: str | None = None) -> None:
        """Model names or paths; the defaults are MFA's published English ones. Raises InputError where
        the command is missing or is not version 3."""
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
        self._acoustic = acoustic or NAMES["en"]
        self._dictionary = dictionary or self._acoustic

    def align(self, audio: Audio, transcript: Transcript) -> Alignment:
        return self.align_many([(audio, transcript)])[0]

    def align_many(self, clips: Sequence[tuple[Audio, Transcript]]) -> list[Alignment]:
        """All clips in one call; raises AlignmentFailed where MFA aligned none of them or not all."""
        with tempfile.TemporaryDirectory(prefix="kmtalk-mfa-") as folder:
            corpus, out = Path(folder) / "corpus", Path(folder) / "out"
            corpus.mkdir()
            for n, (audio, transcript) in enumerate(clips):
                soundfile.write(corpus / f"{n:06d}.wav", audio.samples, SAMPLE_RATE, subtype="PCM_16")
                (corpus / f"{n:06d}.lab").write_text(transcript.text, encoding="utf-8")
            call = [self._command, "align", str(corpus), self._dictionary, self._acoustic, str(out)]
            call += ["--clean", "--single_speaker", "--output_format", "long_textgrid"]
            done = subprocess.run(call, capture_output=True, text=True, check=False)
            alignments = []
            for n, (audio, _) in enumerate(clips):
                path = out / f"{n:06d}.TextGrid"
                if not path.is_file():
                    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
                    raise AlignmentFailed(f"mfa align gave no result ({(lines or ['no message'])[-1][:160]})")
                try:
                    found = read_textgrid(path, audio.duration)
                except InputError as error:
                    raise AlignmentFailed(str(error)) from None
                alignments.append(Alignment(found.phones, found.words, "aligned", None, self.name))
            return alignments
