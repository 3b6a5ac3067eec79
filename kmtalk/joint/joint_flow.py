"""JointFlow: samples sound and face in one call, from whatever is known of them.

N mel frames, M = N / 3 motion frames, R shapes of the rig.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from kmtalk.assets import asset_path
from kmtalk.errors import InputError
from kmtalk.face.motion import frame_times
from kmtalk.face.rig import Rig
from kmtalk.joint.clock import MEL_FRAMES_PER_MOTION_FRAME as STEP
from kmtalk.joint.clock import MEL_RATE
from kmtalk.joint.flow import MOUTH_TEMPERATURE, TEMPERATURE, sample
from kmtalk.joint.mel import BANDS, SILENCE
from kmtalk.joint.model import Conditions, JointNetwork
from kmtalk.joint.motion_stream import to_channels, to_weights
from kmtalk.joint.network_file import load_joint_network
from kmtalk.joint.tokens import TOKEN, Span, frame_tokens
from kmtalk.motion.styles import style_mixture
from kmtalk.speech.encoders import SpeechEncoder, load_encoder
from kmtalk.synthesis.voice_vector import VECTOR_SIZE

NETWORK_FILE = "joint.safetensors"
Style = str | dict[str, float] | None
WINDOW_FRAMES, OVERLAP_FRAMES = 1536, 192
"""Mel frames that are sampled at once (18 s), and by which windows overlap; of these, the first half is known to the
later window and the rest is sampled again."""

CONTEXT_FRAMES = 516  # known mel frames, 6 s, to either side of what is unknown that are given to the network
SENTENCE_PAUSE = 0.2
"""Seconds that are added to the pause between sentences: the model learnt from single ones, and Piper adds as much."""

SENTENCE_ENDS = (".", "?", "!")


@dataclass(frozen=True)
class Known:
    """What is known of a clip of N mel frames.

    Attributes:
        spans: Phones and pauses; empty where the text is unknown.
        mel: (N, 80) log mel spectrogram; None where no sound is known.
        mel_known: (N,) True where `mel` is known; None for everywhere.
        weights: (M, R) weights of the rig; None where no motion is known.
        motion_known: (M, C) True where a channel is known; None for everywhere.
        other_mel: (N, 80) log mel spectrogram of the other speaker of a conversation, for networks that listen; None
            where it is unknown.
        other_weights: (M, R) weights of the other speaker; None where they are unknown.
        characters: (N, K) probabilities of the characters heard in a known sound (`JointFlow.characters_of`), zeros
            where it is unknown; None where none are.
    """

    spans: Sequence[Span] = ()
    mel: np.ndarray | None = None
    mel_known: np.ndarray | None = None
    weights: np.ndarray | None = None
    motion_known: np.ndarray | None = None
    other_mel: np.ndarray | None = None
    other_weights: np.ndarray | None = None
    characters: np.ndarray | None = None


@dataclass(frozen=True)
class JointSample:
    """Sound and face of one clip.

    Attributes:
        mel: (N, 80) float32, log mel spectrogram.
        weights: (M, R) float32 in [0, 1], at `kmtalk.joint.clock.MOTION_RATE`.
        spans: Phones and pauses, as they were given.
    """

    mel: np.ndarray
    weights: np.ndarray
    spans: tuple[Span, ...]


class JointFlow:
    """The joint model with what it takes to use it.

    Args:
        network: Network in evaluation mode.
    """

    def __init__(self, network: JointNetwork) -> None:
        self.network = network

    @classmethod
    def load(cls, path: str | Path | None = None) -> JointFlow:
        """Load a network; None loads the one shipped.

        Raises:
            InputError: The file is missing or is no joint network.
        """
        return cls(load_joint_network(asset_path(NETWORK_FILE) if path is None else Path(path)))

    @property
    def styles(self) -> tuple[str, ...]:
        """Names of the speaking styles."""
        return self.network.config.styles

    @property
    def default_voice(self) -> np.ndarray:
        """Voice vector (256,) of what is spoken where no voice is given."""
        return self.network.default_voice.numpy()

    def check_rig(self, rig: Rig) -> None:
        """Raise InputError where a rig lacks shapes of the model."""
        missing = [n for n in self.network.config.shape_names if n not in rig.index]
        if missing:
            raise InputError(
                f"{rig.template.display_name}: its rig lacks {', '.join(missing[:3])}: the joint model needs the "
                "shapes of the default head"
            )

    @cached_property
    def _character_encoder(self) -> SpeechEncoder:
        return load_encoder(self.network.config.character_encoder)

    def characters_of(self, samples: np.ndarray, frames: int) -> np.ndarray | None:
        """Return the probabilities (N, K) of the characters heard in a sound; None for a network without any.

        Args:
            samples: (S,) mono at 16 kHz.
            frames: Number N of mel frames.

        Raises:
            InputError: The network's recogniser of characters cannot be loaded, or is another one.
        """
        config = self.network.config
        if not config.num_characters:
            return None
        encoder = self._character_encoder
        if encoder.dimension != config.num_characters:
            raise InputError(f"{encoder.name}: has {encoder.dimension} characters, not {config.num_characters}")
        return encoder.encode(samples).interpolate(frame_times(frames, MEL_RATE))

    def style_shares(self, style: Style) -> np.ndarray:
        """Return the shares (S,) of a style: a name, shares by name, or zeros for None, which is the mean of all.

        Raises:
            InputError: There is no such style, or the shares are no shares.
        """
        return np.zeros(len(self.styles), np.float32) if style is None else style_mixture(self.styles, style)

    @torch.inference_mode()
    def durations(
        self,
        phones: Sequence[Span],
        *,
        voice: np.ndarray | None = None,
        style: Style = None,
        rate: float = 1.0,
    ) -> list[Span]:
        """Give phones and pauses the durations that the model predicts.

        Args:
            phones: Phones and pauses in order, of `kmtalk.joint.text.phones_of_text`; their times are ignored.
            voice: Voice vector (256,); None for none.
            style: Name of a style, shares by name, or None for the mean of all.
            rate: Factor of the speaking rate.

        Returns:
            The spans, whose last ends at a multiple of three mel frames.
        """
        if not phones:
            return []
        labels = torch.tensor([[TOKEN[p.label] for p in phones]])
        stress = torch.tensor([[p.stress for p in phones]])
        clip = self.network.encode_clip(self._voice(voice)[None], torch.from_numpy(self.style_shares(style))[None])
        logarithm = self.network.duration_predictor(labels, stress, torch.ones_like(labels, dtype=torch.bool), clip)
        frames = np.exp(logarithm[0].numpy())
        between = [p.label in SENTENCE_ENDS for p in phones[:-1]] + [False]
        frames = (frames + SENTENCE_PAUSE * MEL_RATE * np.array(between)) / rate
        ends = np.maximum.accumulate(np.round(np.cumsum(frames)).astype(int))
        spans, start = [], 0
        for phone, end in zip(phones, ends.tolist(), strict=True):
            stop = max(start + 1, end)
            spans.append(replace(phone, start=start, stop=stop))
            start = stop
        last = spans[-1]
        return [*spans[:-1], replace(last, stop=-(-last.stop // STEP) * STEP)]

    def sample(
        self,
        frames: int,
        known: Known,
        *,
        voice: np.ndarray | None = None,
        style: Style = None,
        steps: int = 16,
        temperature: float = TEMPERATURE,
        mouth_temperature: float | None = None,
        guidance: tuple[float, float] = (0.0, 0.0),
        seed: int = 0,
        draws: int = 1,
    ) -> JointSample:
        """Sample what is not known of a clip, both streams at once.

        Args:
            frames: Number N of mel frames, a multiple of three.
            known: What is known, which comes back bit for bit.
            voice: Voice vector (256,) of `kmtalk.synthesis.voice_vector`; None for the mean of all voices.
            style: Name of a speaking style, shares by name, or None for the mean of all.
            steps: Steps of the flow.
            temperature: Deviation of the noise.
            mouth_temperature: Deviation of the noise of mouth, jaw and tongue; None for `MOUTH_TEMPERATURE`, or for
                `temperature` where the mean of several samples is taken, which needs them to differ.
            guidance: Weights of classifier-free guidance by the text, of sound and of motion.
            seed: Seed of the noise.
            draws: Number of samples whose mean is returned; more are nearer to the truth and smoother.

        Returns:
            The clip.

        Raises:
            InputError: The style is unknown, or there is nothing to sample.
        """
        if frames < STEP or frames % STEP:
            raise InputError(f"{frames} mel frames: needs a multiple of {STEP}")
        if mouth_temperature is None:
            mouth_temperature = MOUTH_TEMPERATURE if draws == 1 else temperature
        given = self.conditions(frames, known, voice, style)
        mel, motion = given.mel.clone(), given.motion.clone()
        mel_known, motion_known = given.mel_known.clone(), given.motion_known.clone()
        start, end = self._unknown_range(given)
        while start < end:
            stop = min(start + WINDOW_FRAMES, end)
            window, poses = slice(start, stop), slice(start // STEP, stop // STEP)
            part = _crop(replace(given, mel=mel, motion=motion, mel_known=mel_known, motion_known=motion_known), window)
            drawn = [
                sample(
                    self.network, part, steps=steps, temperature=temperature, mouth_temperature=mouth_temperature,
                    guidance=guidance,
                    seed=int(np.random.SeedSequence([seed, start, k]).generate_state(1)[0]),
                )
                for k in range(draws)
            ]  # fmt: skip
            mel[:, window] = torch.stack([m for m, _ in drawn]).mean(0)
            motion[:, poses] = torch.stack([m for _, m in drawn]).mean(0)
            # the last frames of a window do not see what comes next: they are sampled again in the next one
            kept = slice(start, stop if stop == end else stop - OVERLAP_FRAMES // 2)
            mel_known[:, kept], motion_known[:, kept.start // STEP : kept.stop // STEP] = 1, 1
            start = end if stop == end else stop - OVERLAP_FRAMES
        return self._result(mel[0], motion[0], given, known)

    def _unknown_range(self, given: Conditions) -> tuple[int, int]:
        """Return the first and the last but one mel frame of what must be sampled, with what it depends on."""
        unknown = (given.mel_known[0] < 1).any(1) | (given.motion_known[0] < 1).any(1).repeat_interleave(STEP)
        where = torch.nonzero(unknown)[:, 0]
        if not len(where):
            return 0, 0
        first, last = int(where[0]) - CONTEXT_FRAMES, int(where[-1]) + 1 + CONTEXT_FRAMES
        return max(0, first // STEP * STEP), min(len(unknown), -(-last // STEP) * STEP)

    def _result(self, mel: torch.Tensor, motion: torch.Tensor, given: Conditions, known: Known) -> JointSample:
        """Undo the normalisation; what is known is copied as it was given."""
        sound = self.network.restore_mel(mel).numpy().astype(np.float32)
        weights = to_weights(self.network.restore_motion(motion).numpy(), self.network.config.shape_names)
        if known.mel is not None:
            sound = np.where(given.mel_known[0].numpy() > 0, known.mel.astype(np.float32), sound)
        if known.weights is not None:
            columns = _columns_known(given.motion_known[0].numpy() > 0, self.network.config.shape_names)
            weights = np.where(columns, known.weights.astype(np.float32), weights)
        return JointSample(np.ascontiguousarray(sound), np.ascontiguousarray(weights), tuple(known.spans))

    def conditions(self, frames: int, known: Known, voice: np.ndarray | None = None, style: Style = None) -> Conditions:
        """Return the conditions of one clip; arguments and errors are those of `sample`."""
        network, config = self.network, self.network.config
        tokens = frame_tokens(known.spans, frames)
        poses, channels = frames // STEP, len(config.channels)
        mel = torch.zeros(1, frames, BANDS)
        mel_known = torch.zeros(1, frames, 1)
        if known.mel is not None:
            mel = network.normalize_mel(torch.from_numpy(known.mel.astype(np.float32)))[None]
            mask = np.ones(frames, bool) if known.mel_known is None else known.mel_known
            mel_known = torch.from_numpy(mask.astype(np.float32))[None, :, None]
        motion, motion_known = torch.zeros(1, poses, channels), torch.zeros(1, poses, channels)
        if known.weights is not None:
            motion = network.normalize_motion(torch.from_numpy(to_channels(known.weights, config.shape_names)))[None]
            mask = np.ones((poses, channels), bool) if known.motion_known is None else known.motion_known
            motion_known = torch.from_numpy(mask.astype(np.float32))[None]
        if (known.other_mel is not None or known.other_weights is not None) and not config.listens:
            raise InputError("this joint model does not listen to another speaker; train one with listens: true")
        characters = torch.zeros(1, frames, config.num_characters)
        if known.characters is not None:
            if known.characters.shape != characters.shape[1:]:
                raise InputError(f"characters of shape {known.characters.shape}, not {tuple(characters.shape[1:])}")
            characters = torch.from_numpy(known.characters.astype(np.float32))[None]
        other_mel, other_mel_known = torch.zeros(1, frames, BANDS), torch.zeros(1, frames, 1)
        if known.other_mel is not None:
            other_mel = network.normalize_mel(torch.from_numpy(known.other_mel.astype(np.float32)))[None]
            other_mel_known += 1
        other_motion, other_motion_known = torch.zeros(1, poses, channels), torch.zeros(1, poses, 1)
        if known.other_weights is not None:
            seen = torch.from_numpy(to_channels(known.other_weights, config.shape_names))
            other_motion = network.normalize_motion(seen)[None]
            other_motion_known += 1
        for sound, face in ((mel, motion), (other_mel, other_motion)):
            if sound.shape[1] != frames or face.shape[1] != poses:
                raise InputError(
                    f"sound of {sound.shape[1]} and motion of {face.shape[1]} frames, not {frames} and {poses}"
                )
        yes = torch.ones(1, dtype=torch.bool)
        return Conditions(
            torch.from_numpy(tokens.labels)[None],
            torch.from_numpy(tokens.stress)[None],
            torch.from_numpy(tokens.place)[None],
            characters,
            self._voice(voice)[None],
            torch.from_numpy(self.style_shares(style))[None],
            mel,
            mel_known,
            motion,
            motion_known,
            torch.ones(1, frames, dtype=torch.bool),
            yes,
            yes.clone(),
            other_mel,
            other_mel_known,
            other_motion,
            other_motion_known,
        )

    @staticmethod
    def _voice(voice: np.ndarray | None) -> torch.Tensor:
        if voice is None:
            return torch.zeros(VECTOR_SIZE)
        if voice.shape != (VECTOR_SIZE,):
            raise InputError(f"a voice vector has {VECTOR_SIZE} values, not {voice.shape}")
        return torch.from_numpy(voice.astype(np.float32))


def _crop(given: Conditions, window: slice) -> Conditions:
    """Return the conditions of a window of mel frames."""
    poses = slice(window.start // STEP, window.stop // STEP)
    of_sound = ("labels", "stress", "place", "characters", "mel", "mel_known", "valid", "other_mel", "other_mel_known")
    sound = {n: getattr(given, n)[:, window] for n in of_sound}
    of_motion = ("motion", "motion_known", "other_motion", "other_motion_known")
    motion = {n: getattr(given, n)[:, poses] for n in of_motion}
    return replace(given, **sound, **motion)


def _columns_known(known: np.ndarray, shape_names: Sequence[str]) -> np.ndarray:
    """Convert a mask of channels (M, C) to one of shapes (M, R)."""
    marked = to_weights(known.astype(np.float32), shape_names) > 0
    negative = to_weights(-known.astype(np.float32), shape_names) > 0
    out: np.ndarray = marked | negative
    return out


def frames_of(duration: float) -> int:
    """Return the number of mel frames of a clip in seconds, rounded up to a multiple of three."""
    return max(STEP, -(-math.ceil(duration * MEL_RATE - 1e-6) // STEP) * STEP)


def silent_mel(frames: int) -> np.ndarray:
    """Return the mel spectrogram (N, 80) of silence."""
    return np.full((frames, BANDS), SILENCE, np.float32)
