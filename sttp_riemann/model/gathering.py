"""Gradients of built weights, which say where ranks are to grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from sttp_riemann.frames.frame import wide_dtype
from sttp_riemann.layers import SpectralLayer
from sttp_riemann.model.measures import spectral_layers


@contextmanager
def weight_gradients(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Gather dL/dW of every reparameterized layer, summed over all backward passes inside the context.

    Cores have gradients as well, as always. Layers build W in the context, since the gradient is that of W; it takes
    the memory and the time of a dense layer.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model.

    Yields
    ------
    dict[str, Tensor]
        Layer name to (d_out, d_in), in float32 or above; filled by each backward. Of layers that share a weight, the
        first has the gradient. Frozen and unused layers have none, nor have layers inside `torch.compile`.

    Raises
    ------
    TypeError
        The model is not a module.
    ValueError
        It has no reparameterized layer.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Sequential(torch.nn.Linear(16, 8)), rank=2)
    >>> inputs = torch.randn(4, 16)
    >>> with sr.weight_gradients(model) as gradients:
    ...     model(inputs).sum().backward()
    >>> torch.allclose(gradients["0"], inputs.sum(0).expand(8, 16), atol=1e-5)
    True
    """
    groups = grouped_layers(model)
    found: dict[str, Tensor] = {}
    layers = [twin for twins in groups.values() for twin in twins]
    before = [layer.application for layer in layers]
    handles = []
    for name, twins in groups.items():
        for layer in twins:
            layer.application = "weight"
            handles.append(layer.hook_weight(layer._empty_matrix(), _adding(found, name, layer)))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
        for layer, application in zip(layers, before, strict=True):
            layer.application = application


def grouped_layers(model: nn.Module) -> dict[str, Sequence[SpectralLayer]]:
    """Reparameterized layers, those that share a weight together under the first name.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model.

    Returns
    -------
    dict[str, sequence of SpectralLayer]

    Raises
    ------
    TypeError
        The model is not a module.
    ValueError
        It has no reparameterized layer.
    """
    first: dict[int, str] = {}
    found: dict[str, list[SpectralLayer]] = {}
    for name, layer in spectral_layers(model).items():
        found.setdefault(first.setdefault(id(layer.left), name), []).append(layer)
    return dict(found)


def _adding(found: dict[str, Tensor], name: str, layer: SpectralLayer) -> Callable[[Tensor], None]:
    def add(gradient: Tensor) -> None:
        matrix = layer.to_matrix(gradient.detach())
        wide = matrix.to(wide_dtype(matrix.dtype), copy=True)
        found[name] = found[name] + wide if name in found else wide

    return add
