"""Singular values scaled so that layers keep their bounds as operators, as an autograd node of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from sttp_riemann.frames.frame import full_precision, wide_dtype
from sttp_riemann.trains.operators import TRAINING, Sampled, peaks, sample, squared
from sttp_riemann.trains.places import Places
from sttp_riemann.trains.shape import LayerShape
from sttp_riemann.trains.start import LayerCores

STACKED = 2**20
"""Numbers up to which the kernels of equal layers are looked at together."""


class Bounded(Protocol):
    """What is needed of a layer."""

    @property
    def operator(self) -> Places | None:
        """The convolution whose norm is bounded, if any."""
        ...

    @property
    def bound(self) -> float:
        """Of the norm."""
        ...


def kernel(left: Tensor, right: Tensor, places: Places) -> Tensor:
    """The smallest kernel whose operator has the norm of that of W.

    Parameters
    ----------
    left : Tensor
        (d_out, rank): U diag(s) with orthonormal U.
    right : Tensor
        (d_in, rank): V.
    places : Places
        Of the convolution.

    Returns
    -------
    Tensor
        (1, groups, channels out, channels in, taps), in float32 or above.

    Notes
    -----
    U acts on the channels of one place after everything else (of a transposed convolution: its transpose does, before
    everything else of the adjoint), and is an isometry. So rank channels take the place of those of the output. Only
    where each group writes through rows of its own does U stay.
    """
    wide = wide_dtype(left.dtype)
    left, right = left.to(wide), right.to(wide)
    if places.groups > 1 and not places.transposed:
        matrix = left @ right.mT
        return matrix.view(1, places.groups, left.shape[0] // places.groups, -1, *places.kernel)
    scaled = right * torch.linalg.vector_norm(left, dim=0)
    if places.transposed:
        split = scaled.view(places.groups, -1, *places.kernel, right.shape[1])
        return split.movedim(-1, 2).unsqueeze(0)
    return scaled.mT.reshape(1, 1, right.shape[1], -1, *places.kernel)


def factor(left: Tensor, right: Tensor, places: Places, bound: float) -> Tensor:
    """What singular values have to be multiplied by, so that the norm of the operator is at most its bound.

    Parameters
    ----------
    left, right, places
        As `kernel` takes them.
    bound : float
        Of the norm.

    Returns
    -------
    Tensor
        Scalar, differentiable.
    """
    sampled = sample(kernel(left, right, places), places, TRAINING)
    return _factor(sampled, *peaks(sampled, TRAINING.squarings), bound).to(left.dtype)


@torch.no_grad()
def initial_norm(shape: LayerShape, cores: LayerCores, places: Places) -> float:
    """The bound that leaves W as it is.

    Parameters
    ----------
    shape : LayerShape
        Of the layer.
    cores : LayerCores
        Its cores, and the singular values of W.
    places : Places
        Of the convolution.

    Returns
    -------
    float
    """
    left, right = cores.contracted(shape)
    return 1 / float(factor(left * cores.spectrum, right, places, 1.0))


def bound_operators(layers: Sequence[Bounded], pairs: list[list[Tensor]]) -> None:
    """Scale what was built of layers that are bounded as operators, in place of what it was.

    Parameters
    ----------
    layers : sequence of Bounded
        Some layers.
    pairs : list of list of Tensor
        ``U diag(s)`` and V of each; replaced in the list.
    """
    alike: dict[Any, list[int]] = {}
    for i, (layer, (left, right)) in enumerate(zip(layers, pairs, strict=True)):
        if (places := layer.operator) is not None:
            own = i if right.numel() > STACKED else None
            alike.setdefault((places, left.shape, right.shape, right.dtype, right.device, own), []).append(i)
    for (places, *_), members in alike.items():
        with torch.no_grad(), full_precision(pairs[members[0]][1].device):
            kernels = torch.cat([kernel(pairs[i][0], pairs[i][1], places) for i in members])
            values, where = peaks(sample(kernels, places, TRAINING), TRAINING.squarings)
        for k, i in enumerate(members):
            given = places, layers[i].bound, values[k : k + 1], where[k : k + 1]
            pairs[i] = [_Scaled.apply(*pairs[i], *given), pairs[i][1]]


def _factor(sampled: Sampled, values: Tensor, where: Tensor, bound: float) -> Tensor:
    found = squared(sampled, values, where, TRAINING.squarings)[0]
    # Zeros stay zeros
    return bound / found.where(found > torch.finfo(found.dtype).tiny, 1.0).sqrt()


def _scaled(left: Tensor, right: Tensor, places: Places, bound: float, values: Tensor, where: Tensor) -> Tensor:
    with full_precision(left.device):
        sampled = sample(kernel(left, right, places), places, TRAINING)
        scale = _factor(sampled, values, where, bound)
        return (left.to(wide_dtype(left.dtype)) * scale.to(wide_dtype(left.dtype))).to(left.dtype)


class _Scaled(torch.autograd.Function):
    """Supports repeated backward passes, as what it scales does, and derivatives of its own derivative."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, *given: Any) -> Tensor:
        # Not save_for_backward: the first backward would free it
        ctx.factors, ctx.given = (left, right), given
        return _scaled(left, right, *given)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        again = torch.is_grad_enabled()  # create_graph=True
        factors = ctx.factors if again else [t.detach().requires_grad_() for t in ctx.factors]
        with torch.enable_grad():
            wanted = [t for t, need in zip(factors, ctx.needs_input_grad, strict=False) if need]
            out = _scaled(*factors, *ctx.given)
        found = iter(torch.autograd.grad(out, wanted, grad, create_graph=again))
        return *(next(found) if need else None for need in ctx.needs_input_grad[:2]), None, None, None, None
