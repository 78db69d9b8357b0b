"""A running average of a network's weights over training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import geoopt
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

# Where an average's state has the network's own
AVERAGED = "_averaged.module"


class Average(nn.Module):
    """Exponential moving average of a network; frames are averaged and brought back to their manifold.

    Parameters
    ----------
    model : nn.Module
        The network; copied.
    decay : float
        Weight of the average so far at each update.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self._averaged = AveragedModel(model, multi_avg_fn=_blend(decay), use_buffers=True)
        self._averaged.requires_grad_(False)

    @property
    def model(self) -> nn.Module:
        """The averaged network."""
        model: nn.Module = self._averaged.module
        return model

    def twins(self, model: nn.Module) -> dict[Tensor, tuple[Tensor]]:
        """For each parameter of the network its average, which must take part in whatever gauge that is put into."""
        return {own: (twin,) for own, twin in zip(model.parameters(), self.model.parameters(), strict=True)}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take a network's present weights into the average."""
        self._averaged.update_parameters(model)
        for point in self.model.parameters():
            if isinstance(point, geoopt.ManifoldParameter):
                point.copy_(point.manifold.projx(point))


def _blend(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]:
    def blend(averages: Sequence[Tensor], values: Sequence[Tensor], count: Any) -> None:
        for average, value in zip(averages, values, strict=True):
            # torch's own blend rounds whole numbers down, which are counts or indices
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)

    return blend
