"""Motion prediction for a rig: audio and phones → weights of the shapes of mouth, jaw and tongue.

N frames, R shapes of the rig.
"""

from __future__ import annotations

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.motion import frame_count, frame_times, resample_motion
from kmtalk.face.rig import Rig
from kmtalk.motion.inference import check_encoder, network_frame_rate, predict_motion, select_key_frames
from kmtalk.motion.model import KMTalkNetwork
from kmtalk.motion.postprocessing import postprocess
from kmtalk.motion.styles import style_mixture
from kmtalk.settings import Intensity
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import Audio
from kmtalk.speech.encoders import SpeechEncoder, SpeechFeatures
from kmtalk.speech.prosody import loudness

JAW_INTENSITY_SHAPES = ("jawOpen", "mouthClose")
"""Shapes scaled by the jaw's intensity; both by the same amount, so that closed lips stay closed."""


def scale_mouth_weights(weights: np.ndarray, rig: Rig, intensity: Intensity) -> np.ndarray:
    """Return weights (N, R) scaled by `intensity` and clipped to [0, 1]."""
    scale = np.full(len(rig.shape_names), intensity.lips)
    scale[[rig.index[n] for n in JAW_INTENSITY_SHAPES]] = intensity.jaw
    return np.clip(weights * scale, 0, 1)


def check_rig_fits_network(network: KMTalkNetwork, rig: Rig) -> None:
    """Raise InputError where a network predicts no rig weights, or shapes that `rig` lacks."""
    missing = [n for n in network.config.shape_names if n not in rig.index]
    if network.config.head != "rig" or missing:
        raise InputError(
            f"these weights were trained for another rig ({', '.join(missing[:3]) or network.config.head})"
        )


class MotionPredictor:
    """A network with its speech encoder.

    Args:
        network: Network in evaluation mode.
        encoder: The encoder that it was trained with.

    Raises:
        InputError: The network was trained with another encoder.
    """

    def __init__(self, network: KMTalkNetwork, encoder: SpeechEncoder) -> None:
        check_encoder(network, encoder)
        self.network, self.encoder = network, encoder

    @property
    def styles(self) -> tuple[str, ...]:
        """Names of the network's styles."""
        return self.network.config.styles

    def encode_audio(self, audio: Audio) -> SpeechFeatures:
        """Return the encoder's features of `audio`."""
        return self.encoder.encode(audio.samples)

    def predict(
        self,
        rig: Rig,
        alignment: Alignment,
        audio: Audio,
        fps: float,
        style: str | dict[str, float] | None = None,
        features: SpeechFeatures | None = None,
    ) -> np.ndarray:
        """Predict the weights of mouth, jaw and tongue, postprocessed by the phones (`postprocess`).

        Args:
            rig: Rig to animate.
            alignment: Phones of the clip.
            audio: Audio of the clip; for silence all weights are zero.
            fps: Frames per second of the result.
            style: Name of a style, shares by name, or None for the mean of all styles.
            features: Result of `encode_audio` for this clip, to reuse it.

        Returns:
            Weights, shape (N, R), in [0, 1]; zero for shapes that the network does not move.

        Raises:
            InputError: The style is unknown, or the rig lacks shapes of the network.
        """
        config = self.network.config
        shares = style_mixture(config.styles, style)
        check_rig_fits_network(self.network, rig)
        count = frame_count(audio.duration, fps)
        out = np.zeros((count, len(rig.shape_names)))
        if audio.is_silent:
            return out
        network_fps = network_frame_rate(fps)
        network_frame_count = frame_count(audio.duration, network_fps)
        key_frames = select_key_frames(alignment, network_frame_count, network_fps, config.key_placement)
        motion = predict_motion(
            self.network,
            features or self.encode_audio(audio),
            alignment,
            key_frames,
            network_frame_count,
            network_fps,
            shares,
        )
        if not np.isfinite(motion).all():
            raise InputError("the network gives values that are not finite; pass weights that kmtalk train wrote")
        if network_fps != fps:
            motion = resample_motion(motion, network_fps, frame_times(count, fps))
        out[:, [rig.index[n] for n in config.shape_names]] = motion[:count]
        times = frame_times(count, fps)
        return postprocess(out, rig, alignment, times, loudness(audio.samples, times))
