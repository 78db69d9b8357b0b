from __future__ import annotations

import json

import pytest

from sttp_riemann.errors import CheckpointError
from sttp_riemann.lab.studies import probes
from sttp_riemann.lab.studies.probes import attach, measure, probe_path
from tests.lab.studies.conftest import result


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    from sttp_riemann.lab.training.recipe import Recipe
    from tests.conftest import TINY

    recipe = Recipe().changed(**{**TINY, "network_options": {"width": 4, "depth": 1}, "seed": 3})
    path = probe_path(recipe, tmp_path_factory.mktemp("study"))
    measure(recipe, 3, path)
    return recipe, path


def test_a_probe_has_conditioning_gradients_and_drift(probed):
    _, path = probed
    found = json.loads(path.read_text())
    assert {m.column for m in probes.PROBES} <= set(found["columns"])
    assert found["columns"]["condition_after"] >= 1
    assert found["after"] == sorted(found["after"], reverse=True)


def test_a_probe_that_is_there_is_not_made_again(probed, monkeypatch):
    recipe, path = probed
    monkeypatch.setattr(probes, "probe", lambda recipe: pytest.fail("probed again"))
    measure(recipe, 3, path)


def test_probes_go_with_runs_that_differ_in_rate_and_width_alone(probed):
    recipe, path = probed
    fields = recipe.flat() | {"lr": 0.5, "network_options": {"width": 64}}
    changes = [{}, {"frames": "householder"}, {"seed": 2}, {"rank": 5}, {"init": "identity"}]
    runs = [result(**{**fields, **change}) for change in changes]
    found = [run["probe"] is not None for run in attach(runs, [path.parent.parent])]
    assert found == [True, False, False, False, False]


@pytest.mark.parametrize("text", ["{", "{}", '{"recipe": {}, "drift_steps": 1, "columns": {"a": "b"}}'])
def test_a_file_that_is_no_probe_is_refused_by_name(text, tmp_path):
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes" / "a.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"a.json cannot be read: delete it"):
        attach([], [tmp_path])
