from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sttp_riemann.lab.cli import main as cli
from sttp_riemann.lab.studies.reading import Reading
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.recipe import nest
from tests.conftest import TINY


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(nest({**TINY, "name": "tiny", "seeds": [0]})))
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
    assert "Of fewer seeds than the 2 of other rows: STTP riemannian r=2 (1)." in text
    assert (tmp_path / "page" / "figures" / "compression.png").exists()


class Nothing:
    folder, skipped = "nowhere", ()


def test_compare_takes_ranks_by_method(recipe, monkeypatch):
    seen = []
    monkeypatch.setattr("sttp_riemann.lab.studies.compare.compare", lambda *given: seen.append(given) or Nothing())
    assert cli.main(["compare", "--recipe", "figure7-cifar10", "--ranks.sttp", "[8, 0.5]", "--workers", "3"]) == 0
    ((compared, output, workers, sweep, reading),) = seen
    assert compared.study.ranks == {"svdp": [4, 8, 16, 32, 64, 128], "sttp": [8, 0.5]}
    assert (str(output), workers, sweep, reading) == ("runs/figure7-cifar10", 3, {}, Reading())


def test_compare_sweeps_fields(recipe, tmp_path, capsys):
    command = ["compare", "--recipe", recipe, "--methods", "sttp", "--paths", "riemannian", "--validation", "0.2"]
    assert cli.main([*command, "--sweep", "lr=1e-3,1e-2", "--sweep", "init=identity,orthogonal", "--margin", "2"]) == 0
    assert "| STTP riemannian identity " in capsys.readouterr().out
    assert len(list((tmp_path / "runs/tiny").glob("*/seed0/result.json"))) == 4


def test_ablate_writes_into_the_folder_that_output_says(recipe, tmp_path, capsys):
    path = Path(recipe)
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "study": {"methods": ["sttp"], "seeds": [0]}}))
    options = ["--ranks", "2", "--rates", "1e-2", "--drift_steps", "2", "--output", "mine"]
    assert cli.main(["ablate", "--recipe", recipe, *options, "--sweep", "init=orthogonal,identity"]) == 0
    out = capsys.readouterr().out
    assert "report: mine/report.html" in out
    assert "| STTP riemannian identity " in out
    assert (tmp_path / "mine" / "report.html").exists()
    assert not (tmp_path / "runs").exists()


def test_train_prints_the_figures_and_where_the_run_is(recipe, tmp_path, capsys):
    assert cli.main(["train", recipe, "--frames", "householder", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"test accuracy \d+\.\d\d %", out)
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
    assert seen[0].optimizer.lr == 5e-3
    assert seen[0].optimizer.betas == [0.5, 0.6]
    assert seen[0].optimizer.clip is None
    assert seen[0].network.options == {"width": 16, "depth": 1}
    assert seen[0].data.augment == {"RandomHorizontalFlip": {}}
    assert seen[0].schedule.steps == TINY["steps"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected the command to be one of {compare,report,ablate,train,compress,"),
        (["frob"], "invalid choice: 'frob' (choose from 'compare', 'report', 'ablate', 'train', 'compress'"),
        (["train"], "the following arguments are required: RECIPE"),
        (["train", "nope"], "unknown recipe 'nope': name a shipped one"),
        (["train", "nope.yaml"], "unknown recipe 'nope.yaml'"),
        (["train", "digits", "--methods", "dense"], "unrecognized arguments: --methods dense"),
        (["compare", "--sweep", "lr"], "--sweep takes each field once, with its values"),
        (["compare", "--sweep", "frames=riemannian"], "sweep takes no frames: say which with --paths"),
        (["compare", "--seed", "1"], "unrecognized arguments: --seed 1"),
        (["compare", "--rnk", "3"], "unrecognized arguments: --rnk 3; see --help"),
        (
            ["compare", "--rank", "many"],
            "--rank must be a whole number from 1 to 2,147,483,647, or a number above 0 and at most 1, or a mapping, "
            "each a whole number from 1 to 2,147,483,647, or a number above 0 and at most 1, not 'many'; see --help",
        ),
        (["compare", "--rank", "0"], "rank must be a whole number from 1 to"),
        (
            ["compare", "--methods", "cp"],
            "--methods must be a list, each one of dense, sn, sr, svdp, sttp, not 'cp'",
        ),
        (["compare", "--network", "lenet"], "network 'lenet': unknown network 'lenet'"),
        (["compare", "--network_options.wide", "3"], "unknown option of network 'digits_resnet' 'wide'"),
        (["compare", "--exclude", "conv9"], "conv9"),
        (["compare", "--ranks.sttp", "8"], "--ranks must be a mapping, each a list, each a whole number"),
        (["compare", "--ranks", "8"], "--ranks must be a mapping, each a list"),
        (["compare", "--recipe", "figure7-cifar10", "--rank", "8"], "--rank has no effect"),
        (["compare", "--workers", "0"], "--workers must be a whole number from 1 to 1,000,000, not '0'"),
        (["train", "digits", "--ranks.sttp", "[8]"], "unrecognized arguments: --ranks.sttp"),
        (["report"], "the following arguments are required: RUN"),
        (["report", "nowhere"], "there is no finished run to report: nowhere is no folder"),
        (["compare", "--data", "cifar10"], "data 'cifar10': cifar10 is not in"),
        (["compare", "--spectrum", "identity", "--penalty", "d_optimal"], "set spectrum to 'learned'"),
        (["train", "digits", "--augment", "{1: {}}"], "keys of augment must be text, not 1"),
        (
            ["train", "digits", "--augment.RandomCrop", "{size: .inf}"],
            "in augment must be a finite number, not inf",
        ),
        (["train", "digits", "--rank", "{5: 4}"], "keys of rank must be text, not 5"),
        (["train", "digits", "--rank", "[" * 1500], "--rank must be a whole number"),
        (["train", "digits", "--augment", "{a: &a [1], b: *a}"], "an argument must not refer to parts of itself"),
        (
            ["train", "digits", "--output", "x" * 300],
            "must be text that is a path with parts of at most 255 bytes",
        ),
        (["train", "digits", "--name", "é" * 150], "--name must be text that names one folder, in at most 200 bytes"),
        (
            ["train", "digits", "--name", "../../x"],
            "one folder, in at most 200 bytes, not '../../x'",
        ),
        (["train", "digits", "--name", "a\0b"], "an argument must not hold a zero byte"),
        (["train", "digits", "--name", "a\udcffb"], "an argument must be UTF-8"),
        (["train", "x" * 300 + ".yaml"], "--recipe must be text that is a path with parts of at most 255 bytes"),
        (["train", "digits", "--network", "sngan8_generator"], "network 'sngan8_generator' does not work on inputs of"),
        (["train", "digits", "--network", "sngan8_discriminator"], "does not work on inputs of"),
        (["train", "gan-digits", "--network", "digits_resnet"], "not one score, (1,)"),
        (
            ["train", "digits", "--network", "torchvision:alexnet", "--channels", "3"],
            "does not work on inputs of 3x8x8",
        ),
        (["train", "digits", "--image_size", "1", "--batch_size", "1"], "Expected more than 1 value per channel"),
        (["train", "digits", "--network_options", "{width: 60000}"], "numbers: 2,147,483,648 are the most"),
        (["train", "digits", "--network_options", "{width: 2147483648}"], "must be at most 2147483647, not 2147483648"),
        (["train", "digits", "--network_options", "{width: 70000}"], "width must be at most 65536, got 70000"),
        (["train", "digits", "--network_options", "{depth: 1000000}"], "depth must be at most 1000"),
        (["train", "gan-digits", "--generator_options", "{latent_dim: 3000000000}"], "must be at most 2147483647"),
        (
            ["train", "digits", "--weight_decay", "1e300"],
            "must be a number from 0 to 1,000,000, not '1e300'",
        ),
        (["train", "digits", "--mixup", "1e-300"], "must be a number from 0.001 to 1,000, or 0, not '1e-300'"),
        (["train", "digits", "--lr", "nan"], "--lr must be a number above 0 and at most 1e+30, not 'nan'"),
        (["bench", "--budget", "inf"], "--budget must be a number above 0 and at most 1,000,000,000, not 'inf'"),
        (["ablate", "--drift_steps", "2147483648"], "--drift_steps must be a whole number from 1 to 1,000,000,000"),
        (["train", "gan-digits", "--metrics", "prc", "--metric_samples", "2"], "metric_samples must be at least 4 for"),
        (
            ["train", "gan-digits", "--metrics", "is", "--metric_samples", "4"],
            "is_splits 5 is more than metric_samples 4",
        ),
        (["train", "digits", "--data", "folder:/", "--image_size", "8"], "data 'folder:/': "),
        (["train", "digits", "--teacher", "none.safetensors"], "there is no checkpoint none.safetensors"),
        (["train", "gan-digits", "--extractor_weights", "none.pth"], "there is no file none.pth"),
        (["inspect", "none.safetensors"], "there is no checkpoint none.safetensors"),
        (["inspect", "."], ". has no checkpoint of a run: name a file"),
        (["export", "none.safetensors", "--to", "x.onnx"], "there is no checkpoint none.safetensors"),
        (["compress", "none.safetensors", "--rank", "4"], "there is no checkpoint none.safetensors"),
        (["compress", "torchvision:resnet18", "--rank", "4", "--teacher", "gone"], "there is no checkpoint gone"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line_and_status_2(arguments, message, capsys, tmp_path):
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("sttp-riemann: ")
    assert message in err
    assert len(err) <= 301
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_no_checkpoint_are_told_where_they_belong_and_not_to_be_deleted(tmp_path, capsys):
    (tmp_path / "mine.pth").write_bytes(b"weights")
    assert cli.main(["compress", "mine.pth", "--rank", "4"]) == 2
    err = capsys.readouterr().err
    assert "torchvision:NAME --weights mine.pth" in err
    assert "delete" not in err


def test_a_long_fault_keeps_its_beginning_and_its_remedy_and_no_control_characters(capsys):
    assert cli._tell(f"broken \x1b[31m {'x' * 10**6} set it to 1", 2) == 2
    err = capsys.readouterr().err
    assert err.startswith("sttp-riemann: broken ?[31m x")
    assert err.endswith("x set it to 1\n")
    assert len(err) == 301


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_too_little_memory_is_one_line_with_the_remedy(error, monkeypatch, capsys):
    def fail(arguments):
        raise error

    monkeypatch.setitem(cli.COMMANDS, "recipes", fail)
    assert cli.main(["recipes"]) == 1
    assert capsys.readouterr().err.startswith("sttp-riemann: there is not enough memory: lower batch_size")


def test_a_fault_of_the_program_itself_keeps_its_traceback(monkeypatch):
    def fail(arguments):
        raise RuntimeError("a bug")

    monkeypatch.setitem(cli.COMMANDS, "recipes", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["recipes"])


COMMANDS = [[sys.executable, "-m", "sttp_riemann"], [sys.executable, "sttp-riemann"]]
SCRIPT = "import sys\nfrom sttp_riemann.lab.cli.main import main\nsys.exit(main())\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interruption_of_the_imports_is_one_line(command, tmp_path):
    (tmp_path / "sttp-riemann").write_text(SCRIPT)
    stub = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(30)\n"
    (tmp_path / "geoopt.py").write_text(stub)
    found = _start([*command, "recipes"], tmp_path)
    assert found.returncode == 130
    assert found.stderr == "sttp-riemann: stopped\n"


def test_another_program_is_interrupted_as_ever(tmp_path):
    (tmp_path / "other.py").write_text("import sttp_riemann, os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    found = _start([sys.executable, "other.py"], tmp_path)
    assert "KeyboardInterrupt" in found.stderr


def _start(command, folder):
    path = os.pathsep.join([str(folder), str(Path(cli.__file__).parents[3])])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


def test_a_reader_that_has_gone_leaves_no_traceback():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "sttp_riemann", "recipes"]
    found = subprocess.run(
        command, stdout=write, stderr=subprocess.PIPE, check=False, cwd=Path(cli.__file__).parents[3]
    )
    os.close(write)
    assert (found.returncode, found.stderr) == (141, b"")


def test_a_fault_while_running_is_one_line_and_status_1(recipe, capsys):
    assert cli.main(["train", recipe, "--output", "here"]) == 0
    assert cli.main(["train", recipe, "--output", "here", "--rank", "3"]) == 1
    assert "here holds a run of another recipe (rank was 4 and is 3)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../x", "..", "a/b", "/abs", "a" * 256, "a\nb", "a\x1b[2J", ""])
@pytest.mark.parametrize("command", [["compare", "--recipe"], ["train"]])
def test_a_name_that_leads_out_of_runs_is_refused_and_nothing_written(command, name, recipe, tmp_path, capsys):
    path = tmp_path / "named.yaml"
    path.write_text(yaml.safe_dump(nest({**TINY, "name": name})))
    before = sorted(tmp_path.rglob("*"))
    assert cli.main([*command, str(path)]) == 2
    assert capsys.readouterr().err.startswith("sttp-riemann: name ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "--recipe", "RECIPE", "--output", "file/study"],
        ["train", "RECIPE", "--output", "file/run"],
        ["ablate", "--recipe", "RECIPE", "--output", "file/study"],
        ["bench", "--output", "file/bench"],
        ["train", "RECIPE", "--output", "a" * 300],
        ["compare", "--recipe", "RECIPE", "--output", "a" * 300],
        ["report", "a" * 300],
    ],
)
def test_an_output_that_cannot_be_written_is_one_line_before_any_step(arguments, recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Trainer, "_step", lambda self: pytest.fail("a step was run"))
    monkeypatch.setattr("sttp_riemann.lab.bench.run.PARTS", None)
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
    assert "resumes from the last checkpoint" in capsys.readouterr().err


def test_help_describes_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--help"])
    assert stop.value.code == 0
    assert "largest rank of a layer and of a tensor train bond" in capsys.readouterr().out


def test_the_package_installs_the_command():
    program = "import sys; from sttp_riemann.lab.cli.main import main; sys.exit(main(['compare', '--rank', '0']))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "Traceback" not in found.stderr
