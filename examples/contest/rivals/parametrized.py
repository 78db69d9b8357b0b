"""Frames as torch and geotorch parametrize them: a matrix without constraints, trained by any optimizer.

A frame is ``B f(A)`` with a constant orthogonal matrix B, whose first columns are the frame that was given, and a map f
from the trained matrix A, of the frame's shape, to orthonormal columns: f is the identity's first columns at the start.
Entries of A on and above the diagonal have no gradient. Every core is a point of St, with the gauge that it has: the
parametrizations know no St_U.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import orthogonal

from sttp_riemann.errors import RecipeError
from sttp_riemann.frames import Frames
from sttp_riemann.trains.shape import Core


class Parametrized(Frames):
    """Base class: the map is what `orthogonal_map` makes for a shape."""

    # So that gauge fixing, which turns points, leaves them alone: A is none
    canonical = True
    direct = False

    @staticmethod
    def orthogonal_map(rows: int, rank: int) -> nn.Module:
        """A module from A to the frame, with B as its buffer ``base``."""
        raise NotImplementedError

    @staticmethod
    def key(core: Core) -> str:
        return f"{core.rows}x{core.inner}"

    @staticmethod
    def components(core: Core) -> int:
        return 2

    @staticmethod
    def numbers(core: Core) -> int:
        return core.rows * core.inner

    def hold(self, k: int, frame: Tensor) -> None:
        core = self.cores[k]
        # Says at once that a library is missing
        self.orthogonal_map(core.rows, core.inner)
        self.register_parameter(str(k), nn.Parameter(frame.new_empty(core.rows, core.inner)))
        self.register_buffer(f"base_{k}", frame.new_empty(core.rows, core.rows))
        self.assign_(k, frame)

    def tensors(self, k: int) -> tuple[Tensor, ...]:
        return getattr(self, f"base_{k}"), getattr(self, str(k))

    @torch.no_grad()
    def assign_(self, k: int, frame: Tensor) -> None:
        base, entries = self.tensors(k)
        full, triangle = torch.linalg.qr(frame, mode="complete")
        full[:, : frame.shape[1]] *= triangle.diagonal().sign()
        base.copy_(full)
        # Where torch starts: its reflectors need the diagonal, which the other maps ignore
        entries.zero_().fill_diagonal_(-1)


def _kind(name: str, make: Callable[[int, int], nn.Module], signs: bool = False) -> type[Parametrized]:
    orthogonal_map = lru_cache(maxsize=None)(make)

    def materialize(core: Core, *stacks: Tensor) -> Tensor:
        base, entries = stacks
        if signs:
            # torch keeps the signs of columns on the diagonal, where weight decay would round them to 0
            entries = entries.tril(-1) - torch.eye(core.rows, core.inner, dtype=entries.dtype, device=entries.device)
        found: Tensor = functional_call(orthogonal_map(core.rows, core.inner), {"base": base}, (entries,))
        return found

    methods = {"materialize": staticmethod(materialize), "orthogonal_map": staticmethod(orthogonal_map)}
    return type(name, (Parametrized,), methods)


def _torch(name: str) -> Callable[[int, int], nn.Module]:
    def make(rows: int, rank: int) -> nn.Module:
        layer = orthogonal(nn.Linear(rank, rows, bias=False), orthogonal_map=name)
        return layer.get_submodule("parametrizations.weight.0")

    return make


def _geotorch(rows: int, rank: int) -> nn.Module:
    try:
        from geotorch import Stiefel
    except ImportError as error:
        raise RecipeError("frames 'geotorch' need geotorch: pip install 'sttp-riemann[bench]'") from error
    found: nn.Module = Stiefel((rows, rank))
    return found


KINDS: dict[str, type[Parametrized]] = {
    "torch-exp": _kind("TorchExp", _torch("matrix_exp")),
    "torch-cayley": _kind("TorchCayley", _torch("cayley")),
    "torch-householder": _kind("TorchHouseholder", _torch("householder"), signs=True),
    "geotorch": _kind("Geotorch", _geotorch),
}
"""Kinds of frames by the name that recipes give them."""
