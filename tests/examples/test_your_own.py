"""The page on one's own network and data: its files are written and its commands run as they stand."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path

import pytest
import torch

from sttp_riemann.lab.cli import main as cli

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "your-own.md"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
FILES = {text.split("\n", 1)[0].removeprefix("# "): text for kind, text in BLOCKS if kind == "python"}
COMMANDS = [line.split() for kind, text in BLOCKS if not kind for line in text.splitlines()]


def quicker(words: list[str]) -> list[str]:
    """The same command with few steps, one process, one seed."""
    if words[1] == "compare":
        words = [*words[: words.index("--seeds")], "--seeds", "0", "--output", "runs/waves"]
    few = ["--steps", "4", "--evaluate_every", "2"] if words[1] in ("train", "compare") else []
    return [*words, *few]


def follow(write, commands: list[list[str]], capsys: pytest.CaptureFixture[str]) -> Path:
    folder = write(mynet=FILES["mynet.py"], make_data=FILES["make_data.py"])
    for words in commands:
        if words[0] == "python":
            runpy.run_path(words[1])
            continue
        assert words[0] == "sttp-riemann"
        assert cli.main(words[1:]) == 0, f"{shlex.join(words)}: {capsys.readouterr().err}"
    program = torch.export.load(folder / "waves.pt2").module()
    assert program(torch.zeros(5, 1, 64)).shape == (5, 3)
    assert (folder / "runs" / "mine" / "compressed.safetensors").is_file()
    assert (folder / "runs" / "small" / "compressed.safetensors").is_file()
    assert (folder / "runs" / "waves" / "report.html").is_file()
    return folder


def test_every_verb_on_the_page_does_its_work_in_a_few_steps(own, capsys) -> None:
    assert {words[1] for words in COMMANDS} >= {"train", "compare", "inspect", "export", "compress"}
    follow(own, [quicker(words) if words[0] != "python" else words for words in COMMANDS], capsys)


@pytest.mark.slow
def test_the_page_as_it_stands_trains_a_network_that_tells_the_waves_apart(own, capsys) -> None:
    folder = follow(own, COMMANDS, capsys)
    for run in ("dense", "more"):
        final = json.loads((folder / "runs" / run / "result.json").read_text())["final"]
        assert final["test_accuracy"] > 0.8
    assert len(list((folder / "runs" / "waves").rglob("result.json"))) == 10
