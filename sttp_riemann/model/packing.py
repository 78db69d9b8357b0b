"""The tensors of a model as few flat ones: names and checksums of small cores take more room than their numbers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

SMALLEST = "householder"
"""The kind of frame that stores as many numbers as there are degrees of freedom."""
SIGNS, INTEGERS = "signs", "integers"
NARROW = (torch.uint8, torch.int16, torch.int32)
"""Types for whole numbers, one of which is enough for rows and counters."""


def pack(tensors: Mapping[str, Tensor], left_out: Collection[str]) -> tuple[dict[str, Tensor], str]:
    """Join tensors by their types.

    Parameters
    ----------
    tensors : mapping
        By name.
    left_out : collection of str
        Names of those that are written elsewhere.

    Returns
    -------
    flat : dict[str, Tensor]
        (N,) each: those of one dtype by its name, whole numbers in the smallest type that holds all of them, and the
        signs of the columns of frames in one bit each.
    layout : str
        Digest of the names, types and shapes, without which they cannot be taken apart.
    """
    kept = {name: tensors[name].detach() for name in sorted(tensors) if name not in left_out}
    groups: dict[str, list[Tensor]] = {}
    for name, tensor in kept.items():
        groups.setdefault(_group(name, tensor), []).append(tensor.cpu().reshape(-1))
    flat = {group: torch.cat(parts) for group, parts in groups.items()}
    if SIGNS in flat:
        flat[SIGNS] = torch.from_numpy(np.packbits(flat[SIGNS].numpy() < 0))
    if INTEGERS in flat:
        flat[INTEGERS] = _narrow(flat[INTEGERS])
    return flat, _layout(kept)


def unpack(flat: Mapping[str, Tensor], layout: str, wanted: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Take them apart.

    Parameters
    ----------
    flat : mapping
        As `pack` returns it, perhaps damaged.
    layout : str
        Likewise.
    wanted : mapping
        Tensors of the names, types and shapes that they are to have; without numbers.

    Returns
    -------
    dict[str, Tensor] or None
        None if they are of other names, types or shapes.
    """
    wanted = {name: wanted[name] for name in sorted(wanted)}
    sizes: dict[str, list[int]] = {}
    for name, tensor in wanted.items():
        sizes.setdefault(_group(name, tensor), []).append(tensor.numel())
    lengths = {g: math.ceil(sum(own) / 8) if g == SIGNS else sum(own) for g, own in sizes.items()}
    if layout != _layout(wanted) or {g: (n,) for g, n in lengths.items()} != {g: t.shape for g, t in flat.items()}:
        return None
    if any(tensor.dtype not in _dtypes(group) for group, tensor in flat.items()):
        return None
    whole = dict(flat)
    if SIGNS in flat:
        bits = np.unpackbits(flat[SIGNS].numpy(), count=sum(sizes[SIGNS]))
        whole[SIGNS] = 1 - 2 * torch.from_numpy(bits).to(torch.int8)
    parts = {group: iter(whole[group].split(own)) for group, own in sizes.items()}
    return {
        name: next(parts[_group(name, tensor)]).reshape(tensor.shape).to(tensor.dtype)
        for name, tensor in wanted.items()
    }


def _group(name: str, tensor: Tensor) -> str:
    # As `HouseholderFrames` names them
    if name.rpartition(".")[2].startswith("sign_") and tensor.is_floating_point():
        return SIGNS
    return INTEGERS if tensor.dtype == torch.int64 else str(tensor.dtype).removeprefix("torch.")


def _dtypes(group: str) -> Sequence[torch.dtype]:
    known: dict[str, Sequence[torch.dtype]] = {SIGNS: (torch.uint8,), INTEGERS: (*NARROW, torch.int64)}
    return known[group] if group in known else (getattr(torch, group),)


def _narrow(numbers: Tensor) -> Tensor:
    if numbers.numel() == 0:
        return numbers
    least, most = int(numbers.min()), int(numbers.max())
    for dtype in NARROW:
        if torch.iinfo(dtype).min <= least and most <= torch.iinfo(dtype).max:
            return numbers.to(dtype)
    return numbers


def _layout(tensors: Mapping[str, Tensor]) -> str:
    about = [[name, str(tensor.dtype), list(tensor.shape)] for name, tensor in tensors.items()]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]
