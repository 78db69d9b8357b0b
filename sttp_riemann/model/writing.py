"""Write into reparameterized layers: weights, and frames that have to be brought back to their manifold."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sttp_riemann.checks import shown
from sttp_riemann.frames.polar import nearest_frame
from sttp_riemann.layers import SpectralLayer
from sttp_riemann.model.measures import finite_layers


def project(model: nn.Module) -> nn.Module:
    """Bring frames back to their manifold, in place: after averaging, mixing, casting, or the wrong optimizer.

    Each frame becomes the nearest one with orthonormal columns, and a plain parameter in its place becomes a
    `geoopt.ManifoldParameter` again, the same object, so that an optimizer which holds it treats it as one.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model. Householder frames cannot leave their manifold, and nothing happens to them.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    TypeError
        If the model is no module.
    ValueError
        If the model has no reparameterized layer, or one that holds NaN. Nothing has changed then.

    Notes
    -----
    The polar factor is the nearest frame in the Frobenius norm (Higham, Functions of Matrices, Section 8.1).

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(16, 8), rank=4, init="orthogonal")
    >>> with torch.no_grad():
    ...     for parameter in model.parameters():
    ...         _ = parameter.mul_(1.1)
    >>> sr.orthogonality_error(sr.project(model)) < 1e-6
    True
    """
    for layer in finite_layers(model).values():
        for frames in (layer.left, layer.right):
            if not frames.direct:
                continue
            frames.restore()
            for k in range(len(frames)):
                (point,) = frames.tensors(k)
                with torch.no_grad():
                    point.copy_(nearest_frame(point.detach().as_subclass(torch.Tensor)))
    return model


def set_weight(layer: nn.Module, weight: Tensor) -> float:
    """Project a weight into a reparameterized layer, in place, by singular value decompositions at its ranks.

    ``layer.weight = tensor`` does the same, and warns where the tensor is not kept.

    Parameters
    ----------
    layer : nn.Module
        A layer that `reparameterize` changed. An optimizer that trains it must be made anew.
    weight : Tensor
        In the shape of the layer's weight. A learned spectrum takes it over up to scale, its largest singular value
        being the layer's bound; an identity spectrum takes over its singular vectors.

    Returns
    -------
    float
        Relative Frobenius error of the layer's weight against it.

    Raises
    ------
    TypeError
        The weight is no tensor.
    ValueError
        It is no such layer, or the tensor is of another shape, complex, sparse, not finite or beyond 1e30.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> layer = sr.reparameterize(torch.nn.Linear(16, 8), rank=4, method="svdp", spectrum="free")
    >>> weight = torch.randn(8, 3) @ torch.randn(3, 16)  # of rank 3
    >>> sr.set_weight(layer, weight) < 1e-5
    True
    """
    if not isinstance(layer, SpectralLayer):
        raise ValueError(
            f"layer must be one that reparameterize changed, got {shown(layer)}; assign its weight as torch does"
        )
    return layer.set_weight(weight)
