"""Networks and data of the user's own on the command line, and the runs that are made with them."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from sttp_riemann import lab
from sttp_riemann.errors import RecipeError
from sttp_riemann.lab import plugins
from sttp_riemann.lab.cli import main as cli
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.represent import Inputs
from sttp_riemann.lab.training.saved import load_saved
from tests.lab.networks.test_own import NETWORKS

SMALL = ["--steps", "2", "--batch_size", "16", "--evaluate_every", "1", "--device", "cpu", "--threads", "1"]
NET = ["--network", "mynet:MyNet", "--network_options", "{width: 8}", "--rank", "2"]


def forget() -> None:
    """As a new process, which has imported nothing."""
    plugins._imported.clear()
    sys.modules.pop("mynet", None)


def test_a_network_that_the_command_line_names_is_trained_and_read_again_with_its_import(own, capsys):
    folder = own(mynet=NETWORKS)
    assert cli.main(["train", "digits", *NET, *SMALL, "--output", "run"]) == 0
    assert json.loads((folder / "run" / "result.json").read_text())["recipe"]["network"]["name"] == "mynet:MyNet"
    forget()
    for command in (["inspect", "run"], ["export", "run", "--to", "run.safetensors"]):
        assert cli.main(command) == 2
        assert "was made with modules that were not imported: add --import mynet" in capsys.readouterr().err
        assert "mynet" not in sys.modules
        assert cli.main([*command, "--import", "mynet"]) == 0
        forget()
    assert cli.main(["train", "digits", *NET, *SMALL, "--output", "run"]) == 0


def test_a_recipe_file_that_names_a_network_imports_nothing(own, capsys):
    folder = own(mynet=NETWORKS)
    (folder / "mine.yaml").write_text("network: {name: 'mynet:MyNet'}\nschedule: {steps: 1}")
    for verb in (["train", "mine.yaml"], ["compare", "--recipe", "mine.yaml"], ["ablate", "--recipe", "mine.yaml"]):
        assert cli.main([*verb, "--validation", "0.2"]) == 2
        assert (
            "mynet was not imported, and the word of a file does not import it: add --import" in capsys.readouterr().err
        )
    assert "mynet" not in sys.modules
    assert not (folder / "runs").exists()
    assert cli.main(["train", "mine.yaml", "--import", "mynet", *SMALL]) == 0


def test_the_argument_of_a_call_from_python_names_a_network_too(own):
    own(mynet=NETWORKS)
    small = {"steps": 1, "device": "cpu", "output": "run", "network_options": {"width": 8}}
    found = lab.train("digits", network="mynet:MyNet", method="dense", **small)
    assert found["final"]["step"] == 1


@pytest.mark.slow
def test_workers_import_the_network_that_a_comparison_names(own):
    own(mynet=NETWORKS)
    options = ["--methods", "dense", "sttp", "--paths", "riemannian", "--seeds", "0", *SMALL]
    assert cli.main(["compare", *NET, *options, "--workers", "2", "--output", "study"]) == 0


def test_an_ablation_probes_the_network_with_those_smaller_options_that_it_has(own, monkeypatch):
    own(mynet=NETWORKS)
    monkeypatch.setattr(Trainer, "run", lambda self: pytest.fail("it trained"))
    seen = []
    monkeypatch.setattr("sttp_riemann.lab.studies.ablate.compare", lambda *given: seen.append(given[-1]))
    fields = {"network": "mynet:MyNet", "network_options": {"width": 64}, "methods": ["sttp"], "seeds": [0]}
    lab.ablate("digits-ablation", ranks=[2], rates=[1e-3], output="study", **fields)
    assert {json.dumps(run.network.options) for run, _, _ in seen[0]} == {'{"width": 16}'}


def test_a_module_that_is_not_there_is_one_line(own, capsys):
    own()
    assert cli.main(["train", "digits", "--network", "nowhere:Net"]) == 2
    assert "--import nowhere: ModuleNotFoundError" in capsys.readouterr().err
    with pytest.raises(RecipeError, match="--import nowhere"):
        lab.compare("digits", sweep={"network": ["nowhere:Net"]})


ARRAYS = """
    import numpy as np

    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = (rng.normal(size=(60, 1, 64)) + 2 * np.eye(3)[y].repeat(22, 1)[:, None, :64]).astype(np.float32)
    np.savez("mine.npz", train_x=x, train_y=y)
"""


def test_arrays_and_a_network_of_ones_own_are_trained_exported_and_compressed(own, capsys):
    folder = own(mynet=NETWORKS, write=ARRAYS)
    plugins.import_modules(["write"])
    plugins._imported.remove("write")
    data = ["--data", "arrays:mine.npz", "--method", "dense"]
    assert cli.main(["train", "digits", *NET, *data, *SMALL, "--output", "run"]) == 0
    for to in ("run.safetensors", "run.pt2"):
        assert cli.main(["export", "run", "--to", to]) == 0
    program = torch.export.load(folder / "run.pt2").module()
    assert program(torch.zeros(5, 1, 64)).shape == (5, 3)
    assert cli.main(["compress", "run", "--rank", "2", "--epochs", "1", "--output", "small"]) == 0
    assert "test accuracy: dense" in capsys.readouterr().out
    assert load_saved(folder / "small" / "compressed.safetensors").inputs == Inputs((1, 64), 3, "numbers")
    assert cli.main(["train", "digits", *NET, *data, *SMALL, "--augment", "{Resize: {size: 4}}"]) == 2
    assert "augment needs images, and the data 'arrays:mine.npz' are arrays: leave it out" in capsys.readouterr().err
    assert cli.main(["train", "digits", *NET, *data, *SMALL, "--image_size", "4"]) == 2
    assert "image_size is of images, and these inputs are arrays: leave it out" in capsys.readouterr().err
    assert cli.main(["train", "digits", *NET, *data, *SMALL, "--task", "gan", "--validation", "0"]) == 2
    assert "task 'gan' needs images" in capsys.readouterr().err


def test_weights_of_a_network_of_ones_own_are_compressed(own, capsys):
    folder = own(mynet=NETWORKS)
    plugins.import_modules(["mynet"])
    network = sys.modules["mynet"].MyNet(num_classes=10, in_channels=1, width=6).eval()
    torch.save({"model": network.state_dict()}, folder / "mine.pth")
    forget()
    options = ["--rank", "1.0", "--network", "mynet:MyNet", "--network_options.width", "6"]
    x = torch.randn(4, 1, 8, 8)
    for more in ([], ["--data", "digits", "--calibrate", "64"]):
        assert cli.main(["compress", "mine.pth", *options, *more]) == 0
        found = load_saved(folder / "runs" / "mine-compressed" / "compressed.safetensors")
        torch.testing.assert_close(found.network(x), network(x), rtol=1e-3, atol=1e-4)
        assert found.inputs.shape == ((1, 8, 8) if more else (1, 0, 0))
        to = ["export", "runs/mine-compressed/compressed.safetensors", "--to", "mine.pt2"]
        assert cli.main(to) == (0 if more else 2)
    capsys.readouterr()
    faults = {
        "epochs and calibrate need the data": [*options, "--epochs", "1"],
        "'first.weight' is 6x64, and the network's is 5x": [*options, "--network_options.width", "5"],
        "there is no checkpoint": ["--rank", "1", "--network", "mynet:MyNet"],
        "network_options need --network": ["--rank", "1", "--network_options.width", "5"],
    }
    for message, given in faults.items():
        assert cli.main(["compress", "none.pth" if "no checkpoint" in message else "mine.pth", *given]) == 2
        assert message in capsys.readouterr().err
