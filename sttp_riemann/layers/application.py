"""How a layer is applied to its input: by building W, factor by factor, or core by core, whichever is cheapest."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import opt_einsum
from torch import Tensor

from sttp_riemann.trains.shape import LayerShape, Train

Application = Literal["auto", "weight", "factored", "train"]

# Multiply-adds in the time that one number takes to or from memory.
BALANCE = 16
# Multiply-adds in the time that starting a kernel takes.
LAUNCH = 200_000


@dataclass(frozen=True)
class Workload:
    """One call of a layer.

    Attributes
    ----------
    positions_in, positions_out : int
        Places (batch times space times groups) at which V, and then U, are applied.
    dense_positions : int
        Places at which W as a whole is applied.
    channels_in, channels_out : int
        Numbers read and written at each of these places.
    """

    positions_in: int
    positions_out: int
    dense_positions: int
    channels_in: int
    channels_out: int

    def outside(self) -> int:
        """Numbers read as input and written as output."""
        return self.positions_in * self.channels_in + self.positions_out * self.channels_out


def choose(
    shape: LayerShape, work: Workload, choices: Sequence[Application], costs: Costs | None = None
) -> Application:
    """The cheapest of several applications, by multiply-adds and memory traffic.

    Parameters
    ----------
    shape : LayerShape
        The layer.
    work : Workload
        The size of its input.
    choices : sequence of {"weight", "factored", "train"}
        The applications that the layer supports.
    costs : mapping, optional
        Their costs: `COSTS` by default, `ADAPTER_COSTS` beside a frozen weight.

    Returns
    -------
    {"weight", "factored", "train"}

    Notes
    -----
    Obukhov et al. 2021, Section 6, with memory traffic added. The backward pass scales all costs alike.
    """
    return min(choices, key=lambda choice: (COSTS if costs is None else costs)[choice](shape, work))


def weight_cost(shape: LayerShape, work: Workload) -> float:
    """Build both frames and W, apply W."""
    numbers = shape.d_out * shape.d_in
    build = shape.contraction_cost + numbers * shape.rank
    return build + work.dense_positions * numbers + BALANCE * (work.outside() + 2 * numbers)


def factored_cost(shape: LayerShape, work: Workload) -> float:
    """Build both frames, apply V, then U diag(s): a kernel more, as W of equal small layers is built in one call."""
    thin = shape.rank * (work.positions_in * shape.d_in + work.positions_out * shape.d_out)
    return shape.contraction_cost + thin + BALANCE * (work.outside() + 2 * shape.rank * work.positions_out) + LAUNCH


def train_cost(shape: LayerShape, work: Workload) -> float:
    """Contract the cores with the input in the cheapest order; one kernel per core, shared with no other layer."""
    if work.positions_in > shape.rank:
        return math.inf  # building the frames is then cheaper than applying the cores to every row
    plan = train_plan(shape, work.positions_in)
    kernels = len(shape.left.cores) + len(shape.right.cores)
    return plan.multiply_adds + BALANCE * (work.outside() + plan.intermediate) + LAUNCH * kernels


def adapter_weight_cost(shape: LayerShape, work: Workload) -> float:
    """Build the change of a frozen weight and add it; a third of a product for a gradient that is dense."""
    numbers = shape.d_out * shape.d_in
    build = shape.contraction_cost + numbers * shape.rank
    return build + work.dense_positions * numbers / 3 + BALANCE * 4 * numbers


def adapter_factored_cost(shape: LayerShape, work: Workload) -> float:
    """Build both frames, apply V, then U diag(s), and add the outputs to those of the frozen weight."""
    return factored_cost(shape, work) + BALANCE * work.positions_out * work.channels_out


Costs = Mapping[str, Callable[[LayerShape, Workload], float]]

COSTS: Costs = {
    "weight": weight_cost,
    "factored": factored_cost,
    "train": train_cost,
}

ADAPTER_COSTS: Costs = {
    "weight": adapter_weight_cost,
    "factored": adapter_factored_cost,
    "train": train_cost,
}
"""Costs beyond those of the frozen weight itself, which has no gradient."""


@dataclass(frozen=True)
class TrainPlan:
    """Contraction of an input with all cores of a layer, in the cheapest order that opt_einsum finds.

    Attributes
    ----------
    multiply_adds : float
        Its cost.
    intermediate : float
        Size of all intermediate results.
    expression : callable
        From the input (rows, one axis per mode), the left cores, s and the right cores to the output, in the same form.
    """

    multiply_adds: float
    intermediate: float
    expression: Callable[..., Tensor]


@lru_cache(maxsize=1024)
def train_plan(shape: LayerShape, rows: int) -> TrainPlan:
    """Plan the contraction of `rows` vectors with all cores; see `apply_train`."""
    symbols = map(opt_einsum.get_symbol, itertools.count())
    batch, spectrum = next(symbols), next(symbols)
    left, left_modes = _terms(shape.left, spectrum, symbols)
    right, right_modes = _terms(shape.right, spectrum, symbols)
    # The first mode of V's rows is next to the spectrum. A train without cores is the identity on the bond.
    equation = ",".join([batch + right_modes[::-1], *left, spectrum, *right]) + f"->{batch}{left_modes or spectrum}"
    sizes = [_input_size(shape, rows), *_core_sizes(shape.left), (shape.rank,), *_core_sizes(shape.right)]
    path, found = opt_einsum.contract_path(equation, *sizes, shapes=True)
    expression = opt_einsum.contract_expression(equation, *sizes, optimize=path)
    return TrainPlan(float(found.opt_cost) / 2, float(sum(found.size_list)), expression)


def apply_train(
    shape: LayerShape, input: Tensor, left: Sequence[Tensor], values: Tensor, right: Sequence[Tensor]
) -> Tensor:
    """Multiply by U diag(s) V^T without building U or V.

    Parameters
    ----------
    shape : LayerShape
        The layer.
    input : Tensor
        (rows, d_in).
    left, right : sequence of Tensor
        Matricized cores (rows, inner), from the outer end to the spectrum.
    values : Tensor
        (rank,).

    Returns
    -------
    Tensor
        (rows, d_out).
    """
    rows = input.shape[0]
    cores = [
        [matrix.reshape(size) for matrix, size in zip(own, _core_sizes(train), strict=True)]
        for own, train in ((left, shape.left), (right, shape.right))
    ]
    split = input.reshape(_input_size(shape, rows))
    return train_plan(shape, rows).expression(split, *cores[0], values, *cores[1]).reshape(rows, shape.d_out)


def _terms(train: Train, spectrum: str, symbols: Iterator[str]) -> tuple[list[str], str]:
    """Einsum term of each core in the shape of `_core_sizes`, and the modes from the outer end to the spectrum."""
    terms, modes, outer = [], "", ""
    for k in range(len(train.cores)):
        mode, inner = next(symbols), spectrum if k == len(train.cores) - 1 else next(symbols)
        terms.append((outer + mode if train.side == "left" else mode + outer) + inner)
        modes, outer = modes + mode, inner
    return terms, modes


def _core_sizes(train: Train) -> list[tuple[int, ...]]:
    """Shapes of the cores as tensors; the outermost is a matrix whose rows are one mode."""
    sizes: list[tuple[int, ...]] = [(core.rows, core.inner) for core in train.cores[:1]]
    for core in train.cores[1:]:
        rows = (core.outer, core.mode) if train.side == "left" else (core.mode, core.outer)
        sizes.append((*rows, core.inner))
    return sizes


def _input_size(shape: LayerShape, rows: int) -> tuple[int, ...]:
    cores = shape.right.cores
    return (rows, *(core.mode for core in cores[:0:-1]), cores[0].rows)
