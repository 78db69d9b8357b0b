from __future__ import annotations

import csv
import io
import json
import math

import pytest

from sttp_riemann.study.results import COLUMNS, cells, read_result, tabulate, to_csv
from sttp_riemann.training.errors import CheckpointError
from tests.study.conftest import result


def test_a_row_is_a_variant_over_its_seeds(results):
    rows = tabulate(results)
    assert [row.label for row in rows] == [
        "dense", "svdp-riemannian", "svdp-householder", "sttp-riemannian", "sttp-householder"
    ]  # fmt: skip
    row = rows[1]
    assert row.seeds == 2
    assert row.accuracy == pytest.approx(92.5)
    assert row.accuracy_two_sd == pytest.approx(2 * math.sqrt(0.5))
    assert row.accuracy_lowest == pytest.approx(92)
    assert (row.ratio, row.dof, row.stored, row.rank, row.orthogonality_error) == (12.5, 100, 110, 64, 2e-5)


def test_the_worst_seed_counts_for_errors_and_the_median_for_time():
    runs = [
        result(
            "sttp", seed=seed, largest_orthogonality_error=error, median_step_ms=time, largest_singular_value=largest
        )
        for seed, (error, time, largest) in enumerate([(1e-6, 9.0, 1.0), (3e-6, 20.0, 1.5), (2e-6, 10.0, 1.2)])
    ]
    (row,) = tabulate(runs)
    assert (row.orthogonality_error, row.step_ms, row.singular_value) == (3e-6, 10.0, 1.5)


def test_what_a_dense_network_has_not_is_empty(results):
    row = tabulate(results)[0]
    assert (row.frames, row.rank, row.orthogonality_error) == ("", None, None)
    assert cells(row)[COLUMNS.index("orthogonality error")] == "–"


@pytest.mark.parametrize("fields", [{"budget": 0.1}, {"rank": {"*": 3}}])
def test_layers_of_several_ranks_have_no_one_rank(fields):
    run = result("sttp")
    run["recipe"].update(fields)
    (row,) = tabulate([run])
    assert row.rank is None
    assert next(csv.DictReader(io.StringIO(to_csv([row]))))["rank"] == ""


def test_one_seed_has_no_spread():
    (row,) = tabulate([result("sttp")])
    assert math.isnan(row.accuracy_two_sd)
    assert cells(row)[1] == "92.00"


def test_cells_are_as_many_as_columns(results):
    assert all(len(cells(row)) == len(COLUMNS) for row in tabulate(results))


def test_the_csv_reads_back(results):
    rows = list(csv.DictReader(io.StringIO(to_csv(tabulate(results)))))
    assert len(rows) == 5
    assert rows[0]["orthogonality_error"] == rows[0]["rank"] == ""
    assert float(rows[3]["accuracy"]) == pytest.approx(92.5)


def test_a_run_that_has_not_ended_has_no_result(tmp_path):
    assert read_result(tmp_path) is None


def test_a_result_reads_back(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps(result("sttp")))
    assert read_result(tmp_path) == {**result("sttp"), "folder": tmp_path}


@pytest.mark.parametrize("text", ["{", "[1]", "3"])
def test_a_broken_result_is_refused_by_name(text, tmp_path):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"result.json cannot be read: delete it"):
        read_result(tmp_path)
