"""The study that runs without any argument."""

from __future__ import annotations

import csv
from pathlib import Path

from sttp_riemann.lab import recipes
from sttp_riemann.lab.studies.plan import plan
from sttp_riemann.lab.training.recipe import Recipe

SHOWN = Path(__file__).parents[3] / "docs" / "studies" / "digits" / "results.csv"


def test_what_the_documentation_shows_is_this_study():
    rows = list(csv.DictReader(SHOWN.open()))
    seeds = sorted({int(row["seed"]) for row in rows})
    recipe = Recipe.from_dict(recipes.read("digits")).changed(seeds=seeds)
    shown = sorted((row["method"], row["path"], int(row["seed"])) for row in rows)
    assert shown == sorted(
        (run.network.method, run.network.frames if run.network.low_rank else "", run.seed) for run in plan(recipe)
    )
    assert len(seeds) >= 3
