"""What a training run is: YAML, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kmtalk.errors import InputError, first_fault
from kmtalk.motion.attention import DECODER_HEADS


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CorpusConfig(_Strict):
    """One corpus; ``share`` of each batch is drawn from it. Of a rig's weights: simulated, grid, or rig (a folder with
    a manifest). Of vertices: vocaset, biwi, or folder; those take ``lips``, a mask file (None: found on the template),
    ``textgrids``, the folder of alignments, and VOCASET its ``fps``; ``keys_from`` is a folder of another system's
    predictions, NAME.npy by clip, whose poses at the key frames CMC then completes (paper, Table 2)."""

    kind: Literal["simulated", "grid", "rig", "vocaset", "biwi", "folder"]
    path: Path
    share: float = Field(default=1.0, gt=0)
    lips: str | None = None
    textgrids: Path | None = None
    keys_from: Path | None = None
    fps: float = 30.0

    @property
    def of_vertices(self) -> bool:
        return self.kind in ("vocaset", "biwi", "folder")


class NetworkConfig(_Strict):
    """The network's shape (see motion.model.Shape). ``head``: the rig's weights; the paper's vertex offsets; or
    ``components`` principal components of them. Only a rig's network animates."""

    width: int = Field(default=256, ge=8)
    heads: int = Field(default=8, ge=1)
    blocks: int = Field(default=6, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    feed: int = Field(default=2, ge=1)
    head: Literal["rig", "vertices", "basis"] = "rig"
    components: int = Field(default=0, ge=0)
    gate: bool = True
    key_motion: bool = True
    lines: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads or self.width % DECODER_HEADS:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads} and of {DECODER_HEADS}")
        if (self.head == "basis") != (self.components > 0):
            raise ValueError("components goes with head: basis, and with no other")
        return self


class StepsConfig(_Strict):
    """Optimiser steps of the stages: LKMA on key frames, CMC on given keys, both together."""

    keys: int = Field(default=500, ge=0)
    completion: int = Field(default=1500, ge=0)
    together: int = Field(default=3000, ge=0)

    @property
    def total(self) -> int:
        return self.keys + self.completion + self.together


class LossConfig(_Strict):
    """Weights; 0 switches a loss off. Reconstruction is in mm², velocity in (mm / 100 ms)²; ``shapes`` is the squared
    error of the rig's weights, summed over shapes: edits of small shapes count by it."""

    reconstruction: float = Field(default=1.0, ge=0)
    shapes: float = Field(default=0.0, ge=0)
    velocity: float = Field(default=0.3, ge=0)
    latent: float = Field(default=0.05, ge=0)
    text: float = Field(default=0.05, ge=0)
    closure: float = Field(default=1.0, ge=0)
    power: float = Field(default=1.0, ge=0)


class Config(_Strict):
    """A whole run. With ``tune`` wav2vec 2.0 learns along, but for its convolutions, wherever LKMA does, or CMC without
    LKMA. ``keys`` is where key frames lie: at phones, or evenly, at an equal count or (uniform:0.2) at a
    share of the frames (the paper's ablations); ``given`` is the share of crops whose keys are the truth and not LKMA's
    own; ``edits`` is the share of crops whose keys are edited, so that CMC learns to follow what an animator sets, and
    ``deaf`` the share of crops that CMC must complete from their keys alone; with ``identities`` the network is told
    who speaks; ``longest`` s is what one training crop holds; ``check_every`` steps what was kept apart is scored and a
    checkpoint written."""

    encoder: str = "whisper-base-4"
    tune: bool = False
    corpora: tuple[CorpusConfig, ...] = Field(min_length=1)
    network: NetworkConfig = NetworkConfig()
    steps: StepsConfig = StepsConfig()
    losses: LossConfig = LossConfig()
    keys: str = Field(default="phones", pattern=r"^(phones|uniform(:(0\.\d+|1))?)$")
    given: float = Field(default=0.5, ge=0, le=1)
    edits: float = Field(default=0.0, ge=0, le=1)
    deaf: float = Field(default=0.0, ge=0, lt=1)
    identities: bool = True
    batch: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    longest: float = Field(default=5.0, ge=0.5)
    check_every: int = Field(default=500, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**31)
    cache: Path | None = None

    @model_validator(mode="after")
    def _tunes(self) -> Self:
        if self.tune and not self.encoder.startswith("wav2vec2:"):
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


def load_config(path: Path) -> Config:
    """Read YAML; relative paths are taken from the file's own folder. Raises InputError for anything wrong."""
    given = load_yaml(path)
    try:
        config = Config.model_validate(given)
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error)}") from None

    def there(p: Path) -> Path:
        return (path.parent / p).resolve()

    corpora = tuple(
        c.model_copy(
            update={
                "path": there(c.path),
                "lips": None if c.lips is None else str(there(Path(c.lips))),
                "textgrids": None if c.textgrids is None else there(c.textgrids),
                "keys_from": None if c.keys_from is None else there(c.keys_from),
            }
        )
        for c in config.corpora
    )
    cache = there(config.cache) if config.cache else None
    return config.model_copy(update={"corpora": corpora, "cache": cache})
