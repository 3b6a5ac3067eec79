"""Selection and construction of aligners by name and language."""

from __future__ import annotations

import threading

from kmtalk.errors import InputError
from kmtalk.speech.alignment_pipeline import ALIGNER_NAMES, Aligner
from kmtalk.speech.mfa_aligner import MfaAligner
from kmtalk.speech.mfa_command import MfaCommandAligner, mfa_language
from kmtalk.speech.mfa_model import mfa_models_dir
from kmtalk.speech.pocketsphinx_aligner import ForeignAligner, PocketSphinxAligner, pronounced_by_espeak


class AlignerRegistry:
    """Creates aligners on first use and keeps them.

    Args:
        name: One of `ALIGNER_NAMES`; "auto" selects every aligner that supports the language.
        acoustic_model: MFA acoustic model, as a path or as the name of a downloaded model.
        dictionary: MFA pronouncing dictionary, as a path or as the name of a downloaded dictionary.

    Raises:
        InputError: The name is unknown, or only one of `acoustic_model` and `dictionary` is given where
            both are needed.
    """

    def __init__(self, name: str, acoustic_model: str | None = None, dictionary: str | None = None) -> None:
        if name not in ALIGNER_NAMES:
            raise InputError(f"{name}: no such aligner; choose one of {', '.join(ALIGNER_NAMES)}")
        if name == "mfa" and not (acoustic_model and dictionary):
            raise InputError(
                "--aligner mfa needs an acoustic model zip and a dictionary; pass --acoustic-model and --dictionary"
            )
        if bool(acoustic_model) != bool(dictionary) and name != "mfa-cli":
            raise InputError(
                "an acoustic model needs its dictionary and the reverse; pass both --acoustic-model and --dictionary"
            )
        self.name, self._acoustic, self._dictionary = name, acoustic_model, dictionary
        self._loaded: dict[str, Aligner] = {}
        self._lock = threading.Lock()

    def for_language(self, language: str) -> list[Aligner]:
        """Return the aligners for a language (ISO 639-1) in the order in which to try them."""
        return [self._get(name) for name in self._names(language)]

    def has_model(self, language: str) -> bool:
        """Return whether there is an aligner for a language (ISO 639-1). Loads none."""
        return self.name != "uniform" and bool(self._names(language))

    def _names(self, language: str) -> list[str]:
        if self.name == "mfa-cli":
            return [f"mfa-cli:{language}"]
        if self.name != "auto":
            return [self.name]
        names = ["mfa"] if self._acoustic and self._dictionary else []
        names += ["pocketsphinx"] if language == "en" else []
        published = _find_published_model(language)
        if published and language != "en":
            names.append(f"mfa:{published}")
        if language != "en" and pronounced_by_espeak(language):
            names.append(f"espeak:{language}")
        return names

    def _get(self, name: str) -> Aligner:
        with self._lock:
            if name not in self._loaded:
                kind, _, detail = name.partition(":")
                if kind == "pocketsphinx":
                    self._loaded[name] = PocketSphinxAligner()
                elif kind == "espeak":
                    self._loaded[name] = ForeignAligner(detail)
                elif kind == "mfa":
                    self._loaded[name] = MfaAligner(detail or self._acoustic or "", detail or self._dictionary or "")
                else:
                    self._loaded[name] = MfaCommandAligner(detail, self._acoustic, self._dictionary)
            return self._loaded[name]


def _find_published_model(language: str) -> str | None:
    """Return the name of a model of the language in MFA's model folder that has a dictionary, or None."""
    for path in sorted((mfa_models_dir() / "acoustic").glob(f"{mfa_language(language)}_*.zip")):
        if (mfa_models_dir() / "dictionary" / f"{path.stem}.dict").is_file():
            return path.stem
    return None
