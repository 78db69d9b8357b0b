"""Measures of a reparameterized model: singular values, penalties on them, orthogonality error."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sttp_riemann.checks import check_choice, check_kind
from sttp_riemann.layers import SpectralLayer
from sttp_riemann.model.pivots import chart_margin_of
from sttp_riemann.model.weights import distinct, frame_error, layer_values
from sttp_riemann.trains.spectrum import PENALTIES, spectrum_values


def singular_values(model: nn.Module) -> dict[str, Tensor]:
    """Singular values of every reparameterized layer.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model.

    Returns
    -------
    dict[str, Tensor]
        Layer name to values (rank,), non-negative and descending, detached. If frames are off their manifold, the
        values are computed from W.

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
    return {name: layer_values(layer) for name, layer in spectral_layers(model).items()}


def spectral_penalty(model: nn.Module, kind: str = "d_optimal") -> Tensor:
    """Penalty that spreads the singular values of a learned or free spectrum.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model.
    kind : {"d_optimal", "divergence", "half_normal"}
        A row of `PENALTIES`: mean of -log s over all layers' values; the divergence of the code released with the
        paper; or that from a half-normal density, which also spreads equal values.

    Returns
    -------
    Tensor
        Scalar, differentiable.

    Raises
    ------
    ValueError
        If the kind is unknown, the spectrum is the identity, the model has no reparameterized layer, or for
        "divergence" none of a rank above 1.

    Notes
    -----
    Obukhov et al. 2021, Section 4, D-optimal in Eq. (10); Jiang et al. 2019.

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
    stacks: dict[tuple[str, int, torch.device, torch.dtype], list[SpectralLayer]] = {}
    for name, layer in distinct(spectral_layers(model)).items():
        if layer.spectrum is None:
            raise ValueError(
                f"layer {name!r}: an identity spectrum has nothing to penalize; reparameterize with spectrum='learned'"
            )
        key = (layer.spectrum_kind, layer.rank, layer.spectrum.device, layer.spectrum.dtype)
        stacks.setdefault(key, []).append(layer)
    values: list[Tensor] = []
    bounds: list[float] = []
    for (spectrum, *_), layers in stacks.items():
        own = [layer.bound for layer in layers]
        stored = torch.stack([layer.spectrum for layer in layers])  # type: ignore[misc]
        values += spectrum_values(spectrum, stored, stored.new_tensor(own).unsqueeze(1)).unbind()  # type: ignore[arg-type]
        bounds += own
    return PENALTIES[kind](values, values[0].new_tensor(bounds))


def orthogonality_error(model: nn.Module) -> float:
    """Largest entry of abs(X^T X - I) over all cores X.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model.

    Returns
    -------
    float
        Computed in float64; of the order of the rounding error of the cores' dtype.

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
    return max(frame_error(layer) for layer in spectral_layers(model).values())


def chart_margin(model: nn.Module) -> float:
    """Smallest singular value of the leading blocks of all frames in St_U: how near a chart is to where it folds.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model. Riemannian frames have no chart: what is told is that of the Householder frames which
        they would become.

    Returns
    -------
    float
        From 0, where Householder frames get stuck, to 1; 1 where no frame is in St_U.

    Raises
    ------
    TypeError
        If the model is no module.
    ValueError
        If the model has no reparameterized layer.

    Notes
    -----
    Where a leading block is singular, the differential from reflectors to W loses rank. `gauge_fix` lets other rows
    lead where the margin is low.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(64, 32), rank=4, init="orthogonal", frames="householder")
    >>> sr.chart_margin(model) > 0.1
    True
    """
    return min(chart_margin_of(layer) for layer in spectral_layers(model).values())


def spectral_layers(model: nn.Module, name: str = "model") -> dict[str, SpectralLayer]:
    """Reparameterized layers by name.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model.
    name : str
        Name of the argument, for the message.

    Returns
    -------
    dict[str, SpectralLayer]
        In the order of the model.

    Raises
    ------
    TypeError
        It is not a module.
    ValueError
        There is none.
    """
    check_kind(name, model, nn.Module, "a torch.nn.Module")
    layers = {own: layer for own, layer in model.named_modules() if isinstance(layer, SpectralLayer)}
    if not layers:
        raise ValueError(f"the {name} has no reparameterized layer; call reparameterize first")
    return layers


def finite_layers(model: nn.Module) -> dict[str, SpectralLayer]:
    """Reparameterized layers by name, after checking that frames and spectra are finite.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model.

    Returns
    -------
    dict[str, SpectralLayer]
        As `spectral_layers` returns them.

    Raises
    ------
    TypeError
        It is not a module.
    ValueError
        There is none, or one holds NaN or infinite values.
    """
    layers = spectral_layers(model)
    for name, layer in layers.items():
        for tensor in layer.factor_tensors():
            if tensor is not None and not torch.isfinite(tensor).all():
                raise ValueError(
                    f"a frame or the spectrum of layer {name!r} of the model holds NaN or infinite values; load a "
                    "state from before"
                )
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
        By layer name; passed to `reparameterize` as `rank`, it gives the same shapes. Empty for a dense model.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, SpectralLayer)}
    return {name: max(layer.shape.ranks) for name, layer in layers.items()}
