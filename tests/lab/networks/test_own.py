"""A network of the user's own: ``module:attribute``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab import plugins
from sttp_riemann.lab.networks import build_model
from sttp_riemann.lab.networks.registry import options_of
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.represent import Inputs, build_network

NETWORKS = """
    import subprocess
    from subprocess import run
    from torch import nn

    made = nn.Linear(2, 2)

    class MyNet(nn.Module):
        def __init__(self, num_classes, in_channels, width=4):
            super().__init__()
            self.first = nn.Linear(64 * in_channels, width)
            self.last = nn.Linear(width, num_classes)

        def forward(self, x):
            return self.last(self.first(x.flatten(1)).relu())

    def bare(*, hidden: int):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.Linear(hidden, 10))

    def broken(num_classes):
        return {}[num_classes]

    def number():
        return 5
"""


def test_a_class_is_called_with_the_sizes_that_its_signature_names_and_with_its_options(own):
    own(mynet=NETWORKS)
    plugins.import_named(["mynet:MyNet"])
    network = build_model("mynet:MyNet", num_classes=7, in_channels=2, width=5)
    assert network(torch.zeros(3, 2, 8, 8)).shape == (3, 7)
    assert network.first.out_features == 5
    assert options_of("mynet:MyNet") == ["width"]


def test_a_function_that_names_no_sizes_gets_none(own):
    own(mynet=NETWORKS)
    plugins.import_modules(["mynet"])
    assert isinstance(build_model("mynet:bare", num_classes=7, in_channels=2, hidden=3), nn.Sequential)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "mynet:MyNet",
            {"widht": 4},
            "cannot be called: got an unexpected keyword argument 'widht'; its arguments are",
        ),
        ("mynet:bare", {}, "cannot be called: missing a required argument: 'hidden'"),
        ("mynet:broken", {}, "it raises KeyError: 10"),
        ("mynet:number", {}, "it gives a int, and a network is a torch.nn.Module"),
        ("mynet:MyNets", {}, "module mynet has no MyNets, did you mean MyNet?"),
        ("mynet:made", {}, "mynet:made is no class or function"),
        ("mynet:subprocess", {}, "mynet:subprocess is no class or function"),
        ("mynet:run", {"args": "false"}, "mynet only imports run from subprocess"),
        ("subprocess:run", {"args": "false"}, "subprocess was not imported, and .* add --import subprocess"),
    ],
)
def test_what_is_no_network_is_one_line_and_nothing_that_a_module_imports_is_called(own, name, options, message):
    own(mynet=NETWORKS)
    plugins.import_modules(["mynet"])
    recipe = Recipe().changed(network=name, network_options=options, method="dense")
    with pytest.raises(RecipeError, match=message):
        build_network(recipe, Inputs((1, 8, 8), 10), 10)


@pytest.mark.parametrize(
    "name", ["torchvision:resnet18", "timm:resnet18", "folder:data", "digits", "a:b:c", ":x", "x:"]
)
def test_other_names_are_no_modules(name):
    assert not plugins.is_path(name)
