"""Grapheme-to-phoneme conversion for English words that are in no dictionary.

The network is that of g2p-en (Park & Kim, Apache-2.0): a GRU encoder and decoder over letters. Only the
package's checkpoint is read; importing the package would download NLTK data.
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
_MAX_PHONES = 24


@lru_cache(maxsize=1)
def _weights() -> dict[str, np.ndarray]:
    """Load g2p-en's parameters by name."""
    spec = importlib.util.find_spec("g2p_en")
    if spec is None or spec.origin is None:
        raise RuntimeError("g2p-en is not installed: pip install g2p-en")
    with np.load(Path(spec.origin).parent / "checkpoint20.npz") as file:
        return {name: file[name] for name in file.files}


def _gru_cell(x: np.ndarray, h: np.ndarray, side: str) -> np.ndarray:
    """Return the next hidden state (H,) for input `x`; `side` is "enc" or "dec"."""
    w = _weights()
    a = w[f"{side}_w_ih"] @ x + w[f"{side}_b_ih"]
    b = w[f"{side}_w_hh"] @ h + w[f"{side}_b_hh"]
    size = len(h)
    reset, update = np.split(1 / (1 + np.exp(-(a[: 2 * size] + b[: 2 * size]))), 2)
    new = np.tanh(a[2 * size :] + reset * b[2 * size :])
    return (1 - update) * new + update * h


@lru_cache(maxsize=4096)
def predict_pronunciation(word: str, stress: bool = False) -> tuple[str, ...]:
    """Predict the pronunciation of one word.

    Args:
        word: The word; characters other than a–z (in either case) are ignored.
        stress: Append the stress digit (0–2) to vowels.

    Returns:
        ARPAbet phones; empty if the word has none of the letters a–z.
    """
    w = _weights()
    letters = [c for c in word.lower() if "a" <= c <= "z"]
    if not letters:
        return ()
    h = np.zeros(w["enc_w_hh"].shape[1])
    for symbol in [*letters, "</s>"]:
        h = _gru_cell(w["enc_emb"][_LETTERS.index(symbol)], h, "enc")
    out: list[str] = []
    last = _PHONES.index("<s>")
    for _ in range(_MAX_PHONES):
        h = _gru_cell(w["dec_emb"][last], h, "dec")
        last = int((w["fc_w"] @ h + w["fc_b"]).argmax())
        if _PHONES[last] == "</s>":
            break
        out.append(_PHONES[last] if stress else _PHONES[last].rstrip("012"))
    return tuple(p for p in out if not p.startswith("<"))


def split_letters(acronym: str) -> list[str]:
    """Return the letters of an acronym as dictionary words: "PBX" → ["p", "b", "x"]."""
    return list(acronym.lower())
