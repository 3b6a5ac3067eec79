"""Acoustic models and dictionaries of the Montreal Forced Aligner (MFA), read without MFA or Kaldi.

An MFA acoustic model is a zip file that contains a Kaldi GMM-HMM. `kaldi.py` reads it, and `kaldi-native-fbank`
computes its MFCCs. Supported are monophone and triphone models with delta or LDA features and position-dependent
phones. Of speaker-adapted models only the first pass, without adaptation (fMLLR), is used.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kaldi_native_fbank as knf
import numpy as np

from kmtalk.errors import InputError, describe_problem
from kmtalk.speech.alignment_pipeline import AlignmentError
from kmtalk.speech.audio import SAMPLE_RATE
from kmtalk.speech.kaldi import DecisionTree, KaldiReader, read_acoustic_model
from kmtalk.text_files import read_text_file
from kmtalk.user_files import check_user_file


def mfa_models_dir() -> Path:
    """Return the folder in which the `mfa` command stores downloaded models."""
    return Path(os.environ.get("MFA_ROOT_DIR", Path.home() / "Documents" / "MFA")) / "pretrained_models"


def find_mfa_model(kind: str, name: str) -> Path:
    """Find an MFA acoustic model or dictionary.

    Args:
        kind: "acoustic" or "dictionary".
        name: Path of a file, or name of a model in MFA's folder ("english_us_arpa").

    Raises:
        InputError: There is no such file or model.
    """
    path = Path(name)
    if path.is_file():
        return path
    suffix = {"acoustic": ".zip", "dictionary": ".dict"}[kind]
    downloaded = mfa_models_dir() / kind / (name if name.endswith(suffix) else name + suffix)
    if downloaded.is_file():
        return downloaded
    raise InputError(f"{name}: no such MFA {kind} file, and no model of that name in {mfa_models_dir() / kind}")


MEMBERS = {
    "meta.json": 16 << 20,
    "phones.txt": 16 << 20,
    "tree": 64 << 20,
    "final.mdl": 256 << 20,
    "final.alimdl": 256 << 20,
    "lda.mat": 16 << 20,
}
"""Files of a model that are read, and the most bytes that each may hold."""

MAX_PRONUNCIATIONS, MAX_PHONES = 64, 100
"""Pronunciations of one word, and phones of one pronunciation; those of published dictionaries have half as many."""

_RANGES: dict[str, tuple[float, float]] = {
    "frame_shift": (1.0, 100.0),
    "frame_length": (5.0, 200.0),
    "preemphasis_coefficient": (0.0, 1.0),
    "num_mel_bins": (3, 128),
    "low_frequency": (0.0, SAMPLE_RATE / 2),
    "high_frequency": (-SAMPLE_RATE / 2, SAMPLE_RATE / 2),
    "num_coefficients": (1, 128),
    "energy_floor": (0.0, 1e9),
    "cepstral_lifter": (0.0, 1000.0),
    "splice_left_context": (0, 20),
    "splice_right_context": (0, 20),
}
"""Settings of features, and the least and greatest value of each; whole numbers where both are."""


@dataclass(frozen=True)
class _MfccExtractor:
    """Computes MFCCs with delta or LDA features from the `features` settings of a model's meta.json."""

    settings: Mapping[str, Any]
    lda: np.ndarray | None

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Return features (T, D) of samples (S,) in [-1, 1], one row every `frame_shift` seconds."""
        f = self.settings
        o = knf.MfccOptions()
        o.frame_opts.samp_freq = SAMPLE_RATE
        o.frame_opts.dither = 0.0
        o.frame_opts.frame_shift_ms = f.get("frame_shift", 10)
        o.frame_opts.frame_length_ms = f.get("frame_length", 25)
        o.frame_opts.snip_edges = f.get("snip_edges", True)
        o.frame_opts.preemph_coeff = f.get("preemphasis_coefficient", 0.97)
        o.mel_opts.num_bins = f.get("num_mel_bins", 23)
        o.mel_opts.low_freq = f.get("low_frequency", 20)
        o.mel_opts.high_freq = f.get("high_frequency", 7800)
        o.num_ceps = f.get("num_coefficients", 13)
        o.use_energy = f.get("use_energy", False)
        o.energy_floor = f.get("energy_floor", 1.0)
        o.raw_energy = f.get("raw_energy", True)
        o.cepstral_lifter = f.get("cepstral_lifter", 22)
        computer = knf.OnlineMfcc(o)
        computer.accept_waveform(o.frame_opts.samp_freq, (samples * 32768.0).tolist())
        computer.input_finished()
        if computer.num_frames_ready < 3:
            raise AlignmentError("the audio is too short")
        mfcc = np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])
        mfcc = mfcc - mfcc.mean(axis=0)
        if self.lda is None:
            return _deltas(mfcc)
        left, right = f.get("splice_left_context", 3), f.get("splice_right_context", 3)
        index = np.arange(len(mfcc))[:, None] + np.arange(-left, right + 1)
        spliced = mfcc[np.clip(index, 0, len(mfcc) - 1)].reshape(len(mfcc), -1)
        width = spliced.shape[1]
        offset = self.lda[:, -1] if self.lda.shape[1] == width + 1 else 0.0
        return spliced @ self.lda[:, :width].T + offset

    @property
    def frame_shift(self) -> float:
        """Seconds from one row of features to the next."""
        return self.settings.get("frame_shift", 10) / 1000.0


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Raise ValueError for settings with which no features can be computed."""
    for name, (low, high) in _RANGES.items():
        value = settings.get(name, low)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"{name} is {str(value)[:40]}, not a number from {low:g} to {high:g}")
        if isinstance(low, int) and isinstance(high, int) and value != int(value):
            raise ValueError(f"{name} is {value:g}, not a whole number")
    for name in ("snip_edges", "use_energy", "raw_energy"):
        if not isinstance(settings.get(name, True), bool):
            raise ValueError(f"{name} is neither true nor false")
    low, high = settings.get("low_frequency", 20), settings.get("high_frequency", 7800)
    if low >= (high if high > 0 else SAMPLE_RATE / 2 + high):
        raise ValueError(f"low_frequency {low:g} is not below high_frequency {high:g}")
    if settings.get("num_coefficients", 13) > settings.get("num_mel_bins", 23):
        raise ValueError("it has more coefficients than mel bins")


def _deltas(mfcc: np.ndarray) -> np.ndarray:
    """Append first and second derivatives: (T, D) → (T, 3D)."""
    slope = np.array([-2, -1, 0, 1, 2]) / 10
    out = []
    for kernel in (np.ones(1), slope, np.convolve(slope, slope)):
        half = len(kernel) // 2
        padded = np.pad(mfcc, ((half, half), (0, 0)), "edge")
        out.append(sum(k * padded[j : j + len(mfcc)] for j, k in enumerate(kernel)))
    return np.concatenate(out, axis=1)


class MfaModel:
    """An MFA acoustic model.

    Args:
        path: Acoustic model zip, of MFA version 2 or later.

    Raises:
        InputError: The file is not an acoustic model, is damaged, or uses unsupported features.
    """

    def __init__(self, path: Path) -> None:
        try:
            check_user_file(path)
            with zipfile.ZipFile(path) as archive:
                members = {Path(info.filename).name: info for info in archive.infolist() if not info.is_dir()}
                for name in set(members) & set(MEMBERS):
                    if members[name].file_size > MEMBERS[name]:
                        raise InputError(
                            f"{path}: {name} in it holds {members[name].file_size / 1e6:,.0f} MB; download it again"
                        )
                # zipfile gives no more of a member than its directory says
                files = {name: archive.read(members[name]) for name in members if name in MEMBERS}
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
            raise InputError(f"{path}: not an MFA acoustic model zip ({error})") from None
        missing = [n for n in ("meta.json", "tree", "final.mdl") if n not in files]
        if missing:
            raise InputError(f"{path}: not an MFA acoustic model of version 2 or later ({', '.join(missing)} missing)")
        try:
            self._read(path, files)
        except InputError:
            raise
        except Exception as error:
            reason = describe_problem(error)
            raise InputError(f"{path}: damaged acoustic model ({reason}); download it again with mfa") from None

    def _read(self, path: Path, files: Mapping[str, bytes]) -> None:
        meta = json.loads(files["meta.json"])
        settings = meta.get("features") or {}
        settings = settings if isinstance(settings, dict) else {}
        self._check_supported(path, settings)
        # in a speaker-adapted (SAT) model, final.alimdl is the speaker-independent model
        self.acoustic = read_acoustic_model(files.get("final.alimdl", files["final.mdl"]))
        self.tree = DecisionTree(files["tree"])
        lda = KaldiReader(files["lda.mat"]).read_matrix() if "lda.mat" in files else None
        _check_settings(settings)
        self.features = _MfccExtractor(settings, lda)
        if "phones.txt" in files:
            pairs = (line.split() for line in files["phones.txt"].decode("utf-8").splitlines() if line.strip())
            self.phone_id = {label: int(number) for label, number in pairs}
        else:
            self.phone_id = dict(meta["phone_mapping"])
        positions = meta.get("dictionaries", {}).get("position_dependent_phones", False)
        self.position_dependent = bool(positions or meta.get("position_dependent_phones", False))
        self.silence_phone = str(meta.get("optional_silence_phone", "sil"))
        self.oov_phone = str(meta.get("oov_phone", "spn"))
        self.silence_probability = float(meta.get("silence_probability", 0.5))
        self.initial_silence_probability = float(meta.get("initial_silence_probability", 0.5))
        self._check_consistent()

    def _check_consistent(self) -> None:
        """Raise ValueError where the parts of the model contradict one another."""
        for name in ("silence_probability", "initial_silence_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name):g}, not a probability")
        if self.silence_phone not in self.phone_id:
            raise ValueError(f"its silence phone {self.silence_phone[:40]} is none of its phones")
        unknown = [label for label, number in self.phone_id.items() if number not in self.acoustic.topology]
        unknown = [label for label in unknown if label != "<eps>" and not label.startswith("#")]
        if unknown:
            raise ValueError(f"its phone {unknown[0][:40]} has no states")
        self.tree.check(len(self.acoustic.mixtures))
        width = self.features(np.zeros(SAMPLE_RATE // 2, np.float32)).shape[1]
        for mixture in self.acoustic.mixtures:
            mixture.check(width)

    @staticmethod
    def _check_supported(path: Path, settings: Mapping[str, Any]) -> None:
        if settings.get("type", "mfcc") != "mfcc":
            raise InputError(f"{path}: uses {settings['type']} features; pass a model with MFCC features")
        rate = settings.get("sample_frequency", SAMPLE_RATE)
        if rate != SAMPLE_RATE:
            raise InputError(f"{path}: expects audio at {rate} Hz; pass a model for {SAMPLE_RATE} Hz")
        for key in ("use_pitch", "uses_pitch", "use_voicing", "uses_voiced"):
            if settings.get(key):
                raise InputError(f"{path}: uses pitch features ({key}), which are not supported; use --aligner mfa-cli")

    def has_phone(self, phone: str) -> bool:
        """Return True if the model has the phone (given without a position suffix)."""
        return (phone + "_S" if self.position_dependent else phone) in self.phone_id

    def with_word_positions(self, phones: list[str]) -> list[str]:
        """Return the phones of one word with position suffixes (_B, _I, _E, _S), if the model uses them."""
        if not self.position_dependent or phones == [self.oov_phone]:
            return phones
        if len(phones) == 1:
            return [phones[0] + "_S"]
        return [phones[0] + "_B", *(p + "_I" for p in phones[1:-1]), phones[-1] + "_E"]


def read_dictionary(path: Path) -> dict[str, list[list[str]]]:
    """Read an MFA pronouncing dictionary, with tabs or spaces, with or without probabilities.

    Returns:
        For each word in lower case, its different pronunciations as lists of phones.

    Raises:
        InputError: The file cannot be read, contains no pronunciations, or more of a word than `MAX_PRONUNCIATIONS`, or
            one of more phones than `MAX_PHONES`.
    """
    lexicon: dict[str, dict[tuple[str, ...], None]] = {}
    try:
        lines = read_text_file(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a pronouncing dictionary ({error})") from None
    for line in lines:
        fields = line.split()
        word, rest = (fields[0], fields[1:]) if fields else ("", [])
        while rest and re.fullmatch(r"[0-9.]+(e-?\d+)?", rest[0]):
            rest = rest[1:]
        if len(rest) > MAX_PHONES:
            raise InputError(f"{path}: {word[:40]} has a pronunciation of {len(rest)} phones; leave it out")
        if rest:
            known = lexicon.setdefault(word.lower(), {})
            known[tuple(rest)] = None
            if len(known) > MAX_PRONUNCIATIONS:
                raise InputError(
                    f"{path}: has more than {MAX_PRONUNCIATIONS} pronunciations of {word[:40]}; leave out those that "
                    "nobody uses"
                )
    if not lexicon:
        raise InputError(f"{path}: contains no pronunciations")
    return {word: [list(phones) for phones in known] for word, known in lexicon.items()}
