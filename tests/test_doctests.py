"""The examples in docstrings, run as they stand."""

from __future__ import annotations

import doctest

import pytest

import sttp_riemann
from tests.docstrings import MODULES, load

WITH_EXAMPLES = [name for name, text in MODULES.items() if ">>> " in text]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_give_what_they_say(name: str) -> None:
    module = load(name)
    tests = doctest.DocTestFinder().find(module, name)
    assert sum(len(test.examples) for test in tests) == MODULES[name].count(">>> ")
    runner = doctest.DocTestRunner(verbose=False)
    told: list[str] = []
    for test in tests:
        runner.run(test, out=told.append)
    assert not runner.summarize(verbose=False).failed, "".join(told)


@pytest.mark.parametrize("name", sttp_riemann.__all__)
def test_every_exported_name_has_an_example(name: str) -> None:
    documentation = getattr(sttp_riemann, name).__doc__
    assert "Examples\n" in documentation
    assert ">>> " in documentation
