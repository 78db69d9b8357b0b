"""The report as one HTML file with its figures inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

from sttp_riemann.lab.studies.contents import Contents

STYLE = """
:root { color-scheme: light; --ink: #1f2937; --soft: #6b7280; --line: #e5e7eb; --back: #f8f9fa; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .8rem; }
.lead { color: var(--soft); margin: 0 0 1.8rem; }
.card { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 1.1rem 1.25rem; }
.scroll { overflow-x: auto; padding: .4rem .6rem; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; font-variant-numeric: tabular-nums; }
th, td { padding: .55rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; line-height: 1.3; }
th:first-child, td:first-child { text-align: left; }
tbody tr:last-child td { border-bottom: 0; }
ul { margin: 0; padding-left: 1.2rem; }
li + li { margin-top: .35rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; flex: 1 1 min(100%, 26rem); }
figure img { display: block; width: 100%; height: auto; max-width: 38rem; margin: 0 auto; }
.wide { flex-basis: 100%; min-width: 0; overflow-x: auto; }
.wide img { max-width: 62rem; min-width: 44rem; }
figcaption, .small { color: var(--soft); font-size: .87rem; }
figcaption { margin-top: .6rem; }
pre { margin: 0; overflow-x: auto; font: .82rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.pair { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
"""


def page(
    name: str,
    summary: str,
    contents: Contents,
    recipe: str,
    machine: Mapping[str, object],
) -> str:
    """HTML of a report that needs no other file.

    Parameters
    ----------
    name, summary : str
        Title and the line beneath it.
    contents : Contents
        Table, findings, figures and notes.
    recipe : str
        The recipe as text.
    machine : mapping
        What it ran on.

    Returns
    -------
    str
        The page.
    """
    environment = "\n".join(f"{key}: {value}" for key, value in machine.items())
    figures = contents.figures.items()
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(name)} · sttp-riemann</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{escape(name)}</h1>
<p class="lead">{escape(summary)}</p>
<div class="card scroll">{_table(contents.table)}</div>
<h2>What the numbers show</h2>
<div class="card">{_list(contents.told)}</div>
<h2>Figures</h2>
<div class="figures">{"".join(_figure(key, *drawn, key in contents.wide) for key, drawn in figures)}</div>
<h2>How to read the table</h2>
<div class="card small">{_list(contents.notes)}</div>
<div class="pair">
<section><h2>Recipe</h2><div class="card"><pre>{escape(recipe)}</pre></div></section>
<section><h2>Environment</h2><div class="card"><pre>{escape(environment)}</pre></div></section>
</div>
</main>
</body>
</html>
"""


def _table(table: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(c)}</th>" for c in table[0])
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in table[1:])
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _list(sentences: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(s)}</li>" for s in sentences) + "</ul>"


def _figure(name: str, caption: str, png: bytes, wide: bool) -> str:
    source = base64.b64encode(png).decode("ascii")
    kind = "card wide" if wide else "card"
    return (
        f'<figure class="{kind}"><img alt="{escape(name)}" src="data:image/png;base64,{source}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
