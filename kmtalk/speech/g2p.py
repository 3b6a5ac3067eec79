"""Pronunciations of English words that no dictionary holds.

The network is g2p-en's (Park & Kim, Apache-2.0): a GRU encoder and decoder over letters. The package
is not imported, because importing it downloads NLTK data; only its checkpoint is read.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np

_LETTERS = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
_VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW"
_PHONES = ["<pad>", "<unk>", "<s>", "</s>"] + sorted(
    [v + s for v in _VOWELS.split() for s in "012"]
    + ["UW"]
    + [
        "B",
        "CH",
        "D",
        "DH",
        "F",
        "G",
        "HH",
        "JH",
        "K",
        "L",
        "M",
        "N",
        "NG",
        "P",
        "R",
        "S",
        "SH",
        "T",
        "TH",
        "V",
        "W",
        "Y",
        "Z",
        "ZH",
    ]
)
_LONGEST = 24


@lru_cache(maxsize=1)
def _weights() -> dict[str, np.ndarray]:
    spec = importlib.util.find_spec("g2p_en")
    if spec is None or spec.origin is None:
        raise RuntimeError("g2p-en is not installed: pip install g2p-en")
    with np.load(Path(spec.origin).parent / "checkpoint20.npz") as file:
        return {name: file[name] for name in file.files}


def _gru_cell(x: np.ndarray, h: np.ndarray, side: str) -> np.ndarray:
    w = _weights()
    a = w[f"{side}_w_ih"] @ x + w[f"{side}_b_ih"]
    b = w[f"{side}_w_hh"] @ h + w[f"{side}_b_hh"]
    size = len(h)
    reset, update = np.split(1 / (1 + np.exp(-(a[: 2 * size] + b[: 2 * size]))), 2)
    new = np.tanh(a[2 * size :] + reset * b[2 * size :])
    return (1 - update) * new + update * h


@lru_cache(maxsize=4096)
def pronounce(word: str, stress: bool = False) -> tuple[str, ...]:
    """ARPAbet phones of one word, vowels marked 0–2 if ``stress``; letters outside a–z are passed over."""
    w = _weights()
    letters = [c for c in word.lower() if "a" <= c <= "z"]
    if not letters:
        return ()
    h = np.zeros(w["enc_w_hh"].shape[1])
    for symbol in [*letters, "</s>"]:
        h = _gru_cell(w["enc_emb"][_LETTERS.index(symbol)], h, "enc")
    out: list[str] = []
    last = _PHONES.index("<s>")
    for _ in range(_LONGEST):
        h = _gru_cell(w["dec_emb"][last], h, "dec")
        last = int((w["fc_w"] @ h + w["fc_b"]).argmax())
        if _PHONES[last] == "</s>":
            break
        out.append(_PHONES[last] if stress else _PHONES[last].rstrip("012"))
    return tuple(p for p in out if not p.startswith("<"))


def spell(acronym: str) -> list[str]:
    """Letter names, as dictionaries hold them: "PBX" → ["p", "b", "x"]."""
    return list(acronym.lower())
