"""Detect frames that are off their manifold before they give wrong numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import geoopt
import torch
from torch import Tensor, nn

from sttp_riemann.batch.owner import Owner
from sttp_riemann.frames.frame import full_precision, orthogonality_error, wide_dtype

TOLERANCE = 1e-3
"""Largest entry of abs(X^T X - I) that raises no warning."""
EVERY = 256
FEW = 8
"""Forwards from one look at the start of an evaluation to the next, at least."""


class _Seen(NamedTuple):
    """Forwards of a model so far, that from which the start of an evaluation is looked at again, and its mode."""

    forwards: int
    again: int
    training: bool


_SEEN: WeakKeyDictionary[nn.Module, _Seen] = WeakKeyDictionary()


@torch.no_grad()
def watch(root: nn.Module, groups: Iterable[Sequence[Owner]]) -> None:
    """Check the frames of layers at forwards 1, 2, 4, 8, ... of a model, then at every 256th, and in evaluation.

    An average may have been swapped in for an evaluation, so the first forward of one is looked at, too.

    Parameters
    ----------
    root : nn.Module
        The model, whose forwards are counted.
    groups : iterable of sequence of Owner
        Layers, those of one kind of frames and one device together. Frames that are stored as points of the manifold
        may leave it, and the rows that lead others may no longer be an order.

    Raises
    ------
    RuntimeError
        Frames are sharded, or rows that lead are no order.

    Warns
    -----
    UserWarning
        Frames are off their manifold by more than `TOLERANCE`, or no longer manifold parameters.
    """
    before = _SEEN.get(root) or _Seen(0, 0, root.training)
    count = before.forwards + 1
    swapped = before.training and not root.training and count >= before.again
    looks = count & (count - 1) == 0 or count % EVERY == 0 or swapped
    for layers in groups if looks else ():
        present = [layer for layer in layers if not layer.sample().is_meta]
        if layers[0].left.pivoted:
            _look_at_rows(root, present)
        elif layers[0].left.direct:
            points = {layer: _points(layer) for layer in present}
            _look_at_kinds(root, points)
            with full_precision(layers[0].sample().device):
                _look_at_values(root, points)
    _SEEN[root] = _Seen(count, count + FEW if swapped else before.again, root.training)


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
    errors = {layer: max(map(_error, own)) for layer, own in points.items()}
    off = [layer for layer, error in errors.items() if not error <= TOLERANCE]
    if off:
        worst = max(errors[layer] for layer in off)
        warnings.warn(
            f"frames of {_named(root, off)} are off the Stiefel manifold by up to {worst:.1g}: train them with "
            "sr.RiemannianAdam or sr.RiemannianSGD, and call sr.project(model) where they were averaged, mixed or cast",
            stacklevel=2,
        )


def _look_at_rows(root: nn.Module, layers: Sequence[Owner]) -> None:
    """An average of whole numbers, as torch takes it of buffers, rounds them down."""
    by_size: dict[int, list[Tensor]] = {}
    for layer in layers:
        for side in (layer.left, layer.right):
            for k in [k for k, core in enumerate(side.cores) if core.reduced]:
                by_size.setdefault(side.cores[k].rows, []).append(side.order(k))
    wrong = [
        (torch.stack(own).sort(1).values != torch.arange(size, device=own[0].device)).any()
        for size, own in by_size.items()
    ]
    if wrong and torch.stack(wrong).any():
        raise RuntimeError(
            f"the rows that lead frames of {_named(root, layers)} are no order of rows any more: they were averaged or "
            "cast; average with sr.averaged(model) or with use_buffers=False, or load a state from before"
        )


def _error(point: Tensor) -> float:
    return orthogonality_error(point.detach().to(wide_dtype(point.dtype)))


def _named(root: nn.Module, layers: Sequence[Owner]) -> str:
    name = next((name for name, module in root.named_modules() if module is layers[0]), "")
    others = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
    return f"layer {name or type(layers[0]).__name__!r}{others}"
