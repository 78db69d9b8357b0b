from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml

from sttp_riemann import cli
from sttp_riemann.training.loop import Trainer
from tests.conftest import TINY


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, "name": "tiny", "seeds": [0], "network_options": {"width": 8, "depth": 1}}))
    return str(path)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_compare_prints_the_table_and_where_the_report_is(recipe, tmp_path, capsys):
    assert cli.main(["compare", "--recipe", recipe, "--methods", "dense", "sttp", "--paths", "riemannian"]) == 0
    out = capsys.readouterr().out
    assert "| dense " in out
    assert "| STTP riemannian " in out
    assert "report: runs/tiny/report.html" in out
    assert (tmp_path / "runs" / "tiny" / "report.html").exists()


def test_report_makes_the_page_of_runs_that_train_made(recipe, tmp_path, capsys):
    for rank, seed in ((2, 0), (4, 0), (4, 1)):
        folder = f"mine/rank{rank}-{seed}"
        assert cli.main(["train", recipe, "--rank", str(rank), "--seed", str(seed), "--output", folder]) == 0
    (tmp_path / "empty").mkdir()
    capsys.readouterr()
    assert cli.main(["report", "mine", "empty", "--output", "page"]) == 0
    out, err = capsys.readouterr()
    assert "| STTP riemannian r=2 " in out
    assert "| STTP riemannian r=4 " in out
    assert "report: page/report.html" in out
    assert err == "sttp-riemann: left out: empty holds no run\n"
    text = (tmp_path / "page" / "report.md").read_text()
    assert "Of fewer seeds than the 2 of the other rows: STTP riemannian r=2 (1)." in text
    assert (tmp_path / "page" / "figures" / "compression.png").exists()


def test_compare_takes_ranks_by_method(recipe, monkeypatch):
    seen = []
    monkeypatch.setattr("sttp_riemann.study.compare.compare", lambda *given: seen.append(given) or ([], None))
    monkeypatch.setattr("sttp_riemann.study.report.table_of", lambda *given: "")
    assert cli.main(["compare", "--recipe", "figure7-cifar10", "--ranks.sttp", "[8, 0.5]", "--workers", "3"]) == 0
    ((compared, output, workers),) = seen
    assert compared.ranks == {"svdp": [4, 8, 16, 32, 64, 128], "sttp": [8, 0.5]}
    assert (str(output), workers) == ("runs/figure7-cifar10", 3)


def test_train_prints_the_figures_and_where_the_run_is(recipe, tmp_path, capsys):
    assert cli.main(["train", recipe, "--frames", "householder", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert "test accuracy 0." in out
    assert "run: runs/tiny/train-sttp-householder-seed3" in out
    assert (tmp_path / "runs/tiny/train-sttp-householder-seed3/result.json").exists()


def test_recipes_lists_the_shipped_ones(capsys):
    assert cli.main(["recipes"]) == 0
    assert re.search("^digits +dense, SVDP and STTP on both paths", capsys.readouterr().out, re.MULTILINE)


def test_the_command_line_overrides_the_recipe_and_leaves_the_rest(recipe, monkeypatch):
    seen = []
    monkeypatch.setattr(Trainer, "__init__", lambda self, recipe, folder: seen.append(recipe))
    monkeypatch.setattr(Trainer, "run", lambda self: {"final": {"step": 1}})
    options = ["--lr", "5e-3", "--betas", "0.5", "0.6", "--clip", "null", "--network_options.width", "16"]
    assert cli.main(["train", recipe, *options, "--augment.RandomHorizontalFlip", "{}", "--output", "here"]) == 0
    assert seen[0].lr == 5e-3
    assert seen[0].betas == [0.5, 0.6]
    assert seen[0].clip is None
    assert seen[0].network_options == {"width": 16, "depth": 1}
    assert seen[0].augment == {"RandomHorizontalFlip": {}}
    assert seen[0].steps == TINY["steps"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected the command to be one of {compare,report,ablate,train,compress,"),
        (["frob"], "invalid choice: 'frob' (choose from 'compare', 'report', 'ablate', 'train', 'compress'"),
        (["train"], "the following arguments are required: RECIPE"),
        (["train", "nope"], "unknown recipe 'nope': give one of digits"),
        (["train", "nope.yaml"], "unknown recipe 'nope.yaml'"),
        (["train", "digits", "--methods", "dense"], "unrecognized arguments: --methods dense"),
        (["compare", "--seed", "1"], "unrecognized arguments: --seed 1"),
        (["compare", "--rnk", "3"], "unrecognized arguments: --rnk 3; see --help"),
        (["compare", "--rank", "many"], "--rank: expected whole number or number or mapping, got many"),
        (["compare", "--rank", "0"], "rank must be at least 1, not 0"),
        (["compare", "--methods", "cp"], ", got cp; see --help"),
        (["compare", "--network", "lenet"], "network 'lenet': unknown network 'lenet'"),
        (["compare", "--network_options.wide", "3"], "unknown option of network 'digits_resnet' 'wide'"),
        (["compare", "--exclude", "conv9"], "conv9"),
        (["compare", "--ranks.sttp", "8"], "ranks of 'sttp' must be a list"),
        (["compare", "--ranks", "8"], "--ranks: expected"),
        (["compare", "--recipe", "figure7-cifar10", "--rank", "8"], "--rank has no effect"),
        (["compare", "--workers", "0"], "workers must be at least 1, not 0"),
        (["train", "digits", "--ranks.sttp", "[8]"], "unrecognized arguments: --ranks.sttp"),
        (["report"], "the following arguments are required: RUN"),
        (["report", "nowhere"], "there is no finished run to report: nowhere is no folder"),
        (["compare", "--data", "cifar10"], "data 'cifar10': cifar10 is not in"),
        (["compare", "--spectrum", "identity", "--penalty", "d_optimal"], "set spectrum to 'learned'"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line_and_status_2(arguments, message, capsys):
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("sttp-riemann: ")
    assert message in err


def test_a_fault_while_running_is_one_line_and_status_1(recipe, capsys):
    assert cli.main(["train", recipe, "--output", "here"]) == 0
    assert cli.main(["train", recipe, "--output", "here", "--rank", "3"]) == 1
    assert "here holds a run of another recipe (rank was 4 and is 3)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../x", "..", "a/b", "/abs", "a" * 256, "a\nb", "a\x1b[2J", ""])
@pytest.mark.parametrize("command", [["compare", "--recipe"], ["train"]])
def test_a_name_that_leads_out_of_runs_is_refused_and_nothing_written(command, name, recipe, tmp_path, capsys):
    path = tmp_path / "named.yaml"
    path.write_text(yaml.safe_dump({**TINY, "name": name}))
    before = sorted(tmp_path.rglob("*"))
    assert cli.main([*command, str(path)]) == 2
    assert capsys.readouterr().err.startswith("sttp-riemann: name ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "--recipe", "RECIPE", "--output", "file/study"],
        ["train", "RECIPE", "--output", "file/run"],
        ["ablate", "--recipe", "RECIPE", "--output", "file/page.md"],
        ["bench", "--output", "file/page.md"],
        ["train", "RECIPE", "--output", "a" * 300],
        ["compare", "--recipe", "RECIPE", "--output", "a" * 300],
        ["report", "a" * 300],
    ],
)
def test_an_output_that_cannot_be_written_is_one_line_before_any_step(arguments, recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Trainer, "_step", lambda self: pytest.fail("a step was run"))
    monkeypatch.setattr("sttp_riemann.study.bench.run.SECTIONS", None)
    (tmp_path / "file").touch()
    assert cli.main([recipe if argument == "RECIPE" else argument for argument in arguments]) != 0
    err = capsys.readouterr().err
    assert err.startswith("sttp-riemann: ")
    assert err.count("\n") == 1


def test_an_interruption_says_how_to_go_on(recipe, monkeypatch, capsys):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run", interrupt)
    assert cli.main(["train", recipe]) == 130
    assert "goes on from the last checkpoint" in capsys.readouterr().err


def test_help_describes_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--help"])
    assert stop.value.code == 0
    assert "largest rank of a layer and of a tensor train bond" in capsys.readouterr().out


def test_the_package_installs_the_command():
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from sttp_riemann.cli import main; sys.exit(main(['compare', '--rank', '0']))",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 2
    assert "Traceback" not in found.stderr
