from __future__ import annotations

import csv
import io
import json
import math

import pytest

from sttp_riemann.errors import LONGEST, CheckpointError
from sttp_riemann.lab.studies.results import COLUMNS, cells, read_result, tabulate, to_csv
from tests.lab.studies.conftest import result


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
    run["recipe"]["network"].update(fields)
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


@pytest.mark.parametrize("text", ["{", "[" * 10**5, '{"a": 1, "a": 1}', "\xff"])
def test_a_broken_result_is_refused_by_name(text, tmp_path):
    (tmp_path / "result.json").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"result.json cannot be read: delete it") as error:
        read_result(tmp_path)
    assert len(str(error.value)) <= LONGEST


def wrong(*path: str | int, value: object) -> dict:
    """A result in which one value is another."""
    whole = json.loads(json.dumps(result("sttp")))
    inner = whole
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return whole


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "it has no environment"),
        ([1], "it is not a mapping"),
        (3, "it is not a mapping"),
        (wrong("recipe", value=[]), "recipe is not a mapping"),
        (wrong("environment", value="x"), "environment is not a mapping"),
        (wrong("history", value={}), "history is not a list"),
        (wrong("history", value=[]), "it has an empty history"),
        (wrong("history", 0, value=7), "an item of history is not a mapping"),
        (wrong("history", 0, "train_loss", value="x"), "train_loss is not a number"),
        (wrong("final", value={"step": 3}), "final has no test_accuracy"),
        (wrong("final", "test_accuracy", value="0.9"), "test_accuracy is not a number"),
        (wrong("median_step_ms", value=None), "median_step_ms is not a number"),
        (wrong("singular_values", "conv", value=[[1]]), "an item of conv is not a number"),
        (wrong("recipe", "task", value="gan"), "final has no diversity"),
        (wrong("label", value=True), "label is not text"),
    ],
)
def test_a_result_of_wrong_types_is_refused_by_name(content, message, tmp_path):
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=f"result.json is not of a run: {message}"):
        read_result(tmp_path)
