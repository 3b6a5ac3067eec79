"""Losses of the motion network, each with a name by which it is switched off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kmtalk.articulation.targets import PHONE_TARGETS
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
"""reconstruction and velocity: the paper's; latent and text: SelfTalk's, as the paper takes them;
shapes, closure and power: ours."""

SYLLABLE_BAND = (4.0, 10.0)
"""Hz: where lips make syllables. Squared errors alone teach a network to mumble there; the power loss asks
for as much lip speed in this band as the truth has."""

REGION_WEIGHTS: dict[str, float] = {
    "mouth": 1.0,
    "lips": 3.0,
    "inner lips": 10.0,
    "gap": 30.0,
    "corners": 20.0,
    "chin": 60.0,
}
"""What a mean squared millimetre weighs: over all vertices that the mouth moves, over the lips and inner
lips, between upper and lower inner lip, between the corners, and at the chin against the nose."""

PHONES: tuple[str, ...] = tuple(sorted(p for p in PHONE_TARGETS if p[-1] != "2"))
"""Classes of the text loss; 0 is CTC's blank."""


class SurfaceMetric(Protocol):
    """How far motion is from motion, on the skin."""

    def squared_error(self, difference: Tensor) -> Tensor:
        """Difference of motions (…, out) → weighted mean of squared distances (…), mm²."""
        ...

    def lip_features(self, motion: Tensor) -> Tensor:
        """Motion (…, out) → what a lip reader sees (…, Q), cm."""
        ...

    def lip_opening(self, motion: Tensor) -> Tensor:
        """Motion (…, out) → opening of each pair of inner-lip points (…, P), mm."""
        ...


@dataclass(frozen=True)
class _WeightedRegions:
    """Vertices (n,) and differences of vertices (n, 2) that errors are reckoned on, with weights."""

    points: tuple[tuple[np.ndarray, float], ...]
    differences: tuple[tuple[np.ndarray, float], ...]


def _weighted_regions(rig: Rig) -> _WeightedRegions:
    regions, marks = rig.template.regions, rig.template.landmarks
    moved = np.flatnonzero(np.abs(rig.offsets).max((0, 2)) > 0)
    return _WeightedRegions(
        points=(
            (np.intersect1d(moved, np.union1d(regions["mouth"], regions["lips"])), REGION_WEIGHTS["mouth"]),
            (regions["lips"], REGION_WEIGHTS["lips"]),
            (regions["inner_lips"], REGION_WEIGHTS["inner lips"]),
        ),
        differences=(
            (regions["lip_pairs"], REGION_WEIGHTS["gap"]),
            (regions["corners"][None], REGION_WEIGHTS["corners"]),
            (np.array([[marks["chin"], marks["subnasale"]]]), REGION_WEIGHTS["chin"]),
        ),
    )


class RigSurfaceMetric(nn.Module):
    """Exact vertex errors at the price of R: the squared vertex error of weights Δw is ‖Δw F‖²."""

    error_factor: Tensor
    lip_basis: Tensor
    opening_basis: Tensor
    rest_opening: Tensor

    def __init__(self, rig: Rig, names: tuple[str, ...]) -> None:
        super().__init__()
        offsets = rig.offsets[[rig.index[n] for n in names]].astype(np.float64) * rig.template.mm_per_unit
        pairs = rig.template.regions["lip_pairs"]
        parts = _weighted_regions(rig)
        flat = [
            (offsets[:, index] * np.sqrt(weight / len(index))).reshape(len(names), -1) for index, weight in parts.points
        ] + [
            ((offsets[:, ends[:, 0]] - offsets[:, ends[:, 1]]) * np.sqrt(weight / len(ends))).reshape(len(names), -1)
            for ends, weight in parts.differences
        ]
        rows = np.concatenate(flat, 1)
        apart = offsets[:, pairs[:, 0]] - offsets[:, pairs[:, 1]]
        left, size, _ = np.linalg.svd(rows @ rows.T)
        self.register_buffer("error_factor", torch.tensor(left * np.sqrt(size), dtype=torch.float32))
        lips = offsets[:, rig.template.regions["lips"]].reshape(len(names), -1) / 10
        seen, strength, _ = np.linalg.svd(lips, full_matrices=False)
        self.register_buffer("lip_basis", torch.tensor(seen * strength / 10, dtype=torch.float32))
        up = _up_axis(rig)
        self.register_buffer("opening_basis", torch.tensor(apart @ up, dtype=torch.float32))
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
    """The same on vertex offsets (…, 3V) in the template's units."""

    lip_vertices: Tensor
    upper_lip: Tensor
    lower_lip: Tensor
    up: Tensor
    rest_opening: Tensor

    def __init__(self, rig: Rig) -> None:
        super().__init__()
        t, pairs = rig.template, rig.template.regions["lip_pairs"]
        self.mm_per_unit = t.mm_per_unit
        parts = _weighted_regions(rig)
        self.points = [(torch.tensor(i.astype(np.int64)), weight) for i, weight in parts.points]
        self.differences = [(torch.tensor(i.astype(np.int64)), weight) for i, weight in parts.differences]
        self.register_buffer("lip_vertices", torch.tensor(t.regions["lips"].astype(np.int64)))
        self.register_buffer("upper_lip", torch.tensor(pairs[:, 0].astype(np.int64)))
        self.register_buffer("lower_lip", torch.tensor(pairs[:, 1].astype(np.int64)))
        self.register_buffer("up", torch.tensor(_up_axis(rig), dtype=torch.float32))
        v = t.vertices.astype(np.float64) * self.mm_per_unit
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
    """The same on vertex offsets (…, 3V) of a mesh of which only the lips are known: the paper's plain mean over all
    vertices. ``mm_per_unit`` millimetres a unit."""

    lip_vertices: Tensor

    def __init__(self, lips: np.ndarray, mm: float) -> None:
        super().__init__()
        self.mm_per_unit = mm
        self.register_buffer("lip_vertices", torch.tensor(lips.astype(np.int64)))

    def squared_error(self, difference: Tensor) -> Tensor:
        return (difference * self.mm_per_unit).square().mean(-1) * 3

    def lip_features(self, motion: Tensor) -> Tensor:
        return motion.unflatten(-1, (-1, 3))[..., self.lip_vertices, :].flatten(-2) * self.mm_per_unit / 10

    def lip_opening(self, motion: Tensor) -> Tensor:
        raise NotImplementedError("losses that need it are refused where a task is made")


def _up_axis(rig: Rig) -> np.ndarray:
    """The face's own unit vector from chin to nose (3,)."""
    v, marks = rig.template.vertices.astype(np.float64), rig.template.landmarks
    up = v[marks["subnasale"]] - v[marks["chin"]]
    across = v[marks["mouth_left"]] - v[marks["mouth_right"]]
    across /= np.linalg.norm(across)
    up -= (up @ across) * across
    return up / np.linalg.norm(up)


class LipReader(nn.Module):
    """Reads motion back to phones, and to the audio's latent (SelfTalk's lip encoder and CTC head)."""

    def __init__(self, seen: int, dimension: int, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(seen, width, 5, padding=2),
            nn.GELU(),
            nn.Conv1d(width, width, 5, padding=2),
            nn.GELU(),
        )
        self.latent = nn.Linear(width, dimension)
        self.text = nn.Linear(width, len(PHONES) + 1)

    def forward(self, lips: Tensor) -> tuple[Tensor, Tensor]:
        """What is seen (B, N, Q) → latent (B, N, d) and log-probabilities (B, N, classes)."""
        h = self.layers(lips.transpose(1, 2)).transpose(1, 2)
        return self.latent(h), functional.log_softmax(self.text(h), -1)


class MotionLosses:
    """Every loss of one batch, weighted; those whose weight is 0 are not reckoned."""

    def __init__(self, surface: SurfaceMetric, reader: LipReader, weights: dict[str, float]) -> None:
        self.surface, self.reader, self.weights = surface, reader, weights

    def key_losses(self, keys: Tensor, true: Tensor, batch: Batch) -> dict[str, Tensor]:
        """LKMA: reconstruction of the key motions ``true`` (B, M, out), as spoken, before anybody edited them."""
        error = self.surface.squared_error(keys - true)
        return {"key reconstruction": self.weights["reconstruction"] * _masked_mean(error, batch.key_mask)}

    def motion_losses(self, motion: Tensor, audio: Tensor, batch: Batch) -> dict[str, Tensor]:
        """CMC: all the others. ``audio`` (B, N, d) is what the network heard."""
        assert batch.motion is not None and batch.bilabial_closure is not None
        w, real = self.weights, batch.frame_mask
        out: dict[str, Tensor] = {}
        if w["reconstruction"]:
            out["reconstruction"] = w["reconstruction"] * _masked_mean(
                self.surface.squared_error(motion - batch.motion), real
            )
        if w["shape_weights"] and isinstance(self.surface, RigSurfaceMetric):
            out["shape_weights"] = w["shape_weights"] * _masked_mean((motion - batch.motion).square().sum(-1), real)
        if w["velocity"]:
            step = (motion - batch.motion).diff(dim=1) * _per_tenth_of_second(batch)
            out["velocity"] = w["velocity"] * _masked_mean(self.surface.squared_error(step), real[:, 1:])
        if w["lip_closure"]:
            # only where the truth is closed as well: an aligner's slip must not close a vowel
            true = self.surface.lip_opening(batch.motion).amax(-1)
            shut = batch.bilabial_closure * (true < 1.0)
            open_by = functional.relu(self.surface.lip_opening(motion).amax(-1) - true)
            out["lip_closure"] = w["lip_closure"] * _masked_mean(shut * open_by, real)
        if w["band_power"]:
            made, true = (self._band_power(m, batch) for m in (motion, batch.motion))
            out["band_power"] = w["band_power"] * (0.5 * (made / true).log()).square().mean()
        if w["text_consistency"] or w["latent_consistency"]:
            # as in SelfTalk the reader learns along with the motion; here the truth keeps it honest
            both = torch.cat([self.surface.lip_features(motion), self.surface.lip_features(batch.motion)])
            latent, text = self.reader(both * torch.cat([real, real])[..., None])
            if w["latent_consistency"]:
                away = (latent - torch.cat([audio, audio]).detach()).square().mean(-1)
                out["latent_consistency"] = w["latent_consistency"] * _masked_mean(away, torch.cat([real, real]))
            if w["text_consistency"]:
                out["text_consistency"] = w["text_consistency"] * self._ctc_loss(text, batch)
        return out

    def _band_power(self, motion: Tensor, batch: Batch) -> Tensor:
        """Power of lip speed within BAND (B,), mm² a frame, never quite zero."""
        speed = self.surface.lip_opening(motion).mean(-1).diff(dim=1) * batch.frame_mask[:, 1:]
        spectrum = torch.fft.rfft(speed.float(), dim=1).abs().square()
        step = (batch.times[:, 1] - batch.times[:, 0]).clamp(min=1e-3)
        frequency = torch.arange(spectrum.shape[1], device=speed.device)[None] / (speed.shape[1] * step[:, None])
        inside = (frequency >= SYLLABLE_BAND[0]) & (frequency <= SYLLABLE_BAND[1])
        power: Tensor = (spectrum * inside).sum(1) / speed.shape[1] / batch.frame_mask.sum(1).clamp(min=1)
        return power + 1e-2

    def _ctc_loss(self, text: Tensor, batch: Batch) -> Tensor:
        phones = batch.phones + batch.phones
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
    """Frames a tenth of a second: velocities are in mm / 100 ms, whatever the frame rate."""
    step = (batch.times[:, 1] - batch.times[:, 0]).clamp(min=1e-3)
    return (0.1 / step)[:, None, None]


def _masked_mean(values: Tensor, real: Tensor) -> Tensor:
    return (values * real).sum() / real.sum().clamp(min=1)
