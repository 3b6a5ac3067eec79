"""The skin of the default head: MakeHuman's polygons, cut at the chest, subdivided in the face, with its rims."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from makehuman import HeadSource
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree
from subdivide import subdivide, triangulate

BUST_MM = 528.0  # height above MakeHuman's origin where the skin ends, under the collar
BUST_HALF_WIDTH_MM = 150.0
# polygons with longer edges are split: around eyes and lips, elsewhere in front of the ears, and behind them
FINE_EDGE_MM, EDGE_MM, COARSE_EDGE_MM = 2.8, 6.5, 12.0
EXPRESSIVE_MM = 18.0  # around the rims of lids and lips
OUTER, MOUTH, SOCKET = 0, 1, 2  # regions of the skin
SOCKET_ROWS = 3  # rows of the eye socket behind the lid margin that are kept


@dataclass
class Rim:
    """A closed rim of the skin, as two chains of vertices between the same two corners.

    Attributes:
        upper: (n,) vertices of the upper chain from one corner to the other, corners included.
        lower: (m,) vertices of the lower chain, likewise.
    """

    upper: np.ndarray
    lower: np.ndarray

    @property
    def all(self) -> np.ndarray:
        """All vertices of the rim, each once."""
        return np.unique(np.concatenate([self.upper, self.lower]))


@dataclass
class Skin:
    """The skin of the full head, whose first vertices are those of the light head.

    Attributes:
        vertices: (V, 3) in mm.
        faces: (F, 3) triangles.
        light_faces: Triangles of the light head.
        light_count: Number of vertices of the light head.
        regions: (F,) region of each triangle: `OUTER`, `MOUTH` (inside, behind the lips) or `SOCKET` (behind the
            lid margins).
        light_regions: The same for `light_faces`.
        shapes: Name → offsets (V, 3) in mm.
        lips: The line along which the lips touch; chains run from the right corner (-x) to the left.
        lids: `left` and `right` → inner edge of the lid margins; chains run from the inner to the outer corner.
    """

    vertices: np.ndarray
    faces: np.ndarray
    light_faces: np.ndarray
    light_count: int
    regions: np.ndarray
    light_regions: np.ndarray
    shapes: dict[str, np.ndarray]
    lips: Rim
    lids: dict[str, Rim]


def build_skin(source: HeadSource) -> Skin:
    """Cut, subdivide and triangulate MakeHuman's skin."""
    vertices = source.vertices
    low = [
        p
        for p in source.polygons["body"]
        if vertices[p, 1].max() > bust_height(vertices[p]).min() and np.abs(vertices[p, 0]).max() < BUST_HALF_WIDTH_MM
    ]
    polygons = [list(p) for p in (*source.polygons["skin"], *low, *source.polygons["mouth"])]
    region = np.full(len(polygons), OUTER)
    region[-len(source.polygons["mouth"]) :] = MOUTH
    outer = set(np.concatenate(source.polygons["skin"]).tolist())
    rims = {"lips": outer & set(np.concatenate(source.polygons["mouth"]).tolist())}
    for side in ("left", "right"):
        socket = source.polygons[f"socket_{side}"]
        rims[side] = outer & set(np.concatenate(socket).tolist())
        kept = _rows_behind(socket, rims[side])
        polygons += kept
        region = np.concatenate([region, np.full(len(kept), SOCKET)])
    used = np.unique(np.concatenate(polygons))
    index = np.full(len(vertices), -1)
    index[used] = np.arange(len(used))
    polygons = [index[p].tolist() for p in polygons]
    points = _trim(vertices[used], polygons)
    longest = np.array([np.linalg.norm(points[p] - points[np.roll(p, 1)], axis=1).max() for p in polygons])
    centre = np.array([points[p].mean(0) for p in polygons])
    front = (centre[:, 2] > points[:, 2].max() - 85) & (centre[:, 1] > points[:, 1].max() - 250)
    near_rim = np.array([bool(rims["lips"] & set(used[p].tolist())) for p in polygons])
    expressive = cKDTree(vertices[sorted(set().union(*rims.values()))]).query(centre)[0] < EXPRESSIVE_MM
    split = longest > np.where(front & expressive, FINE_EDGE_MM, np.where(front, EDGE_MM, COARSE_EDGE_MM))
    split = np.where(region == MOUTH, near_rim, split)
    matrix, fine, origin = subdivide(polygons, split, len(used))
    shapes = {name: matrix @ offsets[used] for name, offsets in source.shapes.items()}
    new = matrix @ points
    faces = [triangulate(p, new) for p in (fine, polygons)]
    triangle_origin = [np.repeat(np.arange(len(p)), [len(x) - 2 for x in p]) for p in (fine, polygons)]
    edges = np.unique(np.sort(np.array([(a, b) for p in fine for a, b in zip(p, p[1:] + p[:1], strict=True)])), axis=0)
    rim_vertices = {name: _refined(index[sorted(members)], edges, matrix, len(used)) for name, members in rims.items()}
    return Skin(
        vertices=new,
        faces=faces[0],
        light_faces=faces[1],
        light_count=len(used),
        regions=region[origin[triangle_origin[0]]],
        light_regions=region[triangle_origin[1]],
        shapes=shapes,
        lips=_order_rim(rim_vertices["lips"], edges, new, 1.0),
        lids={s: _order_rim(rim_vertices[s], edges, new, 1.0 if s == "left" else -1.0) for s in ("left", "right")},
    )


def outer_vertices(skin: Skin) -> np.ndarray:
    """Return the vertices of the outer skin, rims included."""
    return np.unique(skin.faces[skin.regions == OUTER])


def bust_height(points: np.ndarray) -> np.ndarray:
    """Return the height of the cut below points (n, 3), in mm: lower at the chest than at the nape."""
    return BUST_MM - 0.35 * (points[:, 2] - 60.0)


def _trim(points: np.ndarray, polygons: list[list[int]]) -> np.ndarray:
    """Return vertices (V, 3) of which those below the cut have moved onto it, so that the skin ends in a clean line."""
    out = points.copy()
    height = points[:, 1] - bust_height(points)
    edges = np.array([(a, b) for p in polygons for a, b in zip(p, p[1:] + p[:1], strict=True)])
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    outside = np.abs(points[:, 0]) > 0.9 * BUST_HALF_WIDTH_MM  # the shoulders, which are cut by their distance
    for low in np.flatnonzero((height < 0) & ~outside):
        up = edges[edges[:, 0] == low, 1]
        up = up[height[up] > 0]
        if len(up):
            share = (height[low] / (height[low] - height[up]))[:, None]
            out[low] = (points[low] + share * (points[up] - points[low])).mean(0)
    return out


def _rows_behind(polygons: list[list[int]], rim: set[int]) -> list[list[int]]:
    """Return the polygons within `SOCKET_ROWS` rows of a rim."""
    reached, kept = set(rim), []
    left = list(polygons)
    for _ in range(SOCKET_ROWS):
        row = [p for p in left if reached & set(p)]
        left = [p for p in left if not reached & set(p)]
        kept += row
        reached |= {v for p in row for v in p}
    return kept


def _refined(rim: np.ndarray, edges: np.ndarray, matrix: sp.csr_matrix, count: int) -> np.ndarray:
    """Return the vertices of a rim after subdivision: the old ones and those that split its edges."""
    on_rim = np.zeros(matrix.shape[0], bool)
    on_rim[rim] = True
    ends = np.concatenate([edges, edges[:, ::-1]])
    ends = ends[on_rim[ends[:, 0]] & (ends[:, 1] >= count)]
    added, times = np.unique(ends[:, 1], return_counts=True)
    # a vertex that splits an edge of the rim has both ends of the edge as neighbours, and no centre has two of them
    degree = np.bincount(edges.ravel(), minlength=matrix.shape[0])
    return np.concatenate([rim, added[(times == 2) & (degree[added] >= 3)]])


def _order_rim(rim: np.ndarray, edges: np.ndarray, vertices: np.ndarray, direction: float) -> Rim:
    """Order a closed rim and cut it at its two corners, the extremes of `direction` · x."""
    inside = np.isin(edges, rim).all(1)
    neighbours: dict[int, list[int]] = {int(v): [] for v in rim}
    for a, b in edges[inside].tolist():
        neighbours[a].append(b)
        neighbours[b].append(a)
    if any(len(n) != 2 for n in neighbours.values()):
        raise ValueError("the rim is not one closed chain of edges")
    loop = [int(rim[0])]
    while len(loop) < len(rim):
        onward = [n for n in neighbours[loop[-1]] if n not in loop[-2:]]
        loop.append(onward[0])
    x = direction * vertices[loop, 0]
    loop = loop[int(x.argmin()) :] + loop[: int(x.argmin())]
    far = int((direction * vertices[loop, 0]).argmax())
    chains = [np.array(loop[: far + 1]), np.array([loop[0], *loop[far:][::-1]])]
    chains.sort(key=lambda c: float(vertices[c, 1].mean()))
    return Rim(upper=chains[1], lower=chains[0])


def edge_graph(vertices: np.ndarray, faces: np.ndarray) -> sp.csr_matrix:
    """Return the symmetric matrix (V, V) of edge lengths of triangles."""
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ends = np.unique(np.sort(ends, axis=1), axis=0)
    length = np.linalg.norm(vertices[ends[:, 0]] - vertices[ends[:, 1]], axis=1)
    half = sp.csr_matrix((length, (ends[:, 0], ends[:, 1])), (len(vertices), len(vertices)))
    return (half + half.T).tocsr()


def distance_along(graph: sp.csr_matrix, start: np.ndarray) -> np.ndarray:
    """Return the length (V,) of the shortest path along edges from any of the start vertices."""
    out: np.ndarray = dijkstra(graph, indices=start, min_only=True)
    return out
