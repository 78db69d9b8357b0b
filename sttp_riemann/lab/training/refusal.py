"""Steps that would ruin a network: detected before anything changes, and skipped without a trace."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from sttp_riemann.optim.gradients import GradientError, check_gradients


class BadStepError(ArithmeticError):
    """A step whose loss or gradient is not finite; the message says which. No parameter and no moment has moved."""


def refuse_bad_step(model: nn.Module, optimizer: Optimizer, loss: float, accelerator: Accelerator) -> None:
    """Check a loss and its gradients before the optimizer's step; the same for every optimizer.

    Parameters
    ----------
    model : nn.Module
        The trained model, for the names of its parameters.
    optimizer : Optimizer
        With the gradients of all processes in its parameters.
    loss : float
        Loss of this process.
    accelerator : Accelerator
        Processes, and the loss scale of fp16, which handles its own overflows.

    Raises
    ------
    BadStepError
        The loss is not finite in some process, or a gradient holds NaN, infinite or huge values.
    """
    reasons = []
    if not _finite_everywhere(loss, accelerator):
        reasons.append(f"the loss is {loss}")
    if reasons or accelerator.scaler is None:
        try:
            check_gradients(optimizer.param_groups)
        except GradientError as error:
            name = next(name for name, p in model.named_parameters() if p is error.parameter)
            reasons.append(f"the gradient of {name} holds NaN, infinite or huge values")
    if reasons:
        raise BadStepError(", and ".join(reasons))


@contextmanager
def buffers_kept(models: Iterable[nn.Module], wanted: bool) -> Iterator[None]:
    """Restore buffers if a step is refused: running statistics, and the vectors of spectral normalization.

    Parameters
    ----------
    models : iterable of nn.Module
        The models that the step runs.
    wanted : bool
        Whether to do so; the copies cost time.
    """
    before = [(model, {name: b.clone() for name, b in model.named_buffers()}) for model in models if wanted]
    try:
        yield
    except BadStepError:
        with torch.no_grad():
            for model, values in before:
                for name, buffer in model.named_buffers():
                    buffer.copy_(values[name])
        raise


def not_finite(models: Mapping[str, nn.Module]) -> str | None:
    """Name the first parameter that holds NaN or infinite numbers, which too long steps produce.

    Parameters
    ----------
    models : mapping
        By name, which the result includes if there are several.

    Returns
    -------
    str or None
        None where all are finite.
    """
    for player, model in models.items():
        known = list(model.named_parameters())
        norms = torch.stack(torch._foreach_norm([p.detach() for _, p in known], math.inf))
        bad = norms.isfinite().logical_not().nonzero()
        if len(bad):
            name = known[int(bad[0])][0]
            return f"{name} in the {player}" if len(models) > 1 else name
    return None


def _finite_everywhere(loss: float, accelerator: Accelerator) -> bool:
    finite = math.isfinite(loss)
    if accelerator.num_processes == 1:
        return finite
    # Either all processes take the step, or none
    bad = torch.tensor(float(not finite), device=accelerator.device)
    return not bool(accelerator.reduce(bad, "sum"))
