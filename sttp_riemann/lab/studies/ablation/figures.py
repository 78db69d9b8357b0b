"""Figures of an ablation: accuracy over learning rates, and the differential of W."""

from __future__ import annotations

import numpy as np

from sttp_riemann.lab.studies.ablation.gradients import NOTHING
from sttp_riemann.lab.studies.looks import Drawing, curves, legend, panels
from sttp_riemann.lab.studies.page import Page


def rates(page: Page) -> Drawing | None:
    """Draw the first measure over learning rates, one panel a rank; seeds as points, a line through their means."""
    if not page.tuned:
        return None
    framed = {title: variant for title, variant in page.variants.items() if variant.path}
    ranks = list(dict.fromkeys(variant.rank for variant in framed.values()))
    figure, grid = panels(len(ranks), sharey=True)
    drawing = Drawing("rates", f"{page.primary.name.capitalize()} over learning rates.", figure, wide=True)
    lines = curves(page.variants)
    for axes, rank in zip(grid, ranks, strict=True):
        for title, variant in page.variants.items():
            if variant.rank not in ("", rank):
                continue
            look, runs = lines[title], page.table[page.table.variant == title]
            means = runs.groupby("rate")[page.primary.column].mean()
            axes.plot(runs.rate, runs[page.primary.column], **{**look, "linestyle": "", "markersize": 3, "alpha": 0.6})
            (line,) = axes.plot(means.index, means, **look)
            told = ", ".join(f"{page.primary.told(mean)} at {rate:g}" for rate, mean in means.items())
            drawing.tip(line, f"{title}: {told}")
        axes.set(xscale="log", xlabel="learning rate", title=f"rank {rank}" if len(ranks) > 1 else "")
    grid[0].set_ylabel(page.primary.head)
    legend(figure, {page.curve(page.variants[title]): look for title, look in lines.items()}, columns=4)
    return drawing


def differentials(page: Page) -> Drawing | None:
    """Draw the singular values of the differential of W, before (faint) and after training, one panel a method."""
    probed = {title: found for title in page.variants if (found := page.first(title).get("probe"))}
    if not probed:
        return None
    panel_of = {title: (page.variants[title].method, page.variants[title].rank) for title in probed}
    kinds = list(dict.fromkeys(panel_of.values()))
    figure, grid = panels(len(kinds), sharey=True)
    caption = "Singular values of dW/dθ, largest first, before training (faint) and after, first seed."
    drawing = Drawing("differential", caption, figure, wide=True)
    lines = curves(page.variants)
    for axes, kind in zip(grid, kinds, strict=True):
        for title in (t for t in probed if panel_of[t] == kind):
            look = {k: lines[title][k] for k in ("color", "linestyle", "linewidth")}
            for when, alpha in (("before", 0.4), ("after", 1.0)):
                values = probed[title][when]
                (line,) = axes.plot(np.linspace(0, 100, len(values)), values, alpha=alpha, **look)
                drawing.tip(line, f"{title}, {when} training")
        # Below are zeros with the rounding of float32 frames
        axes.set(
            yscale="log",
            ylim=(NOTHING, None),
            xlabel="share of directions (%)",
            title=f"{kind[0].upper()}, rank {kind[1]}",
        )
    grid[0].set_ylabel("singular value of dW / dθ")
    legend(figure, {page.curve(page.variants[title]): lines[title] for title in probed}, columns=4)
    return drawing
