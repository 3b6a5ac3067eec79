"""How a rig came onto a mesh, and how far it can be trusted."""

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

HUMAN_RESIDUAL = (
    0.045  # of the face's size: median distance of landmarks from a human face's, up to which it looks like one
)
UNLIKE_HUMAN_RESIDUAL = 0.075
MAX_OPEN_SHARE = 0.12  # of the opening: lips that stay further apart than this do not close
MAX_VIEW_SPREAD = 0.02  # of the face's size: views that place landmarks further apart do not agree


@dataclass(frozen=True)
class FitReport:
    """``method`` the rig came ("fitted", "same topology", "own shapes"), ``rate_confidence`` "high", "medium" or "low" with
    the ``warnings`` that lowered it, ``notes`` on the mesh, ``measurements`` by name. Shares are of the
    mouth's width or the face's size as the name says; mm are at human scale (eye corners 90 mm apart)."""

    method: str
    confidence: str
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    measurements: Mapping[str, float | int | str | bool] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def measure_lip_opening(rig: Rig) -> tuple[float, float]:
    """How far jawOpen parts the lips, and how far they stay apart when mouthClose answers it: shares of the
    mouth's width."""
    t = rig.template
    points = t.vertices[[t.landmarks["mouth_left"], t.landmarks["mouth_right"]]]
    width = max(float(np.linalg.norm(points[0] - points[1])), 1e-12)
    upper, lower = t.regions["lip_pairs"].T
    apart = rig.offsets[:, lower] - rig.offsets[:, upper]
    third = slice(len(upper) // 3, len(upper) - len(upper) // 3)
    jaw, close = rig.index["jawOpen"], rig.index["mouthClose"]
    opened = np.linalg.norm(apart[jaw, third], axis=1)
    closed = np.linalg.norm(apart[jaw] + apart[close], axis=1)
    return float(np.median(opened)) / width, float(closed.max()) / width


def assess_fit(
    atlas: SourceHead,
    rig: Rig,
    warp: RbfWarp,
    residual: np.ndarray,
    spread: np.ndarray | None,
    warped: np.ndarray,
    vertices: np.ndarray,
    matched: Correspondence,
    lips: Lips | None,
    landmarks: int,
) -> tuple[list[str], dict[str, float | int | str | bool]]:
    """Doubts about a fit, and what they are drawn from. ``residual`` (L,) is how far the landmarks lie from a
    human face's, ``spread`` (L,) how far the views disagree."""
    size, mm = warp.size, rig.template.mm_per_unit
    odd = float(np.median(residual)) / size
    face = np.flatnonzero(atlas.jaw_motion > 0.02)
    away = float(np.median(cKDTree(vertices).query(warped[face])[0]))
    facts: dict[str, float | int | str | bool] = {
        "landmarks_used": int(warp.inliers.sum()),
        "landmarks_given": landmarks,
        "landmark_residual_of_size": round(odd, 4),
        "matched_share": round(float(matched.reliable[matched.in_face].mean()), 3),
        "surface_distance_mm": round(away * mm, 3),
    }
    doubts = []
    if odd > HUMAN_RESIDUAL:
        doubts.append(f"the face is unlike a human one (landmarks {odd:.1%} of its size off); look at the preview")
    if spread is not None:
        agreed = float(np.nanmedian(spread)) / size
        facts["view_spread_of_size"] = round(agreed, 4)
        if agreed > MAX_VIEW_SPREAD:
            doubts.append("views from several sides place the face differently")
    if facts["matched_share"] < 0.75:  # type: ignore[operator]
        doubts.append(f"only {facts['matched_share']:.0%} of the face answers to the source head")
    if lips is None:
        doubts.append("no lips were found where the mouth should be")
        return doubts, facts
    facts["lips_fused"] = lips.is_fused
    facts["rest_gap_of_mouth"] = round(float(np.median(lips.rest_gap[lips.middle_third])) / lips.width, 3)
    if lips.is_fused:
        doubts.append(
            "no seam runs between the lips: the mouth stretches, it does not open; if it has one, give --landmarks"
        )
    opened, closed = measure_lip_opening(rig)
    facts["opening_of_mouth"], facts["left_open_of_opening"] = round(opened, 3), round(closed / max(opened, 1e-9), 4)
    if closed > MAX_OPEN_SHARE * opened:
        doubts.append(f"its lips stay apart by {closed / max(opened, 1e-9):.0%} of the opening where they should meet")
    return doubts, facts


def rate_confidence(doubts: list[str], odd: float, lips: Lips | None) -> str:
    """``odd`` is the landmarks' median distance from a human face's, as a share of its size."""
    if odd > UNLIKE_HUMAN_RESIDUAL or lips is None or (lips.is_fused and doubts[1:]) or len(doubts) > 2:
        return "low"
    return "medium" if doubts else "high"
