"""Weights that outlive a forward, for serving: built once, and never used where they might be stale."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import nn

from sttp_riemann.batch.cached import KEEPER, Places, owners, places_of
from sttp_riemann.checks import check_kind
from sttp_riemann.compat import PLAIN


class Frozen:
    """The kept weights of a model; see `frozen`.

    Parameters
    ----------
    model : nn.Module
        In evaluation.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._build()

    def _build(self) -> None:
        self._seen = _state(self._model)
        self._places = places_of(self._model)
        # What is built in inference mode could not serve other forwards
        with torch.inference_mode(False), torch.no_grad():
            for part, i in self._places.values():
                part.get(i, "pairs")

    def places(self) -> Places | None:
        """Where the weights are; None in a differentiable forward, or one of a model in training, which ends all."""
        if self._model.training or torch.is_grad_enabled():
            self.release()
            return None
        if _state(self._model) != self._seen:
            self._build()
        return self._places

    def release(self) -> None:
        """Give the weights up: later forwards build their own."""
        if self._model.__dict__.get(KEEPER) is self:
            del self._model.__dict__[KEEPER]

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles of the model keep nothing
        return type(None), ()

    def __enter__(self) -> Frozen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def frozen(model: nn.Module) -> Frozen:
    """Keep the weights of a model in evaluation for all its forwards, on all threads, until told otherwise.

    A forward then costs what two thin layers cost, without a copy of the model as `decompress` makes one.

    Parameters
    ----------
    model : nn.Module
        What was given to `reparameterize`, in evaluation. Forwards of its parts alone build their own weights.

    Returns
    -------
    Frozen
        Gives the weights up when `release` is called, or at the end of a ``with``.

    Raises
    ------
    TypeError
        `model` is not a module.
    ValueError
        The model is in training, has no reparameterized layer, or its frames are sharded.

    Notes
    -----
    The weights are used without gradients only (`torch.no_grad`, `torch.inference_mode`). A differentiable forward, or
    one in training, gives them up, since an optimizer may follow. Parameters that were loaded, moved, cast, replaced or
    written in place are noticed, and the weights built anew. Only a write past autograd (``parameter.data.add_()``,
    collectives) is not: call `frozen` again.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Sequential(torch.nn.Linear(64, 32)), rank=4).eval()
    >>> inputs = torch.randn(8, 64)
    >>> with torch.no_grad(), sr.frozen(model):
    ...     outputs = [model(inputs) for _ in range(3)]
    >>> torch.equal(outputs[0], outputs[2])
    True
    """
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    if model.training:
        raise ValueError("the model is in training, where weights change: call model.eval() before sr.frozen")
    layers = owners(model)
    if not layers:
        raise ValueError("the model has no reparameterized layer, so there is nothing to keep")
    if not all(PLAIN.issuperset(map(type, layer.factor_tensors())) for layer in layers):
        raise ValueError("the model's frames are sharded: gather them before sr.frozen")
    # Not setattr: a module on its own must not take it for a part
    model.__dict__[KEEPER] = kept = Frozen(model)
    return kept


def _state(model: nn.Module) -> list[Any]:
    """What tells that weights have changed: which tensors they come from, and how often those were written to."""
    return [
        (
            layer.member(),
            [
                None if t is None else (id(t), t.data_ptr(), 0 if t.is_inference() else t._version)
                for t in layer.factor_tensors()
            ],
        )
        for layer in owners(model)
    ]
