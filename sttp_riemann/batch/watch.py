"""Detect frames that are off their manifold before they give wrong numbers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import geoopt
import torch
from torch import Tensor, nn

from sttp_riemann.batch.owner import Owner
from sttp_riemann.frames.frame import full_precision, orthogonality_error, wide_dtype

TOLERANCE = 1e-3
"""Largest entry of abs(X^T X - I) that raises no warning."""
EVERY = 256

_FORWARDS: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


@torch.no_grad()
def watch(root: nn.Module, layers: Sequence[Owner]) -> None:
    """Check the frames of layers at forwards 1, 2, 4, 8, ... of a model, then at every 256th.

    Parameters
    ----------
    root : nn.Module
        The model, whose forwards are counted.
    layers : sequence of Owner
        Layers whose frames are stored as points of the manifold; others cannot leave it.

    Raises
    ------
    RuntimeError
        Frames are sharded.

    Warns
    -----
    UserWarning
        Frames are off their manifold by more than `TOLERANCE`, or no longer manifold parameters.
    """
    count = _FORWARDS.get(root, 0) + 1
    if layers[0].left.direct and (count & (count - 1) == 0 or count % EVERY == 0):
        points = {layer: _points(layer) for layer in layers if not layer.sample().is_meta}
        _look_at_kinds(root, points)
        with full_precision(layers[0].sample().device):
            _look_at_values(root, points)
    _FORWARDS[root] = count


def _points(layer: Owner) -> list[Tensor]:
    return [p for frames in (layer.left, layer.right) for k in range(len(frames)) for p in frames.tensors(k)]


def _look_at_kinds(root: nn.Module, points: dict[Owner, list[Tensor]]) -> None:
    plain = [
        layer
        for layer, own in points.items()
        if any(isinstance(p, nn.Parameter) and not isinstance(p, geoopt.ManifoldParameter) for p in own)
    ]
    if not plain:
        return
    if any(kind.__name__ == "FSDPModule" for module in root.modules() for kind in type(module).__mro__):
        raise RuntimeError(
            f"the Riemannian frames of {_named(root, plain)} are sharded, and part of a frame is not a point of its "
            "manifold: call sr.convert_frames(model, 'householder') before fully_shard, or use DistributedDataParallel"
        )
    warnings.warn(
        f"frames of {_named(root, plain)} are no longer geoopt.ManifoldParameter, so optimizers move them off their "
        "manifold: call sr.project(model)",
        stacklevel=2,
    )


def _look_at_values(root: nn.Module, points: dict[Owner, list[Tensor]]) -> None:
    errors = {
        layer: max(orthogonality_error(p.detach().to(wide_dtype(p.dtype))) for p in own)
        for layer, own in points.items()
    }
    off = [layer for layer, error in errors.items() if not error <= TOLERANCE]
    if off:
        worst = max(errors[layer] for layer in off)
        warnings.warn(
            f"frames of {_named(root, off)} are off the Stiefel manifold by up to {worst:.1g}: train them with "
            "sr.RiemannianAdam or sr.RiemannianSGD, and call sr.project(model) where they were averaged, mixed or cast",
            stacklevel=2,
        )


def _error(point: Tensor) -> float:
    return orthogonality_error(point.detach().to(wide_dtype(point.dtype)))


def _named(root: nn.Module, layers: Sequence[Owner]) -> str:
    name = next((name for name, module in root.named_modules() if module is layers[0]), "")
    others = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
    return f"layer {name or type(layers[0]).__name__!r}{others}"
