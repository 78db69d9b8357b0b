"""Experts of transformers and timm, which keep the matrices of all experts in one parameter."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from sttp_riemann.layers.split import Pieces, Split

HELD = {"gate_up_proj": "gate_up", "gate_proj": "gate", "up_proj": "up", "down_proj": "down", "weight": "experts"}
"""Names of such parameters, and of the list of layers that each becomes."""
PACKAGE = "transformers.models."


class SplitExperts(Split):
    """Experts with a layer for each matrix of each expert: ``gate_up.0``, ``gate_up.1``, .., ``down.0``, ..

    Matrices are those that the parameter holds, as it holds them. Layers of one shape are built together.
    """

    @classmethod
    @override
    def pieces_of(cls, module: nn.Module) -> Pieces:
        held = {name: p for name in HELD if (p := module._parameters.get(name)) is not None and p.dim() == 3}
        return {name: tuple(f"{HELD[name]}.{i}" for i in range(len(p))) for name, p in held.items()}

    @override
    def __reduce_ex__(self, protocol: Any) -> Any:
        state = super().__reduce_ex__(protocol)[2]  # type: ignore[index]
        return _empty, (self.ordinary,), state


class SplitConditional(SplitExperts):
    """timm's CondConv2d: a kernel for each expert, (out, in, ..) in one row of its weight, mixed for each example."""

    @classmethod
    @override
    def pieces_of(cls, module: nn.Module) -> Pieces:
        return {"weight": tuple(f"{HELD['weight']}.{i}" for i in range(module.num_experts))}  # type: ignore[arg-type]

    @staticmethod
    @override
    def as_matrices(module: Any, parameter: Tensor) -> Tensor:
        return parameter.unflatten(1, (module.out_channels, -1))

    @staticmethod
    @override
    def as_parameter(joined: Tensor) -> Tensor:
        return joined.flatten(1)


NAMED = {"timm.layers.cond_conv2d.CondConv2d": SplitConditional}
"""Classes of experts by name, and what they become."""


def experts_for(module: nn.Module) -> type[SplitExperts] | None:
    """What a module of experts becomes.

    Parameters
    ----------
    module : nn.Module
        Any.

    Returns
    -------
    type or None
        None unless it is in `NAMED`, or of a class of transformers that ends with Experts, with a parameter of three
        dimensions.
    """
    kind = type(module)
    if isinstance(module, Split) or (base := _base_of(kind)) is None or not base.pieces_of(module):
        return None
    return _made(kind)


def _base_of(kind: type[nn.Module]) -> type[SplitExperts] | None:
    of_transformers = kind.__module__.startswith(PACKAGE) and kind.__name__.endswith("Experts")
    return NAMED.get(f"{kind.__module__}.{kind.__qualname__}", SplitExperts if of_transformers else None)


_MADE: dict[type[nn.Module], type[SplitExperts]] = {}


def _made(kind: type[nn.Module]) -> type[SplitExperts]:
    if kind not in _MADE:
        facts = {"__module__": kind.__module__, "__doc__": f"{kind.__name__} with a layer for each matrix."}
        base = _base_of(kind)
        assert base is not None
        _MADE[kind] = type(f"Split{kind.__name__}", (base, kind), {**facts, "ordinary": kind})
    return _MADE[kind]


def _empty(kind: type[nn.Module]) -> nn.Module:
    """A module to unpickle into; its class has no place in a module."""
    made = _made(kind)
    return made.__new__(made)
