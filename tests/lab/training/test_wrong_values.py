"""Any value of a checkpoint or a result changed to any other: one line that refuses it, or nothing happens."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sttp_riemann.errors import LONGEST, ReportedError
from sttp_riemann.lab.compression import load_trained
from sttp_riemann.lab.studies.runs import finish
from sttp_riemann.lab.studies.study import collect
from sttp_riemann.lab.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sttp_riemann.lab.training.loop import RESULT, Trainer
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.storage import checkpoint_path, checkpoints
from tests.conftest import TINY

NAN, INFINITY = float("nan"), float("inf")
OTHERS = [None, True, -1, 0, 2**70, 1.5, NAN, INFINITY, "", "1", [], {}, [1], ["x"], [[]], {"a": 1}, [None]]
RECIPE = Recipe().changed(**{**TINY, "ema": 0.5, "method": "sttp"})


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> tuple[Checkpoint, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ended")
    Trainer(RECIPE, folder).run()
    return load_checkpoint(checkpoints(folder)[-1]), json.loads((folder / RESULT).read_text())


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Ways to all values, of a list only to its first."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for name, inner in items:
        yield (*at, name)
        yield from places(inner, (*at, name))


def changed(value: Any, draw: random.Random) -> Any:
    """A copy in which one value is another, or is gone."""
    value = copy.deepcopy(value)
    *way, last = draw.choice(list(places(value)))
    inner = value
    for name in way:
        inner = inner[name]
    if draw.random() < 0.2:
        del inner[last]
    else:
        inner[last] = draw.choice(OTHERS)
    return value


def refused_or_done(action: Callable[[], object]) -> bool:
    try:
        action()
    except ReportedError as error:
        told = str(error)
    else:
        return False
    assert len(told) <= LONGEST
    return True


@pytest.mark.parametrize("count", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_no_value_of_a_checkpoint_leaves_a_traceback(count, ended, tmp_path):
    checkpoint, _ = ended
    draw, path = random.Random(count), checkpoint_path(tmp_path, 6)
    refused = 0
    for _ in range(count):
        save_checkpoint(path, Checkpoint(checkpoint.tensors, changed(checkpoint.values, draw)))
        refused += refused_or_done(lambda: load_trained(str(path)))
        refused += refused_or_done(lambda: Trainer(RECIPE, tmp_path).run())
    assert refused > count / 2


@pytest.mark.parametrize("count", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_no_value_of_a_result_leaves_a_traceback(count, ended, tmp_path):
    _, result = ended
    draw = random.Random(count)

    def report(folder: Path) -> None:
        str(collect([folder], "page"))

    refused = 0
    for _ in range(count):
        (tmp_path / RESULT).write_text(json.dumps(changed(result, draw)))
        refused += refused_or_done(lambda: finish(RECIPE, tmp_path))
        refused += refused_or_done(lambda: report(tmp_path))
    assert refused > count / 2
