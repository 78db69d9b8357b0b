"""How all figures look, and how they are written."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sttp_riemann.lab.studies.variant import Variant

COLORS = {"dense": "#6b7280", "sn": "#c0392b", "sr": "#8e44ad", "svdp": "#2b7bba", "sttp": "#d97706"}
INK, GRID, PAPER = "#1f2937", "#d9dde3", "#ffffff"
# What the page says of these colors stands in for them where figures are inside it
ON_A_PAGE = {INK: "currentColor", GRID: f"var(--line, {GRID})", PAPER: f"var(--card, {PAPER})"}
# What an SVG file begins with, and what is put below it
FIRST, BACKGROUND = '<g id="figure_1">', f'<rect width="100%" height="100%" fill="{PAPER}"/>'
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.color": GRID,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "sttp-riemann",
}
# Of a variant with several spectra, one width each
WIDTHS = {"C": 1.8, "L": 1.2, "R": 2.6}


@dataclass
class Drawing:
    """A figure of a study.

    Attributes
    ----------
    name : str
        Of its files, without suffix.
    caption : str
        What it shows.
    figure : matplotlib.figure.Figure
        The figure.
    tips : dict
        By the id of an artist, what a page shows at the pointer.
    """

    name: str
    caption: str
    figure: Figure
    tips: dict[str, str] = field(default_factory=dict)

    def tip(self, artist: Artist, text: str) -> None:
        """Show a text where the pointer is over an artist."""
        name = f"{self.name}-tip{len(self.tips)}"
        artist.set_gid(name)
        self.tips[name] = text

    def png(self) -> bytes:
        """Draw it as a PNG file, the same for the same figure."""
        buffer = io.BytesIO()
        with matplotlib.rc_context(STYLE):
            self.figure.savefig(buffer, format="png", dpi=130, bbox_inches="tight", metadata={"Software": None})
        return buffer.getvalue()

    def svg(self) -> str:
        """Draw it as an SVG file."""
        buffer = io.StringIO()
        with matplotlib.rc_context(STYLE):
            self.figure.savefig(
                buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None, "Creator": None}
            )
        text = buffer.getvalue().replace(FIRST, f"{BACKGROUND}\n {FIRST}", 1)
        for name, told in self.tips.items():
            text = text.replace(f'<g id="{name}">', f'<g id="{name}"><title>{escape(told)}</title>')
        return text

    def element(self, svg: str) -> str:
        """Turn its SVG file into an element of a page, in the colors of that: to draw is slow, and both are needed."""
        text = svg.replace(BACKGROUND, "", 1)
        for color, stand_in in ON_A_PAGE.items():
            text = text.replace(color, stand_in)
        # Several figures share the page's ids; those that are referred to differ by their content
        text = re.sub(r' id="(figure|axes|patch|line2d|text|matplotlib\.[a-z]+|[A-Za-z]+Collection)_\d+"', "", text)
        return text[text.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{escape(self.name)}" ', 1)


# Of variants after the first that would look the same
MARKERS = "^Dv<P>"


def looks(variants: Mapping[str, Variant]) -> dict[str, dict[str, Any]]:
    """Give the looks of each variant, by its title: the one convention of all figures.

    The color tells the method, full markers on solid lines are Riemannian frames, hollow ones on dashed lines
    Householder frames, the width tells the spectrum; of several that would look the same, later ones are lighter and
    have other markers.
    """
    found: dict[str, dict[str, Any]] = {}
    seen: dict[Variant, int] = {}
    for title, variant in variants.items():
        kind = Variant(variant.method, variant.path, variant.spectrum)
        turn = seen[kind] = seen.get(kind, -1) + 1
        red, green, blue = (0.9 + (part - 0.9) * 0.75**turn for part in to_rgb(COLORS[variant.method]))
        color = to_hex((red, green, blue))
        hollow = variant.path == "householder"
        found[title] = {
            "color": color,
            "linestyle": "--" if hollow else "-",
            "linewidth": WIDTHS.get(variant.spectrum, 1.8),
            "marker": MARKERS[turn % len(MARKERS)] if turn else "s" if hollow else "o",
            "markerfacecolor": PAPER if hollow else color,
            "markeredgecolor": color,
            "markersize": 5,
        }
    return found


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


def legend(figure: Figure, lines: Mapping[str, Mapping[str, Any]]) -> None:
    """Write above all axes what each line and marker stands for."""
    handles = [Line2D([], [], label=title, **{**look, "markersize": 6}) for title, look in lines.items()]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=-(-len(handles) // -(-len(handles) // 4)), handlelength=3
    )
