"""Which aligners try a clip, and in what order."""

from __future__ import annotations

from kmtalk.errors import InputError
from kmtalk.speech.align import ALIGNERS, Aligner
from kmtalk.speech.mfa import MfaAligner, mfa_folder
from kmtalk.speech.mfa_cli import MfaCommandAligner, mfa_language
from kmtalk.speech.sphinx import PocketSphinxAligner


class Aligners:
    """The aligner called ``name``, one of ALIGNERS, or for "auto" all that know a language. Each is made at first use,
    once; ``acoustic`` and ``dictionary`` are an MFA model, by path or name."""

    def __init__(self, name: str, acoustic: str | None = None, dictionary: str | None = None) -> None:
        if name not in ALIGNERS:
            raise InputError(f"{name}: no such aligner; one of {', '.join(ALIGNERS)}")
        if name == "mfa" and not (acoustic and dictionary):
            raise InputError("the mfa aligner needs an acoustic model zip and a dictionary (--acoustic, --dictionary)")
        if bool(acoustic) != bool(dictionary) and name != "mfa-cli":
            raise InputError("an MFA acoustic model and its dictionary go together (--acoustic, --dictionary)")
        self.name, self._acoustic, self._dictionary = name, acoustic, dictionary
        self._made: dict[str, Aligner] = {}

    def for_language(self, language: str) -> list[Aligner]:
        """Who may try, in order."""
        if self.name != "auto":
            return [self._named(self.name)]
        names = ["mfa"] if self._acoustic and self._dictionary else []
        names += ["pocketsphinx"] if language == "en" else []
        found = _published_model(language)
        if found and language != "en":
            names.append(f"mfa:{found}")
        return [self._named(n) for n in names]

    def _named(self, name: str) -> Aligner:
        if name not in self._made:
            kind, _, model = name.partition(":")
            if kind == "pocketsphinx":
                self._made[name] = PocketSphinxAligner()
            elif kind == "mfa":
                acoustic, dictionary = (model, model) if model else (self._acoustic or "", self._dictionary or "")
                self._made[name] = MfaAligner(acoustic, dictionary)
            else:
                self._made[name] = MfaCommandAligner(self._acoustic, self._dictionary)
        return self._made[name]


def _published_model(language: str) -> str | None:
    """A model in MFA's own folder whose name begins with the language's, with its dictionary."""
    for path in sorted((mfa_folder() / "acoustic").glob(f"{mfa_language(language)}_*.zip")):
        if (mfa_folder() / "dictionary" / f"{path.stem}.dict").is_file():
            return path.stem
    return None
