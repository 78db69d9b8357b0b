"""Which values each argument of each public function takes; a new argument without a row fails the test."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.layers import SpectralLayer
from tests.fuzz import optimizers as o
from tests.fuzz import values as v
from tests.fuzz.kinds import Kind, choice, optional
from tests.fuzz.world import World

INTERNAL = {
    *("adopt", "release", "assign_", "build_cores", "build_factors", "build_frames", "built_weight", "choose"),
    *("core_frames", "places", "factor_parameters", "factor_tensors", "factors", "from_matrix", "to_matrix"),
    *("matrix_shape", "columns"),
    *("member", "sample", "stored_spectrum", "workload", "get_extra_state", "set_extra_state", "move_"),
    *("thin_layers", "extra_repr", "reset_parameters", "told", "difference", "dense_weight", "completed"),
    *("applied", "by_weight", "by_factors", "copies", "member_like"),
}
"""Methods of layers and manifolds that are no business of users, or take nothing."""


@dataclass(frozen=True)
class Target:
    """Something to call, of an object of the world where it is a method."""

    name: str
    call: Callable[..., Any]
    kinds: dict[str, Kind]
    signature: inspect.Signature
    own: Callable[[World], Any] | None = None

    def run(self, world: World, arguments: dict[str, Any]) -> Any:
        result = self.call(*([] if self.own is None else [self.own(world)]), **arguments)
        if isinstance(result, AbstractContextManager):
            with result:
                pass
        return result

    @property
    def parameters(self) -> list[str]:
        skipped = () if self.own is None else ("self",)
        return [name for name in self.signature.parameters if name not in skipped]


_OPTIMIZER_ROWS = {
    "params": o.PARAMS,
    "lr": o.RATE,
    "weight_decay": o.NUMBER,
    "maximize": v.FLAG,
    "foreach": v.OPTIONAL_FLAG,
    "fused": v.OPTIONAL_FLAG,
    "max_angle": v.ANGLE,
}
FUNCTIONS: dict[str, dict[str, Kind]] = {
    "RiemannianAdam": {
        **_OPTIMIZER_ROWS,
        "betas": o.BETAS,
        "eps": o.NUMBER,
        "amsgrad": v.FLAG,
        "match_adam": v.FLAG,
        "moment": optional(choice("matrix", "polar", "cores")),
        "decoupled_weight_decay": v.FLAG,
    },
    "RiemannianSGD": {**_OPTIMIZER_ROWS, "momentum": o.NUMBER, "dampening": o.DAMPENING, "nesterov": o.NESTEROV},
    "adapt": {
        "model": v.DENSE,
        "rank": v.RANK,
        "method": choice("sttp", "svdp"),
        "frames": choice("riemannian", "householder"),
        "spectrum": choice("free", "learned"),
        "start": choice("zero", "gradient", "pissa"),
        "include": v.INCLUDE,
        "exclude": v.EXCLUDE,
        "seed": v.SEED,
        "scale": v.SCALE,
        "gradients": v.DENSE_GRADIENTS,
        "trainable": v.TRAINABLE,
        "kernel_modes": choice("flat", "prime"),
        "recompute": choice("auto", "always", "never"),
        "memory": v.MEMORY,
        "pivots": v.FLAG,
    },
    "adaptation": {"model": v.ADAPTED},
    "averaged": {"model": v.MODEL, "decay": v.DECAY},
    "cached": {"model": v.ANY_MODULE},
    "canonicalize": {"model": v.MODEL},
    "chart_margin": {"model": v.MODEL},
    "compression": {"model": v.MODEL},
    "convert_frames": {"model": v.MODEL, "frames": choice("householder", "riemannian")},
    "decompress": {"model": v.MODEL, "factored": v.FLAG},
    "from_pretrained": {"cls": v.PRETRAINED, "path": v.SAVED_FOLDER, "kwargs": Kind(v.same(1, "x"), {})},
    "frozen": {"model": v.SERVED},
    "gauge_fix": {
        "model": v.MODEL,
        "optimizer": optional(v.OPTIMIZERS),
        "average": v.AVERAGE,
        "margin": v.MARGIN,
    },
    "grow_ranks": {
        "model": v.MODEL,
        "gradients": v.GRADIENTS,
        "optimizer": optional(v.OPTIMIZER),
        "rank": v.NEW_RANK,
        "factor": optional(v.FACTOR),
        "step": v.LENGTH,
    },
    "input_moments": {"model": v.ANY_MODULE, "batches": v.BATCHES},
    "lipschitz_bound": {"model": v.SERVED, "example": v.EXAMPLE},
    "load": {"path": v.SAVED, "model": v.FRESH},
    "merge": {"model": v.ADAPTED},
    "operator_norms": {"model": v.ANY_MODULE},
    "orthogonality_error": {"model": v.MODEL},
    "project": {"model": v.MODEL},
    "register_gauge_fix": {
        "model": v.MODEL,
        "optimizer": v.OPTIMIZER,
        "every": v.EVERY,
        "average": v.AVERAGE,
        "margin": v.MARGIN,
    },
    "register_layer": {"kind": v.OWN_KIND},
    "register_rank_change": {
        "model": v.MODEL,
        "optimizer": v.OPTIMIZER,
        "budget": v.SHARE,
        "until": v.UNTIL,
        "every": v.EVERY,
        "factor": v.FACTOR,
        "step": v.LENGTH,
    },
    "reparameterize": {
        "model": v.DENSE,
        "rank": v.RANK,
        "method": choice("sttp", "svdp"),
        "frames": choice("riemannian", "householder"),
        "spectrum": choice("learned", "identity", "free"),
        "init": choice("dense", "noisy_identity", "orthogonal", "identity"),
        "exclude": v.EXCLUDE,
        "seed": v.SEED,
        "budget": v.BUDGET,
        "kernel_modes": choice("flat", "prime"),
        "spectral_bound": v.BOUND,
        "bound_of": choice("matrix", "operator"),
        "moments": v.MOMENTS,
        "recompute": choice("auto", "always", "never"),
        "memory": v.MEMORY,
        "pivots": v.FLAG,
    },
    "save": {"model": v.MODEL, "path": v.NEW_PATH, "compact": v.FLAG},
    "set_weight": {"layer": v.LAYER, "weight": v.WEIGHT},
    "shrink_ranks": {
        "model": v.MODEL,
        "optimizer": optional(v.OPTIMIZER),
        "rank": v.NEW_RANK,
        "energy": optional(v.ENERGY),
        "budget": v.BUDGET,
        "least": v.EVERY,
    },
    "singular_values": {"model": v.MODEL},
    "spectral_penalty": {"model": v.MODEL, "kind": choice("d_optimal", "divergence", "half_normal")},
    "unmerge": {"model": v.ADAPTED},
    "weight_gradients": {"model": v.MODEL},
}
METHODS: dict[str, dict[str, dict[str, Kind]]] = {
    "optimizer": {
        "step": {"closure": o.CLOSURE},
        "add_param_group": {"param_group": o.GROUP},
        "load_state_dict": {"state_dict": o.STATE},
        "state_dict": {},
    },
    "layer": {
        "freeze": {"frozen": v.FLAG},
        "tie": {"other": v.OTHER_LAYER},
        "set_weight": {"weight": v.WEIGHT},
        "hook_weight": {"weight": v.OWN_WEIGHT, "hook": v.HOOK},
    },
    "average": {"update": {"model": v.MODEL_OF_AVERAGE}, "update_parameters": {"model": v.MODEL_OF_AVERAGE}},
    "manifold": {
        "retr": {"x": v.POINT, "u": v.TANGENT},
        "expmap": {"x": v.POINT, "u": v.TANGENT},
        "retr_transp": {"x": v.POINT, "u": v.TANGENT, "v": v.TANGENT},
        "expmap_transp": {"x": v.POINT, "u": v.TANGENT, "v": v.TANGENT},
        "transp_follow_retr": {"x": v.POINT, "u": v.TANGENT, "v": v.TANGENT},
        "transp_follow_expmap": {"x": v.POINT, "u": v.TANGENT, "v": v.TANGENT},
        "proju": {"x": v.POINT, "u": v.TANGENT},
        "egrad2rgrad": {"x": v.POINT, "u": v.TANGENT},
        "inner": {"x": v.POINT, "u": v.TANGENT, "v": optional(v.TANGENT), "keepdim": v.FLAG},
        "projx": {"x": v.POINT},
    },
}
OWN: dict[str, tuple[Callable[[World], Any], type]] = {
    "optimizer": (lambda w: w.optimizer, sr.RiemannianAdam),
    "layer": (lambda w: w.layer, SpectralLayer),
    "average": (lambda w: w.average, type(sr.averaged(sr.reparameterize(nn.Linear(2, 2), 1)))),
    "manifold": (lambda w: sr.PolarStiefel(), sr.PolarStiefel),
}


def public_methods(kind: type) -> dict[str, Callable[..., Any]]:
    """Methods that this package defines for a class, those of users."""
    found: dict[str, Callable[..., Any]] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("sttp_riemann"):
            found.update({n: m for n, m in vars(base).items() if n[0] != "_" and callable(getattr(base, n))})
    return {name: getattr(kind, name) for name in found if name not in INTERNAL and not isinstance(found[name], type)}


def targets() -> Iterator[Target]:
    """All public functions, methods, and the assignment to a weight."""
    for name in sr.__all__:
        function = getattr(sr, name)
        if name != "PolarStiefel":
            yield Target(name, function, FUNCTIONS.get(name, {}), inspect.signature(function))
    for owner, (own, kind) in OWN.items():
        for name in sorted({*public_methods(kind), *METHODS[owner]}):
            yield _method(owner, name, own, kind)
    signature = inspect.signature(lambda weight: None)
    yield Target("layer.weight =", _assign, {"weight": v.WEIGHT}, signature, lambda w: w.layer)


def _method(owner: str, name: str, own: Callable[[World], Any], kind: type) -> Target:
    def call(self: Any, **arguments: Any) -> Any:
        return getattr(self, name)(**arguments)

    return Target(f"{owner}.{name}", call, METHODS[owner].get(name, {}), inspect.signature(getattr(kind, name)), own)


def _assign(layer: nn.Module, weight: Tensor) -> None:
    layer.weight = weight


TARGETS = {target.name: target for target in targets()}
