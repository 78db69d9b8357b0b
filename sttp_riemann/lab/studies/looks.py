"""How figures of all studies look."""

from __future__ import annotations

import io
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sttp_riemann.lab.studies.variant import Variant

COLORS = {"dense": "#6b7280", "sn": "#b91c1c", "sr": "#7e22ce", "svdp": "#2563a8", "sttp": "#d97706"}
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "axes.edgecolor": "#9ca3af",
    "axes.axisbelow": True,
    "legend.frameon": False,
}
WIDTH = 1.8
# Of a variant with several spectra, one width each
WIDTHS = {"c": 1.8, "l": 1.2, "r": 2.6, "other": 0.8}


def look(label: str) -> dict[str, Any]:
    """Color by method, dashes by frames, width by spectrum."""
    variant = Variant.of(label)
    return {
        "color": COLORS[variant.method],
        "linestyle": "--" if variant.frames == "householder" else "-",
        "linewidth": WIDTHS.get(variant.letter, WIDTH),
    }


def marker(label: str) -> dict[str, Any]:
    """Full circles on Riemannian frames, hollow squares on Householder frames."""
    variant = Variant.of(label)
    hollow = variant.frames == "householder"
    return {"marker": "s" if hollow else "o", "markerfacecolor": "white" if hollow else COLORS[variant.method]}


def one_axes(width: float = 7.0, height: float = 4.0) -> tuple[Figure, Axes]:
    """Give a figure with one pair of axes."""
    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def panels(
    count: int, columns: int = 3, size: tuple[float, float] = (4.4, 3.2), **options: Any
) -> tuple[Figure, list[Axes]]:
    """Give a figure with so many pairs of axes, a few a line, each of a size in inches."""
    columns = min(columns, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * lines), layout="constrained")
    found = list(figure.subplots(lines, columns, squeeze=False, **options).flat)
    for axes in found[count:]:
        axes.set_visible(False)
    return figure, found[:count]


def legend(axes: Axes) -> None:
    """Above the axes, where no curve can be."""
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def legend_of_panels(figure: Figure, axes: Axes) -> None:
    """Above all panels, from one that has every line."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)


def png(figure: Figure) -> bytes:
    """Draw a figure as the bytes of a PNG file, the same for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()
