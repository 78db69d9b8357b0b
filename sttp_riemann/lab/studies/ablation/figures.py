"""Figures of an ablation, as PNG bytes."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np

from sttp_riemann.lab.studies.ablation.grid import Variant
from sttp_riemann.lab.studies.ablation.looks import Look
from sttp_riemann.lab.studies.looks import STYLE, legend_of_panels, look, marker, panels, png
from sttp_riemann.lab.studies.variant import title


def draw_rates(variants: Sequence[Variant]) -> bytes:
    """Accuracy over learning rate, one panel a rank."""
    ranks = sorted({v.rank for v in variants})
    with matplotlib.rc_context(STYLE):
        figure, axes = panels(len(ranks), sharey=True)
        for panel, rank in zip(axes, ranks, strict=True):
            for variant in (v for v in variants if v.rank == rank):
                label = f"{variant.method}-{variant.frames}"
                rates = [c.rate for c in variant.cells]
                means = [c.accuracy for c in variant.cells]
                # The mean of equal numbers may be beyond them by a rounding
                below = [max(c.accuracy - min(c.accuracies), 0.0) for c in variant.cells]
                above = [max(max(c.accuracies) - c.accuracy, 0.0) for c in variant.cells]
                panel.errorbar(
                    rates, means, yerr=[below, above], capsize=3, label=title(label), **look(label), **marker(label)
                )
            panel.set(xscale="log", xlabel="learning rate", title=f"rank {rank}")
        axes[0].set_ylabel("test accuracy (%)")
        legend_of_panels(figure, axes[0])
        return png(figure)


def draw_differentials(seen: Sequence[Look]) -> bytes:
    """Singular values of the differential of W before (faint) and after training, one panel a method and rank."""
    keys = list(dict.fromkeys((s.variant.method, s.variant.rank) for s in seen))
    with matplotlib.rc_context(STYLE):
        figure, axes = panels(len(keys), sharey=True)
        for panel, key in zip(axes, keys, strict=True):
            for one in (s for s in seen if (s.variant.method, s.variant.rank) == key):
                own = look(f"{key[0]}-{one.variant.frames}")
                for values, alpha, when in ((one.probe.start, 0.4, "before"), (one.probe.end, 1.0, "after")):
                    share = np.linspace(0, 100, len(values))
                    panel.plot(share, values, alpha=alpha, label=f"{one.variant.frames}, {when}", **own)
            panel.set(yscale="log", xlabel="share of directions (%)", title=f"{key[0].upper()}, rank {key[1]}")
        axes[0].set_ylabel("singular value of dW / dθ")
        legend_of_panels(figure, axes[0])
        return png(figure)
