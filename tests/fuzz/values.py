"""Values for arguments: of every kind some that are right and some that are wrong."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import nn

import sttp_riemann as sr
from tests.fuzz.kinds import (
    FOREIGN,
    INF,
    MODULES,
    NAN,
    NO_NUMBERS,
    NO_OBJECTS,
    OTHERS,
    TENSORS,
    Kind,
    Make,
    optional,
    same,
)
from tests.fuzz.world import Pretrained, generator


def _models(make: Make) -> Kind:
    bad = {name: MODULES[name] for name in ("dense model", "dense layer", "empty module", "class of modules")}
    return Kind({"model": make}, {**NO_OBJECTS, **bad, "optimizer": MODULES["optimizer"], "array": OTHERS["array"]})


FLAG = Kind(same(False, True, np.False_), same("no", "", None, 2, 0.5, NAN, [], {}, np.ones(2)))
OPTIONAL_FLAG = optional(FLAG)
MODEL = _models(lambda w: w.model)
ADAPTED = Kind({"model": lambda w: w.adapted}, {**MODEL.bad, "without adapters": lambda w: w.model})
SERVED = Kind(_models(lambda w: w.model.eval()).good, {**MODEL.bad, "in training": lambda w: w.model.train()})
AVERAGE = Kind(
    {"none": lambda w: None, "average": lambda w: w.average},
    {
        **{name: make for name, make in MODEL.bad.items() if name != "NoneType None"},
        "another model": lambda w: sr.reparameterize(nn.Linear(6, 4), 2),
        "the model itself": lambda w: w.model,
        "other frames": lambda w: w.another(
            frames="householder" if w.frames == "riemannian" else "riemannian",
        ),
    },
)
ANY_MODULE = Kind({"model": lambda w: w.model, "dense": lambda w: w.dense, "layer": lambda w: w.layer}, NO_OBJECTS)
DENSE = Kind(
    {"dense": lambda w: w.dense, "layer": lambda w: w.dense[0]},
    {
        **NO_OBJECTS,
        "class of modules": MODULES["class of modules"],
        "empty module": MODULES["empty module"],
        "done before": lambda w: w.model,
        "pruned": lambda w: nn.utils.spectral_norm(nn.Linear(4, 4)),
        "activation": lambda w: nn.Tanh(),
        "optimizer": lambda w: w.optimizer,
    },
)
OPTIMIZER = Kind(
    {"optimizer": lambda w: w.optimizer, "foreign, unused": lambda w: torch.optim.Adam(w.model.parameters())},
    {**NO_OBJECTS, "class": lambda w: sr.RiemannianAdam, "model": lambda w: w.model, "generator": OTHERS["generator"]},
)
OPTIMIZERS = Kind(
    {**OPTIMIZER.good, "several": lambda w: [w.optimizer], "list []": lambda w: []},
    {name: make for name, make in OPTIMIZER.bad.items() if name != "list []"}
    | {"list of another": lambda w: [w.model]},
)
LAYER = Kind(
    {"layer": lambda w: w.layer}, {**NO_OBJECTS, "dense layer": MODULES["dense layer"], "model": lambda w: w.model}
)
OWN_KIND = Kind(
    {"own class": lambda w: type("Own", (nn.Linear,), {}), "class of torch": lambda w: nn.Conv2d},
    {
        **{**NO_OBJECTS, **same(int, nn.Module, nn.LayerNorm, nn.GRU)},
        **{"layer": lambda w: w.layer, "spectral class": lambda w: type(w.layer)},
    },
)
RANK = Kind(
    {
        **same(3, 1, 1000, 0.5, 1.0, np.int64(3), np.float32(0.5), Fraction(1, 2), {"*": 2}, {"0": 2, "*": 0.5}),
        **same({"[02]": 2, "4": np.int32(1)}, 10**400),
    },
    {
        **same(
            0, -1, 1.5, 0.0, -0.5, NAN, INF, True, "3", "", [3], (), {}, {"none": 3}, {"0": 3}, {"*": 0}, {"*": True}
        ),
        **same({1: 3, "*": 2}, {None: 2}, {"*": None}, {"*": NAN}, {"*": "2"}, {"*": {"*": 2}}, b"3", 3j, None),
        **{name: FOREIGN[name] for name in ("tensor of two", "array", "hostile", "unprintable", "object", "generator")},
    },
)
NEW_RANK = Kind(
    {**RANK.good, **same({"0": 3})},
    {name: make for name, make in RANK.bad.items() if name not in ("dict {'0': 3}", "dict {}")},
)
SHARE = Kind(same(0.9, 1, np.float32(0.875)), {**NO_NUMBERS, **same(0, -0.1, 1.5, 1e-9)})
BUDGET = optional(SHARE)
LENGTH = Kind(same(0.0, 0.5, np.float32(1)), {**NO_NUMBERS, **same(-0.1, 1.5)})
ENERGY = Kind(same(0.9, 1, np.float32(0.5), 1e-9), {**NO_NUMBERS, **same(0, -0.1, 1.5)})
FACTOR = Kind(same(1.5, 2, np.float32(1.25)), {**NO_NUMBERS, **same(0, 1, 1.0, -2, 1e6)})
UNTIL = Kind(same(1000, 100, np.int64(300)), {**NO_NUMBERS, **same(0, -1, 0.5, 99)})
GRADIENTS = Kind(
    {
        "all": lambda w: {name: torch.randn(4, 6) if name != "2" else torch.randn(6, 4) for name in ("0", "2", "4")},
        "zero": lambda w: {"0": torch.zeros(4, 6)},
        **same({}),
    },
    {
        **same(None, 0, True, "x", [1], {"0": None}, {"0": 1.0}, {None: 1}, {"0": [[1.0]]}),
        "unknown": lambda w: {"none": torch.eye(6)},
        "turned": lambda w: {"0": torch.ones(6, 4)},
        "nan": lambda w: {"0": torch.full((4, 6), NAN)},
        "complex": lambda w: {"0": torch.ones(4, 6, dtype=torch.complex64)},
        "meta": lambda w: {"0": torch.ones(4, 6, device="meta")},
        "array": lambda w: {"0": np.ones((4, 6))},
    },
)
EXCLUDE = Kind(
    {
        **same((), [], "0", ("0",), ["2", "4"], "[02]", np.str_("0")),
        "generator": lambda w: generator("0"),
        "set": lambda w: {"0"},
    },
    {
        **same(
            None,
            0,
            1.5,
            True,
            "",
            "none",
            ("none",),
            "*",
            [0],
            [None],
            [("0",)],
            b"0",
            [b"0"],
            ["0", "x" * 5000],
            {"none": 1},
        ),
        **{name: FOREIGN[name] for name in ("hostile", "array", "object", "dense layer", "class of modules")},
        "generator of others": lambda w: generator("0", 1),
    },
)
_NO_NAMES = {name: make for name, make in EXCLUDE.bad.items() if name != "str '*'"}
INCLUDE = Kind(
    {**same(None, "*"), **{n: make for n, make in EXCLUDE.good.items() if n not in ("tuple ()", "list []")}},
    {name: make for name, make in _NO_NAMES.items() if name != "NoneType None"},
)
TRAINABLE = Kind({**same("*", "0.bias", "1"), **EXCLUDE.good}, _NO_NAMES)
SEED = Kind(
    same(0, 7, -1, np.int64(3), 2**40),
    {**NO_NUMBERS, **same(0.0, 0.5, 2**64, -(2**63) - 1, 10**400), "tensor": TENSORS["tensor of two"]},
)
BOUND = optional(
    Kind(
        same("initial", 1, 2.5, np.float32(0.5), Fraction(1, 2)),
        {
            **NO_NUMBERS,
            **same(0, -1, 1e-40, 1e40, 10**400, "first", b"initial"),
            **{name: FOREIGN[name] for name in ("tensor of two", "array", "hostile", "unprintable")},
        },
    )
)
MOMENTS = optional(
    Kind(
        {**same({}), "one": lambda w: {"0": torch.eye(6)}, "of a layer that is none": lambda w: {"3": torch.eye(2)}},
        {
            **same(0, 1, True, "", "x", [1], {"0": None}, {"0": 1.0}, {"0": [[1.0]]}, {None: 1}, 0.5),
            "list": lambda w: [torch.eye(6)],
            "unknown": lambda w: {"none": torch.eye(6)},
            "unknown number": lambda w: {0: torch.eye(6)},
            "shape": lambda w: {"0": torch.eye(5)},
            "row": lambda w: {"0": torch.ones(6)},
            "nan": lambda w: {"0": torch.full((6, 6), NAN)},
            "negative": lambda w: {"0": torch.eye(6) - 2 * torch.ones(6, 6)},
            "complex": lambda w: {"0": torch.eye(6, dtype=torch.complex64)},
            "meta": lambda w: {"0": torch.eye(6, device="meta")},
            "sparse": lambda w: {"0": torch.eye(6).to_sparse()},
            "array": lambda w: {"0": np.eye(6)},
        },
    )
)
DENSE_GRADIENTS = optional(
    Kind(
        {"all": lambda w: {str(n): torch.ones_like(w.dense[n].weight) for n in (0, 2, 4)}},
        {name: make for name, make in MOMENTS.bad.items() if name not in ("negative", "row")},
    )
)
SCALE = Kind(
    same(1.0, 2, np.float32(0.5), Fraction(1, 2)),
    {**NO_NUMBERS, **same(0, -1, 1e-40), "tensor": TENSORS["tensor of two"]},
)
NEW_PATH = Kind(
    same("new.safetensors", Path("folder", "new.safetensors")), same(None, 3, 0.5, True, b"x", [], {}, "", ".")
)
SAVED = Kind(
    {
        "file": lambda w: w.saved,
        "text": lambda w: str(w.saved),
        "folder": lambda w: w.saved.parent,
        "state": lambda w: w.model.state_dict(),
    },
    {
        **same(None, 3, 0.5, True, b"x", [], {}, {1: 2}, "", "missing", "x" * 5000, "\ud800", "a\0b", "a\nb"),
        "dense state": lambda w: w.dense.state_dict(),
        "numbers": lambda w: dict.fromkeys(w.model.state_dict(), 1.0),
        "model": lambda w: w.model,
    },
)
SAVED_FOLDER = Kind({"folder": lambda w: w.saved.parent}, {**SAVED.bad, "file": lambda w: w.saved})
PRETRAINED = Kind(
    {"class": lambda w: Pretrained},
    {**NO_OBJECTS, "object": lambda w: Pretrained(), **{n: MODULES[n] for n in ("model", "class of modules")}},
)
FRESH = Kind(
    {"dense": lambda w: w.dense, "alike": lambda w: w.another()},
    {
        **NO_OBJECTS,
        "another": lambda w: w.dense[:1],
        "layer": MODULES["dense layer"],
        "optimizer": lambda w: w.optimizer,
    },
)
EVERY = Kind(same(1, 100, np.int64(3)), {**NO_NUMBERS, **same(0, -1, 0.5, 2.0)})
MEMORY = Kind(
    same(1.0, 1, 0.9, np.float32(0.5), 3.0),
    {**NO_NUMBERS, **same(0, -1, float("inf")), "tensor": TENSORS["tensor of two"]},
)
DECAY = Kind(
    same(0.999, 0, 0.5, np.float32(0.5)), {**NO_NUMBERS, **same(1, 1.0, -0.1, 2), "tensor": TENSORS["tensor of two"]}
)
ANGLE = optional(
    Kind(same(0.1, 1, np.float32(0.5)), {**NO_NUMBERS, **same(0, -0.1, 1.6), "tensor": TENSORS["tensor of two"]})
)
MARGIN = Kind(same(0.1, 0, 1, np.float32(0.5)), {**NO_NUMBERS, **same(-0.1, 2), "tensor": TENSORS["tensor of two"]})
WEIGHT = Kind(
    {
        "right": TENSORS["right tensor"],
        "double": lambda w: torch.randn(4, 6, dtype=torch.float64),
        "half": TENSORS["half tensor"],
        "parameter": lambda w: nn.Parameter(torch.eye(4, 6)),
        "own": lambda w: w.layer.weight,
        "zero": lambda w: torch.zeros(4, 6),
    },
    {
        **NO_OBJECTS,
        "array": OTHERS["array"],
        "model": lambda w: w.model,
        **{n: TENSORS[n] for n in ("tensor of one", "empty tensor", "complex tensor", "meta tensor", "sparse tensor")},
        "bool tensor": TENSORS["bool tensor"],
        **{n: TENSORS[n] for n in ("nan tensor", "infinite tensor", "huge tensor", "turned tensor", "deep tensor")},
    },
)
OTHER_LAYER = Kind(
    {"alike": lambda w: w.another()[0], "itself": lambda w: w.layer},  # type: ignore[index]
    {
        **NO_OBJECTS,
        "dense layer": MODULES["dense layer"],
        "model": lambda w: w.model,
        "of another shape": lambda w: w.model[2],
        "of another rank": lambda w: sr.reparameterize(nn.Linear(6, 4), 2),
    },
)
HOOK = Kind({"function": lambda w: lambda grad: None}, {**NO_OBJECTS, "tensor": TENSORS["right tensor"]})
BATCHES = Kind(
    {
        "list": lambda w: [torch.ones(3, 6)],
        "generator": lambda w: generator(torch.ones(3, 6), torch.ones(2, 6)),
    },
    {
        **same(None, 3, 0.5, True, [], (), {}, "", "batch", [None], [1], ["x"], {"x": 1}),
        "empty generator": OTHERS["empty generator"],
        "generator of others": OTHERS["generator"],
        "arrays": lambda w: [np.ones((3, 6))],
        "later": lambda w: generator(torch.ones(3, 6), None),
        "nothing to iterate over": TENSORS["tensor of one"],
    },
)
OWN_WEIGHT = Kind({"own": lambda w: w.layer.weight}, {**NO_OBJECTS, "model": lambda w: w.model})
MODEL_OF_AVERAGE = Kind(
    {"model": lambda w: w.model, "alike": lambda w: w.another(7)},
    {**MODEL.bad, "of another shape": lambda w: sr.reparameterize(nn.Linear(6, 4), 2)},
)


def _point() -> torch.Tensor:
    return torch.eye(5, 3)


_NO_TENSORS: dict[str, Make] = {
    **NO_OBJECTS,
    "array": OTHERS["array"],
    "whole": lambda w: torch.ones(5, 3, dtype=torch.int64),
    "complex": lambda w: torch.ones(5, 3, dtype=torch.complex64),
    "number": TENSORS["tensor of one"],
    "row": lambda w: torch.ones(3),
    "wide": lambda w: torch.ones(3, 5),
}
POINT = Kind({"frame": lambda w: _point()}, _NO_TENSORS)
EXAMPLE = Kind({"rows": lambda w: torch.zeros(2, 6)}, _NO_TENSORS)
TANGENT = Kind(
    {"one": lambda w: 0.1 * torch.ones(5, 3), "zero": lambda w: torch.zeros(5, 3)},
    {**_NO_TENSORS, "of another shape": lambda w: torch.ones(5, 2), "double": lambda w: torch.ones(5, 3).double()},
)
