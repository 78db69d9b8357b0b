"""Fold adapters into the weights that they change, and take them out again."""

from __future__ import annotations

from torch import nn

from sttp_riemann.model.adaptation import adapted_layers


def merge(model: nn.Module) -> nn.Module:
    """Fold the adapters of a model into its weights, in place: it then answers at the cost of the dense model.

    Parameters
    ----------
    model : nn.Module
        A model with adapters. Those that are merged already stay so.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    TypeError
        `model` is not a module.
    ValueError
        It has no adapter.

    Notes
    -----
    W = W0 + scale * U diag(s) V^T is rounded once, from float32 or above. W0 moves to the memory of the host until
    `unmerge` brings it back bit for bit: on an accelerator a merged model takes the memory of the dense one and of the
    adapters, on the CPU that of the adapted weights once more. What changes in an adapter while it is merged has no
    effect before the next `merge`; the state that is saved is that of the model before. A merged layer refuses to train
    and to load a state. `decompress` makes a model that has neither adapters nor W0.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.adapt(torch.nn.Linear(64, 32), rank=4, start="pissa").eval()
    >>> inputs = torch.randn(8, 64)
    >>> before = model(inputs)
    >>> torch.allclose(sr.merge(model)(inputs), before, atol=1e-5)
    True
    >>> torch.equal(sr.unmerge(model)(inputs), before)
    True
    """
    wholes: dict[int, nn.Parameter] = {}
    for layer in adapted_layers(model).values():
        if layer.kept is None:
            # Layers that share an adapter share the merged weight
            if id(layer.left) not in wholes:
                wholes[id(layer.left)] = nn.Parameter(layer.dense_weight(), requires_grad=False)
            layer.merge(wholes[id(layer.left)])
    return model


def unmerge(model: nn.Module) -> nn.Module:
    """Undo `merge`, in place: the frozen weights come back bit for bit.

    Parameters
    ----------
    model : nn.Module
        A model with adapters. Those that are not merged stay so.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    TypeError
        `model` is not a module.
    ValueError
        It has no adapter.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> dense = torch.nn.Linear(64, 32)
    >>> before = dense.weight.detach().clone()
    >>> model = sr.unmerge(sr.merge(sr.adapt(dense, rank=4)))
    >>> torch.equal(model.base, before)
    True
    """
    for layer in adapted_layers(model).values():
        if layer.kept is not None:
            layer.unmerge()
    return model
