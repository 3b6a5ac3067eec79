from __future__ import annotations

import pytest

from kmtalk import InputError
from kmtalk.speech.g2p import predict_pronunciation
from kmtalk.speech.text import check_spoken_text, tokenize_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Dr. Smith's on 3rd St.", "doctor smith's on third street"),
        ("It cost $5.50, not £1.", "it cost five dollars and fifty cents not one pound"),
        ("In 1984 and 2026", "in nineteen eighty four and twenty twenty six"),
        ("1,200 of 3.5%", "one thousand two hundred of three point five percent"),
        ("It is $, you know", "it is you know"),
        (
            "$1.5 million, $3 million or $1.5",
            "one point five million dollars three million dollars or one point five dollars",
        ),
        ("Mm-hmm, wait a sec", "mm hmm wait a sec"),
        ("5 mm in 10 sec.", "five millimeters in ten seconds"),
        ("St. John's on Main St.", "saint john's on main street"),
        ("Mt. Ida, Apple Inc.", "mount ida apple incorporated"),
        ("Dial 0800", "dial zero eight zero zero"),
        ("at 8:05 & 9:00", "at eight oh five and nine o'clock"),
        ("Say no.", "say no"),
        ("No. 5", "number five"),
        ("a re-entered well-known word", "a re entered well known word"),
        ("the U.S.A. and a PBX", "the USA and a PBX"),
        ("STOP IT NOW", "stop it now"),
        ("“Don’t,” he said—quietly…", "don't he said quietly"),
    ],
)
def test_what_is_written_becomes_what_is_said(text, words):
    assert tokenize_words(text) == words.split()


def test_numbers_in_other_languages():
    assert tokenize_words("1.000 und 3,5", "de") == ["eintausend", "und", "drei", "komma", "fünf"]
    assert len(tokenize_words("1,234,567", "am")) == 7  # spelled digit by digit: num2words would not return
    assert tokenize_words("Es kostet 21 Euro", "de") == ["es", "kostet", "einundzwanzig", "euro"]
    assert tokenize_words("J'ai 80 ans", "fr") == ["j'ai", "quatre", "vingts", "ans"]


@pytest.mark.parametrize("text", ["", "  \n", "♪♫ !!! …"])
def test_nothing_to_say_is_refused(text):
    with pytest.raises(InputError):
        check_spoken_text(text)


def test_unknown_words_get_a_plausible_pronunciation():
    assert predict_pronunciation("banana")[0] == "B"
    assert [p for p in predict_pronunciation("kubernetes") if p in ("K", "B", "N", "T", "S")] == [
        "K",
        "B",
        "N",
        "T",
        "S",
    ]
    assert predict_pronunciation("漢字") == ()
    assert predict_pronunciation("banana", stress=True)[1].endswith(("0", "1", "2"))
