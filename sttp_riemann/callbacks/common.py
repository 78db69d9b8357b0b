"""What the callbacks of all trainers do: fix the gauge at intervals, and measure frames and spectra."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.optim import Optimizer

from sttp_riemann.checks import check_number, check_whole
from sttp_riemann.frames.momentum import momentum_of
from sttp_riemann.model.gauge import MARGIN, gauge_fix
from sttp_riemann.model.measures import chart_margin, orthogonality_error, singular_values, spectral_layers

INTERVAL = "a number of steps, 0 for never"


class GaugeFixing:
    """Gauge fixing after every so many steps of a trainer.

    Parameters
    ----------
    every : int
        Optimizer steps from one gauge fixing to the next; 0 for never.
    margin : float
        As `gauge_fix` takes it.

    Raises
    ------
    ValueError
        The interval is not a whole number, or the margin is not between 0 and 1.
    """

    def __init__(self, every: int, margin: float = MARGIN) -> None:
        self.every = check_whole("gauge_fix_every", every, INTERVAL, least=0)
        self.margin = check_number("margin", margin, "a number from 0 to 1", least=0, most=1)
        self._checked = False

    def after(
        self,
        before: int,
        steps: int,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        average: nn.Module | None = None,
    ) -> None:
        """Fix the gauge if it is time.

        Parameters
        ----------
        before, steps : int
            Steps that were taken when this was called last, and now.
        model : nn.Module
            A reparameterized model.
        optimizers : sequence of Optimizer
            All that train it.
        average : nn.Module, optional
            As `gauge_fix` takes it.

        Raises
        ------
        ValueError
            An optimizer treats entries of a frame one by one; told after the first step.
        """
        if not self.every:
            return
        if not self._checked:
            _check_optimizers(model, optimizers)
            self._checked = True
        if steps // self.every > before // self.every:
            gauge_fix(model, optimizers, average, self.margin)


def figures(model: nn.Module) -> dict[str, float]:
    """What is logged of a model.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model.

    Returns
    -------
    dict of str to float
        ``spectral/orthogonality_error``, ``spectral/chart_margin``, and ``spectral/largest_singular_value`` and
        ``spectral/smallest_singular_value`` over all layers.
    """
    values = list(singular_values(model).values())
    found = {
        "orthogonality_error": orthogonality_error(model),
        "chart_margin": chart_margin(model),
        "largest_singular_value": max(float(own.max()) for own in values),
        "smallest_singular_value": min(float(own.min()) for own in values),
    }
    return {f"spectral/{name}": value for name, value in found.items()}


def _check_optimizers(model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
    """Refuse now what `gauge_fix` would refuse at the end of the first interval."""
    for layer in spectral_layers(model).values():
        for frames in (layer.left, layer.right):
            for point in frames.parameters() if frames.direct else ():
                for optimizer in optimizers:
                    momentum_of(optimizer)(point)
