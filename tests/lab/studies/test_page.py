from __future__ import annotations

import math

import pytest

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.studies.measures import ACCURACY, TIME
from sttp_riemann.lab.studies.page import curve_points
from sttp_riemann.lab.studies.reading import Reading
from tests.lab.studies.conftest import curves, page, result, study, validated


def test_a_row_is_a_run_in_the_order_of_a_study(results):
    table = page(results[::-1]).table
    names = ["dense", "SVDP riemannian", "SVDP householder", "STTP riemannian", "STTP householder"]
    assert list(table.variant) == [name for name in names for _ in range(2)]
    assert list(table.seed) == [0, 1] * 5
    row = table.iloc[2]
    assert (row.method, row.path, row["rank"], row.rate, row.start) == (
        "svdp", "riemannian", "64", 1e-3, "orthogonal"
    )  # fmt: skip
    assert (row.test_accuracy, row.ratio, row.dof, row.step_ms) == (pytest.approx(92), 12.5, 100, 12)


def test_several_ranks_are_told_in_titles():
    found = page(curves())
    assert found.ranked
    assert list(found.variants)[:3] == ["dense", "SVDP riemannian r=2", "SVDP riemannian r=8"]


def test_methods_that_have_one_rank_each_are_no_curve():
    found = page([result("svdp", rank=4), result("sttp", rank=8)])
    assert not found.ranked
    assert list(found.variants) == ["SVDP riemannian", "STTP riemannian"]


def test_a_field_that_differs_is_in_titles_and_columns():
    found = page([result("sttp"), result("sttp", steps=9)])
    assert list(found.variants) == ["STTP riemannian steps=1000", "STTP riemannian steps=9"]
    assert list(found.table.steps) == ["1000", "9"]


def test_ranks_by_layer_that_differ_are_no_seeds_of_one_variant():
    found = page([result("sttp", rank={"a": 1}), result("sttp", seed=1, rank={"a": 2})])
    assert len(found.variants) == 2


def test_the_rate_is_chosen_on_held_out_images_and_not_on_the_test_images():
    runs = [
        validated(result("sttp", seed=seed, accuracy=test, lr=rate), held)
        for seed in (0, 1)
        for rate, test, held in [(0.1, 0.99, 0.5), (0.2, 0.8, 0.9)]
    ]
    found = page(runs)
    assert found.tuned
    assert list(found.variants) == ["STTP riemannian"]
    assert list(found.chosen.rate) == [0.2, 0.2]
    assert found.summary()["chosen lr"][0] == "0.2"


def test_a_rate_at_which_a_seed_diverged_is_not_chosen():
    runs = [validated(result("sttp", seed=seed, lr=0.1), 0.5) for seed in (0, 1)]
    runs.append(validated(result("sttp", lr=0.2), 0.9))
    assert list(page(runs).chosen.rate) == [0.1, 0.1]


def test_without_held_out_images_no_rate_is_chosen():
    found = page([result("sttp", lr=0.1), result("sttp", lr=0.2)])
    assert not found.tuned
    assert list(found.variants) == ["STTP riemannian lr=0.1", "STTP riemannian lr=0.2"]


def test_the_summary_has_the_mean_with_half_its_interval(results):
    line = page(results).summary().iloc[1]
    # Of 92 and 93: t is 12.706
    assert line["test accuracy (%)"] == "92.50 ± 6.35"
    assert line["seeds"] == "2"


def test_one_seed_has_no_interval():
    assert page([result("sttp")]).summary()["test accuracy (%)"][0] == "92.00"


def test_the_worst_seed_counts_for_errors_and_the_median_for_time():
    kinds = ("largest_orthogonality_error", "median_step_ms", "largest_singular_value")
    values = [(1e-6, 9.0, 1.0), (3e-6, 20.0, 1.5), (2e-6, 10.0, 1.2)]
    runs = [result("sttp", seed=seed, **dict(zip(kinds, v, strict=True))) for seed, v in enumerate(values)]
    line = page(runs).summary().iloc[0]
    assert (line["orthogonality error"], line["step (ms)"], line["largest singular value"]) == (
        "3.0e-06", "10.0", "1.5000"
    )  # fmt: skip


def test_what_a_dense_network_has_not_is_a_dash(results):
    assert page(results).summary()["orthogonality error"][0] == "–"


@pytest.mark.parametrize(
    "fields", [{"data": "cifar10"}, {"network_options": {"width": 3}}, {"image_size": 16}, {"validation": 0.5}]
)
def test_runs_that_share_no_dense_network_are_refused(fields):
    (name,) = fields
    with pytest.raises(RecipeError, match=f"cannot share a page: {name} is .*; report them apart"):
        page([result("dense"), result("sttp", **fields)])


def test_ratios_are_compared_by_logarithms():
    found = page(study())
    assert found.values("dense", ACCURACY) == {0: pytest.approx(92), 1: pytest.approx(93)}
    assert found.values("dense", TIME) == dict.fromkeys((0, 1), math.log(10))


def test_a_curve_has_the_points_of_every_seed_at_every_rank():
    found = page(curves())
    points = {found.curve(v): of for v, of in curve_points(found, ACCURACY).items()}
    assert points["STTP riemannian"] == {
        seed: [(6.0, pytest.approx(92 + seed)), (24.0, pytest.approx(92 + seed))] for seed in (0, 1)
    }


def test_the_papers_figures_go_with_the_rank_and_stand_beside_ours():
    paper = {"STTP-L r=8": {"test_accuracy": 0.95}}
    table = page([result("sttp", rank=r, paper=paper) for r in (2, 8)]).summary()
    assert list(table["paper's test accuracy"]) == ["–", "95.00"]


def moments(best="cores"):
    """Runs with two moments at two rates, the validation accuracy of one of which is the best."""
    return [
        validated(result("sttp", seed=seed, accuracy=0.9 + lr, moment=m, lr=lr), 0.8 + 0.1 * (m == best) + lr)
        for seed in range(2) for m in ("matrix", "cores") for lr in (0.01, 0.02)
    ] + [
        validated(result("sttp", "householder", seed, 0.9, lr=lr), 0.9) for seed in range(2) for lr in (0.01, 0.02)
    ]  # fmt: skip


def test_a_named_field_is_chosen_by_held_out_images_like_the_rate():
    found = page(moments(), Reading(choose=["moment"]))
    assert list(found.variants) == ["STTP riemannian", "STTP householder"]
    chosen = found.rows("STTP riemannian")
    assert (set(chosen.moment), set(chosen.rate), len(chosen)) == ({"cores"}, {0.02}, 2)
    assert set(page(moments("matrix"), Reading(choose=["moment"])).rows("STTP riemannian").moment) == {"matrix"}
    line = found.summary().set_index("method")
    assert line["chosen moment"].to_dict() == {"STTP riemannian": "cores", "STTP householder": "–"}


def test_a_mean_over_rates_is_of_one_value_of_what_else_is_chosen():
    found = page(moments(), Reading(choose=["moment"]))
    assert found.rows("STTP riemannian").mean_over_rates.tolist() == pytest.approx([91.5, 91.5])
    assert sorted(found.at_all_rates("STTP riemannian").moment) == ["cores"] * 4


def test_a_seed_that_lacks_a_rate_has_no_mean_over_rates():
    runs = [run for run in moments() if (run["recipe"]["seed"], run["recipe"]["lr"]) != (1, 0.01)]
    rows = page(runs).rows("STTP householder")
    assert rows[rows.seed == 0].mean_over_rates.notna().all()
    assert rows[rows.seed == 1].mean_over_rates.isna().all()


def test_only_a_field_in_which_runs_differ_is_chosen():
    with pytest.raises(RecipeError, match="choose takes a field in which runs differ, not 'pivots': moment"):
        page(moments(), Reading(choose=["pivots"]))


def test_nothing_is_chosen_by_test_images():
    runs = [result("sttp", moment=m) for m in ("matrix", "cores")]
    with pytest.raises(RecipeError, match="moment is chosen by held-out examples: set validation"):
        page(runs, Reading(choose=["moment"]))
