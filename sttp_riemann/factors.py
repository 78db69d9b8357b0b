"""The factors U, s, V of all reparameterized layers of a model, computed in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from sttp_riemann.frames import FRAMES, Bank
from sttp_riemann.frames.bank import orthogonality_error, wide_dtype
from sttp_riemann.frames.gauge import fix_gauge
from sttp_riemann.layout import Layout, Pairing
from sttp_riemann.momentum import no_companions
from sttp_riemann.products import products
from sttp_riemann.reuse import Reusable, in_transform
from sttp_riemann.spectrum import Spectra, SpectrumKind
from sttp_riemann.tt import LayerShape, Train, contract

CACHES = ("_cores", "_frames", "_rows", "_weights")


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

    Attributes
    ----------
    room : float
        Numbers that low rank saves a layer on average: where every layer keeps no more of its forward for the backward
        beyond what the dense one keeps, training takes no more memory than that of the dense network.
    """

    room: float
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
        self.room = sum(shape.saving for shape in shapes) / len(shapes)
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
        (left, i), (right, j) = self.layout.left_of[layer], self.layout.right_of[layer]
        inputs = self._cores(*self._tensors())
        return self._frames[left](*inputs[left])[1][i], self._frames[right](*inputs[right])[1][j]

    def weight(self, layer: int) -> Tensor:
        """W = U diag(s) V^T (d_out, d_in) of one layer."""
        if in_transform():
            left, right = self._pair_alone(layer)
            return left @ right.mT
        index, row = self.layout.pairing_of[layer]
        pairing = self.layout.pairings[index]
        inputs = self._cores(*self._tensors())
        stacks = (self._frames[group](*inputs[group])[0] for group in (pairing.left, pairing.right))
        return self._weights[index](*stacks)[row]  # type: ignore[no-any-return]

    def cores(self, layer: int) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """Matricized cores (rows, inner) left and right of the spectrum, and the values there (rank,), of one layer."""
        (left, i), (right, j) = self.layout.left_of[layer], self.layout.right_of[layer]
        if in_transform():
            return self._cores_alone(left, i), self._values_alone(layer), self._cores_alone(right, j)
        inputs = self._cores(*self._tensors())
        *left_cores, values = (rows[i] for rows in self._rows[left](*inputs[left]))
        return left_cores, values, [rows[j] for rows in self._rows[right](*inputs[right])]

    def _tensors(self) -> tuple[Tensor, ...]:
        banks = [tensor for bank in self.named_banks().values() for tensor in bank.tensors()]
        return (self.weight_dtype, *self.spectra.tensors(), *banks)

    def named_banks(self) -> dict[str, Bank]:
        """Banks by name."""
        return dict(self.banks.items())  # type: ignore[arg-type]

    def _build_cores(self, weight_dtype: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """For each group of the layout the stacks of its cores; a left group's values follow them."""
        remaining = iter(tensors)
        with _full_precision(weight_dtype):
            spectra = self.spectra.materialize(*islice(remaining, len(self.spectra.tensors())))
            values = iter(spectra.split([len(group.layers) for group in self.layout.left_groups]))
            frames = {
                name: bank.materialize(*islice(remaining, len(bank.tensors())))
                for name, bank in self.named_banks().items()
            }
        cores = self.layout.unpack(frames, FRAMES[self.frames].key)
        stacks: list[Tensor] = []
        for group, own in zip(self.layout.groups, cores, strict=True):
            stacks += own
            if group.train.side == "left":
                stacks.append(next(values)[:, : group.train.rank])
        return tuple(stacks)

    def _by_group(self, stacks: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
        for reusable in (*self._frames, *self._rows, *self._weights):
            reusable.clear()
        remaining = iter(stacks)
        return [tuple(islice(remaining, len(g.train.cores) + (g.train.side == "left"))) for g in self.layout.groups]

    def _build_frames(self, train: Train, *inputs: Tensor) -> tuple[Tensor]:
        """Contract a group's trains; those of U with s, too."""
        with _full_precision(self.weight_dtype):
            if train.side == "right":
                frames = contract(train, inputs, like=self.weight_dtype)
            else:
                *cores, values = inputs
                frames = contract(train, cores, like=values) * values.unsqueeze(1)
        return (frames.to(self.weight_dtype.dtype),)

    def _pair_alone(self, layer: int) -> tuple[Tensor, Tensor]:
        """Compute one layer without the others, for compilers, which cannot see what several calls share."""
        ends = []
        for group, row in (self.layout.left_of[layer], self.layout.right_of[layer]):
            train = self.layout.groups[group].train
            inputs = [core.unsqueeze(0) for core in self._cores_alone(group, row)]
            if train.side == "left":
                inputs.append(self._values_alone(layer).unsqueeze(0))
            ends.append(self._build_frames(train, *inputs)[0][0])
        return ends[0], ends[1]

    def _cores_alone(self, group: int, row: int) -> list[Tensor]:
        at = (self._first_row[group, c] for c in range(len(self.layout.groups[group].train.cores)))
        with _full_precision(self.weight_dtype):
            return [self.named_banks()[name].select(first + row)[0] for name, first in at]

    def _values_alone(self, layer: int) -> Tensor:
        with _full_precision(self.weight_dtype):
            values = self.spectra.materialize(*self.spectra.tensors())
        return values[self.layout.order.index(layer), : self.shapes[layer].rank]

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
        # Banks to cores, cores to frames, frames to weights; each stage runs when it is first asked for.
        self._cores = Reusable(self._build_cores, self._by_group)
        self._frames = [Reusable(partial(self._build_frames, g.train), _with_rows) for g in self.layout.groups]
        self._rows = [Reusable(_as_they_are, _rows) for _ in self.layout.groups]
        self._weights = [Reusable(_multiply(pairing)) for pairing in self.layout.pairings]

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
        return {k: v for k, v in self.__dict__.items() if k not in CACHES}

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


def _multiply(pairing: Pairing) -> Callable[[Tensor, Tensor], tuple[Tensor, ...]]:
    def multiply(left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        with _full_precision(left):
            return products(left[pairing.left_rows], right[pairing.right_rows])

    return multiply


def _as_they_are(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tensors


def _rows(stacks: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
    """Layers of each stack, by one `unbind`: its backward is one `stack`, where a row's alone fills the whole stack."""
    return [stack.unbind() for stack in stacks]


def _with_rows(stacks: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    return stacks[0], stacks[0].unbind()


def _order_columns(values: Tensor, left: Tensor, right: Tensor) -> None:
    """Make values descending and non-negative, and the largest entry of each column of `left` positive; in place."""
    order = values.abs().argsort(descending=True, stable=True)
    left.copy_(left[:, order])
    right.copy_(torch.where(values < 0, -right, right)[:, order])
    values.copy_(values[order].abs())
    largest = left.gather(0, left.abs().argmax(0, keepdim=True))
    for frame in (left, right):
        frame.copy_(torch.where(largest < 0, -frame, frame))
