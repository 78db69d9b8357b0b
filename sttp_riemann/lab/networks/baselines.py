"""What earlier work holds a discriminator's weights with: spectral normalization and spectral regularization."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from sttp_riemann.model.selection import untied_layers
from sttp_riemann.model.weights import layer_kind, layer_values


def spectral_normalize(model: nn.Module, exclude: str | Sequence[str] = ()) -> nn.Module:
    """Divide every weight by its spectral norm, in place: torch's own `spectral_norm` with one power iteration.

    Parameters
    ----------
    model : nn.Module
        Linear layers, convolutions and embeddings are changed in place.
    exclude : str or sequence of str
        Layers to leave; as in `reparameterize`.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    ValueError
        There is no layer to change, or a name in `exclude` matches none.

    Notes
    -----
    Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks".

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.lab.networks.baselines import spectral_normalize
    >>> linear = spectral_normalize(torch.nn.Linear(64, 32))
    >>> for _ in range(100):
    ...     _ = linear(torch.randn(64))
    >>> round(float(torch.linalg.matrix_norm(linear.weight.detach(), 2)), 2)
    1.0
    """
    for layer in untied_layers(model, exclude):
        spectral_norm(layer)
    return model


def spectral_regularize(model: nn.Module, exclude: str | Sequence[str] = ()) -> nn.Module:
    """Hold every weight by `DynamicCompensation`, in place.

    Parameters
    ----------
    model : nn.Module
        Linear layers, convolutions and embeddings are changed in place.
    exclude : str or sequence of str
        Layers to leave; as in `reparameterize`.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    ValueError
        There is no layer to change, or a name in `exclude` matches none.

    Notes
    -----
    Liu et al. 2019, "Spectral Regularization for Combating Mode Collapse in GANs" (arXiv 1908.10999).

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.lab.networks.baselines import spectral_regularize
    >>> linear = spectral_regularize(torch.nn.Linear(64, 32))
    >>> round(float(torch.linalg.matrix_norm(linear.weight.detach(), 2)), 4)
    1.0
    """
    for layer in untied_layers(model, exclude):
        parametrize.register_parametrization(layer, "weight", DynamicCompensation(layer))
    return model


class DynamicCompensation(nn.Module):
    """Spectral regularization: divide by the largest singular value, and let no other fall in relation to it.

    The ratios of the singular values to the largest are remembered at their highest. Where a ratio falls below, the
    weight is compensated along its singular vectors up to the ratio remembered. The compensation is a constant to
    autograd, as singular vectors are in spectral normalization; the division is differentiated.

    Parameters
    ----------
    layer : nn.Module
        A linear layer, convolution or embedding. The ratios of its weight are the first to be remembered.

    Attributes
    ----------
    ratios : Tensor
        (min(d_out, d_in),), the highest ratios seen in training, descending.

    Notes
    -----
    Liu et al. 2019, "Spectral Regularization for Combating Mode Collapse in GANs" (arXiv 1908.10999), with dynamic
    compensation. The paper finds singular vectors by power iteration; here they are exact.
    """

    ratios: Tensor

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        kind = layer_kind(layer)
        assert kind is not None
        # Not the layer itself, which would become a module of its own parametrization
        self._matrix, self._weight = kind.to_matrix, partial(kind.from_matrix, layer)  # type: ignore[arg-type]
        values = layer_values(layer)
        self.register_buffer("ratios", values / _positive(values[0]))

    def forward(self, weight: Tensor) -> Tensor:
        """Compensate and normalize a weight.

        Parameters
        ----------
        weight : Tensor
            In the shape of the layer's weight.

        Returns
        -------
        Tensor
            Of the same shape, its largest singular value 1.
        """
        matrix = self._matrix(weight)
        with torch.no_grad():
            left, values, right = _svd(matrix)
            largest = _positive(values[0])
            if self.training:
                self.ratios.copy_(torch.maximum(self.ratios, values / largest))
            missing = (self.ratios * largest - values).clamp_min(0)
            compensation = (left * missing) @ right
        norm = left[:, 0] @ matrix @ right[0]
        return self._weight((matrix + compensation) / _positive(norm))


BASELINES: dict[str, Callable[..., nn.Module]] = {"sn": spectral_normalize, "sr": spectral_regularize}
"""Baselines by the name that recipes give them."""


def remove_baseline(model: nn.Module) -> nn.Module:
    """Copy a model with the weights that its baseline gives as plain parameters.

    Parameters
    ----------
    model : nn.Module
        Of any kind; stays as it is.

    Returns
    -------
    nn.Module
        A new model that computes in training what the old one computes in evaluation.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.lab.networks.baselines import remove_baseline, spectral_normalize
    >>> remove_baseline(spectral_normalize(torch.nn.Linear(64, 32)))
    Linear(in_features=64, out_features=32, bias=True)
    """
    # A parametrization in training mode moves its state when looked at
    plain = copy.deepcopy(model).eval()
    for layer in plain.modules():
        if parametrize.is_parametrized(layer, "weight"):
            weight = nn.Parameter(layer.weight.detach().clone())  # type: ignore[operator]
            # Torch's own removal takes the weight from the class, which copies share
            layer.__class__ = parametrize.type_before_parametrizations(layer)  # type: ignore[assignment]
            del layer._modules["parametrizations"]
            layer.weight = weight
    return plain


def _svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Thin singular value decomposition by the eigenvectors of the smaller Gram matrix.

    Small singular values lose half the digits, but with their vectors they make up the matrix as well as ever; and
    it is faster than LAPACK's.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    short = matrix if wide else matrix.mT
    vectors = torch.linalg.eigh(short @ short.mT).eigenvectors.flip(1)
    rows = vectors.mT @ short
    values = torch.linalg.vector_norm(rows, dim=1)
    # Rounding may swap neighbours, and the ratios are kept in order
    order = values.argsort(descending=True, stable=True)
    values, rows, vectors = values[order], rows[order], vectors[:, order]
    rows = rows / _positive(values)[:, None]
    return (vectors, values, rows) if wide else (rows.mT, values, vectors.mT)


def _positive(values: Tensor) -> Tensor:
    return values.clamp_min(torch.finfo(values.dtype).tiny)
