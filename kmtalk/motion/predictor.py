"""The trained network as a speaker: sound and phones → the mouth's weights on a rig."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.motion import frame_count, frame_times, resample_motion
from kmtalk.face.rig import Rig
from kmtalk.motion.inference import check_encoder, network_frame_rate, predict_motion, select_key_frames
from kmtalk.motion.model import KMTalkNetwork, style_mixture
from kmtalk.motion.postprocessing import postprocess
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import Audio
from kmtalk.speech.encoders import Features, SpeechEncoder

JAW_SHAPES = ("jawOpen", "mouthClose")
"""Shapes that the jaw's intensity scales; together, so that sealed lips stay sealed."""


@dataclass(frozen=True)
class Intensity:
    """How much of the motion is shown: 1 is as spoken."""

    jaw: float = 1.0
    lips: float = 1.0


def parse_intensity(given: str | float | Intensity | None) -> Intensity:
    """An Intensity, a number for jaw and lips alike, or "jaw=1.2,lips=0.9"; raises InputError for others."""
    if given is None:
        return Intensity()
    if isinstance(given, Intensity):
        return given
    amounts: dict[str, float] = {}
    try:
        for part in str(given).split(","):
            name, equals, value = part.partition("=")
            if equals and name.strip() not in ("jaw", "lips"):
                raise ValueError
            for which in [name.strip()] if equals else ["jaw", "lips"]:
                amounts[which] = float(value if equals else name)
        if not all(0 <= a <= 3 for a in amounts.values()):
            raise ValueError
    except ValueError:
        raise InputError(f"intensity {given}: give a number from 0 to 3, or jaw=1.2,lips=0.9") from None
    return Intensity(**amounts)


def apply_intensity(weights: np.ndarray, rig: Rig, intensity: Intensity) -> np.ndarray:
    """Mouth weights (N, R) scaled: the jaw by one amount, all other shapes by another."""
    scale = np.full(len(rig.names), intensity.lips)
    scale[[rig.index[n] for n in JAW_SHAPES]] = intensity.jaw
    return np.clip(weights * scale, 0, 1)


def check_rig(network: KMTalkNetwork, rig: Rig) -> None:
    """Raise InputError where the network was trained for another rig."""
    missing = [n for n in network.config.shape_names if n not in rig.index]
    if network.config.head != "rig" or missing:
        raise InputError(
            f"these weights were trained for another rig ({', '.join(missing[:3]) or network.config.head})"
        )


class MotionPredictor:
    """A network with its encoder."""

    def __init__(self, network: KMTalkNetwork, encoder: SpeechEncoder) -> None:
        check_encoder(network, encoder)
        self.network, self.encoder = network, encoder

    @property
    def styles(self) -> tuple[str, ...]:
        return self.network.config.styles

    def encode_audio(self, audio: Audio) -> Features:
        """What the network's encoder makes of the sound."""
        return self.encoder.encode(audio.samples)

    def predict(
        self,
        rig: Rig,
        alignment: Alignment,
        audio: Audio,
        fps: float,
        style: str | dict[str, float] | None = None,
        features: Features | None = None,
    ) -> np.ndarray:
        """Weights (N, R) of the shapes of mouth, jaw and tongue, finished by the phones (motion.finish); the
        others are zero.

        ``style`` is a name, shares by name, or None for the mean of all; ``features`` is what ``encode_audio``
        gave, where it was heard already. A silent clip gives a still face. Raises InputError for an
        unknown style, or a rig that lacks the network's shapes.
        """
        shape = self.network.config
        shares = style_mixture(shape, style)
        check_rig(self.network, rig)
        count = frame_count(audio.duration, fps)
        out = np.zeros((count, len(rig.names)))
        if audio.is_silent:
            return out
        inner = network_frame_rate(fps)
        frames = frame_count(audio.duration, inner)
        located = select_key_frames(alignment, frames, inner, shape.key_placement)
        motion = predict_motion(self.network, features or self.encode_audio(audio), located, frames, inner, shares)
        if inner != fps:
            motion = resample_motion(motion, inner, frame_times(count, fps))
        out[:, [rig.index[n] for n in shape.shape_names]] = motion[:count]
        return postprocess(out, rig, alignment, frame_times(count, fps))


def parse_style(given: str | int | None) -> str | dict[str, float] | None:
    """ "natural", "clear:0.5,relaxed:0.5" or "mean" (None)."""
    text = str(given)
    if given is None or text == "mean":
        return None
    if ":" not in text:
        return text
    try:
        return {name.strip(): float(share) for name, share in (part.split(":") for part in text.split(","))}
    except ValueError:
        raise InputError(f"style {text}: give a name, or shares such as clear:0.5,relaxed:0.5") from None
