"""Whatever is given to a public function, it works or is refused by the argument's name with everything as it was."""

from __future__ import annotations

import random
import re
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import sttp_riemann as sr
from sttp_riemann.errors import LONGEST, CheckpointError
from tests.fuzz.calls import METHODS, OWN, TARGETS, Target, public_methods
from tests.fuzz.kinds import FOREIGN, Make
from tests.fuzz.optimizers import AS_TORCH
from tests.fuzz.world import World, snapshot, tidy, watched

PACKAGE = Path(sr.__file__).parent
TORCHS_OWN = ("params", "param_group")
"""Arguments that torch itself refuses, in its words."""
USERS_OWN = (("input_moments", "model"), ("input_moments", "batches"), ("optimizer.step", "closure"))
"""Arguments that are called, or called with: what the caller's own code raises is passed on."""
LEARNED = ("spectral_penalty", "shrink_ranks", "grow_ranks", "register_rank_change")
"""Functions that refuse an identity spectrum."""
FILES = ("save", "load", "from_pretrained")
"""Functions that tell of files by an error of their own."""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@dataclass(frozen=True)
class Case:
    """One call: all arguments as they should be, but one."""

    target: Target
    argument: str
    value: str
    make: Make
    expected: str
    seed: int

    def __str__(self) -> str:
        return f"{self.target.name}({self.argument}={self.value}), seed {self.seed}"


def _world(seed: int) -> World:
    draw = random.Random(seed)
    kinds = (sr.RiemannianAdam, sr.RiemannianSGD)
    return World(
        draw.choice(["riemannian", "householder"]), draw.choice(["learned", "free", "identity"]), draw.choice(kinds)
    )


def _arguments(case: Case, world: World) -> dict[str, Any]:
    given = {}
    if case.target.name in LEARNED and world.spectrum == "identity":
        world.spectrum = "free"
    for name, kind in case.target.kinds.items():
        if name == case.argument:
            given[name] = case.make(world)
        elif case.target.signature.parameters[name].default is case.target.signature.parameters[name].empty:
            given[name] = next(iter(kind.good.values()))(world)
    if case.target.name == "input_moments" and isinstance(given["model"], torch.nn.Module):
        given["model"].eval()  # training, it would count what it sees
    if case.target.name == "reparameterize":
        given.setdefault("rank", None if given.get("budget") is not None else 2)
        if case.argument == "moments":
            given.setdefault("init", "dense")
    if case.target.name == "adapt" and case.argument in ("start", "gradients", "spectrum"):
        given.setdefault("start", "pissa" if case.argument == "spectrum" else "gradient")
        world.dense(torch.randn(8, 6)).square().sum().backward()
    if case.target.name == "shrink_ranks":
        given.setdefault("rank", None if any(given.get(name) is not None for name in ("energy", "budget")) else 2)
    if case.target.name == "grow_ranks" and case.argument not in ("rank", "factor"):
        given["factor"] = 1.5
    if case.target.name == "grow_ranks" and given.get("factor", 2) is None:
        given["rank"] = 1
    if case.target.name == "RiemannianSGD" and case.argument == "dampening":
        given.setdefault("momentum", 0.5)
    return given


def run(case: Case) -> str | None:
    """Make the call; what is wrong with what came of it, or None."""
    torch.manual_seed(case.seed)
    world = _world(case.seed)
    arguments = _arguments(case, world)
    if case.target.own is not None:
        case.target.own(world)
    things = watched(world, arguments)
    before = snapshot(things)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = case.target.run(world, arguments)
        except Exception as error:
            return _wrong_refusal(case, error) or (
                None if snapshot(things) == before else f"{case}: changed, then {error!r}"
            )
    tidy(result)
    return f"{case}: accepted" if case.expected == "refused" else None


def _wrong_refusal(case: Case, error: Exception) -> str | None:
    text, kind = str(error), type(error)
    raised = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    if (case.target.name, case.argument) in USERS_OWN and case.expected == "either":
        return None
    own, torchs = raised.is_relative_to(PACKAGE), raised.match("torch/optim/optimizer.py")
    torchs = torchs and case.argument in TORCHS_OWN
    found = []
    if case.expected == "accepted":
        found.append("refused")
    if kind not in (ValueError, TypeError, *([CheckpointError] if case.target.name in FILES else [])):
        found.append("of a wrong kind")
    if not (own or torchs):
        found.append(f"from {raised}")
    if not torchs and not re.search(rf"\b{_words(case.argument)}\b", text, re.IGNORECASE):
        found.append("without the argument's name")
    if len(text) > LONGEST or "\n" in text:
        found.append(f"of {len(text)} characters in {len(text.splitlines())} lines")
    return f"{case}: {', '.join(found)}: {kind.__name__}: {text[:200]!r}" if found else None


def _words(argument: str) -> str:
    words = {"params": "param(s|eter|eters)?", "param_group": "param(s|_group|eter|eters)?", "state_dict": "state_dict"}
    words |= {
        "x": "(x|frame)",
        "u": "(u|step)",
        "moments": "moments?",
        "gradients": "gradients?",
        "model": "(model|layers?)",
    }
    words |= {"path": "(path|read|written|folder|state|safetensors)"}
    return words.get(argument, re.escape(argument))


def right_cases() -> Iterator[Case]:
    """Every value that must be accepted."""
    for target in TARGETS.values():
        for argument, kind in target.kinds.items():
            for value, make in kind.good.items():
                if not (argument == "rank" and value == "NoneType None"):
                    yield Case(target, argument, value, make, "accepted", len(value))


def wrong_cases() -> list[Case]:
    """Every value that must be refused, and everything foreign, which must be refused or work."""
    found = []
    for target in TARGETS.values():
        for argument, kind in target.kinds.items():
            for value, make in {**FOREIGN, **kind.bad}.items():
                expected = "refused" if value in kind.bad else "either"
                found += [Case(target, argument, value, make, expected, seed) for seed in range(2)]
    return found


def sample(count: int) -> list[Case]:
    """So many cases, the same in every run, all arguments alike often."""
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in wrong_cases():
        groups.setdefault((case.target.name, case.argument), []).append(case)
    draw = random.Random(0)
    for own in groups.values():
        draw.shuffle(own)
    found: list[Case] = []
    while len(found) < count and any(groups.values()):
        found += [own.pop() for own in groups.values() if own]
    return found[:count]


def check(cases: Iterator[Case] | list[Case]) -> None:
    wrong = [text for case in cases if (text := run(case)) is not None]
    assert not wrong, f"{len(wrong)} calls:\n" + "\n".join(wrong)


def test_every_public_argument_has_a_row_of_values() -> None:
    for target in TARGETS.values():
        assert sorted(target.kinds) == sorted(target.parameters), target.name
    for owner, (_, kind) in OWN.items():
        assert set(public_methods(kind)) <= set(METHODS[owner]), owner


def test_right_values_of_every_argument_are_accepted() -> None:
    check(right_cases())


def test_malformed_arguments_are_refused_by_name_and_nothing_changes() -> None:
    check(sample(320))


@pytest.mark.slow
def test_thousands_of_malformed_arguments_are_refused_by_name_and_nothing_changes() -> None:
    cases = wrong_cases()
    assert len(cases) > 3000
    check(cases)


@pytest.mark.parametrize(
    ("kind", "measure"), [(sr.RiemannianAdam, torch.optim.Adam), (sr.RiemannianSGD, torch.optim.SGD)]
)
@pytest.mark.parametrize("value", AS_TORCH)
def test_parameters_are_refused_where_torch_refuses_them(kind: Any, measure: Any, value: str) -> None:
    def outcome(make: Any) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                make(AS_TORCH[value](_world(0)))
            except Exception:
                return False
        return True

    assert outcome(kind) == outcome(measure)
