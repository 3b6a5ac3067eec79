"""The mouth of a sound on the default head: by the network, by rules, or by the joint model."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import numpy as np

from kmtalk.articulation.speaker import SimulatedSpeaker
from kmtalk.articulation.styles import SPEAKING_STYLES, SpeakingStyle, parse_speaking_style
from kmtalk.assets import asset_path
from kmtalk.face.rig import Rig
from kmtalk.joint.joint_flow import JointFlow
from kmtalk.joint_tasks import face_of_sound
from kmtalk.motion.inference import load_network_encoder
from kmtalk.motion.model import KMTalkNetwork, load_network
from kmtalk.motion.predictor import MotionPredictor, check_rig_fits_network, scale_mouth_weights
from kmtalk.motion.styles import resolve_style
from kmtalk.progress import Progress
from kmtalk.settings import AnimationSettings
from kmtalk.shared_property import shared_property
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import Audio
from kmtalk.speech.prosody import Prosody
from kmtalk.speech_reader import SpeechReader
from kmtalk.streaming.model import StreamingNetwork
from kmtalk.streaming.network_file import load_streaming_network

NETWORK_FILE = "network.safetensors"
COMPLETION_FILE = "completion.safetensors"
STREAMING_FILE = "streaming.safetensors"


class MouthAnimator:
    """Animates the mouth of sounds. Each model is loaded once, at first use, and serves every later call.

    Args:
        network: File of the network's weights; None for those shipped.
        joint: File of the joint model's weights; None for those shipped.
        streaming: File of the streaming network's weights; None for those shipped.
        reader: Whose Whisper model the network's speech encoder shares.
        progress: Receives the stages "encode" and "motion".
    """

    def __init__(
        self,
        network: Path | None,
        joint: Path | None,
        streaming: Path | None,
        reader: SpeechReader,
        progress: Progress,
    ) -> None:
        self._loading = threading.RLock()
        self._network_path, self._joint_path, self._streaming_path = network, joint, streaming
        self._reader, self._progress = reader, progress

    @shared_property
    def network(self) -> KMTalkNetwork:
        """The trained network."""
        return load_network(self._network_path or asset_path(NETWORK_FILE))

    @shared_property
    def joint_flow(self) -> JointFlow:
        """The joint model of sound and face."""
        return JointFlow.load(self._joint_path)

    @shared_property
    def streaming_network(self) -> StreamingNetwork:
        """The network of faces that follow a voice."""
        return load_streaming_network(self._streaming_path or asset_path(STREAMING_FILE))

    @shared_property
    def predictor(self) -> MotionPredictor:
        """The trained network with its speech encoder, which shares the transcriber's Whisper where that is loaded and
        the same model."""
        size = self.network.config.encoder.rpartition("-")[0].removeprefix("whisper-")
        return MotionPredictor(self.network, load_network_encoder(self.network, self._reader.loaded_model(size)))

    @shared_property
    def completion_predictor(self) -> MotionPredictor:
        """The network that completes edited keys: the one shipped for it (`NetworkConfig.residual_over_keys`), or the
        given network itself."""
        if self._network_path is not None:
            return self.predictor
        return MotionPredictor(load_network(asset_path(COMPLETION_FILE)), self.predictor.encoder)

    def digest(self, motion: str) -> str:
        """Return the beginning of the SHA-256 of the given weights that a motion uses; empty for those shipped.

        Raises:
            InputError: The file is missing or holds no such weights.
        """
        paths = {"network": self._network_path, "flow": self._joint_path, "live": self._streaming_path}
        path = paths.get(motion)
        if path is None:
            return ""
        # a file that cannot be read is named
        getattr(self, {"network": "network", "flow": "joint_flow", "live": "streaming_network"}[motion])
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]

    def check(self, settings: AnimationSettings, rig: Rig) -> None:
        """Raise InputError where the network, the rules or the joint model cannot follow the settings."""
        self.speaking_style(settings)
        if settings.motion == "network":
            resolve_style(self.network.config.styles, settings.style)
            check_rig_fits_network(self.network, rig)
        elif settings.motion == "flow":
            resolve_style(self.joint_flow.styles, settings.style)
            self.joint_flow.check_rig(rig)

    def speaking_style(self, settings: AnimationSettings) -> SpeakingStyle:
        """Return the style of the rules; for other motion, the one that its expression layer takes."""
        if settings.motion == "rules":
            return parse_speaking_style(settings.style)
        style = settings.style if isinstance(settings.style, str) else "neutral"
        return SPEAKING_STYLES.get(style, SPEAKING_STYLES["neutral"])

    def weights(
        self, rig: Rig, audio: Audio, alignment: Alignment, settings: AnimationSettings, prosody: Prosody | None = None
    ) -> np.ndarray:
        """Animate the mouth.

        Args:
            rig: The default head's rig.
            audio: The sound.
            alignment: Its phones.
            settings: Motion, style, intensity, seed and frame rate.
            prosody: Its prosody, where it is known.

        Returns:
            Weights (N, R); those of shapes that are not of the mouth are zero.

        Raises:
            InputError: The style is unknown, or the rig lacks shapes.
        """
        features = None
        if settings.motion == "network" and not audio.is_silent:
            with self._progress.stage("encode"):
                features = self.predictor.encode_audio(audio)
        with self._progress.stage("motion"):
            if settings.motion == "network":
                style = resolve_style(self.network.config.styles, settings.style)
                weights = self.predictor.predict(rig, alignment, audio, settings.fps, style, features)
            elif settings.motion == "flow":
                style = resolve_style(self.joint_flow.styles, settings.style)
                weights = face_of_sound(self.joint_flow, rig, audio, alignment, settings.fps, style, settings.seed)
            else:
                speaker, manner = SimulatedSpeaker(rig), self.speaking_style(settings)
                weights = speaker.mouth_weights(alignment, audio, settings.fps, manner, settings.seed, prosody)
            return scale_mouth_weights(weights, rig, settings.intensity)
