"""Emotions, as a layer by rule.

No data of this project contains emotions. Each one here is a prototype: the action units of the Facial Action Coding
System that Ekman and Friesen list for it (EMFACS; Ekman, Friesen & Hager 2002, Facial Action Coding System), mapped to
shapes. Shapes that part the lips or move the jaw are left out, so that speech keeps its contacts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kmtalk.errors import InputError
from kmtalk.text_files import read_json_file

ACTION_UNITS: dict[str, Mapping[str, float]] = {
    "AU1": {"browInnerUp": 1.0},
    "AU2": {"browOuterUpLeft": 1.0, "browOuterUpRight": 1.0},
    "AU4": {"browDownLeft": 1.0, "browDownRight": 1.0},
    "AU5": {"eyeWideLeft": 1.0, "eyeWideRight": 1.0},
    "AU6": {"cheekSquintLeft": 1.0, "cheekSquintRight": 1.0},
    "AU7": {"eyeSquintLeft": 1.0, "eyeSquintRight": 1.0},
    "AU9": {"noseSneerLeft": 1.0, "noseSneerRight": 1.0},
    "AU12": {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0},
    "AU14": {"mouthDimpleLeft": 1.0, "mouthDimpleRight": 1.0},
    "AU15": {"mouthFrownLeft": 1.0, "mouthFrownRight": 1.0},
    "AU20": {"mouthStretchLeft": 1.0, "mouthStretchRight": 1.0},
}
"""Action unit → weight by shape."""

EMOTIONS: dict[str, Mapping[str, float]] = {
    "happy": {"AU6": 0.9, "AU12": 0.85, "AU7": 0.2},
    "sad": {"AU1": 0.75, "AU4": 0.3, "AU15": 0.6},
    "angry": {"AU4": 0.85, "AU5": 0.25, "AU7": 0.5, "AU15": 0.2},
    "surprised": {"AU1": 0.8, "AU2": 0.8, "AU5": 0.6},
    "afraid": {"AU1": 0.8, "AU2": 0.4, "AU4": 0.35, "AU5": 0.6, "AU20": 0.3},
    "disgusted": {"AU9": 0.7, "AU4": 0.4, "AU15": 0.35, "AU7": 0.3},
    "friendly": {"AU6": 0.25, "AU12": 0.3, "AU2": 0.1},
}
"""Emotion → amount by action unit, at amount 1. "friendly" is ours: a slight smile with the eyes."""

BLEND_SECONDS = 0.35  # time constant of the changes from one amount to the next


@dataclass(frozen=True)
class EmotionCue:
    """An emotion that begins at a time and lasts until its next cue.

    Attributes:
        time: Time in seconds.
        name: One of `EMOTIONS`.
        amount: From 0 to 1.
    """

    time: float
    name: str
    amount: float


def parse_emotion(given: str) -> tuple[EmotionCue, ...]:
    """Parse an emotion for a whole clip, or read a file of cues.

    Args:
        given: "happy", "happy:0.6", "happy:0.6,surprised:0.2", or the path of a .json file with a list of objects with
            `time`, `name` and `amount`.

    Raises:
        InputError: An emotion is unknown, an amount is not from 0 to 1, or the file cannot be read.
    """
    if given.lower().endswith(".json"):
        return _read_cues(Path(given))
    return tuple(_cue(f"emotion {given}", 0.0, *part.partition(":")[::2]) for part in given.split(","))


def _cue(where: str, time: object, name: object, amount: object) -> EmotionCue:
    label = str(name).strip()
    if label not in EMOTIONS:
        raise InputError(f"{where}: no such emotion; one of {', '.join(EMOTIONS)}")
    try:
        at, value = float(str(time)), 1.0 if amount == "" else float(str(amount))
    except ValueError:
        raise InputError(f"{where}: the amount is not a number; give it as happy:0.6") from None
    if not (0 <= value <= 1 and np.isfinite(at)):
        raise InputError(f"{where}: amounts are from 0 to 1")
    return EmotionCue(at, label, value)


def _read_cues(path: Path) -> tuple[EmotionCue, ...]:
    rows = read_json_file(path)
    try:
        cues = [_cue(str(path), row["time"], row["name"], row["amount"]) for row in rows]
    except (KeyError, TypeError):
        raise InputError(f"{path}: not a list of objects with time, name and amount") from None
    return tuple(sorted(cues, key=lambda cue: cue.time))


def emotion_weights(cues: Sequence[EmotionCue], times: np.ndarray) -> dict[str, np.ndarray]:
    """Return the weights (N,) by shape name at `times` (N,) in seconds.

    A cue at time 0 or before holds from the first frame on; later ones blend in.
    """
    from scipy.ndimage import gaussian_filter1d  # slow to import, and the command line needs the names

    out: dict[str, np.ndarray] = {}
    fps = 1 / (times[1] - times[0]) if len(times) > 1 else 30.0
    for emotion in dict.fromkeys(cue.name for cue in cues):
        own = [cue for cue in cues if cue.name == emotion]
        amount = np.zeros(len(times))
        for cue in own:
            amount[times >= cue.time] = cue.amount
        if any(cue.time > 0 for cue in own):
            amount = gaussian_filter1d(amount, BLEND_SECONDS * fps / 2, mode="nearest")
        for unit, share in EMOTIONS[emotion].items():
            for shape, weight in ACTION_UNITS[unit].items():
                out[shape] = np.clip(out.get(shape, 0.0) + amount * share * weight, 0, 1)
    return out
