from __future__ import annotations

import numpy as np
from conftest import phones

from kmtalk import Alignment
from kmtalk.keys import locate_key_frames


def test_boundaries_become_the_frames_that_show_them():
    # frame n covers n / fps to (n + 1) / fps and is centred between
    keys = locate_key_frames(phones(("B", 0.10, 0.20), ("AA", 0.20, 0.35)), 30, 30.0)
    assert keys.frames.tolist() == [0, 3, 6, 10, 29]
    assert keys.phone_labels == ("sil", "B", "AA", "sil", "sil")
    assert np.allclose(keys.times, (keys.frames + 0.5) / 30)


def test_first_and_last_are_always_in_and_nothing_is_out_of_range():
    keys = locate_key_frames(phones(("B", -0.1, 0.2), ("AA", 0.9, 5.0)), 30, 30.0)
    assert keys.frames[0] == 0
    assert keys.frames[-1] == 29
    assert (np.diff(keys.frames) > 0).all()


def test_a_phone_shorter_than_a_frame_counts_once():
    keys = locate_key_frames(phones(("T", 0.500, 0.505), ("S", 0.505, 0.51), ("IY", 0.51, 0.6)), 25, 25.0)
    assert keys.frames.tolist() == [0, 12, 15, 24]
    assert keys.phone_labels[1] == "IY"  # the phone that starts last gives the label


def test_silence_and_single_frames():
    spoken = phones(("B", 0.10, 0.20), ("AA", 0.20, 0.40), ("S", 0.40, 0.50))
    keys = locate_key_frames(spoken, 30, 30.0, apex=True)
    assert keys.frames.tolist() == [0, 3, 6, 9, 12, 15, 29]
    assert keys.phone_labels == ("sil", "B", "AA", "AA", "S", "sil", "sil")
    assert locate_key_frames(Alignment(), 10, 30.0).frames.tolist() == [0, 3, 6, 9]
    assert locate_key_frames(Alignment(), 1, 30.0).frames.tolist() == [0]
    assert locate_key_frames(phones(("B", 0.0, 0.01)), 1, 30.0).frames.tolist() == [0]


def test_about_a_third_of_frames_on_real_speech(spoken):
    assert 0.25 <= len(spoken.keys) / len(spoken.weights) <= 0.40
