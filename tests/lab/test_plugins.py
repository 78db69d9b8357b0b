"""What is added from outside the package: one file, one row, every command."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from sttp_riemann.errors import RecipeError
from sttp_riemann.frames import FRAMES
from sttp_riemann.lab import plugins
from sttp_riemann.lab.cli import main as cli
from sttp_riemann.lab.data.registry import DATASETS
from sttp_riemann.lab.networks.registry import NETWORKS
from sttp_riemann.lab.studies.workers import spread
from sttp_riemann.lab.training.optimizer_registry import OPTIMIZERS
from sttp_riemann.trains.spectrum import PENALTIES

FILES = {
    "my_data": """
        import torch
        from sttp_riemann.lab.data.registry import DATASETS
        from sttp_riemann.lab.data.source import Source

        def stripes(request):
            labels = torch.arange(64) % 2
            images = torch.zeros(64, 1, 8, 8, dtype=torch.uint8)
            images[labels == 0, :, ::2] = 255
            images[labels == 1, :, :, ::2] = 255
            return Source(images[:48], labels[:48], images[48:], labels[48:], 2)

        DATASETS["stripes"] = stripes
    """,
    "my_network": """
        from torch import nn
        from sttp_riemann.lab.networks.registry import NETWORKS

        def mlp(num_classes=10, in_channels=3, width=32):
            first, last = nn.Linear(64 * in_channels, width), nn.Linear(width, num_classes)
            return nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)

        NETWORKS["mlp"] = mlp
    """,
    "my_frame": """
        from sttp_riemann.frames import FRAMES, RiemannianFrames

        class Plain(RiemannianFrames):
            pass

        FRAMES["plain"] = Plain
    """,
    "my_optimizer": """
        import torch
        import sttp_riemann as sr
        from sttp_riemann.lab.training.optimizer_registry import OPTIMIZERS, OptimizerRow

        OPTIMIZERS["amsgrad"] = OptimizerRow(
            sr.RiemannianAdam, torch.optim.Adam, lambda section: {"amsgrad": True, "weight_decay": section.weight_decay}
        )
    """,
    "my_penalty": """
        import torch
        from sttp_riemann.trains.spectrum import PENALTIES

        def flat(values, bounds):
            return torch.stack([s.abs().var(correction=0) for s in values]).mean()

        PENALTIES["flat"] = flat
    """,
}
STUDY = """
summary: all that this test adds
data: {name: stripes}
network: {name: mlp, options: {width: 16}, method: sttp, frames: plain, penalty: flat, rank: 4}
optimizer: {name: amsgrad}
schedule: {steps: 4, batch_size: 16}
evaluation: {evaluate_every: 2}
checkpoints: {checkpoint_every: 2}
machine: {device: cpu, threads: 1}
study: {methods: [dense, sttp], paths: [plain], seeds: [0]}
"""
IMPORTS = [word for name in FILES for word in ("--import", name)]


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the user's own files, and registries as before afterwards."""
    for name, text in FILES.items():
        lines = [line.removeprefix("        ") for line in text.splitlines()]
        (tmp_path / f"{name}.py").write_text("\n".join(lines))
    (tmp_path / "own.yaml").write_text(STUDY)
    for registry in (DATASETS, NETWORKS, FRAMES, OPTIMIZERS, PENALTIES):
        for name in registry:
            monkeypatch.setitem(registry, name, registry[name])
    before = [(registry, set(registry)) for registry in (DATASETS, NETWORKS, FRAMES, OPTIMIZERS, PENALTIES)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(plugins, "_imported", [])
    yield tmp_path
    for registry, names in before:
        for name in set(registry) - names:
            del registry[name]
    for name in FILES:
        sys.modules.pop(name, None)


def test_a_data_set_a_network_a_frame_an_optimizer_a_penalty_and_a_study_are_a_file_and_a_row(
    outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "own.yaml", *IMPORTS, "--output", "run"]) == 0
    assert json.loads((outside / "run" / "result.json").read_text())["final"]["step"] == 4
    assert cli.main(["inspect", *IMPORTS, "run"]) == 0
    assert "classifier\nlayer" in capsys.readouterr().out
    assert cli.main([*IMPORTS, "export", "run", "--to", "dense.safetensors"]) == 0
    assert (outside / "dense.safetensors").is_file()
    dense = ["--method", "dense", "--output", "dense"]
    assert cli.main(["train", "own.yaml", *dense, *IMPORTS]) == 0
    assert cli.main(["compress", "dense", "--rank", "2", "--frames", "plain", *IMPORTS]) == 0


def rows() -> list[str]:
    return [name for registry in (DATASETS, NETWORKS, FRAMES, OPTIMIZERS, PENALTIES) for name in registry]


def test_worker_processes_import_it_too_and_tell_where_they_cannot(outside: Path) -> None:
    plugins.import_modules([*FILES])
    assert {"stripes", "mlp", "plain", "amsgrad", "flat"} <= set(rows())
    ((_, found),) = spread(rows, [()], 2)
    assert found == rows()
    (outside / "my_data.py").write_text("raise ValueError('only once')")
    with pytest.raises(RecipeError, match="--import my_data: ValueError: only once"):
        list(spread(rows, [()], 2))


@pytest.mark.slow
def test_a_study_of_what_is_added_is_compared_by_several_workers(outside: Path) -> None:
    assert cli.main(["compare", "--recipe", "own.yaml", "--workers", "2", *IMPORTS, "--output", "study"]) == 0
    assert len(list((outside / "study").rglob("result.json"))) == 2


def test_a_run_names_what_it_needs_and_nothing_is_imported_because_a_file_names_it(
    outside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "own.yaml", *IMPORTS, "--output", "run"]) == 0
    monkeypatch.setattr(plugins, "_imported", [])
    for name in FILES:
        del sys.modules[name]
    for command in (["inspect", "run"], ["export", "run", "--to", "dense.safetensors"], ["compress", "run"]):
        assert cli.main(command) == 2
        said = capsys.readouterr().err
        assert "was made with modules that were not imported: add --import my_data --import my_network" in said
    assert not any(name in sys.modules for name in FILES)
    assert cli.main(["inspect", "run", *IMPORTS]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "--import broken: ModuleNotFoundError: No module named 'broken'"),
        ("raise ValueError('no\\nway')", "--import broken: ValueError: no way"),
        ("import sys; sys.exit(3)", "--import broken: SystemExit: 3"),
        ("def", "--import broken: SyntaxError"),
    ],
)
@pytest.mark.parametrize("verb", ["train", "compare", "ablate", "inspect", "export", "compress"])
def test_a_module_that_cannot_be_imported_is_one_line(outside: Path, verb, text, message, capsys) -> None:
    if text is not None:
        (outside / "broken.py").write_text(text)
    assert cli.main([verb, "--import", "broken"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"sttp-riemann: {message}")
    assert said.count("\n") == 1


@pytest.mark.parametrize("arguments", [["train", "--import"], ["--import", "../x.py"], ["--import="]])
def test_what_is_no_name_of_a_module_is_refused(outside: Path, arguments, capsys) -> None:
    assert cli.main(arguments) == 2
    assert "takes the name of a module, such as mymodule" in capsys.readouterr().err


def test_entry_points_of_installed_packages_are_imported(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("mine", "my_network", plugins.GROUP)]
    monkeypatch.setattr(plugins, "entry_points", lambda group: [p for p in points if p.group == group])
    sys.path.append(str(outside))
    assert plugins.take_from(["recipes"]) == ["recipes"]
    assert "mlp" in NETWORKS
    points.append(EntryPoint("faulty", "no_such_module", plugins.GROUP))
    with pytest.raises(RecipeError, match="the plugin 'faulty' cannot be imported: ModuleNotFoundError"):
        plugins.import_installed()
