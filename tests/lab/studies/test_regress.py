"""What studies of regressions measure, choose by and report."""

from __future__ import annotations

import json

import pytest

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.studies.figures import histories, points, rates
from sttp_riemann.lab.studies.findings import findings
from sttp_riemann.lab.studies.page import build_page
from sttp_riemann.lab.studies.reading import Reading
from sttp_riemann.lab.studies.regress import REGRESS
from sttp_riemann.lab.studies.study import collect
from tests.lab.studies.conftest import result, store


def regressed(method, frames="riemannian", seed=0, r2=0.9, held=None, **changes):
    """A finished regression that nobody ran, whose R^2 is a tenth less halfway."""
    run = result(method, frames, seed, task="regress", **changes)
    history = []
    for row, value in zip(run["history"], (r2 - 0.1, r2), strict=True):
        kept = {name: figure for name, figure in row.items() if name != "test_accuracy"}
        scores = {"validation_r2": held} if held is not None else {}
        history.append({**kept, "test_r2": value, "test_rmse": 2.5, **scores})
    return {**run, "history": history, "final": history[-1]}


def page(runs, **reading):
    return build_page(runs, REGRESS, Reading(**reading))


def test_runs_are_compared_by_r2_with_a_margin_of_its_own():
    runs = [regressed(m, seed=s, r2=0.9 + 0.001 * s - 0.2 * (m == "sttp")) for m in ("dense", "sttp") for s in range(8)]
    made = page(runs)
    assert (made.primary.column, made.primary.margin) == ("test_r2", 0.005)
    told = "\n".join(findings(made))
    assert "test R² is lower (difference -0.2000" in told
    assert "Mean test R² goes from 0.7035 (STTP riemannian) to 0.9035 (dense)" in told
    assert "accuracy" not in told
    assert "points" not in told
    assert list(made.summary())[2:4] == ["test R²", "test RMSE"]


def test_steps_are_counted_to_an_r2():
    runs = [regressed("dense", seed=0, r2=0.95), regressed("dense", seed=1, r2=0.7)]
    made = page(runs, target=0.8)
    assert made.table.steps_to_target.tolist() == [10, 1000]
    assert "steps to R² 0.8" in made.summary()
    assert "Runs that never reach R² 0.8 count with all their steps: 1 of dense." in findings(made)


def test_rates_are_chosen_by_the_r2_of_held_out_examples():
    runs = [regressed("dense", lr=1e-3, r2=0.99, held=0.5), regressed("dense", lr=1e-2, r2=0.6, held=0.8)]
    assert page(runs).summary()["test R²"].tolist() == ["0.6000"]
    assert page(runs).summary()["validation R²"].tolist() == ["0.8000"]


def test_one_rate_that_is_too_high_is_not_all_of_the_mean_over_rates():
    runs = [regressed("dense", lr=lr, r2=r2, held=r2) for lr, r2 in ((1e-3, 0.9), (1e-2, 0.6), (1.0, -1e6))]
    assert page(runs).summary()["mean over rates"].tolist() == ["0.5000"]


@pytest.mark.parametrize(("worst", "scale"), [(-12.0, "symlog"), (0.2, "linear")])
def test_a_rate_that_does_not_learn_hides_no_others_in_the_figure(worst, scale):
    runs = [regressed("sttp", lr=lr, r2=r2, held=r2) for lr, r2 in ((1e-3, 0.9), (1.0, worst))]
    (axes,) = (axes for axes in rates(page(runs)).figure.axes if axes.get_visible())
    assert (axes.get_yscale(), axes.get_ylabel()) == (scale, "test R²")


def test_figures_name_r2_in_captions_and_at_axes():
    runs = [regressed(method, seed=seed, held=0.8) for method in ("dense", "sttp") for seed in range(2)]
    drawn = points(page(runs))
    assert drawn.caption.startswith("Test R² and time of a step")
    assert drawn.figure.axes[0].get_xlabel() == "test R²"
    assert histories(page(runs)).figure.axes[0].get_title() == "validation R²"


def test_a_result_without_r2_is_left_out_by_name(tmp_path):
    store([regressed("dense")], tmp_path)
    path = tmp_path / "0" / "result.json"
    broken = json.loads(path.read_text())
    del broken["final"]["test_r2"]
    path.write_text(json.dumps(broken))
    with pytest.raises(RecipeError, match="is not of a run: final has no test_r2"):
        collect([tmp_path], "report")


def test_a_regression_shares_no_page_with_a_classification():
    with pytest.raises(RecipeError, match="task is 'regress' and 'classify'; report them apart"):
        page([regressed("dense"), result("sttp")])
