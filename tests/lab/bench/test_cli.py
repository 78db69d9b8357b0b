from __future__ import annotations

from types import SimpleNamespace

import pytest

from sttp_riemann.lab.bench import run
from sttp_riemann.lab.bench.settings import Settings
from sttp_riemann.lab.cli import main as cli


@pytest.fixture
def asked(monkeypatch):
    """What the command line asks for, without it being done."""
    found = []

    def bench(settings, output):
        found.append((settings, str(output)))
        return SimpleNamespace(folder=output)

    monkeypatch.setattr(run, "bench", bench)
    return found


def test_bench_by_itself_measures_everything(asked, capsys):
    assert cli.main(["bench"]) == 0
    assert asked == [(Settings(), "runs/bench")]
    assert capsys.readouterr().out == "report: runs/bench/report.html\n"


def test_bench_takes_every_option(asked):
    options = ["--device", "cpu", "--rows", "frames", "calls", "--repetitions", "3", "--budget", "1.5"]
    assert cli.main(["bench", *options, "--output", "runs/mine", "--quick", "--compile"]) == 0
    wanted = Settings("cpu", ["frames", "calls"], 3, 1.5, quick=True, compile=True)
    assert asked == [(wanted, "runs/mine")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "tpu"], "--device must be one of cpu, cuda, not 'tpu'"),
        (["--rows", "frobs"], "--rows must be a list, each one of frames, optimizer, "),
        (["--repetitions", "0"], "--repetitions must be a whole number from 1 to 1,000,000, not '0'"),
        (["--repetitions", "many"], "--repetitions must be a whole number from 1 to 1,000,000, not 'many'"),
        (["--budget", "-1"], "--budget must be a number above 0 and at most 1,000,000,000, not '-1'"),
        (["--frobs"], "unrecognized arguments: --frobs"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line_and_status_2(arguments, message, capsys):
    assert cli.main(["bench", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err


def test_bench_writes_a_report_that_names_what_was_asked(tmp_path):
    asked = ["--rows", "calls", "--repetitions", "1", "--budget", "1", "--quick"]
    assert cli.main(["bench", *asked, "--output", str(tmp_path)]) == 0
    assert "repetitions: 1" in (tmp_path / "report.md").read_text()
