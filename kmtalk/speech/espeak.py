"""espeak-ng: pronunciations in IPA for some hundred languages, and a synthetic voice that reports its phones.

The library comes with the package `espeakng-loader` (extra `voices`). It keeps its state in global variables, so that
calls from several threads take turns.
"""

from __future__ import annotations

import ctypes
import importlib.util
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.errors import InputError
from kmtalk.speech.alignment import Phone

_DICTIONARIES = {"nb": "no"}  # of voices whose dictionary has another name

IGNORED_IPA_MARKS = "ˈˌ-"


def espeak_is_installed() -> bool:
    """Return whether the package with the library is installed."""
    return importlib.util.find_spec("espeakng_loader") is not None


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("string", ctypes.c_char * 8),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Espeak:
    """Interface to libespeak-ng; `espeak()` returns the only instance of a process.

    Attributes:
        rate: Sample rate of the voice in Hz.
    """

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._data = Path(espeakng_loader.get_data_path())
        synchronous, with_phonemes_in_ipa, never_exit = 2, 3, 0x8000
        options = with_phonemes_in_ipa | never_exit
        self.rate = self._library.espeak_Initialize(synchronous, 0, str(self._data).encode(), options)
        if self.rate <= 0:
            raise InputError("espeak-ng cannot be initialized; reinstall espeakng-loader")
        self._lock = threading.Lock()
        self._samples: list[np.ndarray] = []
        self._events: list[tuple[int, str]] = []
        self._callback = _CALLBACK(self._on_event)
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p

    def _on_event(self, wave: Any, count: int, events: Any) -> int:
        phoneme, end_of_list = 7, 0
        i = 0
        while events[i].type != end_of_list:
            if events[i].type == phoneme:
                self._events.append((events[i].sample, events[i].string.decode("utf-8", "ignore")))
            i += 1
        if wave and count:
            self._samples.append(np.ctypeslib.as_array(wave, (count,)).copy())
        return 0

    def has_voice(self, name: str) -> bool:
        """Return whether there is a voice of this name or language code, and its dictionary."""
        if not (self._data / f"{_DICTIONARIES.get(name, name)}_dict").is_file():  # espeak-ng would complain on stderr
            return False
        with self._lock:
            return bool(self._library.espeak_SetVoiceByName(name.encode()) == 0)

    def _set_voice(self, name: str) -> None:
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise InputError(f"espeak-ng has no voice {name}")

    def synthesize(
        self, name: str, text: str, rate_factor: float, pitch_factor: float
    ) -> tuple[np.ndarray, list[Phone]]:
        """Return samples in [-1, 1] at `rate` Hz and their phones; raises InputError where there is no such voice."""
        with self._lock:
            self._set_voice(name)
            words_a_minute, base_pitch = 1, 3
            self._library.espeak_SetParameter(words_a_minute, int(165 * rate_factor), 0)
            self._library.espeak_SetParameter(base_pitch, int(np.clip(50 * pitch_factor, 0, 99)), 0)
            self._samples, self._events = [], []
            self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
            data, utf8 = text.encode(), 1
            self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, utf8, None, None)
            self._library.espeak_Synchronize()
            samples = np.concatenate(self._samples or [np.zeros(0, np.int16)])
            events = self._events
        bounds = [start for start, _ in events[1:]] + [len(samples)]
        phones = [
            Phone(label.strip(IGNORED_IPA_MARKS), start / self.rate, end / self.rate)
            for (start, label), end in zip(events, bounds, strict=True)
            if any(c.isalpha() for c in label.strip(IGNORED_IPA_MARKS))
        ]
        return samples / 32768.0, phones

    def phonemes(self, name: str, text: str) -> str:
        """Return the text in IPA; raises InputError where there is no such voice."""
        with self._lock:
            self._set_voice(name)
            out, data, utf8, ipa = [], ctypes.c_char_p(text.encode()), 1, 2
            pointer = ctypes.pointer(data)
            while pointer.contents.value:
                out.append(self._library.espeak_TextToPhonemes(pointer, utf8, ipa).decode())
        return " ".join(out)

    def ipa_words(self, name: str, text: str) -> list[str]:
        """Return the words of `text` in IPA by the rules of a language, without the marks of a change of language."""
        return [w for w in self.phonemes(name, text).split() if not w.startswith("(")]


@lru_cache(maxsize=1)
def espeak() -> Espeak:
    """Return the library. Raises ImportError where espeakng-loader is not installed."""
    return Espeak()
