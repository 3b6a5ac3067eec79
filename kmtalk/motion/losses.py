"""Training losses of the motion network, each with a name and a weight.

B clips, N frames, M padded key frames, d audio features, out numbers per frame of motion (R weights or 3V coordinates).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kmtalk.articulation.targets import PHONES
from kmtalk.face.rig import Rig
from kmtalk.motion.model import Batch

LOSS_NAMES = (
    "reconstruction",
    "shape_weights",
    "velocity",
    "latent_consistency",
    "text_consistency",
    "lip_closure",
    "band_power",
)
"""Names of the losses. reconstruction and velocity are the paper's; latent_consistency and text_consistency are
SelfTalk's, as the paper uses them; shape_weights, lip_closure and band_power are ours."""

SYLLABLE_BAND = (4.0, 10.0)
"""Band in Hz of the syllables. Squared errors alone reduce the motion in it; the loss band_power compares the power of
the lip speed in this band with that of the ground truth."""

REGION_WEIGHTS: dict[str, float] = {
    "mouth": 1.0,
    "lips": 3.0,
    "inner lips": 10.0,
    "gap": 30.0,
    "corners": 20.0,
    "chin": 10.0,
    "tongue": 2.0,
}
"""Weights of the mean squared error in mm² over: all vertices that the mouth moves, the lips, the inner lips, the gap
between upper and lower inner lip, the distance of the lip corners, the chin, and the tongue where the mesh has one."""


class SurfaceMetric(Protocol):
    """Errors and lip measures of motion, computed on the surface of the face."""

    def squared_error(self, difference: Tensor) -> Tensor:
        """Difference of two motions (…, out) → weighted mean squared distance (…) in mm²."""
        ...

    def lip_features(self, motion: Tensor) -> Tensor:
        """Motion (…, out) → input of `LipReader` (…, Q): offsets of the lips in cm."""
        ...

    def lip_opening(self, motion: Tensor) -> Tensor:
        """Motion (…, out) → opening of each of P pairs of inner-lip points (…, P) in mm."""
        ...


@dataclass(frozen=True)
class _WeightedRegions:
    """Vertices (n,) and pairs of vertices (n, 2) over which errors are averaged, each with its weight."""

    points: tuple[tuple[np.ndarray, float], ...]
    differences: tuple[tuple[np.ndarray, float], ...]


def _weighted_regions(rig: Rig) -> _WeightedRegions:
    regions, marks = rig.template.regions, rig.template.landmarks
    tongue = ((regions["tongue"], REGION_WEIGHTS["tongue"]),) if len(regions.get("tongue", ())) else ()
    moved = np.flatnonzero(np.abs(rig.offsets).max((0, 2)) > 0)
    return _WeightedRegions(
        points=(
            (np.intersect1d(moved, np.union1d(regions["mouth"], regions["lips"])), REGION_WEIGHTS["mouth"]),
            (regions["lips"], REGION_WEIGHTS["lips"]),
            (regions["inner_lips"], REGION_WEIGHTS["inner lips"]),
            (np.array([marks["chin"]]), REGION_WEIGHTS["chin"]),
            *tongue,
        ),
        differences=(
            (regions["lip_pairs"], REGION_WEIGHTS["gap"]),
            (regions["corners"][None], REGION_WEIGHTS["corners"]),
        ),
    )


class RigSurfaceMetric(nn.Module):
    """Exact vertex errors computed in R dimensions: the squared vertex error of a weight difference Δw is ‖Δw F‖².

    Args:
        rig: Rig.
        names: Names of the R shapes that the motion moves.
    """

    error_factor: Tensor
    lip_basis: Tensor
    opening_basis: Tensor
    rest_opening: Tensor

    def __init__(self, rig: Rig, names: tuple[str, ...]) -> None:
        super().__init__()
        offsets = rig.offsets[[rig.index[n] for n in names]].astype(np.float64) * rig.template.mm_per_unit
        pairs = rig.template.regions["lip_pairs"]
        weighted = _weighted_regions(rig)
        columns = [
            (offsets[:, index] * np.sqrt(weight / len(index))).reshape(len(names), -1)
            for index, weight in weighted.points
        ] + [
            ((offsets[:, ends[:, 0]] - offsets[:, ends[:, 1]]) * np.sqrt(weight / len(ends))).reshape(len(names), -1)
            for ends, weight in weighted.differences
        ]
        stacked = np.concatenate(columns, 1)
        gaps = offsets[:, pairs[:, 0]] - offsets[:, pairs[:, 1]]
        left, size, _ = np.linalg.svd(stacked @ stacked.T)
        self.register_buffer("error_factor", torch.tensor(left * np.sqrt(size), dtype=torch.float32))
        lips = offsets[:, rig.template.regions["lips"]].reshape(len(names), -1) / 10
        lip_components, singular_values, _ = np.linalg.svd(lips, full_matrices=False)
        self.register_buffer("lip_basis", torch.tensor(lip_components * singular_values / 10, dtype=torch.float32))
        up = _up_axis(rig)
        self.register_buffer("opening_basis", torch.tensor(gaps @ up, dtype=torch.float32))
        v = rig.template.vertices.astype(np.float64) * rig.template.mm_per_unit
        self.register_buffer("rest_opening", torch.tensor((v[pairs[:, 0]] - v[pairs[:, 1]]) @ up, dtype=torch.float32))

    def squared_error(self, difference: Tensor) -> Tensor:
        return (difference @ self.error_factor).square().sum(-1)

    def lip_features(self, motion: Tensor) -> Tensor:
        out: Tensor = motion @ self.lip_basis
        return out

    def lip_opening(self, motion: Tensor) -> Tensor:
        out: Tensor = self.rest_opening + motion @ self.opening_basis
        return out


class VertexSurfaceMetric(nn.Module):
    """`SurfaceMetric` of vertex offsets (…, 3V) in the units of a rig's template.

    Args:
        rig: Rig whose template has the same vertices.
    """

    lip_vertices: Tensor
    upper_lip: Tensor
    lower_lip: Tensor
    up: Tensor
    rest_opening: Tensor

    def __init__(self, rig: Rig) -> None:
        super().__init__()
        template, pairs = rig.template, rig.template.regions["lip_pairs"]
        self.mm_per_unit = template.mm_per_unit
        weighted = _weighted_regions(rig)
        self.points = [(torch.tensor(i.astype(np.int64)), weight) for i, weight in weighted.points]
        self.differences = [(torch.tensor(i.astype(np.int64)), weight) for i, weight in weighted.differences]
        self.register_buffer("lip_vertices", torch.tensor(template.regions["lips"].astype(np.int64)))
        self.register_buffer("upper_lip", torch.tensor(pairs[:, 0].astype(np.int64)))
        self.register_buffer("lower_lip", torch.tensor(pairs[:, 1].astype(np.int64)))
        self.register_buffer("up", torch.tensor(_up_axis(rig), dtype=torch.float32))
        v = template.vertices.astype(np.float64) * self.mm_per_unit
        self.register_buffer(
            "rest_opening", torch.tensor((v[pairs[:, 0]] - v[pairs[:, 1]]) @ _up_axis(rig), dtype=torch.float32)
        )

    def squared_error(self, difference: Tensor) -> Tensor:
        d = difference.unflatten(-1, (-1, 3)) * self.mm_per_unit
        out = torch.zeros(d.shape[:-2], device=d.device)
        for index, weight in self.points:
            out = out + weight * d[..., index, :].square().sum(-1).mean(-1)
        for ends, weight in self.differences:
            out = out + weight * (d[..., ends[:, 0], :] - d[..., ends[:, 1], :]).square().sum(-1).mean(-1)
        return out

    def lip_features(self, motion: Tensor) -> Tensor:
        return motion.unflatten(-1, (-1, 3))[..., self.lip_vertices, :].flatten(-2) * self.mm_per_unit / 10

    def lip_opening(self, motion: Tensor) -> Tensor:
        d = motion.unflatten(-1, (-1, 3)) * self.mm_per_unit
        out: Tensor = self.rest_opening + (d[..., self.upper_lip, :] - d[..., self.lower_lip, :]) @ self.up
        return out


class PlainSurfaceMetric(nn.Module):
    """`SurfaceMetric` of vertex offsets (…, 3V) of a mesh without a rig: the paper's unweighted mean over all vertices.

    Args:
        lips: Indices of the lip vertices.
        mm_per_unit: Millimetres per unit of the mesh.
    """

    lip_vertices: Tensor

    def __init__(self, lips: np.ndarray, mm_per_unit: float) -> None:
        super().__init__()
        self.mm_per_unit = mm_per_unit
        self.register_buffer("lip_vertices", torch.tensor(lips.astype(np.int64)))

    def squared_error(self, difference: Tensor) -> Tensor:
        return (difference * self.mm_per_unit).square().mean(-1) * 3

    def lip_features(self, motion: Tensor) -> Tensor:
        return motion.unflatten(-1, (-1, 3))[..., self.lip_vertices, :].flatten(-2) * self.mm_per_unit / 10

    def lip_opening(self, motion: Tensor) -> Tensor:
        raise NotImplementedError("the lip opening needs a rig")


def _up_axis(rig: Rig) -> np.ndarray:
    """Unit vector (3,) from chin to nose, perpendicular to the line between the corners of the mouth."""
    v, marks = rig.template.vertices.astype(np.float64), rig.template.landmarks
    up = v[marks["subnasale"]] - v[marks["chin"]]
    across = v[marks["mouth_left"]] - v[marks["mouth_right"]]
    across /= np.linalg.norm(across)
    up -= (up @ across) * across
    return up / np.linalg.norm(up)


class LipReader(nn.Module):
    """Predicts phones and the audio's latent from the motion of the lips (SelfTalk's lip encoder and CTC head).

    Args:
        input_dim: Size Q of the lip features.
        latent_dim: Width d of the latent, that of the audio features.
        width: Channels of the convolutions.
    """

    def __init__(self, input_dim: int, latent_dim: int, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(input_dim, width, 5, padding=2),
            nn.GELU(),
            nn.Conv1d(width, width, 5, padding=2),
            nn.GELU(),
        )
        self.latent = nn.Linear(width, latent_dim)
        self.text = nn.Linear(width, len(PHONES) + 1)

    def forward(self, lips: Tensor) -> tuple[Tensor, Tensor]:
        """Read lips.

        Args:
            lips: Tensor, shape (batch, frames, lip_features), from `SurfaceMetric.lip_features`.

        Returns:
            latent: Tensor, shape (batch, frames, audio_dim).
            log_probabilities: Tensor, shape (batch, frames, classes), of the blank and `PHONES`.
        """
        h = self.layers(lips.transpose(1, 2)).transpose(1, 2)
        return self.latent(h), functional.log_softmax(self.text(h), -1)


class MotionLosses:
    """Weighted losses of a batch; losses of weight 0 are not computed.

    Args:
        surface: Surface metric of the motion.
        reader: Lip reader, trained along with the network.
        weights: Weight of each loss in `LOSS_NAMES`.
    """

    def __init__(self, surface: SurfaceMetric, reader: LipReader, weights: dict[str, float]) -> None:
        self.surface, self.reader, self.weights = surface, reader, weights

    def key_losses(self, keys: Tensor, true: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Compute the loss of LKMA.

        Args:
            keys: Predicted key motions, shape (B, M, out).
            true: Ground truth key motions before any edit, shape (B, M, out).
            batch: Batch with the keys' mask.

        Returns:
            Weighted loss "key reconstruction".
        """
        error = self.surface.squared_error(keys - true)
        return {"key reconstruction": self.weights["reconstruction"] * _masked_mean(error, batch.key_mask)}

    def motion_losses(self, motion: Tensor, audio: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Compute the losses of CMC.

        Args:
            motion: Predicted motion, shape (B, N, out).
            audio: Audio features of the network, shape (B, N, d), without audio dropout.
            batch: Batch with ground truth.

        Returns:
            Weighted losses by name.
        """
        assert batch.motion is not None and batch.bilabial_closure is not None
        w, mask = self.weights, batch.frame_mask
        out: dict[str, Tensor] = {}
        if w["reconstruction"]:
            out["reconstruction"] = w["reconstruction"] * _masked_mean(
                self.surface.squared_error(motion - batch.motion), mask
            )
        if w["shape_weights"] and isinstance(self.surface, RigSurfaceMetric):
            out["shape_weights"] = w["shape_weights"] * _masked_mean((motion - batch.motion).square().sum(-1), mask)
        if w["velocity"]:
            step = (motion - batch.motion).diff(dim=1) * _per_tenth_of_second(batch)
            out["velocity"] = w["velocity"] * _masked_mean(self.surface.squared_error(step), mask[:, 1:])
        if w["lip_closure"]:
            # only where the ground truth is closed too, so that alignment errors do not close vowels
            true = self.surface.lip_opening(batch.motion).amax(-1)
            closure = batch.bilabial_closure * (true < 1.0)
            excess = functional.relu(self.surface.lip_opening(motion).amax(-1) - true)
            out["lip_closure"] = w["lip_closure"] * _masked_mean(closure * excess, mask)
        if w["band_power"]:
            predicted, true = (self._band_power(m, batch) for m in (motion, batch.motion))
            out["band_power"] = w["band_power"] * (0.5 * (predicted / true).log()).square().mean()
        if w["text_consistency"] or w["latent_consistency"]:
            # as in SelfTalk the reader is trained along with the motion; here it is also trained on the ground truth
            both = torch.cat([self.surface.lip_features(motion), self.surface.lip_features(batch.motion)])
            latent, text = self.reader(both * torch.cat([mask, mask])[..., None])
            if w["latent_consistency"]:
                error = (latent - torch.cat([audio, audio]).detach()).square().mean(-1)
                out["latent_consistency"] = w["latent_consistency"] * _masked_mean(error, torch.cat([mask, mask]))
            if w["text_consistency"]:
                out["text_consistency"] = w["text_consistency"] * self._ctc_loss(text, batch)
        return out

    def _band_power(self, motion: Tensor, batch: Batch) -> Tensor:
        """Power of the lip speed within `SYLLABLE_BAND`, (B,), in mm² per frame, plus a constant that avoids log(0)."""
        speed = self.surface.lip_opening(motion).mean(-1).diff(dim=1) * batch.frame_mask[:, 1:]
        spectrum = torch.fft.rfft(speed.float(), dim=1).abs().square()
        step = (batch.times[:, 1] - batch.times[:, 0]).clamp(min=1e-3)
        frequency = torch.arange(spectrum.shape[1], device=speed.device)[None] / (speed.shape[1] * step[:, None])
        inside = (frequency >= SYLLABLE_BAND[0]) & (frequency <= SYLLABLE_BAND[1])
        power: Tensor = (spectrum * inside).sum(1) / speed.shape[1] / batch.frame_mask.sum(1).clamp(min=1)
        return power + 1e-2

    def _ctc_loss(self, text: Tensor, batch: Batch) -> Tensor:
        """CTC loss of predicted and true motion, stacked in `text` (2B, N, classes), per frame."""
        phones = batch.ctc_targets + batch.ctc_targets
        lengths = batch.frame_mask.sum(1).repeat(2)
        sizes = torch.tensor([len(p) for p in phones], device=text.device)
        loss = functional.ctc_loss(
            text.transpose(0, 1).float(),
            torch.cat(phones) if phones else sizes,
            lengths,
            sizes,
            reduction="none",
            zero_infinity=True,
        )
        return (loss / lengths).mean()


def _per_tenth_of_second(batch: Batch) -> Tensor:
    """Frames per tenth of a second, (B, 1, 1): makes velocities mm / 100 ms at any frame rate."""
    step = (batch.times[:, 1] - batch.times[:, 0]).clamp(min=1e-3)
    return (0.1 / step)[:, None, None]


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` is True."""
    return (values * mask).sum() / mask.sum().clamp(min=1)
