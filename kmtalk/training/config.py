"""What a training run is: YAML, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kmtalk.errors import InputError, describe_validation_error
from kmtalk.motion.attention import DECODER_HEADS


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CorpusConfig(_Strict):
    """One corpus; ``sampling_weight`` of each batch is drawn from it. Of a rig's weights: simulated, grid, or rig (a folder with
    a manifest). Of vertices: vocaset, biwi, or folder; those take ``lip_mask``, a mask file (None: found on the template),
    ``textgrids``, the folder of alignments, and VOCASET its ``fps``; ``keys_from`` is a folder of another system's
    predictions, NAME.npy by clip, whose poses at the key frames CMC then completes (paper, Table 2)."""

    kind: Literal["simulated", "grid", "rig", "vocaset", "biwi", "folder"]
    path: Path
    sampling_weight: float = Field(default=1.0, gt=0)
    lip_mask: str | None = None
    textgrids: Path | None = None
    keys_from: Path | None = None
    fps: float = 30.0

    @property
    def has_vertices(self) -> bool:
        return self.kind in ("vocaset", "biwi", "folder")


class ArchitectureConfig(_Strict):
    """The network's shape (see motion.model.Shape). ``head``: the rig's weights; the paper's vertex offsets; or
    ``components`` principal components of them. Only a rig's network animates."""

    d_model: int = Field(default=256, ge=8)
    num_heads: int = Field(default=8, ge=1)
    num_layers: int = Field(default=6, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    ffn_multiplier: int = Field(default=2, ge=1)
    head: Literal["rig", "vertices", "pca"] = "rig"
    components: int = Field(default=0, ge=0)
    audio_gate: bool = True
    use_key_motion: bool = True
    residual_over_keys: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.d_model % self.num_heads or self.d_model % DECODER_HEADS:
            raise ValueError(
                f"width {self.d_model} must be a multiple of heads {self.num_heads} and of {DECODER_HEADS}"
            )
        if (self.head == "pca") != (self.components > 0):
            raise ValueError("components goes with head: pca, and with no other")
        return self


class StepsConfig(_Strict):
    """Optimiser steps of the stages: LKMA on key frames, CMC on given keys, both together."""

    key_motion: int = Field(default=500, ge=0)
    completion: int = Field(default=1500, ge=0)
    joint: int = Field(default=3000, ge=0)

    @property
    def total(self) -> int:
        return self.key_motion + self.completion + self.joint


class LossConfig(_Strict):
    """Weights; 0 switches a loss off. Reconstruction is in mm², velocity in (mm / 100 ms)²; ``shape_weights`` is the squared
    error of the rig's weights, summed over shapes: edits of small shapes count by it."""

    reconstruction: float = Field(default=1.0, ge=0)
    shape_weights: float = Field(default=0.0, ge=0)
    velocity: float = Field(default=0.3, ge=0)
    latent_consistency: float = Field(default=0.05, ge=0)
    text_consistency: float = Field(default=0.05, ge=0)
    lip_closure: float = Field(default=1.0, ge=0)
    band_power: float = Field(default=1.0, ge=0)


class TrainingConfig(_Strict):
    """A whole run. With ``finetune_encoder`` wav2vec 2.0 learns along, but for its convolutions, wherever LKMA does, or CMC without
    LKMA. ``key_motion`` is where key frames lie: at phones, or evenly, at an equal count or (uniform:0.2) at a
    share of the frames (the paper's ablations); ``teacher_forcing`` is the share of crops whose keys are the truth and not LKMA's
    own; ``key_edit_rate`` is the share of crops whose keys are edited, so that CMC learns to follow what an animator sets, and
    ``audio_dropout`` the share of crops that CMC must complete from their keys alone; with ``condition_on_identity`` the network is told
    who speaks; ``max_crop_seconds`` s is what one training crop holds; ``eval_every`` steps what was kept apart is scored and a
    checkpoint written."""

    encoder: str = "whisper-base-4"
    finetune_encoder: bool = False
    corpora: tuple[CorpusConfig, ...] = Field(min_length=1)
    network: ArchitectureConfig = ArchitectureConfig()
    steps: StepsConfig = StepsConfig()
    losses: LossConfig = LossConfig()
    key_placement: str = Field(default="phones", pattern=r"^(phones|uniform(:(0\.\d+|1))?)$")
    teacher_forcing: float = Field(default=0.5, ge=0, le=1)
    key_edit_rate: float = Field(default=0.0, ge=0, le=1)
    audio_dropout: float = Field(default=0.0, ge=0, lt=1)
    condition_on_identity: bool = True
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    max_crop_seconds: float = Field(default=5.0, ge=0.5)
    eval_every: int = Field(default=500, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**31)
    feature_cache: Path | None = None

    @model_validator(mode="after")
    def _tunes(self) -> Self:
        if self.finetune_encoder and not self.encoder.startswith("wav2vec2:"):
            raise ValueError(f"tune: only wav2vec2:FOLDER-OR-NAME learns along, not {self.encoder}")
        return self


def load_yaml(path: Path) -> dict[Any, Any]:
    """A mapping written as YAML; raises InputError for anything else."""
    try:
        given = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())[:160]})") from None
    if not isinstance(given, dict):
        raise InputError(f"{path}: not a mapping of keys; see data/configs and data/paper")
    return given


def load_config(path: Path) -> TrainingConfig:
    """Read YAML; relative paths are taken from the file's own folder. Raises InputError for anything wrong."""
    given = load_yaml(path)
    try:
        config = TrainingConfig.model_validate(given)
    except ValidationError as error:
        raise InputError(f"{path}: {describe_validation_error(error)}") from None

    def there(p: Path) -> Path:
        return (path.parent / p).resolve()

    corpora = tuple(
        c.model_copy(
            update={
                "path": there(c.path),
                "lips": None if c.lip_mask is None else str(there(Path(c.lip_mask))),
                "textgrids": None if c.textgrids is None else there(c.textgrids),
                "keys_from": None if c.keys_from is None else there(c.keys_from),
            }
        )
        for c in config.corpora
    )
    cache = there(config.feature_cache) if config.feature_cache else None
    return config.model_copy(update={"corpora": corpora, "cache": cache})
