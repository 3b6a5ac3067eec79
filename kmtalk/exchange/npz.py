"""animation.npz: vertices by frame and everything to measure them by."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kmtalk.face.motion import Motion
from kmtalk.keys import KeyFrames
from kmtalk.speech.alignment import Alignment


def write_npz(path: Path, motion: Motion, keys: KeyFrames, alignment: Alignment) -> None:
    """Write an uncompressed npz that numpy opens without pickle.

    ``vertices`` (N, V, 3) float32 in the template's units and order; ``faces`` (F, 3); ``fps``;
    ``weights`` (N, R), ``names`` (R,); ``key_frames`` (m,); ``phones`` (P,), ``phone_times`` (P, 2)
    seconds; ``landmark_names`` (L,), ``landmark_vertices`` (L,). Memory does not grow with length.
    """
    template = motion.rig.template
    arrays: Mapping[str, np.ndarray] = {
        "faces": template.faces.astype(np.int32),
        "fps": np.array(motion.fps, np.float64),
        "weights": motion.weights.astype(np.float32),
        "names": np.array(motion.rig.names),
        "key_frames": keys.frames.astype(np.int64),
        "phones": np.array([p.label for p in alignment.phones], dtype=np.str_),
        "phone_times": np.array([(p.start, p.end) for p in alignment.phones], np.float64).reshape(-1, 2),
        "landmark_names": np.array(list(template.landmarks), dtype=np.str_),
        "landmark_vertices": np.array(list(template.landmarks.values()), np.int64),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with archive.open(zipfile.ZipInfo("vertices.npy"), "w", force_zip64=True) as file:
            shape = (len(motion), *template.vertices.shape)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for chunk in motion.chunks():
                file.write(np.ascontiguousarray(chunk, "<f4").tobytes())
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
