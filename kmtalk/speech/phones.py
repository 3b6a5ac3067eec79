"""Phone labels: ARPAbet, IPA, and the nearest English phone of each."""

from __future__ import annotations

import re
import unicodedata

# fmt: off
ARPABET = frozenset((
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH", "K",
    "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
))
"""The 39 phones of English in ARPAbet, without stress."""

_IPA: dict[str, str] = {
    # vowels
    "i": "IY", "ɪ": "IH", "e": "EH", "ɛ": "EH", "æ": "AE", "a": "AA", "ɑ": "AA", "ɒ": "AO", "ɐ": "AH", "ʌ": "AH",
    "ə": "AH", "ɘ": "AH", "ɜ": "ER", "ɝ": "ER", "ɚ": "ER", "ɞ": "ER", "ɔ": "AO", "o": "OW", "ɤ": "AH", "u": "UW",
    "ʊ": "UH", "ɯ": "IH", "ɨ": "IH", "ʉ": "UW", "y": "UW", "ʏ": "UH", "ø": "OW", "œ": "AO", "ɶ": "AO", "ᵻ": "IH",
    "ej": "EY", "eɪ": "EY", "aj": "AY", "aɪ": "AY", "aw": "AW", "aʊ": "AW", "ow": "OW", "oʊ": "OW", "əw": "OW",
    "ɔj": "OY", "ɔɪ": "OY",
    # consonants
    "p": "P", "b": "B", "m": "M", "ɓ": "B", "ɸ": "F", "β": "V", "ʙ": "B", "f": "F", "v": "V", "ʋ": "V", "ɱ": "M",
    "θ": "TH", "ð": "DH", "t": "T", "d": "D", "ʈ": "T", "ɖ": "D", "n": "N", "ɳ": "N", "l": "L", "ɫ": "L", "ɭ": "L",
    "ɬ": "L", "ɮ": "L", "ɾ": "D", "r": "L", "ɹ": "R", "ɻ": "R", "ɽ": "R", "s": "S", "z": "Z", "ʂ": "SH", "ʐ": "ZH",
    "ʃ": "SH", "ʒ": "ZH", "ɕ": "SH", "ʑ": "ZH", "tʃ": "CH", "dʒ": "JH", "tɕ": "CH", "dʑ": "JH", "ts": "S", "dz": "Z",
    "tʂ": "CH", "dʐ": "JH", "pf": "F", "k": "K", "ɡ": "G", "g": "G", "c": "K", "ɟ": "G", "ç": "HH", "ʝ": "Y", "x": "K",
    "ɣ": "G", "χ": "HH", "ʁ": "HH", "ʀ": "HH", "q": "K", "ɢ": "G", "ŋ": "NG", "ɲ": "N", "ʎ": "L", "j": "Y", "ɥ": "W",
    "w": "W", "ʍ": "W", "h": "HH", "ɦ": "HH", "ħ": "HH", "ʕ": "HH", "ʔ": "HH",
}
# fmt: on


def canonical_phone(label: str) -> str:
    """Map a phone label to a member of `ARPABET`.

    Args:
        label: ARPAbet with or without stress digit, or IPA. Word-position suffixes of Kaldi ("B_B", "AA1_E")
            are ignored.

    Returns:
        The phone; "AH" for unknown labels.
    """
    label = re.sub(r"_[BIES]$", "", label)
    arpa = label.upper().rstrip("012")  # the label "EY2" is EY with secondary stress, not the second target of EY
    if arpa in ARPABET and (label.isupper() or len(arpa) > 1):
        return arpa
    plain = "".join(
        c
        for c in unicodedata.normalize("NFD", label)
        if not unicodedata.combining(c) and c.isalpha() and c not in "ːˑʰʲʷˠˤʼˈˌ"
    )
    if plain.isascii() and len(plain) > 2:  # a word such as "spn" or "noise", not a phone
        return "AH"
    for size in (len(plain), 2, 1):
        if plain[:size] in _IPA:
            return _IPA[plain[:size]]
    return "AH"


def split_ipa(word: str) -> list[str]:
    """Split an IPA word into phones: affricates and diphthongs as one, length and nasality with the letter before."""
    return re.findall(r"(?:aɪ|aʊ|eɪ|oʊ|ɔɪ|tʃ|dʒ|tɕ|ts|[^\W\d_ˈˌːˑʲʰ])[ːˑʲʰ\u0303]*", word)
