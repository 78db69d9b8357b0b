"""Look at a reparameterized model: its layers, singular values, penalties on them, orthogonality."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sttp_riemann.factors import SpectralFactors
from sttp_riemann.layers import SpectralLayer
from sttp_riemann.spectrum import PENALTIES


def singular_values(model: nn.Module) -> dict[str, Tensor]:
    """Singular values of every reparameterized layer.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model.

    Returns
    -------
    dict[str, Tensor]
        Layer name to values (rank,), non-negative and descending, detached.

    Raises
    ------
    ValueError
        If the model has no reparameterized layer.

    Notes
    -----
    Obukhov et al. 2021, Section 3: the values of the spectrum are those of W, up to sign and order.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Sequential(torch.nn.Linear(64, 32)), rank=4)
    >>> {name: [round(float(s), 4) for s in values] for name, values in sr.singular_values(model).items()}
    {'0': [1.0, 1.0, 1.0, 1.0]}
    """
    values = {id(f): _values_by_layer(f) for f in all_factors(model)}
    return {
        name: values[id(layer.factors)][layer.index].detach().abs().sort(descending=True).values
        for name, layer in spectral_layers(model).items()
    }


def spectral_penalty(model: nn.Module, kind: str = "d_optimal") -> Tensor:
    """Penalty that spreads the singular values of a learned or free spectrum.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model.
    kind : {"d_optimal", "divergence"}
        Mean of -log s over all layers' values, or divergence from a half-normal spectrum.

    Returns
    -------
    Tensor
        Scalar, differentiable.

    Raises
    ------
    ValueError
        If the kind is unknown, the spectrum is the identity, or the model has no reparameterized layer.

    Notes
    -----
    Obukhov et al. 2021, Section 4; Jiang et al. 2019.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(64, 32), rank=4)
    >>> penalty = sr.spectral_penalty(model)
    >>> penalty.backward()
    >>> penalty.abs().item()
    0.0
    >>> sr.spectral_penalty(model, "divergence").item() > 0
    True
    """
    check_choice("kind", kind, tuple(PENALTIES))
    found = all_factors(model)
    if any(f.spectra.kind == "identity" for f in found):
        raise ValueError("an identity spectrum has nothing to penalize; reparameterize with spectrum='learned'")
    values = [v for f in found for v in f.spectra.values()]
    return PENALTIES[kind](values, torch.cat([f.spectra.bound for f in found]))


def orthogonality_error(model: nn.Module) -> float:
    """Largest entry of abs(X^T X - I) over all cores X.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model.

    Returns
    -------
    float
        Computed in float64; about the rounding of the dtype that the cores are kept in.

    Raises
    ------
    ValueError
        If the model has no reparameterized layer.

    Notes
    -----
    The constraint of the Stiefel manifold (Absil et al. 2008, Section 3.3.2).

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(64, 32), rank=4)
    >>> sr.orthogonality_error(model) < 1e-6
    True
    """
    return max(factors.orthogonality_error() for factors in all_factors(model))


def spectral_layers(model: nn.Module) -> dict[str, SpectralLayer]:
    """Reparameterized layers by name.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model.

    Returns
    -------
    dict[str, SpectralLayer]
        In the order of the model.

    Raises
    ------
    ValueError
        If there is none.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, SpectralLayer)}
    if not layers:
        raise ValueError("the model has no reparameterized layer; call reparameterize first")
    return layers


def layer_ranks(model: nn.Module) -> dict[str, int]:
    """Rank of the widest bond of every layer.

    Parameters
    ----------
    model : nn.Module
        Any model.

    Returns
    -------
    dict[str, int]
        By layer name; as the `rank` that `reparameterize` takes, it gives the same shapes. Empty for a dense model.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, SpectralLayer)}
    return {name: max(layer.factors.shapes[layer.index].ranks) for name, layer in layers.items()}


def all_factors(model: nn.Module) -> list[SpectralFactors]:
    """Shared factors of a model's reparameterized layers, each once.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model.

    Returns
    -------
    list of SpectralFactors
        One for each call of `reparameterize` that the model's layers come from.

    Raises
    ------
    ValueError
        If the model has no reparameterized layer.
    """
    return list({id(layer.factors): layer.factors for layer in spectral_layers(model).values()}.values())


def _values_by_layer(factors: SpectralFactors) -> dict[int, Tensor]:
    return dict(zip(factors.layout.order, factors.spectra.values(), strict=True))


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse what is not one of the choices.

    Parameters
    ----------
    name : str
        Of the option, for the message.
    value : object
        As given.
    choices : sequence of str
        What it may be.

    Raises
    ------
    ValueError
        It is none of these; the message names them.
    """
    if value not in choices:
        raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(map(repr, choices))}")
