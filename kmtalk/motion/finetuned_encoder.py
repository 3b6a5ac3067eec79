"""wav2vec 2.0 learnt along: from its convolutions' features, at the motion's frames, to A."""

from __future__ import annotations

import json
from typing import Any

from torch import Tensor, nn

from kmtalk.errors import InputError

FEATURE_EXTRACTOR_DIGEST = "feature_extractor_digest"
"""Fact of a network: the digest of the convolutions that its ear learnt with (``Wav2Vec2.digest``)."""


class FineTunedEncoder(nn.Module):
    """wav2vec 2.0 but for its convolutions: projection and transformer, of a ``config`` (JSON, as transformers has it).

    Frames come at the motion's rate, interpolated, and the convolutions stay as they are, as in FaceFormer's code; no
    time is masked in training. ``feature_dim`` is c, ``hidden_size`` d. Raises InputError where transformers is not installed,
    or for another model.
    """

    def __init__(self, config: str, model: Any = None) -> None:
        """``model`` is a Wav2Vec2Model whose weights are taken; without one they are new."""
        super().__init__()
        try:
            from transformers import Wav2Vec2Config, Wav2Vec2Model
        except ImportError:
            raise InputError("these weights hear by wav2vec 2.0: pip install 'kmtalk[wav2vec2]'") from None
        if model is None:
            model = Wav2Vec2Model(Wav2Vec2Config.from_dict(json.loads(config)))
        if not isinstance(model, Wav2Vec2Model):
            raise InputError(f"{type(model).__name__}: only wav2vec 2.0 can be learnt along")
        self.config, self.feature_dim, self.hidden_size = (
            config,
            int(model.config.conv_dim[-1]),
            int(model.config.hidden_size),
        )
        self.projection, self.encoder = model.feature_projection, model.encoder

    @classmethod
    def from_model(cls, model: Any) -> FineTunedEncoder:
        """The ear of a loaded wav2vec 2.0, with its weights."""
        return cls(json.dumps(model.config.to_diff_dict(), sort_keys=True), model)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Convolutions' features (B, N, c) of frames that are ``mask`` (B, N) → A (B, N, d)."""
        projected, _ = self.projection(features)
        out: Tensor = self.encoder(projected, attention_mask=mask).last_hidden_state
        return out
