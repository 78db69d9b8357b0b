"""Callback for the Trainer of transformers."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback
from typing_extensions import override

from sttp_riemann.callbacks.common import INTERVAL, GaugeFixing, figures
from sttp_riemann.checks import check_optimizer, check_whole
from sttp_riemann.model.gauge import MARGIN
from sttp_riemann.model.measures import spectral_layers


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
        After the first step: the gauge is to be fixed, and the optimizer treats entries of a frame one by one, as the
        Trainer's own does.

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
        self.gauge = GaugeFixing(gauge_fix_every, margin)
        self.log_every = None if log_every is None else check_whole("log_every", log_every, INTERVAL, least=0)

    @override
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Runs after an optimizer step."""
        step, model = state.global_step, self.trainer.model
        self.gauge.after(step - 1, step, model, [check_optimizer(kwargs["optimizer"])])
        # The Trainer writes intervals below 1 as shares of the run, and has resolved them here
        every = int(state.logging_steps) if self.log_every is None else self.log_every
        if every and step % every == 0:
            self.trainer.log(figures(model))
