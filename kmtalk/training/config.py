"""Configuration of a training run, read from YAML and validated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from kmtalk.corpora.registry import MESH_CORPUS_KINDS
from kmtalk.errors import InputError, describe_validation_error
from kmtalk.motion.attention import DECODER_HEADS
from kmtalk.motion.model import KEY_PLACEMENTS
from kmtalk.text_files import read_yaml_file

RIG_CORPUS_KINDS = ("simulated", "grid", "rig")
"""Kinds of corpora that hold weights of a rig; those of vertices are `MESH_CORPUS_KINDS`."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CorpusConfig(_Strict):
    """A corpus to train on."""

    kind: str = Field(
        description=f"Kind of corpus. {', '.join(RIG_CORPUS_KINDS)} (a folder with a manifest) hold weights of a rig; "
        f"{', '.join(MESH_CORPUS_KINDS)} hold vertices. Corpora of both groups cannot be combined."
    )
    path: Path = Field(description="Folder of the corpus.")
    speaker: Literal["s1", "s4"] = Field(default="s1", description="Speaker of a corpus of kind grid.")
    sampling_weight: float = Field(
        default=1.0,
        gt=0,
        description="Probability, relative to the other corpora, that a crop is drawn from this corpus.",
    )
    lip_mask: str | None = Field(
        default=None,
        description="File with the indices of the lip vertices; none: the lips are detected on the template. For "
        "corpora of vertices.",
    )
    textgrids: Path | None = Field(
        default=None,
        description="Folder of the clips' TextGrid alignments; none: the folder textgrids in the corpus. For corpora "
        "of vertices.",
    )
    keys_from: Path | None = Field(
        default=None,
        description="Folder of another system's predictions, one NAME.npy per clip; CMC completes their poses at the "
        "key frames instead of LKMA's (paper, Table 2). For corpora of vertices.",
    )
    fps: float = Field(default=30.0, description="Frame rate of VOCASET in frames per second, 30 or 60.")

    @field_validator("kind")
    @classmethod
    def _check_kind(cls, kind: str) -> str:
        if kind not in (*RIG_CORPUS_KINDS, *MESH_CORPUS_KINDS):
            raise ValueError(f"{kind}: no such kind; one of {', '.join((*RIG_CORPUS_KINDS, *MESH_CORPUS_KINDS))}")
        return kind

    @property
    def has_vertices(self) -> bool:
        """True where the corpus holds vertices, False where it holds weights of a rig."""
        return self.kind in MESH_CORPUS_KINDS


MAX_PARAMETERS = 400_000_000
"""Parameters of the flow encoder; the paper's on BIWI has 264 million."""


class ArchitectureConfig(_Strict):
    """Architecture of the network; see `kmtalk.motion.model.NetworkConfig`."""

    d_model: int = Field(
        default=256,
        ge=8,
        le=8192,
        description="Width f of the decoders and the flow encoder; a multiple of num_heads and of 4.",
    )
    num_heads: int = Field(default=8, ge=1, le=256, description="Number of attention heads of the flow encoder.")
    num_layers: int = Field(
        default=6, ge=1, le=256, description="Number of transformer blocks in each of the flow encoder's three stacks."
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Dropout probability.")
    ffn_multiplier: int = Field(
        default=2, ge=1, le=64, description="Width of the flow encoder's feed-forward layers as a multiple of d_model."
    )
    head: Literal["rig", "vertices", "pca"] = Field(
        default="rig",
        description="Output layer: weights of a rig's shapes, the paper's vertex offsets, or principal components of "
        "vertex offsets. Only a network with head rig can animate other faces.",
    )
    components: int = Field(
        default=0, ge=0, le=10_000, description="Number of principal components; required by head pca only."
    )
    audio_gate: bool = Field(
        default=True, description="Mix audio and motion flow by the audio gate; false adds them (the paper's ablation)."
    )
    use_key_motion: bool = Field(
        default=True, description="Predict key motions by LKMA; false trains CMC without them (the paper's ablation)."
    )
    residual_over_keys: bool = Field(
        default=False,
        description="Predict the difference from a smooth interpolation of the key motions, so that the motion "
        "follows edited keys; false decodes the motion from the latent alone, as in the paper.",
    )
    phone_input: bool = Field(
        default=False,
        description="Give the network the phones beside the audio features; false knows them from the sound alone, as "
        "in the paper.",
    )

    @model_validator(mode="after")
    def _check_architecture(self) -> Self:
        if self.d_model % self.num_heads or self.d_model % DECODER_HEADS:
            raise ValueError(
                f"d_model {self.d_model} must be a multiple of num_heads {self.num_heads} and of {DECODER_HEADS}"
            )
        parameters = 3 * self.num_layers * self.d_model**2 * (6 + 2 * self.ffn_multiplier)
        if parameters > MAX_PARAMETERS:
            raise ValueError(
                f"d_model, num_layers and ffn_multiplier make {parameters / 1e6:,.0f} million parameters; "
                f"at most {MAX_PARAMETERS / 1e6:,.0f} million are sensible"
            )
        if (self.head == "pca") != (self.components > 0):
            raise ValueError("set components for head: pca, and only for it")
        return self


class StepsConfig(_Strict):
    """Number of optimiser steps of each stage of training, in order."""

    key_motion: int = Field(default=500, ge=0, description="Optimiser steps of LKMA on key frames.")
    completion: int = Field(default=1500, ge=0, description="Optimiser steps of CMC alone, with LKMA frozen.")
    joint: int = Field(default=3000, ge=0, description="Optimiser steps of LKMA and CMC together.")

    @property
    def total(self) -> int:
        """Optimiser steps of all stages."""
        return self.key_motion + self.completion + self.joint


class LossConfig(_Strict):
    """Weights of the losses; a loss of weight 0 is not computed."""

    reconstruction: float = Field(default=1.0, ge=0, description="Weight of the squared vertex error, in mm².")
    shape_weights: float = Field(
        default=0.0,
        ge=0,
        description="Weight of the squared error of the rig's weights, summed over shapes, by which edits of small "
        "shapes count too; without unit. For head rig.",
    )
    velocity: float = Field(
        default=0.3, ge=0, description="Weight of the squared error of vertex velocities, in (mm / 100 ms)²."
    )
    latent_consistency: float = Field(
        default=0.05,
        ge=0,
        description="Weight of the squared error between the lip reader's latent and the audio features, without unit.",
    )
    text_consistency: float = Field(
        default=0.05, ge=0, description="Weight of the lip reader's CTC loss on phones, per frame, without unit."
    )
    lip_closure: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the excess lip opening at p, b and m, in mm. Needs a rig.",
    )
    band_power: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the squared log ratio of the lip speed's amplitude from 4 to 10 Hz to the ground "
        "truth's, without unit. Needs a rig.",
    )


class TrainingConfig(_Strict):
    """Configuration of a training run."""

    encoder: str = Field(
        default="whisper-base-4",
        description="Speech encoder: log-mel, whisper-SIZE-LAYER, wav2vec2:FOLDER-OR-NAME, or "
        "wav2vec2-ctc:FOLDER-OR-NAME for the probabilities of its characters.",
    )
    finetune_encoder: bool = Field(
        default=False,
        description="Train wav2vec 2.0, except for its convolutions, together with LKMA, or with CMC where there is "
        "no LKMA; false keeps the encoder frozen.",
    )
    corpora: tuple[CorpusConfig, ...] = Field(min_length=1, description="Corpora to train on, one or more.")
    network: ArchitectureConfig = Field(default=ArchitectureConfig(), description="Architecture of the network.")
    steps: StepsConfig = Field(default=StepsConfig(), description="Optimiser steps of each stage of training.")
    losses: LossConfig = Field(default=LossConfig(), description="Weights of the losses.")
    key_placement: str = Field(
        default="phones",
        pattern=KEY_PLACEMENTS,
        description="Placement of the key frames: phones (at phone boundaries), apex (in the middle of vowels too), "
        "mixed (either of both, by crop), uniform (the same number, evenly spaced) or, for example, uniform:0.2 (this "
        "share of all frames, evenly spaced); the latter two are the paper's ablations.",
    )
    teacher_forcing: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of crops in which CMC completes ground truth key motions instead of LKMA's.",
    )
    key_edit_rate: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of crops whose key motions are edited at random, so that CMC learns to follow edits. Needs "
        "a rig.",
    )
    audio_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of crops that CMC completes from key motions without audio."
    )
    phone_dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of crops without phones. For phone_input.")
    voice_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of crops with phones alone, without audio features. For phone_input with a frozen encoder.",
    )
    condition_on_identity: bool = Field(
        default=True,
        description="Use each subject as a style of its own; false trains a single style. For corpora of vertices.",
    )
    batch_size: int = Field(default=16, ge=1, description="Number of crops in a batch.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(default=0.01, ge=0, description="Weight decay of AdamW.")
    max_crop_seconds: float = Field(default=5.0, ge=0.5, description="Maximum length of a crop in seconds.")
    eval_every: int = Field(
        default=500, ge=1, description="Number of steps between validations; each also writes a checkpoint."
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of all random numbers.")
    feature_cache: Path | None = Field(
        default=None, description="Folder in which audio features are cached; none: features in the output folder."
    )

    @model_validator(mode="after")
    def _check_finetuning(self) -> Self:
        if not re.fullmatch(r"log-mel|whisper-.+-\d+|wav2vec2(-conv|-ctc)?(:.*)?", self.encoder):
            raise ValueError(
                f"encoder {self.encoder[:80]}: give log-mel, whisper-SIZE-LAYER or wav2vec2:FOLDER-OR-NAME"
            )
        if self.finetune_encoder and not self.encoder.startswith("wav2vec2:"):
            raise ValueError(
                f"finetune_encoder: only encoder wav2vec2:FOLDER-OR-NAME can be fine-tuned, not {self.encoder}"
            )
        if (self.phone_dropout or self.voice_dropout) and (not self.network.phone_input or self.finetune_encoder):
            raise ValueError("phone_dropout and voice_dropout need network.phone_input and a frozen encoder")
        if self.phone_dropout + self.voice_dropout > 1:
            raise ValueError("phone_dropout and voice_dropout: their sum may be 1 at most")
        return self


def load_yaml(path: Path) -> dict[Any, Any]:
    """Read a YAML file that holds a mapping; raises InputError for any other file."""
    given = read_yaml_file(path)
    if not isinstance(given, dict):
        raise InputError(f"{path}: not a mapping of keys; see the examples in data/configs and data/paper")
    return given


def load_config(path: Path) -> TrainingConfig:
    """Read a training configuration from YAML; relative paths are relative to the file's folder.

    Raises:
        InputError: The file cannot be read, or a value is wrong.
    """
    given = load_yaml(path)
    try:
        config = TrainingConfig.model_validate(given)
    except ValidationError as error:
        raise InputError(f"{path}: {describe_validation_error(error)}") from None

    def resolve(p: Path) -> Path:
        return (path.parent / p).resolve()

    corpora = tuple(
        c.model_copy(
            update={
                "path": resolve(c.path),
                "lip_mask": None if c.lip_mask is None else str(resolve(Path(c.lip_mask))),
                "textgrids": None if c.textgrids is None else resolve(c.textgrids),
                "keys_from": None if c.keys_from is None else resolve(c.keys_from),
            }
        )
        for c in config.corpora
    )
    cache = resolve(config.feature_cache) if config.feature_cache else None
    return config.model_copy(update={"corpora": corpora, "feature_cache": cache})
