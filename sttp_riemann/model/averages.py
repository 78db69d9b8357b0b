"""A running average of a network's weights that stays on the manifold."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from typing_extensions import override

from sttp_riemann.checks import check_kind, check_number
from sttp_riemann.frames.polar import nearest_frame
from sttp_riemann.layers import SpectralLayer
from sttp_riemann.model.measures import finite_layers, spectral_layers
from sttp_riemann.model.pivots import follow
from sttp_riemann.model.weights import distinct


class Averaged(AveragedModel):
    """Exponential moving average of a network, like torch's `AveragedModel`, whose frames stay orthonormal.

    Parameters
    ----------
    model : nn.Module
        The network; copied.
    decay : float
        Weight of the previous average at each update.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, multi_avg_fn=_blend(decay), use_buffers=True)
        self.requires_grad_(False)

    @override
    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Update the average with the network's present weights.

        Raises
        ------
        TypeError
            `model` is not a module.
        ValueError
            `model` is a different network, or a frame or spectrum of it is not finite. The average is as it was then.
        """
        check_kind("model", model, nn.Module, "a torch.nn.Module")
        if _shapes(model) != _shapes(self.module):
            raise ValueError("model is not the network being averaged: its parameters or buffers differ")
        if _layers(model):
            finite_layers(model)
        for layer, own in zip(_layers(model), _layers(self.module), strict=True):
            follow(layer, own)
        super().update_parameters(model)
        for layer in _layers(self.module):
            for frames in (layer.left, layer.right):
                for k in range(len(frames) if frames.direct else 0):
                    (point,) = frames.tensors(k)
                    point.copy_(nearest_frame(point.detach().as_subclass(Tensor)))

    update = update_parameters


def averaged(model: nn.Module, decay: float = 0.999) -> Averaged:
    """Start an exponential moving average of a network.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model; copied.
    decay : float
        Weight, in [0, 1), of the previous average at each update.

    Returns
    -------
    Averaged
        The average, which can be called like the network: ``update(model)`` updates it, ``module`` is the
        averaged network. If the gauge is fixed during training, pass it to `gauge_fix` to keep both in the same gauge.

    Raises
    ------
    TypeError
        `model` is not a module.
    ValueError
        The decay is out of range, or the model has no reparameterized layer.

    Notes
    -----
    Frames are averaged entry by entry and projected to the nearest frame, a retraction of the mean (Absil et al. 2008,
    Section 4.1).

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(16, 8), rank=4, init="orthogonal")
    >>> average = sr.averaged(model, decay=0.9)
    >>> optimizer = sr.RiemannianSGD(model.parameters(), lr=0.1)
    >>> for _ in range(3):
    ...     optimizer.zero_grad()
    ...     model(torch.eye(16)).square().sum().backward()
    ...     optimizer.step()
    ...     average.update(model)
    >>> sr.orthogonality_error(average.module) < 1e-6
    True
    """
    spectral_layers(model)
    return Averaged(model, check_number("decay", decay, "a number from 0 to below 1", least=0, below=1))


def _layers(model: nn.Module) -> list[SpectralLayer]:
    return list(distinct({name: m for name, m in model.named_modules() if isinstance(m, SpectralLayer)}).values())


def _shapes(model: nn.Module) -> list[torch.Size]:
    return [tensor.shape for tensor in itertools.chain(model.parameters(), model.buffers())]


def _blend(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]:
    def blend(averages: Sequence[Tensor], values: Sequence[Tensor], count: Any) -> None:
        for average, value in zip(averages, values, strict=True):
            # torch's own averaging rounds down integers, which are counts or indices
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), 1 - decay)
            else:
                average.copy_(value)

    return blend
