"""The study that runs without any argument."""

from __future__ import annotations

import csv
from pathlib import Path

from sttp_riemann.lab import recipes
from sttp_riemann.lab.studies.plan import plan
from sttp_riemann.lab.training.recipe import Recipe

SHOWN = Path(__file__).parents[3] / "docs" / "studies" / "digits" / "results.csv"


def test_what_the_documentation_shows_is_this_study_on_more_seeds():
    runs = plan(Recipe.from_dict({**recipes.read("digits"), "seeds": list(range(8))}))
    shown = {(row["method"], row["path"], row["seed"]) for row in csv.DictReader(SHOWN.open())}
    assert shown == {(run.method, run.frames if run.low_rank else "", str(run.seed)) for run in runs}
