"""Intermediate results that the backward recomputes instead of keeping."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from sttp_riemann.batch.cached import open_ledger
from sttp_riemann.batch.sight import Visit, size_of
from sttp_riemann.checks import check_number
from sttp_riemann.compat import in_transform

Recompute = Literal["auto", "always", "never"]
RECOMPUTE: tuple[Recompute, ...] = ("auto", "always", "never")
SMALLEST = 5e-324


def check_memory(memory: Any, recompute: Recompute) -> float:
    """Check the share of the dense network's memory that a step may take.

    Parameters
    ----------
    memory : Any
        From a user or a file.
    recompute : {"auto", "always", "never"}
        What it goes with.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        It is no number above 0, or nothing would follow it.
    """
    share = check_number("memory", memory, "a share of the dense network's memory, above 0", least=SMALLEST)
    if share != 1.0 and recompute != "auto":
        raise ValueError(f"recompute={recompute!r} does not depend on memory: set recompute='auto'")
    return share


def seen(layer: Any, input: Tensor, apply: Callable[[], Tensor]) -> Tensor:
    """Apply a layer in a differentiable forward, seen by who looks on in the first step of its model.

    Parameters
    ----------
    layer : SpectralLayer
        Which.
    input : Tensor
        What it reads.
    apply : callable
        Gives its output.

    Returns
    -------
    Tensor
    """
    ledger = None if in_transform() else open_ledger()
    if ledger is None or ledger.sight is None:
        return apply()
    shape, size = layer.shape, layer.weight_dtype.itemsize
    visit = Visit(
        weight=id(layer.left),
        share=layer.memory,
        input=size_of(input) * input.requires_grad,
        copied=layer.copies(input),
        dense_weight=size * shape.d_out * shape.d_in,
        parameters=sum(map(size_of, layer.parameters())),
        factors=size * shape.rank * (shape.d_out + shape.d_in),
    )
    output = None
    ledger.sight.open(visit)
    try:
        output = apply()
    finally:
        ledger.sight.close(visit, output)
    return output


def keeping(layer: Any, result: Tensor, compute: Callable[[], Tensor]) -> AbstractContextManager[None]:
    """Context for operations that would save a result for their backward.

    Parameters
    ----------
    layer : SpectralLayer
        Whose V^T x it is. With ``recompute="auto"`` the ledger of the model decides; until it has seen a step, and
        where the layer is called on its own, a result is kept if it is no larger than `room`. Other hooks on saved
        tensors that are active, such as those of activation checkpointing, come first.
    result : Tensor
        Result of `compute`, possibly reshaped.
    compute : callable
        Recomputes it from tensors that are saved anyway.

    Returns
    -------
    context manager
        Without effect where the result is kept, no backward follows, or a compiler decides.

    Notes
    -----
    Chen et al. 2016 (arXiv 1604.06174), applied to single results. Second derivatives are correct: autograd tracks the
    origin of the unpacked result.
    """
    if not torch.is_grad_enabled() or in_transform():
        return nullcontext()
    ledger = open_ledger()
    key, again = None, layer.recompute == "always"
    if layer.recompute == "auto" and not _others_decide():
        again = result.numel() > layer.room
        if ledger is not None:
            key, again = ledger.decide(layer, size_of(result), again)
    context, token = _computed_again(result, compute) if again else (nullcontext(), result.untyped_storage())
    if ledger is not None:
        ledger.mark(token)
        if ledger.sight is not None:
            ledger.sight.note(result, result.numel() * layer.shape.d_in, not again, key)
    return context


def _others_decide() -> bool:
    # Older releases of torch cannot report it
    innermost = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", lambda _: None)
    return innermost(True) is not None


def _computed_again(
    result: Tensor, compute: Callable[[], Tensor]
) -> tuple[AbstractContextManager[None], Callable[..., Tensor]]:
    # Not the tensor itself: packing must not keep it alive
    address, shape, entries, kind = result.data_ptr(), result.shape, result.numel(), result.device.type
    narrow = torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if narrow else None

    def pack(tensor: Tensor) -> Tensor | torch.Size:
        same = tensor.data_ptr() == address and tensor.numel() == entries
        return tensor.shape if same and (tensor.shape == shape or tensor.is_contiguous()) else tensor

    def unpack(kept: Tensor | torch.Size) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        with torch.no_grad(), torch.autocast(kind, dtype=dtype, enabled=narrow):
            return compute().reshape(kept)

    return saved_tensors_hooks(pack, unpack), unpack
