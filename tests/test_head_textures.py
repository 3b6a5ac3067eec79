"""Texture coordinates and textures of the default head."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "data" / "head"))
import bake
import part_textures
import uv

from kmtalk.face.rig import Rig


@pytest.fixture
def skin(rig: Rig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices in mm, triangles of the skin, and centres of the eyes of the default head."""
    template = rig.template
    vertices = template.vertices * 1000.0
    on_skin = np.zeros(len(vertices), bool)
    on_skin[template.regions["skin"]] = True
    eyes = np.array([vertices[template.regions[f"eye_{side}"]].mean(0) for side in ("left", "right")])
    return vertices, template.faces[on_skin[template.faces].all(1)], eyes


def test_skin_is_unwrapped_without_folds_on_the_face(skin):
    vertices, faces, eyes = skin
    coordinates, uv_faces = uv.skin_uv(vertices, faces, eyes)
    assert coordinates.min() >= 0 and coordinates.max() <= 1
    corners = coordinates[uv_faces]
    assert np.ptp(corners[..., 0], axis=1).max() < 0.5  # no triangle spans the texture
    (a, b), (c, d) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
    centre = vertices[faces].mean(1) - eyes.mean(0)
    x, y, z = np.abs(centre[:, 0]), centre[:, 1], centre[:, 2]
    forehead, cheeks = (x < 45) & (y > 20) & (y < 50), (x > 38) & (x < 50) & (y > -55) & (y < -12)
    assert (a * d - b * c < 0)[(forehead | cheeks) & (z > -15)].all()


def test_an_eye_looks_at_the_middle_of_its_texture():
    centre = np.array([30.0, 0.0, 70.0])
    points = centre + 13 * np.array([[0, 0, 1.0], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_allclose(uv.eye_uv(points, centre), [[0.5, 0.5], [0.875, 0.5], [0.5, 0.125]], atol=1e-6)
    image = part_textures.eye_color(64)
    assert image[31:33, 31:33].max() < 10 < image[32, 44].min()  # pupil and white


def test_rasterize_interpolates_and_dilate_fills():
    square = np.array([[0.25, 0.25], [0.25, 0.75], [0.75, 0.75], [0.75, 0.25]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    image, covered = bake.rasterize(square, faces, square[faces], 64)
    assert covered.sum() == 32 * 32
    np.testing.assert_allclose(image[20, 40], [40.5 / 64, 20.5 / 64], atol=1e-6)
    filled = bake.dilate(image, covered)
    np.testing.assert_array_equal(filled[20, 0], image[20, 16])


def test_normals_lean_away_from_rising_ground():
    v, u = np.mgrid[0:32, 0:32].astype(float)
    positions = np.stack([0.5 * u, -0.5 * v, 0 * u], axis=-1)  # half a millimetre a texel
    normal = bake.normal_map(0.1 * u, positions)[16, 16] / 127.5 - 1
    np.testing.assert_allclose(normal, np.array([-0.2, 0, 1]) / np.hypot(0.2, 1), atol=0.01)
    assert bake.normal_map(-0.1 * v, positions)[16, 16, 1] < 120  # rises upwards, so it leans down


def test_occlusion_is_open_on_top_and_closed_in_a_box():
    box = np.array([[-1, -1, -1], [1, -1, -1], [1, 1, -1], [-1, 1, -1]], float) * 10
    floor = box[[[0, 1, 2], [0, 2, 3]]]
    up = np.array([[0.0, 0, 1]])
    pytest.importorskip("embreex")
    assert bake.occlusion(np.array([[0.0, 0, -10]]), up, floor)[0] == 1
    assert bake.occlusion(np.array([[0.0, 0, -10]]), up, floor + [0, 0, 1.0])[0] < 0.1
