"""One convention: fractions in files, percent and KID x100 for people."""

from __future__ import annotations

import json

import pytest

from sttp_riemann.lab.cli import main as cli
from sttp_riemann.lab.studies.study import KINDS
from sttp_riemann.lab.units import HUNDREDTHS, PERCENT, told, told_all

RUN = ["--network_options", "{width: 8, depth: 1}", "--rank", "4", "--steps", "4", "--evaluate_every", "2"]
RUN += ["--device", "cpu", "--threads", "1", "--batch_size", "32"]


def test_what_people_read_is_a_hundred_times_what_files_hold() -> None:
    assert told("test_accuracy", 0.5) == "test accuracy 50.00 %"
    assert told("kid", 0.0125) == "kid x100 1.25"
    assert told_all({"precision": 0.5, "fid": None, "is": 2.0}) == "precision 0.5, is 2"


def test_train_and_compare_print_percent_and_write_fractions(tmp_path, capsys) -> None:
    assert cli.main(["train", "digits", *RUN, "--output", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    arguments = ["--methods", "dense", "--seeds", "0", "--output", str(tmp_path / "study")]
    assert cli.main(["compare", *RUN, *arguments]) == 0
    found = [tmp_path / "run" / "result.json", *(tmp_path / "study").rglob("result.json")]
    stored = [json.loads(path.read_text())["final"]["test_accuracy"] for path in found]
    assert len(stored) == 2
    assert all(0 <= value <= 1 for value in stored)
    assert f"test accuracy {100 * stored[0]:.2f} %" in printed
    said = capsys.readouterr()
    assert f"test accuracy {100 * stored[1]:.2f} %" in said.out + said.err


@pytest.mark.parametrize("kind", KINDS)
def test_reports_scale_what_this_scales(kind: str) -> None:
    kept = (m for m in KINDS[kind].measures if m.column != "mean_over_rates")
    for measure in kept:
        # A ratio in percent is in percent in files as well
        if measure.unit != " %" or measure.scale != 1:
            assert measure.scale == (100 if measure.column in (*PERCENT, *HUNDREDTHS) else 1), measure.column
