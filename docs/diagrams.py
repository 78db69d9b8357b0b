"""Draw the tensor diagrams of the guide: ``python docs/diagrams.py`` writes docs/diagrams/*.svg."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle

from sttp_riemann.trains.shape import Train, layer_shape

BLUE, ORANGE, GREY = "#2563a8", "#d97706", "#6b7280"
PALE = {BLUE: "#dbe7f5", ORANGE: "#fbe6c8", GREY: "#e5e7eb"}
TEXT = "#1f2937"
RADIUS = 0.21
CELL = 0.25
# A hash salt and text as outlines make the files the same on every machine
STYLE = {"svg.hashsalt": "sttp_riemann", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 12}


@contextmanager
def canvas(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """Axes in inches on a white rounded sheet, which dark pages need."""
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(width, height), facecolor="none")
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        axes.set_axis_off()
        sheet = FancyBboxPatch((0.12, 0.12), width - 0.24, height - 0.24, "round,pad=0.1,rounding_size=0.12")
        sheet.set(facecolor="white", edgecolor="none", zorder=0)
        axes.add_patch(sheet)
        yield figure, axes
        plt.close(figure)


def line(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = GREY) -> None:
    """A leg or a bond."""
    axes.plot(*zip(start, end, strict=True), color=colour, linewidth=1.8, zorder=1, solid_capstyle="round")


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = GREY) -> None:
    """A step from one state to the next."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.8})


def label(
    axes: Axes, x: float, y: float, text: str, colour: str = TEXT, size: float = 12, align: str = "center"
) -> None:
    """Text at a point."""
    axes.text(x, y, text, color=colour, fontsize=size, ha=align, va="center", zorder=4)


def node(
    axes: Axes, x: float, y: float, colour: str, text: str = "", stored: bool = True, radius: float = RADIUS
) -> None:
    """A core; one that is the identity and not stored is drawn as an empty dashed circle."""
    face, style = (PALE[colour], "-") if stored else ("white", (0, (2, 1.5)))
    axes.add_patch(Circle((x, y), radius, facecolor=face, edgecolor=colour, linewidth=1.8, linestyle=style, zorder=3))
    label(axes, x, y, text, size=11)


def diamond(axes: Axes, x: float, y: float, text: str = "") -> None:
    """The spectrum."""
    corners = [(x - 0.25, y), (x, y + 0.25), (x + 0.25, y), (x, y - 0.25)]
    axes.add_patch(Polygon(corners, facecolor=PALE[GREY], edgecolor=GREY, linewidth=1.8, zorder=3))
    label(axes, x, y, text, size=12)


def bracket(axes: Axes, start: float, end: float, y: float, rise: float) -> None:
    """A flat bracket over or, with a negative rise, under a part of the chain."""
    axes.plot([start, start, end, end], [y - rise, y, y, y - rise], color=GREY, linewidth=1.2, zorder=1)


def draw_train() -> Figure:
    """W = U diag(s) V^T of a 3x3 convolution from 8 to 16 channels at rank 4, as the package lays it out."""
    shape = layer_shape(16, (8, 3, 3), rank=4)
    cut, step, y = len(shape.modes) - 4, 0.665, 2.12
    positions = [0.52 + step * (k + (k >= cut)) for k in range(len(shape.modes))]
    spectrum = 0.52 + step * cut
    colours = [*_kinds(shape.left, cut), *_kinds(shape.right, len(shape.modes) - cut)[::-1]]
    with canvas(6.4, 3.35) as (figure, axes):
        stops = [*positions[:cut], spectrum, *positions[cut:]]
        ranks = [*shape.ranks[1 : cut + 1], *shape.ranks[cut:-1]]
        for start, end, rank in zip(stops, stops[1:], ranks, strict=False):
            line(axes, (start, y), (end, y))
            label(axes, (start + end) / 2, y + 0.17, str(rank), GREY, 11)
        for x, mode, colour in zip(positions, shape.modes, colours, strict=True):
            line(axes, (x, y), (x, y - 0.5))
            label(axes, x, y - 0.64, str(mode))
            node(axes, x, y, colour, stored=colour != GREY)
        diamond(axes, spectrum, y, "$s$")
        edge = RADIUS + 0.02
        for part, name in ((positions[:cut], "$U$"), (positions[cut:], r"$V^\mathsf{T}$")):
            bracket(axes, part[0] - edge, part[-1] + edge, y + 0.5, 0.08)
            label(axes, (part[0] + part[-1]) / 2, y + 0.72, name, size=14)
        parts = ((positions[:cut], "out modes: 16"), (positions[cut:-1], "in modes: 8"), (positions[-1:], "kernel: 9"))
        for part, name in parts:
            bracket(axes, part[0] - edge, part[-1] + edge, y - 0.84, -0.08)
            label(axes, (part[0] + part[-1]) / 2, y - 1.02, name)
        _legend(axes, 0.42)
    return figure


def _kinds(train: Train, modes: int) -> list[str]:
    """Colours of a train's cores, outer end first; grey for those that are the identity."""
    kept = [BLUE if core.reduced else ORANGE for core in train.cores]
    return [GREY] * (modes - len(kept)) + kept


def _legend(axes: Axes, y: float) -> None:
    entries = ((0.42, BLUE, r"$\mathrm{St}_U$", True), (1.27, ORANGE, r"$\mathrm{St}$", True))
    for x, colour, text, stored in (*entries, (1.97, GREY, "identity, not stored", False)):
        node(axes, x, y, colour, stored=stored, radius=0.14)
        label(axes, x + 0.23, y, text, align="left")
    line(axes, (4.28, y - 0.07), (4.6, y - 0.07))
    label(axes, 4.44, y + 0.09, "4", GREY, 11)
    label(axes, 4.74, y, "bond, TT-rank", align="left")


def cells(axes: Axes, x: float, y: float, rows: int, columns: int, look: Callable[[int, int], tuple[str, str]]) -> None:
    """A matrix of cells from its upper left corner; `look` gives an entry's face and text."""
    for i in range(rows):
        for j in range(columns):
            face, text = look(i, j)
            corner = (x + j * CELL, y - (i + 1) * CELL)
            axes.add_patch(Rectangle(corner, CELL, CELL, facecolor=face, edgecolor=GREY, linewidth=0.8, zorder=2))
            label(axes, corner[0] + CELL / 2, corner[1] + CELL / 2, text, GREY, 11)


def draw_matricization() -> Figure:
    """A core left of the spectrum, its matricization, and the same in St_U."""
    outer, mode, inner = 3, 2, 3
    with canvas(6.4, 3.1) as (figure, axes):
        x, y = 1.1, 1.62
        for end, at, text in (
            ((x - 0.55, y), (x - 0.58, y + 0.2), "$R_{k-1}$"),
            ((x + 0.55, y), (x + 0.5, y + 0.2), "$R_k$"),
            ((x, y - 0.55), (x + 0.22, y - 0.5), "$n_k$"),
        ):
            line(axes, (x, y), end)
            label(axes, *at, text, size=13)
        node(axes, x, y, BLUE)
        arrow(axes, (1.85, y), (2.4, y))
        top, left, right = y + outer * mode * CELL / 2, 3.25, 4.8
        cells(axes, left, top, outer * mode, inner, lambda i, j: (PALE[ORANGE], ""))
        cells(axes, right, top, outer * mode, inner, lambda i, j: ("white", "0") if j < i < inner else (PALE[BLUE], ""))
        block = Rectangle((right, top - inner * CELL), inner * CELL, inner * CELL, fill=False, edgecolor=BLUE)
        block.set(linewidth=2.2, zorder=3)
        axes.add_patch(block)
        label(axes, left - 0.08, y, "$R_{k-1} n_k$", size=13, align="right")
        for at, name in ((left, r"$\mathrm{St}$"), (right, r"$\mathrm{St}_U$")):
            centre = at + inner * CELL / 2
            label(axes, centre, top + 0.17, "$R_k$", size=13)
            label(axes, centre, top + 0.47, name, size=14)
        label(axes, left + inner * CELL / 2, 0.62, r"$X^\mathsf{T} X = I$", size=13)
        label(axes, right + inner * CELL / 2, 0.62, r"$X^\mathsf{T} X = I$", size=13)
        label(axes, right + inner * CELL / 2, 0.36, "leading block triangular", GREY, 11)
        label(axes, x, top + 0.47, "core")
    return figure


def draw_gauge() -> Figure:
    """Q Q^T on an inner bond, who takes it up, and the sweep that uses the freedom."""
    with canvas(6.4, 3.9) as (figure, axes):
        y = 3.3
        _bond(axes, y, 0.95, [("$G_k$", BLUE), ("$Q$", GREY), (r"$Q^\mathsf{T}$", GREY), ("$G_{k+1}$", BLUE)])
        label(axes, 4.95, y, r"$Q Q^\mathsf{T} = I$", size=13)
        arrow(axes, (2.15, y - 0.32), (2.15, y - 0.72))
        label(axes, 2.4, y - 0.52, "absorb", GREY, align="left")
        y -= 1.1
        _bond(axes, y, 1.75, [("$G_k'$", BLUE), ("$G_{k+1}'$", BLUE)])
        label(axes, 4.95, y, "same $W$", size=13)
        axes.plot([0.35, 6.05], [1.62, 1.62], color=PALE[GREY], linewidth=1.2, zorder=1)
        _sweep(axes, 0.95)
    return figure


def _bond(axes: Axes, y: float, x: float, nodes: list[tuple[str, str]]) -> None:
    step = 0.8
    line(axes, (x - 0.5, y), (x + step * (len(nodes) - 1) + 0.5, y))
    for k, (text, colour) in enumerate(nodes):
        if colour != GREY:
            line(axes, (x + k * step, y), (x + k * step, y - 0.42))
        node(axes, x + k * step, y, colour, text, radius=0.27)


def _sweep(axes: Axes, y: float) -> None:
    start, step = 0.8, 0.8
    colours = [BLUE, BLUE, ORANGE, GREY, ORANGE, BLUE, BLUE]
    line(axes, (start, y), (start + 6 * step, y))
    for k, colour in enumerate(colours):
        x = start + k * step
        if colour == GREY:
            diamond(axes, x, y, "$s$")
            continue
        line(axes, (x, y), (x, y - 0.42))
        node(axes, x, y, colour)
        label(axes, x, 0.36, r"$\mathrm{St}_U$" if colour == BLUE else r"$\mathrm{St}$", colour, 13)
    for first, last in ((0, 2), (6, 4)):
        for k in range(first, last, 1 if last > first else -1):
            ahead = step if last > first else -step
            at = start + k * step
            arrow(axes, (at + 0.2 * ahead, y + 0.36), (at + 0.8 * ahead, y + 0.36), BLUE)
            label(axes, at + 0.5 * ahead, y + 0.52, "$Q$", BLUE)


def draw_frames() -> Figure:
    """What is stored of a 6 x 3 frame: a point, full reflectors, reduced reflectors."""
    rows, columns = 6, 3
    panels = (
        ("point", lambda i, j: (PALE[BLUE], ""), rows * columns, "$dr$", ""),
        ("reflectors, full", _full, 12, r"$dr - \frac{1}{2}r(r+1)$", r"$\mathrm{St}$"),
        ("reflectors, reduced", _reduced, 9, "$(d-r)\\,r$", r"$\mathrm{St}_U$"),
    )
    with canvas(6.4, 3.6) as (figure, axes):
        for k, (title, look, count, formula, manifold) in enumerate(panels):
            centre, top = 1.1 + 2.1 * k, 2.85
            x = centre - columns * CELL / 2
            label(axes, centre, 3.27, title)
            cells(axes, x, top, rows, columns, look)
            if manifold:
                label(axes, x + columns * CELL + 0.12, top - 0.75, manifold, GREY, 13, "left")
                cells(axes, x, 1.25, 1, columns, lambda i, j: ("white", "±"))
                label(axes, x + columns * CELL + 0.12, 1.25 - CELL / 2, "signs", GREY, 11, "left")
            label(axes, centre, 0.72, f"{count} numbers", BLUE)
            label(axes, centre, 0.42, formula, size=13)
    return figure


def _full(i: int, j: int) -> tuple[str, str]:
    return (PALE[BLUE], "") if i > j else ("white", "1" if i == j else "0")


def _reduced(i: int, j: int) -> tuple[str, str]:
    return (PALE[BLUE], "") if i > 2 else ("white", "1" if i == j else "0")


DRAWINGS = {"train": draw_train, "matricization": draw_matricization, "gauge": draw_gauge, "frames": draw_frames}


def main() -> None:
    """Write all drawings beside this script."""
    folder = Path(__file__).parent / "diagrams"
    folder.mkdir(exist_ok=True)
    for name, draw in DRAWINGS.items():
        with plt.rc_context(STYLE):
            draw().savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
