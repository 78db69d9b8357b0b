"""Callbacks for the Trainer of Lightning."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging, WeightAveraging
from torch import nn
from typing_extensions import override

from sttp_riemann.callbacks.common import GaugeFixing, figures
from sttp_riemann.checks import check_flag, check_number
from sttp_riemann.model.averages import averaged
from sttp_riemann.model.gauge import MARGIN
from sttp_riemann.model.measures import spectral_layers


class SpectralCallback(Callback):  # type: ignore[misc]
    """Fix the gauge while a Trainer trains, and log the state of the frames and of the spectra.

    What it logs has the names ``spectral/orthogonality_error``, ``spectral/chart_margin``, and
    ``spectral/largest_singular_value`` and ``spectral/smallest_singular_value`` over all layers. The module logs it, so
    it goes where the module's own figures go, and a callback may monitor it.

    Parameters
    ----------
    gauge_fix_every : int
        Optimizer steps from one gauge fixing to the next, as ``trainer.global_step`` counts them: those of several
        optimizers add up. 0 for never.
    log : bool
        Whether to log, as often as the trainer's ``log_every_n_steps`` says.
    margin : float
        As `gauge_fix` takes it.

    Raises
    ------
    ValueError
        An interval is not a whole number, or the margin is not between 0 and 1. When training starts: the module has no
        reparameterized layer, or a callback of Lightning averages frames as if they were plain numbers. After the
        first step: the gauge is to be fixed, and an optimizer treats entries of a frame one by one.

    Examples
    --------
    >>> from lightning.pytorch import Trainer  # doctest: +SKIP
    >>> from sttp_riemann.callbacks.lightning import SpectralCallback  # doctest: +SKIP
    >>> trainer = Trainer(callbacks=[SpectralCallback(gauge_fix_every=50)])  # doctest: +SKIP
    """

    def __init__(self, gauge_fix_every: int = 100, log: bool = True, margin: float = MARGIN) -> None:
        self.gauge = GaugeFixing(gauge_fix_every, margin)
        self.logs = check_flag("log", log)  # not `log`: Lightning gives every callback that method of the module
        self._steps = 0

    @override
    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Runs once everything is set up."""
        direct = any(layer.left.direct for layer in spectral_layers(pl_module).values())
        for other in trainer.callbacks if direct or self.gauge.every else ():
            plain = isinstance(other, WeightAveraging | StochasticWeightAveraging)
            if plain and not isinstance(other, FrameAveraging):
                raise ValueError(
                    f"{type(other).__name__} averages frames entry by entry and in different gauges: use "
                    "sttp_riemann.callbacks.lightning.FrameAveraging in its place"
                )

    @override
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Runs after a checkpoint was restored."""
        self._steps = trainer.global_step

    @override
    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        """Runs after a batch, and after an optimizer step unless gradients accumulate."""
        before, self._steps = self._steps, trainer.global_step
        if self._steps == before:
            return
        average = next((own.average for own in trainer.callbacks if isinstance(own, FrameAveraging)), None)
        self.gauge.after(before, self._steps, pl_module, trainer.optimizers, average)
        if self.logs and _is_logged(trainer, pl_module):
            pl_module.log_dict(figures(pl_module), on_step=True, on_epoch=False)


def _is_logged(trainer: Any, module: Any) -> bool:
    """Whether Lightning writes its figures after this batch, which has stepped."""
    # Lightning counts batches that stepped, whatever the number of optimizers
    count = trainer.global_step if module.automatic_optimization else trainer.fit_loop.total_batch_idx + 1
    every = trainer.log_every_n_steps
    return bool(every) and (count % every == 0 or trainer.should_stop)


class FrameAveraging(EMAWeightAveraging):  # type: ignore[misc]
    """Lightning's exponential moving average of weights, with frames that stay frames.

    Evaluations use the average, checkpoints hold it, and training ends with it, as with Lightning's own
    ``EMAWeightAveraging``. It is an average of `averaged`; `SpectralCallback` keeps it in the gauge of the module.

    Parameters
    ----------
    decay : float
        Weight, in [0, 1), of the previous average at each update.
    **options
        ``device``, ``update_every_n_steps``, ``update_starting_at_step`` and ``update_starting_at_epoch``, as Lightning
        takes them.

    Raises
    ------
    ValueError
        The decay is out of range. When training starts: the module has no reparameterized layer.

    Examples
    --------
    >>> from lightning.pytorch import Trainer  # doctest: +SKIP
    >>> from sttp_riemann.callbacks.lightning import FrameAveraging, SpectralCallback  # doctest: +SKIP
    >>> trainer = Trainer(callbacks=[SpectralCallback(), FrameAveraging(decay=0.99)])  # doctest: +SKIP
    """

    def __init__(self, decay: float = 0.999, **options: Any) -> None:
        self.decay = check_number("decay", decay, "a number from 0 to below 1", least=0, below=1)
        super().__init__(decay=self.decay, **options)

    @property
    def average(self) -> nn.Module | None:
        """The average, while it is kept."""
        return None if self._average_model is None else self._average_model.module

    @override
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Start an average that knows of frames in the place of torch's."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and self.average is not None:
            self._average_model = averaged(self.average, self.decay)
            # The module itself is cast later; an average of a narrower one stays wide
            if trainer.precision == "64-true":
                self._average_model.double()
