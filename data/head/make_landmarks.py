"""Regenerates assets/landmarks.safetensors: the landmarks that a face detector finds on the default head.

    pip install '.[fit]'
    python data/head/make_landmarks.py -o assets

The detector is MediaPipe's FaceLandmarker (Apache-2.0). The result is 478 points on the project's own mesh.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from scipy.spatial import cKDTree

from kmtalk.face.face_detection import find_face
from kmtalk.face.geometry import interpolate_barycentric, sample_triangles
from kmtalk.face.rig import load_light_head

# not usable: the outline depends on the view and is no fixed point of the face; the irises are not skin
OUTLINE = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152]
OUTLINE += [148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
# on closed lips the detector places both rims on one line; a mesh built from its landmarks separates them
INNER = ([191, 80, 81, 82, 13, 312, 311, 310, 415], [95, 88, 178, 87, 14, 317, 402, 318, 324])
IRISES = list(range(468, 478))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the output file")
    folder = parser.parse_args().output
    template = load_light_head().template
    detection = find_face(template.vertices, template.faces)
    if detection is None:
        raise SystemExit("no face found on the default head")
    on_skin = np.zeros(len(template.vertices), bool)
    on_skin[template.regions["skin"]] = True
    faces = template.faces[on_skin[template.faces].all(1)]
    triangle, weights = sample_triangles(faces, 10)
    samples = interpolate_barycentric(template.vertices, faces, triangle, weights)
    distance, nearest = cKDTree(samples).query(detection.points)
    usable = distance * template.mm_per_unit < 2.0
    usable[OUTLINE + IRISES] = False
    corners, weights = faces[triangle[nearest]], weights[nearest]
    tensors = {"vertices": corners.astype(np.int32), "weights": weights.astype(np.float32), "usable": usable.copy()}
    pairs = template.regions["lip_pairs"]
    for rim, marks in zip(pairs.T, INNER, strict=True):
        distance_x = np.abs(template.vertices[rim, 0][None] - detection.points[marks, 0][:, None])
        for mark, vertex in zip(marks, rim[distance_x.argmin(1)], strict=True):
            face = faces[(faces == vertex).any(1)][0]
            corners[mark], weights[mark], usable[mark] = face, face == vertex, usable[mark]
    tensors |= {"rim_vertices": corners.astype(np.int32), "rim_weights": weights.astype(np.float32)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "landmarks.safetensors")
    print(f"{usable.sum()} of {len(usable)} landmarks usable")


if __name__ == "__main__":
    main()
