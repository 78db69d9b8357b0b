"""What a part of the benchmark shows: its table, sentences and figure, made from its rows."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, NullLocator
from scipy import stats

from sttp_riemann.lab.bench.networks import FORMS
from sttp_riemann.lab.studies.figures import draw_series
from sttp_riemann.lab.studies.looks import INK, PAPER, Drawing, legend, looks, panels
from sttp_riemann.lab.studies.variant import Variant

PEER = "#0f766e"


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """Sum the rounds of a part up.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of one part; see `sttp_riemann.lab.bench.contest.row`. The contestant that comes first is the reference.

    Returns
    -------
    pandas.DataFrame
        A row a case and contestant: the median ``value``; ``ratio``, the median over the rounds of the ratio to the
        reference within a round, 1 for itself; ``note``, ``capped``.
    """
    reference = table[table.contestant == table.contestant[0]]
    paired = table.merge(reference[["case", "round", "value"]], "left", ["case", "round"], suffixes=("", "_reference"))
    # What was measured outside of all rounds has no other in its own
    usual = table.case.map(reference.groupby("case").value.median())
    paired["ratio"] = paired.value / paired.value_reference.where(table["round"].notna(), usual)
    groups = paired.groupby(["case", "contestant"], sort=False, as_index=False)
    return groups.agg(
        value=("value", "median"), ratio=("ratio", "median"), note=("note", "max"), capped=("capped", "max")
    )


def amount(value: float, unit: str) -> str:
    """Write a value in "seconds", "bytes" or "calls" with its unit, to three digits."""
    if unit == "calls":
        return f"{value:.0f}"
    if unit == "bytes":
        return f"{_three(value / 2**20)} MiB"
    return f"{_three(value)} s" if value >= 1 else f"{_three(1e3 * value)} ms"


def _three(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def cells(summary: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Give the table for readers: a line a case, a column a contestant, cells as text."""
    reference = summary.contestant[0]

    def cell(row: Any) -> str:
        if row.capped or pd.isna(row.value):
            return str(row.note)
        ratio = "" if row.contestant == reference or pd.isna(row.ratio) else f" (×{_three(row.ratio)})"
        return f"{amount(row.value, unit)}{ratio}" + f", {row.note}" * bool(row.note)

    texts = summary.assign(text=[cell(row) for row in summary.itertuples()])
    wide = texts.pivot(index="case", columns="contestant", values="text").fillna("")
    return wide.loc[summary.case.unique(), summary.contestant.unique()].rename_axis(columns=None).reset_index()


def findings(summary: pd.DataFrame) -> list[str]:
    """Write a sentence on each contestant but the reference: its range of ratios and their geometric mean."""
    reference, *others = summary.contestant.unique()
    told = []
    for name in others:
        rows = summary[summary.contestant == name]
        ended = rows[~rows.capped & rows.ratio.notna()]
        if not len(ended):
            told.append(f"{name}: {'; '.join(rows.note.unique())}.")
            continue
        low, high = ended.ratio.min(), ended.ratio.max()
        text = f"{name}: {low:.2f} times {reference}"
        if len(ended) > 1:
            text = f"{name}: {low:.2f} to {high:.2f} times {reference}, {stats.gmean(ended.ratio):.2f} in the "
            text += "geometric mean"
        silent = len(rows) - len(ended)
        told.append(text + (f"; {silent} of {len(rows)} did not end." if silent else "."))
    return told


def _looks(names: list[str]) -> dict[str, dict[str, Any]]:
    """Give the looks that variants have in every figure, and one color to all peers."""
    forms = {f.name: Variant(f.method or "dense", f.frames if f.method else "") for f in FORMS if f.name in names}
    peer = {**looks({"": Variant("dense")})[""], "color": PEER, "markerfacecolor": PEER}
    return dict.fromkeys(names, peer) | looks(forms)


def bars(name: str, title: str, summary: pd.DataFrame) -> Drawing:
    """Draw ratios as bars that begin at 1, a panel a case, so that what is faster or smaller points to the left."""
    cases, (reference, *names) = summary.case.unique(), summary.contestant.unique()
    figure, grid = panels(len(cases), columns=2, size=(5.2, 0.9 + 0.3 * len(names)), sharex=True, sharey=True)
    stopped = " A hatched bar ends where its contestant was stopped." if summary.capped.any() else ""
    caption = f"{title}: times {reference}, on a log axis.{stopped}"
    drawing, found = Drawing(name, caption, figure), _looks(names)
    for axes, case in zip(grid, cases, strict=True):
        # Of contestants that take no part in a case, nothing is drawn
        rows = summary[summary.case == case].set_index("contestant").reindex(names)
        rows = rows.fillna({"note": "", "capped": False})
        lengths = (rows.ratio.fillna(1) - 1).tolist()
        fills = [found[contestant]["markerfacecolor"] for contestant in names]
        edges = [found[contestant]["color"] for contestant in names]
        drawn = axes.barh(range(len(names)), lengths, 0.7, left=1, color=fills, edgecolor=edges)
        texts = [str(row.note) if row.capped or pd.isna(row.ratio) else f"{row.ratio:.2f}" for row in rows.itertuples()]
        for bar, contestant, text, capped in zip(drawn, names, texts, rows.capped, strict=True):
            if capped:
                bar.set(hatch="////", facecolor=PAPER)
            drawing.tip(bar, f"{contestant}, {case}: {text}")
        axes.bar_label(drawn, texts, padding=3, fontsize=8)
        axes.axvline(1, color=INK, linewidth=1)
        axes.set(xscale="log", title=case, xlabel=f"times {reference}")
        axes.margins(x=0.2)
        axes.grid(axis="y", visible=False)
        axes.tick_params(labelbottom=True)
        _plain_ticks(axes.xaxis, *axes.get_xlim())
    grid[0].set_yticks(range(len(names)), names)
    grid[0].invert_yaxis()
    return drawing


def curves(name: str, title: str, summary: pd.DataFrame) -> Drawing:
    """Draw values over sizes, a panel a dimension; cases are "dimension size"."""
    parts = summary.case.str.split(" ", expand=True)
    summary = summary.assign(dimension=parts[0], size=parts[1].astype(int), milliseconds=1e3 * summary.value)
    dimensions, found = summary.dimension.unique(), _looks(list(summary.contestant.unique()))
    figure, grid = panels(len(dimensions), columns=len(dimensions), size=(4.0, 3.8), sharey=True)
    drawing = Drawing(name, f"{title}: median training step, on log axes.", figure)
    for axes, dimension in zip(grid, dimensions, strict=True):
        rows = summary[summary.dimension == dimension]
        series = {n: (of["size"].tolist(), [of.milliseconds.tolist()]) for n, of in rows.groupby("contestant")}
        draw_series(drawing, axes, series, found)
        axes.set(xscale="log", yscale="log", xlabel=dimension)
        axes.set_xticks(rows["size"].unique(), rows["size"].unique())
        axes.xaxis.set_minor_locator(NullLocator())
        _plain_ticks(axes.yaxis, *axes.get_ylim())
    grid[0].set_ylabel("training step (ms)")
    legend(figure, found)
    return drawing


def _plain_ticks(axis: Axis, low: float, high: float) -> None:
    """Write plain numbers, as many as there is room for, where a log axis by itself writes powers of ten."""
    subs = (1,) if high > 100 * low else (1, 2, 5) if high > 5 * low else range(1, 10)
    axis.set_major_locator(LogLocator(subs=[*subs]))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())
