"""Which aligners try a clip, and in what order."""

from __future__ import annotations

from kmtalk.errors import InputError
from kmtalk.speech.alignment_pipeline import ALIGNER_NAMES, Aligner
from kmtalk.speech.mfa_aligner import MfaAligner, mfa_models_dir
from kmtalk.speech.mfa_command import MfaCommandAligner, mfa_language
from kmtalk.speech.pocketsphinx_aligner import PocketSphinxAligner


class AlignerRegistry:
    """The aligner called ``name``, one of ALIGNERS, or for "auto" all that know a language. Each is made at first use,
    once; ``acoustic_model`` and ``dictionary`` are an MFA model, by path or name."""

    def __init__(self, name: str, acoustic_model: str | None = None, dictionary: str | None = None) -> None:
        if name not in ALIGNER_NAMES:
            raise InputError(f"{name}: no such aligner; one of {', '.join(ALIGNER_NAMES)}")
        if name == "mfa" and not (acoustic_model and dictionary):
            raise InputError("the mfa aligner needs an acoustic model zip and a dictionary (--acoustic, --dictionary)")
        if bool(acoustic_model) != bool(dictionary) and name != "mfa-cli":
            raise InputError("an MFA acoustic model and its dictionary go together (--acoustic, --dictionary)")
        self.name, self._acoustic, self._dictionary = name, acoustic_model, dictionary
        self._loaded: dict[str, Aligner] = {}

    def for_language(self, language: str) -> list[Aligner]:
        """Who may try, in order."""
        if self.name != "auto":
            return [self._get(self.name)]
        names = ["mfa"] if self._acoustic and self._dictionary else []
        names += ["pocketsphinx"] if language == "en" else []
        found = _find_published_model(language)
        if found and language != "en":
            names.append(f"mfa:{found}")
        return [self._get(n) for n in names]

    def _get(self, name: str) -> Aligner:
        if name not in self._loaded:
            kind, _, model = name.partition(":")
            if kind == "pocketsphinx":
                self._loaded[name] = PocketSphinxAligner()
            elif kind == "mfa":
                acoustic, dictionary = (model, model) if model else (self._acoustic or "", self._dictionary or "")
                self._loaded[name] = MfaAligner(acoustic, dictionary)
            else:
                self._loaded[name] = MfaCommandAligner(self._acoustic, self._dictionary)
        return self._loaded[name]


def _find_published_model(language: str) -> str | None:
    """A model in MFA's own folder whose name begins with the language's, with its dictionary."""
    for path in sorted((mfa_models_dir() / "acoustic").glob(f"{mfa_language(language)}_*.zip")):
        if (mfa_models_dir() / "dictionary" / f"{path.stem}.dict").is_file():
            return path.stem
    return None
