"""Values for the arguments of optimizers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.fuzz.kinds import INF, NAN, NO_NUMBERS, NO_OBJECTS, OTHERS, TENSORS, Kind, Make, same
from tests.fuzz.values import FLAG
from tests.fuzz.world import World

RATE = Kind(
    {**same(0.01, 0, 1, np.float32(0.5), np.int64(1)), "tensor": TENSORS["tensor of one"]},
    {
        **NO_NUMBERS,
        **same(-1, -1e-9, 10**400),
        "tensor": TENSORS["tensor of two"],
        "complex": TENSORS["complex tensor"],
    },
)
NUMBER = Kind(
    {**same(0, 0.5, np.float32(0.5), np.int64(0))},
    {**NO_NUMBERS, **same(-1, -1e-9), "tensor": TENSORS["tensor of two"]},
)
DAMPENING = Kind(same(0.0, 0.5, np.float32(0.5)), {**NO_NUMBERS, "tensor": TENSORS["tensor of two"]})
BETAS = Kind(
    same((0.9, 0.999), [0.5, 0.5], (0, 0.9), (np.float32(0.5), 0.5)),
    {
        **same(
            None, 0.9, "ab", (), (0.9,), (0.9, 0.9, 0.9), (1.0, 0.5), (0.5, 1.0), (-0.1, 0.5), (NAN, 0.5), (0.5, INF)
        ),
        **same(("a", "b"), (None, None), (True, False), {0.5: 0.5}, ((0.5,), 0.5)),
        "tensor": TENSORS["tensor of one"],
        "generator": OTHERS["generator"],
    },
)
NESTEROV = Kind(same(False), {**FLAG.bad, **same(True)})  # it needs a momentum, and the first is 0
CLOSURE = Kind(
    {"none": lambda w: None, "function": lambda w: lambda: torch.zeros(())},
    {
        name: make
        for name, make in {**NO_OBJECTS, "tensor": TENSORS["tensor of one"]}.items()
        if name != "NoneType None"
    },
)


def _leaf(entries: int = 3) -> nn.Parameter:
    return nn.Parameter(torch.ones(entries))


_NO_PARAMETERS: dict[str, Make] = {
    **same(None, 3, 0.5, True, "model", "", [], (), {}, [None], [3], ["x"], ((3,),), {1: 2}, [[]], [()], [("a", 3)]),
    "tensor alone": lambda w: torch.ones(3),
    "set within": lambda w: [{"params": {w.spare}}],
    "non-leaf": lambda w: [w.spare * 2],
    "non-leaf after another": lambda w: [w.spare, w.spare * 2],
    "modules": lambda w: [w.model],
    "model": lambda w: w.model,
    "named and not": lambda w: [("a", w.spare), _leaf()],
    "arrays": lambda w: [np.ones(3)],
    "group without": lambda w: [{"lr": 0.1}],
    "group of none": lambda w: [{"params": None}],
    "group of one number": lambda w: [{"params": 3}],
    "groups that overlap": lambda w: [{"params": [w.spare]}, {"params": [w.spare]}],
    "group and parameter": lambda w: [{"params": [w.spare]}, _leaf()],
    "parameter and group": lambda w: [_leaf(), {"params": [w.spare]}],
    "generator of others": OTHERS["generator"],
}
PARAMS = Kind(
    {
        "parameters": lambda w: w.model.parameters(),
        "named parameters": lambda w: w.model.named_parameters(),
        "list": lambda w: list(w.model.parameters()),
        "groups": lambda w: [{"params": w.model.parameters(), "lr": 0.5}, {"params": [w.spare]}],
        "twice the same": lambda w: [w.spare, w.spare],
        "tensor, not parameter": lambda w: [torch.ones(3)],
        "parameter without entries": lambda w: [_leaf(0)],
        "dense": lambda w: w.dense.parameters(),
    },
    {
        **_NO_PARAMETERS,
        "group with a bad rate": lambda w: [{"params": [w.spare], "lr": NAN}],
        "group with a rate of text": lambda w: [{"params": [w.spare], "lr": "1"}],
        "group with a bad decay": lambda w: [{"params": [w.spare], "weight_decay": -1}],
        "group with a bad flag": lambda w: [{"params": [w.spare], "maximize": "no"}],
    },
)
AS_TORCH = {**PARAMS.good, **_NO_PARAMETERS}
"""Parameters of which torch's own optimizers are the measure."""
GROUP = Kind(
    {
        "list": lambda w: {"params": [w.spare]},
        "options": lambda w: {"params": w.spare, "lr": np.float32(0.5), "weight_decay": 0.1, "note": "mine"},
        "batch norm": lambda w: {"params": w.model[1].parameters()},
    },
    {
        **same(
            None, 3, "x", [], (), {}, {"lr": 0.1}, {"params": None}, {"params": 3}, {"params": [3]}, {"params": "ab"}
        ),
        "parameter": lambda w: w.spare,
        "list": lambda w: [w.spare],
        "known before": lambda w: {"params": [w.model[0].bias]},
        "one new, one known before": lambda w: {"params": [w.spare, w.model[0].bias]},
        "non-leaf": lambda w: {"params": [w.spare * 2]},
        "set": lambda w: {"params": {w.spare}},
        "named": lambda w: {"params": [("a", w.spare)]},
        "nan": lambda w: {"params": [w.spare], "lr": NAN},
        "text": lambda w: {"params": [w.spare], "lr": "1"},
        "below zero": lambda w: {"params": [w.spare], "weight_decay": -1},
        "no flag": lambda w: {"params": [w.spare], "maximize": "no"},
    },
)


def _state(change: Callable[[dict[str, Any]], Any]) -> Make:
    """The optimizer's own state with something else in it."""

    def make(world: World) -> Any:
        state = copy.deepcopy(world.optimizer.state_dict())
        change(state)
        return state

    return make


def _first_entry(state: dict[str, Any]) -> dict[str, Any]:
    return next(
        own for own in state["state"].values() if any(isinstance(t, torch.Tensor) and t.dim() for t in own.values())
    )


def _moment(state: dict[str, Any], value: Any) -> None:
    own = _first_entry(state)
    own[next(name for name in own if name != "step")] = value


STATE = Kind(
    {
        "own": _state(lambda s: None),
        "no step yet": _state(lambda s: s.update(state={})),
        "another rate": _state(lambda s: s["param_groups"][0].update(lr=0.5)),
        "an own note": _state(lambda s: s["param_groups"][0].update(note="mine")),
    },
    {
        **same(None, 3, "x", [], (), {}, {"state": {}}, {"param_groups": []}, {"state": {}, "param_groups": None}),
        **same(
            {"state": None, "param_groups": []},
            {"state": {}, "param_groups": [None]},
            {"state": {}, "param_groups": [{}]},
        ),
        "model": lambda w: w.model.state_dict(),
        "groups of text": _state(lambda s: s.update(param_groups="x")),
        "group without parameters": _state(lambda s: s["param_groups"][0].pop("params")),
        "fewer parameters": _state(lambda s: s["param_groups"][0]["params"].pop()),
        "parameters that are none": _state(lambda s: s["param_groups"][0].update(params=None)),
        "parameters that are no numbers": _state(
            lambda s: s["param_groups"][0].update(params=[[]] * len(s["param_groups"][0]["params"]))
        ),
        "group more": _state(lambda s: s["param_groups"].append({"params": []})),
        "rate of text": _state(lambda s: s["param_groups"][0].update(lr="1")),
        "rate nan": _state(lambda s: s["param_groups"][0].update(lr=NAN)),
        "rate gone": _state(lambda s: s["param_groups"][0].pop("lr")),
        "decay below zero": _state(lambda s: s["param_groups"][0].update(weight_decay=-1)),
        "flag of text": _state(lambda s: s["param_groups"][0].update(maximize="no")),
        "state of lists": _state(lambda s: s.update(state=[])),
        "entry of none": _state(lambda s: s["state"].update({0: None})),
        "entry of text": _state(lambda s: s["state"].update({0: "x"})),
        "moment of text": _state(lambda s: _moment(s, "x")),
        "moment of another shape": _state(lambda s: _moment(s, torch.ones(7, 5))),
        "moment of whole numbers": _state(lambda s: _moment(s, torch.ones(1, dtype=torch.int64))),
        "step of text": _state(lambda s: _first_entry(s).update(step="x")),
        "step nan": _state(lambda s: _first_entry(s).update(step=NAN)),
        "step below zero": _state(lambda s: _first_entry(s).update(step=-1)),
        "step of two": _state(lambda s: _first_entry(s).update(step=torch.ones(2))),
    },
)
