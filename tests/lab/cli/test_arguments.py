from __future__ import annotations

import yaml

from sttp_riemann.lab.cli.arguments import parse


def test_options_are_plain_values_that_yaml_can_write():
    options = ["--rank", "3", "--lr", "1e-2", "--seeds", "1", "2", "--ranks.svdp", "[4]", "--output", "mine"]
    command, given = parse(["compare", *options])
    assert command == "compare"
    wanted = {"rank": 3, "lr": 0.01, "seeds": [1, 2], "ranks": {"svdp": [4]}, "output": "mine"}
    assert yaml.safe_load(yaml.safe_dump(given)) == wanted
