"""Experts of transformers, which keep the matrices of all experts in one parameter of three dimensions."""

from __future__ import annotations

from typing import Any

from torch import nn
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


def experts_for(module: nn.Module) -> type[SplitExperts] | None:
    """What a module of experts becomes.

    Parameters
    ----------
    module : nn.Module
        Any.

    Returns
    -------
    type or None
        None unless transformers calls its class experts and it has a parameter of three dimensions.
    """
    kind = type(module)
    if not kind.__module__.startswith(PACKAGE) or not kind.__name__.endswith("Experts") or isinstance(module, Split):
        return None
    return _made(kind) if SplitExperts.pieces_of(module) else None


_MADE: dict[type[nn.Module], type[SplitExperts]] = {}


def _made(kind: type[nn.Module]) -> type[SplitExperts]:
    if kind not in _MADE:
        facts = {"__module__": kind.__module__, "__doc__": f"{kind.__name__} with a layer for each matrix."}
        _MADE[kind] = type(f"Split{kind.__name__}", (SplitExperts, kind), {**facts, "ordinary": kind})
    return _MADE[kind]


def _empty(kind: type[nn.Module]) -> nn.Module:
    """A module to unpickle into; its class has no place in a module."""
    made = _made(kind)
    return made.__new__(made)
