"""Draws the diagrams of the page "How it works": docs/pipeline.svg and docs/network.svg.

python docs/diagrams.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

DOCS = Path(__file__).parent
DATA, PART, GROUP = "#ffffff", "#e8eaf6", "#f5f5f5"
EDGE = "#3f51b5"

mpl.rcParams |= {"svg.hashsalt": "kmtalk", "font.family": "DejaVu Sans", "font.size": 10}

Point = tuple[float, float]


def canvas(width: float, height: float) -> Axes:
    """An empty white drawing; one unit is a tenth of an inch."""
    figure = plt.figure(figsize=(width / 10, height / 10), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return axes


def box(axes: Axes, center: Point, text: str, size: Point = (16, 6), color: str = DATA) -> None:
    """A box with a text in its middle."""
    (x, y), (w, h) = center, size
    style = "round,pad=0,rounding_size=0.8"
    axes.add_patch(FancyBboxPatch((x - w / 2, y - h / 2), w, h, boxstyle=style, facecolor=color, edgecolor=EDGE))
    axes.text(x, y, text, ha="center", va="center", color="black", linespacing=1.4)


def group(axes: Axes, corner: Point, size: Point, title: str) -> None:
    """A frame around several boxes, with its title at the top left."""
    style = "round,pad=0,rounding_size=0.8"
    axes.add_patch(FancyBboxPatch(corner, *size, boxstyle=style, facecolor=GROUP, edgecolor="#9e9e9e"))
    axes.text(corner[0] + 1.5, corner[1] + size[1] - 1.5, title, ha="left", va="top", weight="bold", color="black")


def arrow(axes: Axes, *points: Point, label: str = "") -> None:
    """An arrow through the points; its label is beside the first segment."""
    for start, end in zip(points[:-2], points[1:-1], strict=True):
        axes.plot(*zip(start, end, strict=True), color="black", linewidth=1, solid_capstyle="round")
    style = {"arrowstyle": "-|>", "color": "black", "linewidth": 1, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", points[-1], points[-2], arrowprops=style)
    if label:
        (x0, y0), (x1, y1) = points[:2]
        axes.text((x0 + x1) / 2, (y0 + y1) / 2 + 0.7, label, ha="center", va="bottom", fontsize=9, color="black")


def pipeline() -> None:
    """The steps from sound to files."""
    axes = canvas(100, 26)
    for x, y, text, color in (
        (8, 13, "Sound", DATA),
        (27, 20, "Words and\nphones", DATA),
        (45, 20, "Key frames", DATA),
        (36, 6, "Audio features", DATA),
        (59, 13, "Network", PART),
        (76, 13, "Post-\nprocessing", PART),
        (92, 18.5, "Weights on\nthe face", DATA),
        (92, 6, "Files", DATA),
    ):
        box(axes, (x, y), text, (13 if text != "Audio features" else 16, 6), color)
    arrow(axes, (8, 16), (8, 20), (20.5, 20))
    arrow(axes, (8, 10), (8, 6), (28, 6))
    arrow(axes, (33.5, 20), (38.5, 20))
    arrow(axes, (51.5, 20), (59, 20), (59, 16))
    arrow(axes, (44, 6), (59, 6), (59, 10))
    arrow(axes, (65.5, 13), (69.5, 13))
    arrow(axes, (27, 23), (27, 25), (76, 25), (76, 16))
    arrow(axes, (76, 10), (76, 9), (84, 9), (84, 18.5), (85.5, 18.5))
    arrow(axes, (92, 15.5), (92, 9))
    save(axes, "pipeline.svg")


def network() -> None:
    """The two parts of the network, with the paper's symbols."""
    axes = canvas(100, 48)
    group(axes, (23, 27), (75, 19), "LKMA: key motions at the key frames")
    group(axes, (23, 2), (75, 22), "CMC: motion of all frames")
    box(axes, (10, 36), "Audio features\n$A$  (N, d)", (17, 7))
    box(axes, (36, 36), "at the key frames\n$A[k]$  (m, d)", (19, 7))
    box(axes, (60, 36), "KeyMotionDecoder", (19, 7), PART)
    box(axes, (85, 36), "Key motions\n$K$  (m, out)", (18, 7))
    box(axes, (85, 15), "MotionFlow-\nEncoder", (18, 7), PART)
    box(axes, (62.5, 15), "Motion flow\n$\\Phi$  (N, d)", (15, 7))
    box(axes, (37.5, 15), "AudioGate\n$W = \\sigma(L([A; \\Phi]))$", (24, 7), PART)
    box(axes, (37.5, 5.8), "$Z = W \\odot A + (1 - W) \\odot \\Phi$   (N, d)", (27, 4.6))
    box(axes, (65, 5.8), "MotionDecoder", (17, 4.6), PART)
    box(axes, (86.5, 5.8), "Motion $Y$  (N, out)", (19, 4.6))
    arrow(axes, (18.5, 36), (26.5, 36))
    arrow(axes, (45.5, 36), (50.5, 36))
    arrow(axes, (69.5, 36), (76, 36))
    arrow(axes, (85, 32.5), (85, 18.5))
    arrow(axes, (76, 15), (70, 15))
    arrow(axes, (55, 15), (49.5, 15))
    arrow(axes, (10, 32.5), (10, 15), (25.5, 15))
    arrow(axes, (37.5, 11.5), (37.5, 8.1))
    arrow(axes, (51, 5.8), (56.5, 5.8))
    arrow(axes, (73.5, 5.8), (77, 5.8))
    save(axes, "network.svg")


def save(axes: Axes, name: str) -> None:
    """Write a drawing; the same drawing gives the same bytes."""
    axes.figure.savefig(DOCS / name, metadata={"Date": None})
    plt.close("all")


if __name__ == "__main__":
    pipeline()
    network()
