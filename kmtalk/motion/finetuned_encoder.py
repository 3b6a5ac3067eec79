"""wav2vec 2.0 fine-tuned with the network: maps its convolutions' features, resampled to the frames, to A.

B clips, N frames, c width of the convolutions' features, d width of the audio features A.
"""

from __future__ import annotations

import json
from typing import Any

from torch import Tensor, nn

from kmtalk.errors import InputError

FEATURE_EXTRACTOR_DIGEST = "feature_extractor_digest"
"""Key of a network's metadata: digest of the convolutions that the encoder was trained with
(`kmtalk.speech.encoders.Wav2Vec2Encoder.feature_extractor_digest`)."""


class FineTunedEncoder(nn.Module):
    """wav2vec 2.0 without its convolutions: feature projection and transformer.

    The input is interpolated to the frame rate of the motion, and the convolutions stay frozen, as in FaceFormer's
    code. No time masking is applied in training.

    Args:
        config: Configuration of wav2vec 2.0 as JSON, in the format of transformers.
        model: A `Wav2Vec2Model` whose weights are used; None initialises new weights.

    Attributes:
        config: The configuration as JSON.
        feature_dim: Width c of the convolutions' features.
        hidden_size: Width d of the output.

    Raises:
        InputError: transformers is not installed, or `model` is not a wav2vec 2.0.
    """

    def __init__(self, config: str, model: Any = None) -> None:
        super().__init__()
        try:
            from transformers import Wav2Vec2Config, Wav2Vec2Model
        except ImportError:
            raise InputError(
                "these weights include wav2vec 2.0, which needs transformers; pip install 'kmtalk[wav2vec2]'"
            ) from None
        if model is None:
            model = Wav2Vec2Model(Wav2Vec2Config.from_dict(json.loads(config)))
        if not isinstance(model, Wav2Vec2Model):
            raise InputError(
                f"{type(model).__name__}: only wav2vec 2.0 can be fine-tuned; set encoder to wav2vec2:FOLDER-OR-NAME"
            )
        self.config, self.feature_dim, self.hidden_size = (
            config,
            int(model.config.conv_dim[-1]),
            int(model.config.hidden_size),
        )
        self.projection, self.encoder = model.feature_projection, model.encoder

    @classmethod
    def from_model(cls, model: Any) -> FineTunedEncoder:
        """Create the encoder from a loaded `Wav2Vec2Model`, with its weights."""
        return cls(json.dumps(model.config.to_diff_dict(), sort_keys=True), model)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Encode the convolutions' features.

        Args:
            features: Tensor, shape (batch, frames, feature_dim).
            mask: Tensor, shape (batch, frames): False at padding.

        Returns:
            audio: Tensor, shape (batch, frames, hidden_size).
        """
        projected, _ = self.projection(features)
        out: Tensor = self.encoder(projected, attention_mask=mask).last_hidden_state
        return out
