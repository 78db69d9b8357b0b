"""The factors U, s, V of all reparameterized layers of a model, computed in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from sttp_riemann.frames import FRAMES, Bank
from sttp_riemann.frames.bank import orthogonality_error, wide_dtype
from sttp_riemann.frames.gauge import fix_gauge
from sttp_riemann.layout import Layout, Pairing
from sttp_riemann.momentum import no_companions
from sttp_riemann.reuse import Reusable, in_transform
from sttp_riemann.spectrum import Spectra, SpectrumKind
from sttp_riemann.tt import LayerShape, contract


@dataclass
class LayerCores:
    """Matricized cores (rows, inner) of one layer, from the outer ends to the spectrum, and the values there."""

    left: list[Tensor]
    spectrum: Tensor
    right: list[Tensor]


class SpectralFactors(nn.Module):
    """All cores of a model in banks of equal shape, and all spectra in one parameter.

    Equal frames of all layers are computed in one call, equal trains contracted in one call, and the result is shared
    by everything that asks for it until a parameter changes. Arithmetic is in float32 or above, also under autocast.

    Parameters
    ----------
    shapes : sequence of LayerShape
        One a layer.
    cores : sequence of LayerCores
        Their start, in float64; its gauge is fixed first, so that every kind of frame starts from the same weights.
    frames : str
        A key of `sttp_riemann.frames.FRAMES`.
    spectrum : {"identity", "learned", "free"}
        Kind of spectrum.
    bounds : Tensor
        (L,) largest singular values, in float64.
    dtype : torch.dtype
        What the weights are handed out in.
    device : torch.device
        Where they are computed.
    """

    weight_dtype: Tensor

    def __init__(
        self,
        shapes: Sequence[LayerShape],
        cores: Sequence[LayerCores],
        frames: str,
        spectrum: SpectrumKind,
        bounds: Tensor,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.shapes = tuple(shapes)
        self.layout = Layout(shapes)
        order = list(self.layout.order)
        self.spectra = Spectra([shapes[i].rank for i in order], spectrum, bounds[order])
        self.spectra.assign_([cores[i].spectrum for i in order])
        self._hold(frames, self._stack(cores))
        self._reset()
        self.to(device=device, dtype=wide_dtype(dtype))
        # The model may be cast to something narrow; the frames stay wide and the weights follow the model.
        self.register_buffer("weight_dtype", torch.empty(0, dtype=dtype, device=device), persistent=False)

    def _stack(self, cores: Sequence[LayerCores]) -> list[list[Tensor]]:
        stacked = []
        for group in self.layout.groups:
            own = [cores[i].left if group.train.side == "left" else cores[i].right for i in group.layers]
            stacked.append([torch.stack([train[c] for train in own]) for c in range(len(group.train.cores))])
        return stacked

    def _hold(self, frames: str, cores: Sequence[Sequence[Tensor]]) -> None:
        """Keep the groups' cores in banks of this kind of frame, in their canonical gauge."""
        fix_gauge(self.layout, cores, [[()] * len(group) for group in cores])
        self.frames, kind = frames, FRAMES[frames]
        reduced = {kind.key(core): core.reduced for group in self.layout.groups for core in group.train.cores}
        banks = self.layout.pack(cores, kind.key)
        self.banks = nn.ModuleDict({name: kind(stack, reduced[name]) for name, stack in banks.items()})
        self._first_row = self.layout.first_rows(kind.key)

    # -- from parameters to factors -----------------------------------------------------------------------------------

    def pair(self, layer: int) -> tuple[Tensor, Tensor]:
        """``U diag(s)`` (d_out, rank) and ``V`` (d_in, rank) of one layer."""
        if in_transform():
            return self._pair_alone(layer)
        _, left, right = self._factors(*self._tensors())
        return left[layer], right[layer]

    def weight(self, layer: int) -> Tensor:
        """W = U diag(s) V^T (d_out, d_in) of one layer."""
        if in_transform():
            left, right = self._pair_alone(layer)
            return left @ right.mT
        stacks, _, _ = self._factors(*self._tensors())
        index, row = self.layout.pairing_of[layer]
        pairing = self.layout.pairings[index]
        weights: Tensor = self._weights[index](stacks[pairing.left], stacks[pairing.right])[row]
        return weights

    def _tensors(self) -> tuple[Tensor, ...]:
        banks = [tensor for bank in self.named_banks().values() for tensor in bank.tensors()]
        return (self.weight_dtype, *self.spectra.tensors(), *banks)

    def named_banks(self) -> dict[str, Bank]:
        """Banks by name."""
        return dict(self.banks.items())  # type: ignore[arg-type]

    def _build(self, weight_dtype: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """For each group of the layout the stack of its frames, those of U times s."""
        remaining = list(tensors)

        def take(count: int) -> list[Tensor]:
            taken = remaining[:count]
            del remaining[:count]
            return taken

        with _full_precision(weight_dtype):
            spectra = self.spectra.materialize(*take(len(self.spectra.tensors())))
            frames = {name: bank.materialize(*take(len(bank.tensors()))) for name, bank in self.named_banks().items()}
            cores = self.layout.unpack(frames, FRAMES[self.frames].key)
            values = spectra.split([len(group.layers) for group in self.layout.left_groups])
            stacks = []
            for g, (group, own) in enumerate(zip(self.layout.groups, cores, strict=True)):
                stack = contract(group.train, own, like=spectra)
                if g < len(values):
                    stack = stack * values[g][:, None, : group.train.rank]
                stacks.append(stack.to(weight_dtype.dtype))
        return tuple(stacks)

    def _arrange(self, stacks: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], list[Tensor], list[Tensor]]:
        for weights in self._weights:
            weights.clear()
        rows = [stack.unbind() for stack in stacks]
        left = [rows[g][row] for _, (g, row) in sorted(self.layout.left_of.items())]
        right = [rows[g][row] for _, (g, row) in sorted(self.layout.right_of.items())]
        return stacks, left, right

    def _pair_alone(self, layer: int) -> tuple[Tensor, Tensor]:
        """Compute one layer without the others, for compilers, which cannot see what several calls share."""
        (group, row), dtype = self.layout.left_of[layer], self.weight_dtype.dtype
        with _full_precision(self.weight_dtype):
            first = sum(len(g.layers) for g in self.layout.left_groups[:group])
            values = self.spectra.materialize(*self.spectra.tensors())[first + row, : self.shapes[layer].rank]
            left = self._train(self.layout.left_of[layer]) * values
            right = self._train(self.layout.right_of[layer])
        return left.to(dtype), right.to(dtype)

    def _train(self, at: tuple[int, int]) -> Tensor:
        group, row = at
        train = self.layout.groups[group].train
        banks = (self._first_row[group, c] for c in range(len(train.cores)))
        cores = [self.named_banks()[name].select(first + row) for name, first in banks]
        return contract(train, cores, like=self.spectra.bound)[0]

    # -- moving along the gauge ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def fix_gauge(self, companions: Callable[[Tensor], Sequence[Tensor]] = no_companions) -> None:
        """Bring every inner core into St_U in place; kinds of frames that have no gauge freedom are left as they are.

        Parameters
        ----------
        companions : callable
            For a parameter, the tensors of its shape that move along with it.
        """
        key = FRAMES[self.frames].key
        if FRAMES[self.frames].canonical:
            return
        points = {name: bank.tensors()[0] for name, bank in self.named_banks().items()}
        moved = {name: companions(point) for name, point in points.items()}
        count = max(len(m) for m in moved.values())
        others = [self.layout.unpack({n: m[i] for n, m in moved.items()}, key) for i in range(count)]
        cores = self.layout.unpack(points, key)
        along = [[[o[g][c] for o in others] for c in range(len(group))] for g, group in enumerate(cores)]
        fix_gauge(self.layout, cores, along)

    @torch.no_grad()
    def canonicalize(self) -> None:
        """Choose one representative of all equal networks: gauge, order and signs; see `sttp_riemann.canonicalize`."""
        cores = self._wide_cores()
        fix_gauge(self.layout, cores, [[()] * len(group) for group in cores])
        values = dict(zip(self.layout.order, (v.double() for v in self.spectra.values()), strict=True))
        if self.spectra.kind != "identity":
            for layer, value in values.items():
                (left, i), (right, j) = self.layout.left_of[layer], self.layout.right_of[layer]
                _order_columns(value, cores[left][-1][i], cores[right][-1][j])
            if self.spectra.kind == "learned":
                values = {layer: value / value[0] for layer, value in values.items()}
            self.spectra.assign_([values[layer] for layer in self.layout.order])
        for name, frames in self.layout.pack(cores, FRAMES[self.frames].key).items():
            self.named_banks()[name].assign_(frames.to(wide_dtype(self.spectra.bound.dtype)))

    @torch.no_grad()
    def convert(self, frames: str) -> None:
        """Hold the same weights in another kind of frame."""
        device, dtype = self.spectra.bound.device, self.spectra.bound.dtype
        training = self.training
        self._hold(frames, self._wide_cores())
        self.banks.to(device=device, dtype=dtype).train(training)
        self._reset()

    def _wide_cores(self) -> list[list[Tensor]]:
        frames = {n: bank.materialize(*bank.tensors()).double().clone() for n, bank in self.named_banks().items()}
        return self.layout.unpack(frames, FRAMES[self.frames].key)

    # -- what is kept -------------------------------------------------------------------------------------------------

    def dof(self, layer: int) -> int:
        """Degrees of freedom of one layer."""
        return self.shapes[layer].dof(self.spectra.kind != "identity")

    def stored(self, layer: int) -> int:
        """Trainable numbers that this kind of frame keeps for one layer."""
        shape, kind = self.shapes[layer], FRAMES[self.frames]
        frames = sum(kind.numbers(core) for core in (*shape.left.cores, *shape.right.cores))
        return frames + (shape.rank if self.spectra.kind != "identity" else 0)

    @torch.no_grad()
    def orthogonality_error(self) -> float:
        """Largest entry of abs(X^T X - I) over all cores, computed in float64."""
        return max(
            orthogonality_error(bank.materialize(*bank.tensors()).double()) for bank in self.named_banks().values()
        )

    # -- being a module -----------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        _ALIVE.add(self)
        self._factors = Reusable(self._build, self._arrange)
        self._weights = [Reusable(_multiply(pairing), _unbind) for pairing in self.layout.pairings]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SpectralFactors:
        def keep_wide(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            narrow = tensor.is_floating_point() and wide_dtype(moved.dtype) != moved.dtype
            if not narrow or tensor is self._buffers.get("weight_dtype"):
                return moved
            return tensor.to(moved.device)

        super()._apply(keep_wide, recurse)
        self._reset()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_factors", "_weights")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._reset()


_ALIVE: WeakSet[SpectralFactors] = WeakSet()


def owners(parameters: Iterable[Tensor]) -> list[SpectralFactors]:
    """Factors that some of these parameters belong to."""
    wanted = {id(p) for p in parameters}
    return [f for f in _ALIVE if any(id(p) in wanted for p in f.parameters())]


def _full_precision(like: Tensor) -> Any:
    kind = like.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def _multiply(pairing: Pairing) -> Callable[[Tensor, Tensor], tuple[Tensor]]:
    def multiply(left: Tensor, right: Tensor) -> tuple[Tensor]:
        with _full_precision(left):
            return (left[pairing.left_rows] @ right[pairing.right_rows].mT,)

    return multiply


def _unbind(weights: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return weights[0].unbind()


def _order_columns(values: Tensor, left: Tensor, right: Tensor) -> None:
    """Make values descending and non-negative, and the largest entry of each column of `left` positive; in place."""
    order = values.abs().argsort(descending=True, stable=True)
    left.copy_(left[:, order])
    right.copy_(torch.where(values < 0, -right, right)[:, order])
    values.copy_(values[order].abs())
    largest = left.gather(0, left.abs().argmax(0, keepdim=True))
    for frame in (left, right):
        frame.copy_(torch.where(largest < 0, -frame, frame))
