"""Experts of transformers, which keep the matrices of all experts in one parameter of three dimensions."""

from __future__ import annotations

from typing import Any, ClassVar

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

    held: ClassVar[tuple[str, ...]]

    @classmethod
    @override
    def pieces_of(cls, module: nn.Module) -> Pieces:
        found = {name: module._parameters[name] for name in cls.held}
        return {name: tuple(f"{HELD[name]}.{i}" for i in range(len(p))) for name, p in found.items() if p is not None}

    @override
    def __reduce_ex__(self, protocol: Any) -> Any:
        state = super().__reduce_ex__(protocol)[2]  # type: ignore[index]
        return _empty, (self.ordinary, self.held), state


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
    held = tuple(name for name in HELD if (p := module._parameters.get(name)) is not None and p.dim() == 3)
    return _made(kind, held) if held else None


_MADE: dict[tuple[type[nn.Module], tuple[str, ...]], type[SplitExperts]] = {}


def _made(kind: type[nn.Module], held: tuple[str, ...]) -> type[SplitExperts]:
    if (kind, held) not in _MADE:
        members: dict[str, Any] = {name: _joined(name) for name in held}
        facts = {"__module__": kind.__module__, "__doc__": f"{kind.__name__} with a layer for each matrix."}
        _MADE[kind, held] = type(
            f"Split{kind.__name__}", (SplitExperts, kind), {**members, **facts, "ordinary": kind, "held": held}
        )
    return _MADE[kind, held]


def _joined(name: str) -> property:
    def joined(self: SplitExperts) -> Tensor:
        return self.joined(name)

    return property(joined, doc="Of all experts; read-only.")


def _empty(kind: type[nn.Module], held: tuple[str, ...]) -> nn.Module:
    """A module to unpickle into."""
    made = _made(kind, held)
    return made.__new__(made)
