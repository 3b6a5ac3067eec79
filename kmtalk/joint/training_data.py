"""Training examples of the joint model: clips in memory, random crops, and the masks that make the tasks.

N mel frames, M motion frames, C channels of the motion stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from pathlib import Path
from typing import Self

import numpy as np
import soxr
import torch
from pydantic import ConfigDict

from kmtalk.errors import InputError
from kmtalk.face.motion import frame_times
from kmtalk.joint.clock import MEL_FRAMES_PER_MOTION_FRAME as STEP
from kmtalk.joint.clock import MEL_RATE, SAMPLE_RATE
from kmtalk.joint.corpus import SIMULATED, JointClip
from kmtalk.joint.mel import BANDS, SILENCE, mel_spectrogram
from kmtalk.joint.model import Conditions
from kmtalk.joint.motion_stream import is_mouth, to_channels
from kmtalk.joint.tokens import STRESS_UNKNOWN, TOKEN, FrameTokens, Span, frame_tokens
from kmtalk.progress import Progress
from kmtalk.speech.audio import SAMPLE_RATE as ANALYSIS_RATE
from kmtalk.speech.encoders import SpeechEncoder, encode_cached
from kmtalk.synthesis.voice_vector import VECTOR_SIZE, default_voice_encoder

CACHE_NAME, CHARACTERS_FOLDER = "features.npz", "characters"


@dataclass(frozen=True)
class JointExample:
    """One clip in memory.

    Attributes:
        name: Name of the clip.
        mel: (N, 80) float16, N a multiple of 3.
        motion: (N / 3, C) float32.
        tokens: Tokens of the N mel frames.
        spans: Phones and pauses.
        voice: (256,) voice vector.
        style: Name of the speaking style.
        speaker: Name of the voice.
        held_out: Whether it is kept for validation.
        other: Name of the clip of the other speaker of a conversation, which is as long; "" for none.
        tracked: Whether its lips are real, tracked ones.
        characters: (N, K) float16, probabilities of the characters heard; K is 0 without a recogniser.
    """

    name: str
    mel: np.ndarray
    motion: np.ndarray
    tokens: FrameTokens
    spans: tuple[Span, ...]
    voice: np.ndarray
    style: str
    speaker: str
    held_out: bool
    other: str = ""
    tracked: bool = False
    characters: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float16))


def prepare_examples(
    clips: Sequence[JointClip],
    shape_names: Sequence[str],
    cache: Path,
    progress: Progress,
    recognizer: SpeechEncoder | None = None,
) -> list[JointExample]:
    """Compute mel spectrograms and voice vectors, or read them from the file `cache`; and the characters heard.

    Args:
        clips: Clips of the corpus.
        shape_names: Names of the rig's shapes.
        cache: File of mel spectrograms and voice vectors. Characters are cached in a folder beside it.
        progress: Receives the stages.
        recognizer: Encoder whose features are probabilities of characters; None for none.

    Raises:
        InputError: The cache is of other clips, or a clip's sound and motion differ in length.
    """
    names = [c.name for c in clips]
    if cache.is_file():
        with np.load(cache) as stored:
            lengths = [STEP * len(c.weights) for c in clips]
            if stored["names"].tolist() != names or np.diff(stored["frames"]).tolist() != lengths:
                raise InputError(f"{cache}: is of another corpus; delete it")
            frames, mels, voices = stored["frames"], stored["mel"], stored["voice"]
    else:
        frames, mels, voices = _compute(clips, progress)
        temporary = cache.with_suffix(".part.npz")
        np.savez(temporary, names=np.array(names), frames=frames, mel=mels, voice=voices)
        temporary.replace(cache)
    characters = [np.zeros((int(n), 0), np.float16) for n in np.diff(frames)]
    if recognizer is not None:
        characters = _recognize(clips, recognizer, cache.parent / CHARACTERS_FOLDER, progress)
    out = []
    for i, (clip, start, stop, voice) in enumerate(zip(clips, frames[:-1], frames[1:], voices, strict=True)):
        mel, motion = mels[start:stop], to_channels(clip.weights, shape_names)
        if len(mel) != STEP * len(motion):
            raise InputError(f"clip {clip.name}: sound and motion differ in length; build the corpus again")
        tokens = frame_tokens(clip.spans, len(mel))
        out.append(
            JointExample(
                clip.name,
                mel,
                motion,
                tokens,
                clip.spans,
                voice,
                clip.style,
                clip.voice,
                clip.held_out,
                clip.other,
                not clip.source.startswith(SIMULATED),
                characters[i],
            )
        )
    return out


def _compute(clips: Sequence[JointClip], progress: Progress) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    encoder = default_voice_encoder()
    mels, voices = [], np.zeros((len(clips), VECTOR_SIZE), np.float32)
    with progress.stage("mel", len(clips)) as advance:
        for i, clip in enumerate(clips):
            samples = clip.load_samples()
            mels.append(mel_spectrogram(samples)[: STEP * len(clip.weights)].astype(np.float16))
            voices[i] = encoder.encode_samples(soxr.resample(samples, SAMPLE_RATE, ANALYSIS_RATE))
            advance(i + 1)
    frames = np.concatenate([[0], np.cumsum([len(m) for m in mels])])
    return frames, np.concatenate(mels), voices


def _recognize(
    clips: Sequence[JointClip], recognizer: SpeechEncoder, cache: Path, progress: Progress
) -> list[np.ndarray]:
    """Return the probabilities (N, K) of the characters heard in each clip."""
    out = []
    with progress.stage("characters", len(clips)) as advance:
        for i, clip in enumerate(clips):
            samples = np.asarray(soxr.resample(clip.load_samples(), SAMPLE_RATE, ANALYSIS_RATE), np.float32)
            heard = encode_cached(recognizer, samples, cache)
            out.append(heard.interpolate(frame_times(STEP * len(clip.weights), MEL_RATE)).astype(np.float16))
            advance(i + 1)
    return out


@dataclass(frozen=True)
class TaskShares:
    """Shares of the crops by what is known of them; the rest is `both`, of which nothing is known.

    Attributes:
        span: Everything but a span of the sound, of the face, or of both.
        sound_to_motion: The sound.
        motion_to_sound: The motion.
        keys_to_motion: The motion at phone boundaries, and mostly the sound.
        face_without_mouth: In addition to any other, everything of the face but the mouth; half of `keys_to_motion`.
        text_dropout: Crops without text.
        voice_dropout: Crops without voice vector.
        style_dropout: Crops without style.
        coupling_dropout: Crops in which a stream does not see the other, for each of the two directions.
        other_dropout: Crops of conversations without the other's sound, and without the other's motion.
        character_dropout: Crops without characters, in corpora that have them; those of a text have none.

    Raises:
        ValueError: A share is not in [0, 1], or those of the tasks are more than 1 together.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    span: float = 0.2
    sound_to_motion: float = 0.15
    motion_to_sound: float = 0.1
    keys_to_motion: float = 0.15
    face_without_mouth: float = 0.1
    text_dropout: float = 0.1
    voice_dropout: float = 0.15
    style_dropout: float = 0.15
    coupling_dropout: float = 0.1
    other_dropout: float = 0.2
    character_dropout: float = 0.4

    def __post_init__(self) -> None:
        if any(not 0 <= share <= 1 for share in astuple(self)):
            raise ValueError("shares must be from 0 to 1")
        if self.span + self.sound_to_motion + self.motion_to_sound + self.keys_to_motion > 1 + 1e-9:
            raise ValueError("span, sound_to_motion, motion_to_sound and keys_to_motion exceed 1 together")


@dataclass(frozen=True)
class Utterances:
    """Phones and pauses of B utterances, padded to P.

    Attributes:
        labels: (B, P) int64, token numbers.
        stress: (B, P) int64.
        frames: (B, P) float32, durations in mel frames.
        valid: (B, P) False at padding.
        voice: (B, 256) voice vectors.
        style: (B, S) shares of the styles.
    """

    labels: torch.Tensor
    stress: torch.Tensor
    frames: torch.Tensor
    valid: torch.Tensor
    voice: torch.Tensor
    style: torch.Tensor

    def to(self, device: torch.device) -> Self:
        """Return the utterances on a device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass(frozen=True)
class JointBatch:
    """Crops with their conditions.

    Attributes:
        given: Conditions; the known values are those of `mel` and `motion`.
        mel: (B, N, 80), not normalised.
        motion: (B, M, C), not normalised.
        utterances: Phones of as many whole utterances.
    """

    given: Conditions
    mel: torch.Tensor
    motion: torch.Tensor
    utterances: Utterances


@dataclass
class JointSampler:
    """Draws batches of random crops.

    Args:
        examples: Clips.
        channels: Names of the C channels.
        styles: Names of the S styles.
        crop_frames: Length of a crop in mel frames, a multiple of 3.
        shares: Shares of the tasks.
        tracked_share: Share of the crops that are of clips with tracked lips, where there are any.
    """

    examples: Sequence[JointExample]
    channels: Sequence[str]
    styles: Sequence[str]
    crop_frames: int
    shares: TaskShares = field(default_factory=TaskShares)
    tracked_share: float = 0.3

    def __post_init__(self) -> None:
        lengths = np.array([len(e.mel) for e in self.examples], float)
        tracked = np.array([e.tracked for e in self.examples])
        if tracked.any() and not tracked.all():
            for which, share in ((tracked, self.tracked_share), (~tracked, 1 - self.tracked_share)):
                lengths[which] *= share / lengths[which].sum()
        self._probabilities = lengths / lengths.sum()
        self._mouth = is_mouth(self.channels)
        self._voices: dict[str, list[np.ndarray]] = {}
        for example in self.examples:
            self._voices.setdefault(example.speaker, []).append(example.voice)
        self._by_name = {e.name: e for e in self.examples}

    def sample(self, batch_size: int, rng: np.random.Generator) -> JointBatch:
        """Return a batch of `batch_size` crops."""
        b, n, c = batch_size, self.crop_frames, len(self.channels)
        m = n // STEP
        arrays: dict[str, np.ndarray] = {
            "labels": np.zeros((b, n), np.int64),
            "stress": np.full((b, n), STRESS_UNKNOWN, np.int64),
            "place": np.zeros((b, n, 3), np.float32),
            "characters": np.zeros((b, n, self.examples[0].characters.shape[1]), np.float32),
            "voice": np.zeros((b, VECTOR_SIZE), np.float32),
            "style": np.zeros((b, len(self.styles)), np.float32),
            "mel_known": np.zeros((b, n, 1), np.float32),
            "motion_known": np.zeros((b, m, c), np.float32),
            "valid": np.zeros((b, n), bool),
            "motion_sees_sound": np.ones(b, bool),
            "sound_sees_motion": np.ones(b, bool),
            "other_mel": np.full((b, n, BANDS), SILENCE, np.float32),
            "other_mel_known": np.zeros((b, n, 1), np.float32),
            "other_motion": np.zeros((b, m, c), np.float32),
            "other_motion_known": np.zeros((b, m, 1), np.float32),
        }
        mel, motion = np.full((b, n, BANDS), SILENCE, np.float32), np.zeros((b, m, c), np.float32)
        drawn = [self.examples[int(k)] for k in rng.choice(len(self.examples), b, p=self._probabilities)]
        for i, example in enumerate(drawn):
            start = STEP * int(rng.integers(0, max(0, len(example.motion) - m) + 1))
            length = min(n, len(example.mel) - start)
            frames, poses = slice(start, start + length), slice(start // STEP, (start + length) // STEP)
            mel[i, :length], motion[i, : length // STEP] = example.mel[frames], example.motion[poses]
            arrays["valid"][i, :length] = True
            if example.other in self._by_name:
                other = self._by_name[example.other]
                arrays["other_mel"][i, :length] = other.mel[frames]
                arrays["other_motion"][i, : length // STEP] = other.motion[poses]
                for name in ("other_mel_known", "other_motion_known"):
                    arrays[name][i] = rng.random() >= self.shares.other_dropout
            if rng.random() >= self.shares.voice_dropout:
                voices = self._voices[example.speaker]  # of any clip of the speaker: users do not have that of this one
                arrays["voice"][i] = voices[int(rng.integers(len(voices)))]
            if rng.random() >= self.shares.style_dropout:
                arrays["style"][i, self.styles.index(example.style)] = 1.0
            with_text = self._draw_task({k: v[i] for k, v in arrays.items()}, example.spans, start, length, rng)
            if with_text:
                arrays["labels"][i, :length] = example.tokens.labels[frames]
                arrays["stress"][i, :length] = example.tokens.stress[frames]
                arrays["place"][i, :length] = example.tokens.place[frames]
            if example.characters.size and rng.random() >= self.shares.character_dropout:
                arrays["characters"][i, :length] = example.characters[frames]
            for name in ("motion_sees_sound", "sound_sees_motion"):
                arrays[name][i] = rng.random() >= self.shares.coupling_dropout
        tensors = {name: torch.from_numpy(a) for name, a in arrays.items()}
        known = {"mel": torch.from_numpy(mel), "motion": torch.from_numpy(motion)}
        utterances = self._utterances(drawn, tensors["voice"], tensors["style"])
        return JointBatch(Conditions(**tensors, **known), known["mel"], known["motion"], utterances)

    def _utterances(self, drawn: Sequence[JointExample], voice: torch.Tensor, style: torch.Tensor) -> Utterances:
        b, count = len(drawn), max(len(e.spans) for e in drawn)
        labels, stress = np.zeros((b, count), np.int64), np.zeros((b, count), np.int64)
        frames, valid = np.ones((b, count), np.float32), np.zeros((b, count), bool)
        for i, example in enumerate(drawn):
            n = len(example.spans)
            labels[i, :n] = [TOKEN[s.label] for s in example.spans]
            stress[i, :n] = [s.stress for s in example.spans]
            frames[i, :n] = [s.stop - s.start for s in example.spans]
            valid[i, :n] = True
        tensor = torch.from_numpy
        return Utterances(tensor(labels), tensor(stress), tensor(frames), tensor(valid), voice, style)

    def _draw_task(
        self, row: dict[str, np.ndarray], spans: Sequence[Span], start: int, length: int, rng: np.random.Generator
    ) -> bool:
        """Draw what is known of a crop into its rows of the masks; returns whether its text is known."""
        shares, draw = self.shares, rng.random()
        text_dropout, without_mouth = shares.text_dropout, shares.face_without_mouth
        for name in ("span", "sound_to_motion", "motion_to_sound", "keys_to_motion", "both"):
            draw -= getattr(shares, name, 1.0)
            if draw < 0:
                break
        if name == "span":
            row["mel_known"][:], row["motion_known"][:] = 1, 1
            size = max(STEP, STEP * int(rng.uniform(0.15, 0.9) * length / STEP))
            first = STEP * int(rng.integers(0, (length - size) // STEP + 1))
            which = rng.random()
            if which < 0.7:
                row["mel_known"][first : first + size] = 0
            if which > 0.35:
                row["motion_known"][first // STEP : (first + size) // STEP] = 0
        elif name == "sound_to_motion":
            row["mel_known"][:] = 1
            text_dropout = 0.5
        elif name == "motion_to_sound":
            row["motion_known"][:] = 1
        elif name == "keys_to_motion":
            row["mel_known"][:] = rng.random() < 0.7
            bounds = {(s.start - start) // STEP for s in spans}
            keys = sorted(k for k in bounds if 0 <= k < length // STEP and rng.random() > 0.1)
            row["motion_known"][keys] = 1
            if rng.random() < 0.5:  # as when one key is edited, and all but what is around it stays
                size = max(1, int(rng.uniform(0.15, 0.9) * length / STEP))
                first = int(rng.integers(0, length // STEP - size + 1))
                row["motion_known"][:first], row["motion_known"][first + size :] = 1, 1
            text_dropout, without_mouth = 0.4, 0.5
        if rng.random() < without_mouth:
            row["motion_known"][:, ~self._mouth] = 1
        return bool(rng.random() >= text_dropout)
