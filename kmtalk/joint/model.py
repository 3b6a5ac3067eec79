"""The joint network: the velocity fields of a sound stream and a motion stream under conditional flow matching.

Dimensions:

- B: clips in a batch
- N: mel frames of a clip, a multiple of 3
- M: motion frames, N / 3
- C: channels of the motion stream (`kmtalk.joint.motion_stream`)
- d: width of both streams (`d_model`)
- S: speaking styles
- K: characters of a recogniser of speech, 0 in networks that are given phones alone

Both streams are transformers over frames with local attention and rotary positions in seconds; `coupling` says how they
see each other. The text is given as frame-aligned phones, of which a small encoder also predicts the mean of either
stream (as in Matcha-TTS). What is known of a stream is given beside its noise, with a mask: tasks are masks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from kmtalk.joint.blocks import MODULATIONS, RotaryPositions, StreamBlock, TokenBlock, timestep_encoding
from kmtalk.joint.clock import MEL_FRAMES_PER_MOTION_FRAME, MEL_RATE, MOTION_RATE
from kmtalk.joint.couplings import CrossAttentionBlock, Highway, pool
from kmtalk.joint.mel import BANDS
from kmtalk.joint.phone_heads import DurationPredictor, PhoneReader
from kmtalk.joint.tokens import STRESS_UNKNOWN, VOCABULARY
from kmtalk.synthesis.voice_vector import VECTOR_SIZE

TOKEN_KERNEL = 7
CAUSAL_TOKENS_AHEAD = 2
"""Mel frames of the future that each token block of a streaming network sees."""

LOOK_BACK_FRAMES = 10
"""Mel frames of the past that attention sees in a streaming network: AV-Flow's window of 10 frames."""


@dataclass(frozen=True)
class JointConfig:
    """Architecture of a `JointNetwork`.

    Attributes:
        shape_names: Names of the rig's shapes.
        channels: Names of the C channels of the motion stream.
        styles: Names of the S speaking styles.
        coupling: One of `kmtalk.joint.couplings.COUPLINGS`. `highway` is causal and can be streamed.
        d_model: Width d of both streams.
        num_layers: Blocks of either stream.
        num_heads: Attention heads.
        ffn_multiplier: Width of the feed-forward layers as a multiple of d.
        kernel: Taps of the convolution in each block.
        token_layers: Blocks of the encoder of phones.
        condition_dim: Width of the condition of time, voice and style.
        attention_seconds: Distance in time that attention within a stream spans, to either side.
        coupling_seconds: Distance in time that attention between the streams spans.
        listens: Whether sound and motion of the other speaker of a conversation are inputs (AV-Flow's listener).
        character_encoder: Name of the `kmtalk.speech.encoders` encoder whose characters are given beside the phones
            (AV-Flow's tokens); "" for none.
        num_characters: Number K of its characters.
    """

    shape_names: tuple[str, ...]
    channels: tuple[str, ...]
    styles: tuple[str, ...]
    coupling: str = "joint"
    d_model: int = 256
    num_layers: int = 8
    num_heads: int = 4
    ffn_multiplier: int = 3
    kernel: int = 7
    token_layers: int = 4
    condition_dim: int = 128
    attention_seconds: float = 0.7
    coupling_seconds: float = 0.25
    listens: bool = False
    character_encoder: str = ""
    num_characters: int = 0

    @property
    def is_causal(self) -> bool:
        """Whether a frame depends on a bounded number of later frames only."""
        return self.coupling == "highway"


@dataclass(frozen=True)
class Conditions:
    """What is known of B clips. Streams are normalised as `JointNetwork.normalize_mel` and `normalize_motion` do.

    Attributes:
        labels: (B, N) int64, phones; 0 where the text is unknown.
        stress: (B, N) int64.
        place: (B, N, 3) float32.
        characters: (B, N, K) float32, probabilities of the characters heard; zeros where unknown.
        voice: (B, 256) voice vectors; zeros where unknown.
        style: (B, S) shares of the styles; zeros where unknown.
        mel: (B, N, 80) known mel frames; anything where unknown.
        mel_known: (B, N, 1) 1 where a mel frame is known, else 0.
        motion: (B, M, C) known motion.
        motion_known: (B, M, C) 1 where a value is known, else 0.
        valid: (B, N) False at padding.
        motion_sees_sound: (B,) False where the motion stream must not see the sound stream.
        sound_sees_motion: (B,) False where the sound stream must not see the motion stream.
        other_mel: (B, N, 80) mel frames of the other speaker, at the same times; anything where unknown.
        other_mel_known: (B, N, 1) 1 where they are known, else 0.
        other_motion: (B, M, C) motion of the other speaker.
        other_motion_known: (B, M, 1) 1 where it is known, else 0.
    """

    labels: Tensor
    stress: Tensor
    place: Tensor
    characters: Tensor
    voice: Tensor
    style: Tensor
    mel: Tensor
    mel_known: Tensor
    motion: Tensor
    motion_known: Tensor
    valid: Tensor
    motion_sees_sound: Tensor
    sound_sees_motion: Tensor
    other_mel: Tensor
    other_mel_known: Tensor
    other_motion: Tensor
    other_motion_known: Tensor

    def to(self, device: torch.device) -> Self:
        """Return the conditions on a device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def without_text(self) -> Self:
        """Return the conditions with the text unknown."""
        zeros, characters = torch.zeros_like(self.labels), torch.zeros_like(self.characters)
        place = torch.zeros_like(self.place)
        return replace(self, labels=zeros, stress=zeros + STRESS_UNKNOWN, place=place, characters=characters)


@dataclass(frozen=True)
class Encoded:
    """What the network computes once for all steps of the flow.

    Attributes:
        tokens: (B, N, d) encoded phones.
        mel_mean: (B, N, 80) mean of the mel spectrogram given the phones, normalised.
        motion_mean: (B, M, C) mean of the motion given the phones, normalised.
        clip: (B, condition_dim) condition of voice and style.
    """

    tokens: Tensor
    mel_mean: Tensor
    motion_mean: Tensor
    clip: Tensor


class JointNetwork(nn.Module):
    """Velocity fields of both streams.

    Args:
        config: Architecture.

    Attributes:
        mel_mean, mel_std: (80,) with which mel frames are normalised.
        motion_mean, motion_std: (C,) with which motion is normalised.
        default_voice: (256,) voice vector of what is spoken where no voice is given.
    """

    mel_mean: Tensor
    mel_std: Tensor
    motion_mean: Tensor
    motion_std: Tensor
    default_voice: Tensor

    def __init__(self, config: JointConfig) -> None:
        super().__init__()
        self.config = config
        d, c, channels = config.d_model, config.condition_dim, len(config.channels)
        for name, size in (
            ("mel_mean", BANDS),
            ("mel_std", BANDS),
            ("motion_mean", channels),
            ("motion_std", channels),
        ):
            self.register_buffer(name, torch.ones(size) if name.endswith("std") else torch.zeros(size))
        self.register_buffer("default_voice", torch.zeros(VECTOR_SIZE))
        self.label_embedding, self.stress_embedding = nn.Embedding(len(VOCABULARY), 96), nn.Embedding(4, 16)
        self.token_projection = nn.Linear(96 + 16 + 3 + config.num_characters, d)
        self.voice_projection = nn.Linear(VECTOR_SIZE, c)
        self.style_projection = nn.Linear(len(config.styles), c, bias=False)
        self.clip_to_tokens = nn.Linear(c, d)
        ahead = CAUSAL_TOKENS_AHEAD if config.is_causal else TOKEN_KERNEL // 2
        self.token_blocks = nn.ModuleList(TokenBlock(d, TOKEN_KERNEL, ahead) for _ in range(config.token_layers))
        self.token_norm = nn.LayerNorm(d)
        self.mel_mean_head, self.motion_mean_head = nn.Linear(d, BANDS), nn.Linear(d, channels)
        self.time_mlp = nn.Sequential(nn.Linear(64, c), nn.SiLU(), nn.Linear(c, c))
        heard = BANDS + 1 if config.listens else 0
        seen = channels + 1 if config.listens else 0
        self.sound_in = nn.Linear(3 * BANDS + 1 + d + heard, d)
        self.motion_in = nn.Linear(4 * channels + d + heard + seen, d)
        self.positions = RotaryPositions(d // config.num_heads)

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(
                StreamBlock(d, config.num_heads, config.ffn_multiplier, config.kernel, config.is_causal)
                for _ in range(config.num_layers)
            )

        self.sound_blocks, self.motion_blocks = blocks(), blocks()
        self.sound_condition, self.motion_condition = (nn.Linear(c, MODULATIONS * d) for _ in range(2))
        self.sound_norm, self.motion_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.sound_out, self.motion_out = nn.Linear(d, BANDS), nn.Linear(d, channels)
        self.duration_predictor, self.phone_reader = DurationPredictor(c), PhoneReader(channels)
        for layer in (self.sound_out, self.motion_out, self.sound_condition, self.motion_condition):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        if config.coupling == "highway":
            self.highways = nn.ModuleList(Highway(d) for _ in range(config.num_layers))
        elif config.coupling in ("ste", "ete"):
            self.cross_to_sound = CrossAttentionBlock(d)
            self.cross_to_motion = self.cross_to_sound if config.coupling == "ste" else CrossAttentionBlock(d)

    def normalize_mel(self, mel: Tensor) -> Tensor:
        """Normalise log mel frames (…, 80)."""
        return (mel - self.mel_mean) / self.mel_std

    def restore_mel(self, mel: Tensor) -> Tensor:
        """Undo `normalize_mel`."""
        return mel * self.mel_std + self.mel_mean

    def normalize_motion(self, motion: Tensor) -> Tensor:
        """Normalise motion frames (…, C)."""
        return (motion - self.motion_mean) / self.motion_std

    def restore_motion(self, motion: Tensor) -> Tensor:
        """Undo `normalize_motion`."""
        return motion * self.motion_std + self.motion_mean

    def encode_clip(self, voice: Tensor, style: Tensor) -> Tensor:
        """Encode voice vectors (B, 256) and shares of styles (B, S) as a condition (B, condition_dim)."""
        return functional.silu(self.voice_projection(voice) + self.style_projection(style))

    def encode_tokens(
        self, labels: Tensor, stress: Tensor, place: Tensor, characters: Tensor, clip: Tensor, valid: Tensor
    ) -> Tensor:
        """Encode frame-aligned phones and characters as (B, N, d).

        Args:
            labels, stress, place, characters, valid: See `Conditions`.
            clip: The condition of `encode_clip`.
        """
        x = torch.cat([self.label_embedding(labels), self.stress_embedding(stress), place, characters], -1)
        x = self.token_projection(x) + self.clip_to_tokens(clip)[:, None]
        for block in self.token_blocks:
            x = block(x, valid)
        out: Tensor = self.token_norm(x)
        return out

    def encode(self, given: Conditions) -> Encoded:
        """Encode the phones, the voice and the style, and predict the means of both streams."""
        clip = self.encode_clip(given.voice, given.style)
        x = self.encode_tokens(given.labels, given.stress, given.place, given.characters, clip, given.valid)
        return Encoded(x, self.mel_mean_head(x), self.motion_mean_head(pool(x)), clip)

    def forward(
        self, mel: Tensor, motion: Tensor, t: Tensor, encoded: Encoded, given: Conditions
    ) -> tuple[Tensor, Tensor]:
        """Compute the velocities of both streams at time t of the flow.

        Args:
            mel: Noisy mel frames (B, N, 80), normalised.
            motion: Noisy motion frames (B, M, C), normalised.
            t: Time of the flow (B,), 0 at the noise and 1 at the data.
            encoded: What `encode` returned for the same conditions.
            given: Conditions.

        Returns:
            mel_velocity: (B, N, 80).
            motion_velocity: (B, M, C).
        """
        config = self.config
        condition = functional.silu(encoded.clip + self.time_mlp(timestep_encoding(t, 64)))
        for_sound, for_motion = (
            layer(condition).unflatten(-1, (MODULATIONS, config.d_model))
            for layer in (self.sound_condition, self.motion_condition)
        )
        x, y = self._input(mel, motion, encoded, given)
        valid, motion_valid = given.valid, given.valid[:, ::MEL_FRAMES_PER_MOTION_FRAME]
        device, count = mel.device, mel.shape[1]
        times = (torch.arange(count, device=device) + 0.5) / MEL_RATE
        motion_times = (torch.arange(count // MEL_FRAMES_PER_MOTION_FRAME, device=device) + 0.5) / MOTION_RATE
        positions, motion_positions = self.positions(times), self.positions(motion_times)
        own_sound = self._mask(times, times, valid)
        own_motion = self._mask(motion_times, motion_times, motion_valid)
        to_sound = self._cross_mask(times, motion_times, motion_valid) & given.sound_sees_motion[:, None, None, None]
        to_motion = self._cross_mask(motion_times, times, valid) & given.motion_sees_sound[:, None, None, None]
        both_to_sound = torch.cat([own_sound, to_sound], -1)
        both_to_motion = torch.cat([own_motion, to_motion], -1)
        for i, (sound_block, motion_block) in enumerate(zip(self.sound_blocks, self.motion_blocks, strict=True)):
            assert isinstance(sound_block, StreamBlock) and isinstance(motion_block, StreamBlock)
            q, k, v = sound_block.qkv(x, for_sound, positions)
            mq, mk, mv = motion_block.qkv(y, for_motion, motion_positions)
            if config.coupling == "joint" and i % 2 == 1:  # JAM-Flow: in half of the layers
                keys, values = torch.cat([k, mk], 2), torch.cat([v, mv], 2)
                attended = functional.scaled_dot_product_attention(q, keys, values, both_to_sound)
                keys, values = torch.cat([mk, k], 2), torch.cat([mv, v], 2)
                motion_attended = functional.scaled_dot_product_attention(mq, keys, values, both_to_motion)
            else:
                attended = functional.scaled_dot_product_attention(q, k, v, own_sound)
                motion_attended = functional.scaled_dot_product_attention(mq, mk, mv, own_motion)
            x, _ = sound_block.update(x, attended, for_sound, valid)
            y, _ = motion_block.update(y, motion_attended, for_motion, motion_valid)
            if config.coupling == "highway":
                x, y = self._highway(i, x, y, given)
            elif config.coupling in ("ste", "ete") and i == config.num_layers // 2 - 1:
                x, y = self._cross_attention(x, y, encoded.tokens, own_sound, own_motion, to_sound, to_motion)
        return self.sound_out(self.sound_norm(x)), self.motion_out(self.motion_norm(y))

    def _input(self, mel: Tensor, motion: Tensor, encoded: Encoded, given: Conditions) -> tuple[Tensor, Tensor]:
        """Project noise, what is known, masks, means and phones onto the width of the streams."""
        mel_known, motion_known = given.mel_known, given.motion_known
        known_mel, known_motion = given.mel * mel_known, given.motion * motion_known
        noisy_mel, noisy_motion = mel * (1 - mel_known) + known_mel, motion * (1 - motion_known) + known_motion
        mel_mean, motion_mean = encoded.mel_mean.detach(), encoded.motion_mean.detach()
        others = given.other_mel, given.other_mel_known, given.other_motion, given.other_motion_known
        heard, seen = self.listen(*others) if self.config.listens else ([], [])
        sound = torch.cat([noisy_mel, known_mel, mel_known, mel_mean, encoded.tokens, *heard], -1)
        face = torch.cat([noisy_motion, known_motion, motion_known, motion_mean, pool(encoded.tokens), *seen], -1)
        return self.sound_in(sound), self.motion_in(face)

    @staticmethod
    def listen(
        mel: Tensor, mel_known: Tensor, motion: Tensor, motion_known: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return what the sound stream and the motion stream are given of the other speaker (see `Conditions`)."""
        mel, motion = mel * mel_known, motion * motion_known
        return [mel, mel_known], [pool(mel), mel_known[:, ::MEL_FRAMES_PER_MOTION_FRAME], motion, motion_known]

    def _mask(self, queries: Tensor, keys: Tensor, valid: Tensor) -> Tensor:
        """Which keys (times (K,)) each query (times (Q,)) of the same stream sees, (B, 1, Q, K)."""
        if self.config.is_causal:
            near = self.causal_band(queries, keys)
        else:
            near = (queries[:, None] - keys[None]).abs() <= self.config.attention_seconds
        return (near & (valid[:, None] | torch.eye(len(keys), dtype=torch.bool, device=keys.device)))[:, None]

    def causal_band(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return which keys (times (K,)) a query (times (Q,)) of the same stream sees in a causal network, (Q, K).

        It looks back `LOOK_BACK_FRAMES`, and ahead to the end of the motion frame that a mel frame lies in.
        """
        block = (queries * MOTION_RATE).floor()
        key_block = (keys * MOTION_RATE).floor()
        # half a frame more: single precision of long times
        back = queries[:, None] - keys[None] <= (LOOK_BACK_FRAMES + 0.5) / MEL_RATE
        return back & (key_block[None] <= block[:, None])

    def _cross_mask(self, queries: Tensor, keys: Tensor, valid: Tensor) -> Tensor:
        """Which keys of the other stream each query sees: JAM-Flow's local diagonal mask, (B, 1, Q, K)."""
        near = (queries[:, None] - keys[None]).abs() <= self.config.coupling_seconds
        return (near & valid[:, None])[:, None]

    def _highway(self, i: int, x: Tensor, y: Tensor, given: Conditions) -> tuple[Tensor, Tensor]:
        with_motion, with_sound = self.highways[i](x, y)
        return (
            torch.where(given.sound_sees_motion[:, None, None], with_motion, x),
            torch.where(given.motion_sees_sound[:, None, None], with_sound, y),
        )

    def _cross_attention(
        self,
        x: Tensor,
        y: Tensor,
        tokens: Tensor,
        own_sound: Tensor,
        own_motion: Tensor,
        to_sound: Tensor,
        to_motion: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Narrating For You: queries of the own stream, keys and values of the other stream and the text."""
        heads = self.cross_to_sound.attention.num_heads
        sees_text = own_sound.expand(len(x), -1, -1, -1)
        motion_sees_text = own_sound[:, :, ::MEL_FRAMES_PER_MOTION_FRAME].expand(len(x), -1, -1, -1)
        blocked = ~torch.cat([to_sound, sees_text], -1).repeat(1, heads, 1, 1).flatten(0, 1)
        motion_blocked = ~torch.cat([to_motion, motion_sees_text], -1).repeat(1, heads, 1, 1).flatten(0, 1)
        return (
            self.cross_to_sound(x, torch.cat([y, tokens], 1), blocked),
            self.cross_to_motion(y, torch.cat([x, tokens], 1), motion_blocked),
        )
