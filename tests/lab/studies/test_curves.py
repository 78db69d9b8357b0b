from __future__ import annotations

import pytest

from sttp_riemann.lab.studies.curves import Point, by_curve, draw_over_compression, points_of, times_of
from sttp_riemann.lab.studies.looks import one_axes
from sttp_riemann.lab.studies.results import tabulate
from tests.lab.studies.conftest import result

CURVES = ["SVDP riemannian", "SVDP householder", "STTP riemannian", "STTP householder"]


def accuracy(row):
    return row.accuracy, row.accuracy_two_sd


def axes_of(points):
    _, axes = one_axes()
    draw_over_compression(axes, points, "test accuracy (%)")
    return axes


def lines(axes):
    return {container.get_label(): container.lines[0] for container in axes.containers}


def test_there_is_one_curve_for_each_method_and_path(curves):
    axes = axes_of(points_of(tabulate(curves), accuracy))
    assert list(lines(axes)) == CURVES
    assert axes.get_xscale() == "log"
    assert axes.get_ylabel() == "test accuracy (%)"


def test_a_curve_joins_its_ranks_in_the_order_of_size(curves):
    axes = axes_of(points_of(list(reversed(tabulate(curves))), accuracy))
    for line in lines(axes).values():
        assert line.get_xdata() == pytest.approx([6, 24], rel=0.02)
        assert list(line.get_ydata()) == pytest.approx([92.5, 92.5])


def test_the_dense_network_is_a_dashed_line_across(curves):
    axes = axes_of(points_of(tabulate(curves), accuracy))
    (dense,) = [line for line in axes.lines if line.get_label() == "dense"]
    assert dense.get_linestyle() == "--"
    assert set(dense.get_ydata()) == {92.5}


def test_every_point_is_marked_with_its_rank(curves):
    axes = axes_of(points_of(tabulate(curves), accuracy))
    assert sorted(text.get_text() for text in axes.texts) == 4 * ["2"] + 4 * ["8"]


def test_error_bars_are_two_standard_deviations(curves):
    axes = axes_of(points_of(tabulate(curves), accuracy))
    (bars,) = axes.containers[0].lines[2]
    (_, low), (_, high) = bars.get_segments()[0]
    assert (high - low) / 2 == pytest.approx(2 * 0.5**0.5)


def test_a_single_rank_is_a_point_that_tells_it():
    axes = axes_of(points_of(tabulate([result("sttp")]), accuracy))
    assert [text.get_text() for text in axes.texts] == ["r=64"]


def test_dense_alone_is_drawn_too():
    axes = axes_of(points_of(tabulate([result("dense")]), accuracy))
    assert len(axes.lines) == 1
    assert not axes.containers


def test_times_are_points_without_spread(curves):
    points = times_of(tabulate(curves))
    assert {point.value for point in points} == {10.0, 12.0}
    assert all(point.two_sd != point.two_sd for point in points)


def test_spectra_make_curves_of_their_own():
    labels = ["sn", "sttp-c-riemannian-rank8", "sttp-r-riemannian-rank4", "sttp-c-riemannian-rank4"]
    found = by_curve([Point(label, float(label[-1] == "8") + 1, 0.0) for label in labels[1:]] + [Point("sn", 1, 0.0)])
    assert {curve: [point.label for point in members] for curve, members in found.items()} == {
        "sttp-c-riemannian": ["sttp-c-riemannian-rank4", "sttp-c-riemannian-rank8"],
        "sttp-r-riemannian": ["sttp-r-riemannian-rank4"],
    }
