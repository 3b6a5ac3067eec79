"""Report on a fitted rig: method, measurements, warnings and confidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
from scipy.spatial import cKDTree

from kmtalk.face.correspondence import Correspondence
from kmtalk.face.lips import Lips
from kmtalk.face.registration import RbfWarp
from kmtalk.face.rig import Rig
from kmtalk.face.source_head import SourceHead

# shares of the face's size: median distance of the landmarks from a human face's
HUMAN_RESIDUAL = 0.045  # up to this the face looks human
UNLIKE_HUMAN_RESIDUAL = 0.075  # above this confidence is low
MAX_OPEN_SHARE = 0.12  # share of the jaw's opening: lips that stay further apart under mouthClose do not close
MAX_VIEW_SPREAD = 0.02  # share of the face's size: views whose landmarks differ by more do not agree


@dataclass(frozen=True)
class FitReport:
    """How a rig was fitted to a mesh, and how reliable the result is.

    Attributes:
        method: "fitted", "same topology" or "own shapes".
        confidence: "high", "medium" or "low".
        warnings: Problems that lower the confidence.
        notes: Remarks on the mesh that do not.
        measurements: Measured values by name. A name that ends in `_of_mouth`, `_of_size` or `_of_opening` is a share
            of the mouth's width, the face's size or the jaw's opening; `_mm` is at human scale (outer eye corners
            90 mm apart).
    """

    method: str
    confidence: str
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    measurements: Mapping[str, float | int | str | bool] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """The report as a dictionary for JSON."""
        return asdict(self)


def measure_lip_opening(rig: Rig) -> tuple[float, float]:
    """Lip opening of a rig, as shares of the mouth's width.

    Returns:
        The median opening under jawOpen in the middle third of the mouth, and the greatest gap that is left under
        jawOpen and mouthClose together.
    """
    t = rig.template
    points = t.vertices[[t.landmarks["mouth_left"], t.landmarks["mouth_right"]]]
    width = max(float(np.linalg.norm(points[0] - points[1])), 1e-12)
    upper, lower = t.regions["lip_pairs"].T
    separation = rig.offsets[:, lower] - rig.offsets[:, upper]
    middle_third = slice(len(upper) // 3, len(upper) - len(upper) // 3)
    jaw, close = rig.index["jawOpen"], rig.index["mouthClose"]
    opened = np.linalg.norm(separation[jaw, middle_third], axis=1)
    closed = np.linalg.norm(separation[jaw] + separation[close], axis=1)
    return float(np.median(opened)) / width, float(closed.max()) / width


def assess_fit(
    source_head: SourceHead,
    rig: Rig,
    warp: RbfWarp,
    residual: np.ndarray,
    spread: np.ndarray | None,
    warped: np.ndarray,
    vertices: np.ndarray,
    matched: Correspondence,
    lips: Lips | None,
    landmark_count: int,
) -> tuple[list[str], dict[str, float | int | str | bool]]:
    """Measure the quality of a fit.

    Args:
        source_head: The source head.
        rig: The fitted rig.
        warp: Warp from the source to the target.
        residual: Distances (L,) of the landmarks from a human face's, in target units.
        spread: Standard deviation (L,) of detected landmarks over the views, or None.
        warped: Source skin vertices (S, 3) on the target.
        vertices: Vertices (V, 3) of the target skin.
        matched: Correspondence from the target to the source skin.
        lips: The target's lips, or None.
        landmark_count: Number of landmarks.

    Returns:
        Warnings, and the measurements that they follow from.
    """
    size, mm = warp.size, rig.template.mm_per_unit
    median_residual = float(np.median(residual)) / size
    face = np.flatnonzero(source_head.jaw_motion > 0.02)
    surface_distance = float(np.median(cKDTree(vertices).query(warped[face])[0]))
    measurements: dict[str, float | int | str | bool] = {
        "landmarks_used": int(warp.inliers.sum()),
        "landmarks_given": landmark_count,
        "landmark_residual_of_size": round(median_residual, 4),
        "matched_share": round(float(matched.reliable[matched.in_face].mean()), 3),
        "surface_distance_mm": round(surface_distance * mm, 3),
    }
    warnings = []
    if median_residual > HUMAN_RESIDUAL:
        warnings.append(
            f"the face is unlike a human one (landmarks off by {median_residual:.1%} of its size); check the preview"
        )
    if spread is not None:
        view_spread = float(np.nanmedian(spread)) / size
        measurements["view_spread_of_size"] = round(view_spread, 4)
        if view_spread > MAX_VIEW_SPREAD:
            warnings.append("the detector's landmarks differ between views; pass --landmarks FILE")
    if measurements["matched_share"] < 0.75:  # type: ignore[operator]
        warnings.append(f"only {measurements['matched_share']:.0%} of the face has a match on the source head")
    if lips is None:
        warnings.append("no lips found where the mouth should be; pass --landmarks FILE")
        return warnings, measurements
    measurements["lips_fused"] = lips.is_fused
    measurements["rest_gap_of_mouth"] = round(float(np.median(lips.rest_gap[lips.middle_third])) / lips.width, 3)
    if lips.is_fused:
        warnings.append(
            "no seam between the lips: the mouth stretches but does not open; if it has one, pass --landmarks FILE"
        )
    opened, closed = measure_lip_opening(rig)
    measurements["opening_of_mouth"], measurements["left_open_of_opening"] = (
        round(opened, 3),
        round(closed / max(opened, 1e-9), 4),
    )
    if closed > MAX_OPEN_SHARE * opened:
        warnings.append(f"the lips do not close: a gap of {closed / max(opened, 1e-9):.0%} of the opening remains")
    return warnings, measurements


def rate_confidence(warnings: list[str], median_residual: float, lips: Lips | None) -> str:
    """Confidence of a fit: "high", "medium" or "low".

    `median_residual` is the landmarks' median distance from a human face's, as a share of the face's size.
    """
    if median_residual > UNLIKE_HUMAN_RESIDUAL or lips is None or (lips.is_fused and warnings[1:]) or len(warnings) > 2:
        return "low"
    return "medium" if warnings else "high"
