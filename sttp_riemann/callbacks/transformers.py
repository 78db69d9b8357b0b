"""Callback for the Trainer of transformers."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from transformers import TrainerCallback
from typing_extensions import override

from sttp_riemann.checks import check_number, check_whole
from sttp_riemann.model.gauge import MARGIN, gauge_fix
from sttp_riemann.model.measures import chart_margin, orthogonality_error, singular_values, spectral_layers

_INTERVAL = "a number of steps, 0 for never"


class SpectralCallback(TrainerCallback):  # type: ignore[misc]
    """Fix the gauge while a Trainer trains, and log the state of the frames and of the spectra.

    What it logs has the names ``spectral/orthogonality_error``, ``spectral/chart_margin``, and
    ``spectral/largest_singular_value`` and ``spectral/smallest_singular_value`` over all layers. It goes
    where the Trainer's own figures go.

    Parameters
    ----------
    trainer : transformers.Trainer
        The trainer that it is added to; its model is reparameterized.
    gauge_fix_every : int
        Optimizer steps from one gauge fixing to the next; 0 for never.
    log_every : int, optional
        Optimizer steps from one log to the next, 0 for never; None for the trainer's ``logging_steps``.
    margin : float
        As `gauge_fix` takes it.

    Raises
    ------
    ValueError
        The model has no reparameterized layer, an interval is not a whole number, or the margin is not between 0 and 1.

    Examples
    --------
    >>> from sttp_riemann.callbacks.transformers import SpectralCallback  # doctest: +SKIP
    >>> trainer.add_callback(SpectralCallback(trainer, gauge_fix_every=50))  # doctest: +SKIP
    """

    def __init__(
        self, trainer: Any, gauge_fix_every: int = 100, log_every: int | None = None, margin: float = MARGIN
    ) -> None:
        spectral_layers(trainer.model)
        self.trainer = trainer
        self.gauge_fix_every = check_whole("gauge_fix_every", gauge_fix_every, _INTERVAL, least=0)
        self.log_every = None if log_every is None else check_whole("log_every", log_every, _INTERVAL, least=0)
        self.margin = check_number("margin", margin, "a number from 0 to 1", least=0, most=1)

    @override
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Runs after an optimizer step."""
        if self.gauge_fix_every and state.global_step % self.gauge_fix_every == 0:
            gauge_fix(self.trainer.model, _plain(kwargs["optimizer"]), margin=self.margin)
        # The Trainer writes intervals below 1 as shares of the run, and has resolved them here
        every = int(state.logging_steps) if self.log_every is None else self.log_every
        if every and state.global_step % every == 0:
            self.trainer.log(_figures(self.trainer.model))


def _plain(optimizer: Any) -> Optimizer:
    """The optimizer that accelerate has wrapped."""
    return getattr(optimizer, "optimizer", optimizer)  # type: ignore[no-any-return]


def _figures(model: Any) -> dict[str, float]:
    values = list(singular_values(model).values())
    found = {
        "orthogonality_error": orthogonality_error(model),
        "chart_margin": chart_margin(model),
        "largest_singular_value": max(float(own.max()) for own in values),
        "smallest_singular_value": min(float(own.min()) for own in values),
    }
    return {f"spectral/{name}": value for name, value in found.items()}
