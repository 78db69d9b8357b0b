from __future__ import annotations

import pytest

from sttp_riemann.lab.studies.figures import compression, histories, points, rates, spectra
from tests.lab.studies.conftest import curves, page, result, study, validated


def visible(figure):
    return [axes for axes in figure.axes if axes.get_visible()]


def test_points_have_every_seed_the_mean_and_its_interval_from_three_seeds_on():
    for seeds, lines in ((2, 2), (3, 3)):
        drawn = points(page([result("sttp", seed=seed) for seed in range(seeds)]))
        accuracy, time = visible(drawn.figure)
        assert (accuracy.get_xlabel(), time.get_xlabel()) == ("test accuracy (%)", "step (ms)")
        assert len(accuracy.lines) == lines
        assert len(accuracy.lines[0].get_xdata()) == seeds


def test_an_axis_of_accuracy_shows_what_differs():
    drawn = points(page([result("sttp", seed=s, accuracy=0.97 + 0.001 * s) for s in range(3)]))
    assert visible(drawn.figure)[0].get_xlim()[0] > 96


def test_one_slow_run_does_not_hide_the_times_of_all_others():
    runs = [result("sttp", seed=s, median_step_ms=t) for s, t in enumerate([30.0, 31.0, 300.0])]
    low, high = visible(points(page(runs)).figure)[1].get_xlim()
    assert 0 <= low < 30
    assert 300 < high < 500


@pytest.mark.parametrize("time", [float("inf"), float("nan")])
def test_a_time_that_is_no_number_leaves_the_axis_to_the_figure(time):
    assert points(page([result("sttp", median_step_ms=time)])) is not None


def test_curves_begin_where_runs_have_settled():
    history = [{"step": s, "train_loss": 1.0, "test_accuracy": a} for s, a in enumerate([0.15, 0.9, 0.97, 0.98], 1)]
    run = result("dense", history=history)
    axes = visible(histories(page([run])).figure)[0]
    assert axes.get_title() == "test accuracy (%)"
    assert axes.get_ylim()[0] > 88


def test_curves_are_of_held_out_images_where_there_are_any():
    drawn = histories(page([validated(run, 0.9) for run in study()]))
    assert [axes.get_title() for axes in visible(drawn.figure)] == [
        "validation accuracy (%)", "training loss", "orthogonality error"
    ]  # fmt: skip


def test_only_curves_that_there_are_are_drawn():
    assert len(visible(histories(page([result("dense")])).figure)) == 2


def test_a_run_that_stopped_early_ends_the_curve():
    short = result("sttp", seed=1)
    short["history"] = short["history"][:1]
    lines = visible(histories(page([result("sttp"), short])).figure)[0].lines
    assert len(lines[0].get_xdata()) == 1


def test_over_compression_every_rank_is_a_point_and_every_path_a_line():
    found = page(curves(seeds=3))
    drawn = compression(found)
    axes, times = visible(drawn.figure)
    assert (axes.get_ylabel(), times.get_ylabel()) == ("test accuracy (%)", "step (ms)")
    assert {text.get_text() for text in axes.texts} == {"2", "8"}
    assert sum("Z 6.00 %: mean" in tip for tip in drawn.tips.values()) == 2 * 4
    assert len([line for line in axes.lines if line.get_linestyle() == ":"]) == 1
    assert points(found) is None


def test_one_rank_makes_no_curve(results):
    assert compression(page(results)) is None


def test_heat_maps_are_of_the_largest_rank():
    titles = [axes.get_title() for axes in visible(spectra(page(curves())).figure) if axes.get_title()]
    assert titles == ["dense", *(f"{m} {p} r=8" for m in ("SVDP", "STTP") for p in ("riemannian", "householder"))]


def test_accuracy_over_rates_has_a_point_a_seed():
    runs = [validated(result("sttp", seed=s, lr=lr), 0.9) for s in (0, 1) for lr in (0.1, 0.2)]
    drawn = rates(page(runs))
    (axes,) = visible(drawn.figure)
    seeds = [(x, y) for line in axes.lines[:-1] for x, y in zip(*line.get_data(), strict=True)]
    assert sum(x == 0.1 for x, _ in seeds) == sum(x == 0.2 for x, _ in seeds) == 2 + 1  # and their mean
    assert list(axes.lines[-1].get_xdata()) == [0.1, 0.2]
    assert rates(page(study())) is None


def test_the_colors_of_singular_values_begin_where_the_smallest_is():
    values = {"conv": [2.0, 1.9, 1.8], "linear": [1.0]}
    (axes, *_) = visible(spectra(page([result("sttp", singular_values=values)])).figure)
    assert axes.images[0].get_clim() == (0.9, 1)


@pytest.mark.parametrize("name", ["points", "steps", "singular_values"])
def test_every_figure_can_be_written(results, name):
    found = page(results)
    drawn = {d.name: d for d in (points(found), histories(found), spectra(found))}[name]
    assert drawn.png().startswith(b"\x89PNG")
    assert "<svg" in drawn.svg()
