"""The study of accuracy over compression on the shipped digits."""

from __future__ import annotations

import csv
from pathlib import Path

from sttp_riemann.lab import recipes
from sttp_riemann.lab.studies.compare import plan
from sttp_riemann.lab.training.recipe import Recipe

SHOWN = Path(__file__).parents[3] / "docs" / "studies" / "digits-compression" / "results.csv"


def runs():
    return plan(Recipe.from_dict(recipes.read("digits-compression")))


def test_it_has_five_ranks_and_more_of_both_methods_on_both_paths():
    ranks = {}
    for run in runs():
        ranks.setdefault((run.network.method, run.network.frames, run.seed), set()).add(run.network.rank)
    low_rank = {key: found for key, found in ranks.items() if key[0] != "dense"}
    assert len(low_rank) == 2 * 2 * 3
    assert min(map(len, low_rank.values())) >= 5


def test_what_the_documentation_shows_is_this_study():
    rows = list(csv.DictReader(SHOWN.open()))
    assert [row["label"] for row in rows] == list(dict.fromkeys(run.label for run in runs()))
    assert {row["seeds"] for row in rows} == {"3"}
