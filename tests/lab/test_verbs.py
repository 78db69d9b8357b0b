from __future__ import annotations

import subprocess
import sys

import pytest

from sttp_riemann import lab
from sttp_riemann.errors import RecipeError
from tests.conftest import TINY

SMALL = {**TINY, "steps": 2, "evaluate_every": 2, "seeds": [0]}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_compare_gives_table_figures_and_findings(tmp_path):
    study = lab.compare("digits", **SMALL, methods=["dense", "sttp"], sweep={"init": ["identity", "orthogonal"]})
    assert list(study.table.start) == ["", "identity", "orthogonal", "identity", "orthogonal"]
    assert "points" in study.figures
    assert study.findings
    assert study._repr_html_().startswith("<h1>digits</h1>")
    assert (tmp_path / "runs" / "digits" / "report.html").exists()


def test_train_report_and_inspect_work_on_a_run(tmp_path):
    fields = {name: value for name, value in SMALL.items() if name != "seeds"}
    result = lab.train("digits", **fields, method="sttp", output="mine")
    assert str(result["folder"]) == "mine"
    assert list(lab.inspect("mine")) == ["classifier"]
    assert list(lab.report(["mine"], output="page").table.variant) == ["STTP riemannian"]
    assert (tmp_path / "page" / "report.md").exists()


def test_what_cannot_be_is_refused_as_on_the_command_line():
    with pytest.raises(RecipeError, match="unknown recipe field 'lrr'"):
        lab.compare("digits", lrr=1)
    with pytest.raises(RecipeError, match="there is no checkpoint nowhere"):
        lab.compress("nowhere")


def test_the_laboratory_is_cheap_to_import():
    code = (
        "import sttp_riemann.lab, sys; print([m for m in ('pandas', 'matplotlib', 'accelerate') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_only_verbs_are_there():
    with pytest.raises(AttributeError, match="has no attribute 'bake'"):
        _ = lab.bake
