from __future__ import annotations

import io

import matplotlib.image
import pytest
import torch

from sttp_riemann.lab.bench import calls, growth, memory, networks, optimizer, report, training, weights
from sttp_riemann.lab.bench.child import Attempt
from sttp_riemann.lab.bench.contest import Contest, Contestant, Entry
from sttp_riemann.lab.bench.figures import draw
from sttp_riemann.lab.bench.run import bench
from sttp_riemann.lab.bench.sections import SECTIONS
from sttp_riemann.lab.bench.settings import ROWS, BenchError, Settings
from sttp_riemann.lab.bench.variants import VARIANTS

QUICK = Settings(quick=True, repetitions=1)


def test_every_row_of_the_command_line_is_a_section():
    assert tuple(SECTIONS) == ROWS


@pytest.mark.parametrize("key", [row for row in ROWS if row != "memory"])
def test_every_row_runs_and_measures_every_contestant(key):
    jobs = SECTIONS[key].plan(QUICK)
    entries = jobs[0].measure()
    missing = [entry for entry in entries if entry.note.startswith("not installed")]
    assert len(entries) > 1
    assert all(entry.value > 0 for entry in entries if entry not in missing)


def test_peak_memory_is_measured_in_processes_of_their_own():
    contest = training.contests(QUICK)[1]
    two = Contest(contest.case, contest.contestants[:2], contest.reference)
    dense, low_rank = memory.measure(two, QUICK)
    assert dense.value > 0
    assert dense.ratio is None
    assert low_rank.ratio == low_rank.value / dense.value


def test_memory_is_the_median_over_processes(monkeypatch):
    peaks = iter([10, 40, 30, 80, 20, 60])
    monkeypatch.setattr(memory, "attempt", lambda *arguments: Attempt(1.0, next(peaks)))
    contest = Contest("case", (Contestant("a", int), Contestant("b", int)), "a")
    assert memory.measure(contest, Settings(repetitions=9)) == [
        Entry("case", "a", 20, None),
        Entry("case", "b", 60, 3.0),
    ]


def test_memory_that_could_not_be_measured_says_why(monkeypatch):
    monkeypatch.setattr(memory, "attempt", lambda *arguments: Attempt(failure="does not fit into memory"))
    contest = Contest("case", (Contestant("a", int),), "a")
    assert memory.measure(contest, QUICK) == [Entry("case", "a", None, None, "does not fit into memory")]


@pytest.mark.parametrize("variant", range(len(VARIANTS)), ids=[v.name for v in VARIANTS])
def test_a_training_step_changes_the_network_and_can_be_repeated(variant):
    study = networks.QUICK_STUDIES[0]
    model = study.build()
    before = {name: p.detach().clone() for name, p in model.named_parameters() if "bias" in name}
    step = networks.training_step(model, VARIANTS[variant], study.rank, study.loss("cpu"), "cpu")
    step()
    step()
    after = dict(model.named_parameters())
    assert any(not torch.equal(after[name], value) for name, value in before.items())


def test_the_full_rows_are_the_issues():
    cases = [c.case for c in training.contests(Settings())]
    assert cases == ["SNGAN-32 discriminator, rank 64, batch 64", "WRN-28-10, rank 64, batch 16"]
    assert [c.case for c in optimizer.contests(Settings())] == ["all STTP cores of WRN-28-10, rank 64"]
    assert [c.case for c in weights.contests(Settings())] == ["all W of WRN-28-10, rank 64, STTP"]
    depths = [c.case for c in growth.contests(Settings()) if c.case.startswith("depth")]
    assert depths == ["depth 1", "depth 2", "depth 4", "depth 8", "depth 16"]


def test_weights_are_built_anew_in_every_call():
    run = weights.build_ours(True, "cpu", "householder")
    run()
    assert calls.count_calls(run) == calls.count_calls(run) > 100


def test_the_report_has_its_tables_figures_and_machine(tmp_path, capsys):
    settings = Settings(rows=("frames", "calls"), quick=True, repetitions=1)
    path = bench(settings, tmp_path / "new" / "numbers.md")
    text = path.read_text()
    assert sorted(p.name for p in path.parent.iterdir()) == ["numbers-frames.png", "numbers.md"]
    assert "![Householder frames](numbers-frames.png)" in text
    assert "## Operator calls" in text
    assert "**Tiny shapes (`--quick`): the times mean nothing.**" in text
    assert f"- torch: {torch.__version__}" in text
    assert "| (2, 12, 4) |" in capsys.readouterr().out


def test_the_machine_is_described_without_its_name(monkeypatch):
    import platform

    told = " ".join(map(str, report.machine().values()))
    assert platform.node() not in told.split()
    assert "/" not in told


@pytest.mark.parametrize("kind", ["bars", "curves"])
def test_figures_are_pngs(kind):
    entries = [
        Entry(f"{dimension} {size}", name, 0.01 * size, None if name == "dense" else 0.5)
        for dimension in ("depth", "rank")
        for size in (1, 2, 4)
        for name in ("dense", "STTP riemannian")
    ]
    image = matplotlib.image.imread(io.BytesIO(draw(kind, entries, "the dense step")))
    assert image.shape[1] > 500


def test_a_contestant_without_a_number_is_in_the_figure_by_its_note():
    ended, other = ([Entry("case", "ours", 1.0), Entry("case", "peer", note=note)] for note in ("> 30 s", "> 9 s"))
    assert draw("bars", ended, "ours") != draw("bars", other, "ours")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"device": "tpu"}, "unknown device 'tpu': choose one of cpu, cuda"),
        ({"rows": ("frames", "frobs")}, "unknown row 'frobs': choose some of frames, optimizer"),
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
    with pytest.raises(BenchError, match=r"output must be a Markdown file, such as benchmarks.md"):
        bench(QUICK, tmp_path / "numbers.txt")
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(BenchError, match="is a folder: name a file"):
        bench(QUICK, tmp_path / "folder.md")
