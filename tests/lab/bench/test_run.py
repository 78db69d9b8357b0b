from __future__ import annotations

import platform
from dataclasses import replace

import pandas as pd
import pytest
import torch

from sttp_riemann.errors import CheckpointError
from sttp_riemann.lab.bench import cores, networks
from sttp_riemann.lab.bench.contest import Contest
from sttp_riemann.lab.bench.race import count_calls, peak_memory
from sttp_riemann.lab.bench.run import PARTS, bench
from sttp_riemann.lab.bench.settings import ROWS, BenchError, Settings
from sttp_riemann.lab.bench.show import summarize

QUICK = Settings(quick=True, repetitions=1)


def test_every_row_of_the_command_line_is_a_part():
    assert tuple(PARTS) == ROWS


@pytest.mark.parametrize("key", [row for row in ROWS if row not in ("memory", "stack")])
def test_every_part_measures_every_contestant(key):
    contest = PARTS[key].contests(QUICK)[0]
    rows = PARTS[key].measure(contest, QUICK)
    assert {row["contestant"] for row in rows} == {c.name for c in contest.contestants}
    assert all(row["value"] > 0 for row in rows if not row["note"].startswith("not installed"))


def test_peak_memory_is_measured_in_processes_of_their_own():
    contest = networks.papers(QUICK)[1]
    rows = peak_memory(Contest(contest.case, contest.contestants[:2]), QUICK)
    dense, low_rank = summarize(pd.DataFrame(rows)).itertuples()
    assert dense.value > 0
    assert low_rank.ratio == low_rank.value / dense.value


@pytest.mark.parametrize("form", networks.FORMS, ids=lambda form: form.name)
def test_a_training_step_changes_the_network_and_can_be_repeated(form):
    job = networks.PAPER[True][0]
    model = job.built()
    job = replace(job, build=lambda: model)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if "bias" in name}
    step = networks.training_step(job, form, "cpu")
    step()
    step()
    after = dict(model.named_parameters())
    assert any(not torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("quick", [True, False])
def test_the_small_network_takes_its_step_in_every_form(quick):
    for contestant in networks.training(Settings(quick=quick))[-1].contestants:
        contestant.build()()


def test_the_full_contests_are_the_issues():
    papers = ["SNGAN-32 discriminator, rank 64, batch 64", "WRN-28-10, rank 64, batch 16"]
    assert [c.case for c in networks.papers(Settings())] == papers
    assert [c.case for c in networks.training(Settings())] == [*papers, "digits, rank 16, batch 64"]
    assert [c.case for c in cores.optimizer(Settings())] == ["all STTP cores of WRN-28-10, rank 64"]
    assert [c.case for c in cores.weights(Settings())] == ["all W of WRN-28-10, rank 64, STTP"]
    depths = [c.case for c in networks.growth(Settings()) if c.case.startswith("depth")]
    assert depths == ["depth 1", "depth 2", "depth 4", "depth 8", "depth 16"]


def test_weights_are_built_anew_in_every_call():
    run = cores.our_weights(QUICK, "householder")
    # Forwards 1, 2 and 4 also look at the frames
    for _ in range(4):
        run()
    assert count_calls(run) == count_calls(run) > 100


def test_the_report_is_that_of_a_study_with_a_section_a_part(tmp_path, capsys):
    settings = Settings(rows=("frames", "calls"), quick=True, repetitions=1)
    report = bench(settings, tmp_path / "new")
    names = sorted(str(p.relative_to(tmp_path / "new")) for p in (tmp_path / "new").rglob("*.*"))
    assert names == ["figures/frames.png", "figures/frames.svg", "report.html", "report.md", "results.csv", "table.tex"]
    text = (tmp_path / "new" / "report.md").read_text()
    assert "## Householder frames" in text
    assert "![frames](figures/frames.png)" in text
    assert "## Operator calls" in text
    assert "Tiny shapes (quick): the times mean nothing." in text
    assert f"- torch: {torch.__version__}" in text
    assert "| (2, 12, 4) |" in capsys.readouterr().out
    written = pd.read_csv(tmp_path / "new" / "results.csv")
    assert list(written.columns) == ["part", "case", "contestant", "round", "value", "note", "capped", "unit"]
    assert len(written) == len(report.table)
    assert set(written.part) == {"frames", "calls"}
    assert platform.node() not in text.split()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"device": "tpu"}, "unknown device 'tpu': choose from cpu, cuda"),
        ({"rows": ("frames", "frobs")}, "unknown row 'frobs': choose from frames, optimizer"),
        ({"rows": ()}, "no row is asked for"),
        ({"repetitions": 0}, "repetitions must be at least 1, not 0"),
        ({"budget": float("nan")}, "budget must be a positive number of seconds"),
    ],
)
def test_settings_that_make_no_sense_are_refused(asked, message):
    with pytest.raises(BenchError, match=message):
        Settings(**asked)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(BenchError, match="use --device cpu"):
        Settings(device="cuda")


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path):
    (tmp_path / "report.md").mkdir()
    with pytest.raises(CheckpointError, match=r"report.md cannot be written"):
        bench(QUICK, tmp_path)
