"""Operators called to build all frames of a network of equal blocks."""

from __future__ import annotations

import os
from functools import cache

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from sttp_riemann.batch.cached import cached
from sttp_riemann.lab.bench.contest import Entry, Run
from sttp_riemann.lab.bench.settings import Settings
from sttp_riemann.lab.bench.variants import STTP, SVDP, Variant
from sttp_riemann.model.reparameterize import reparameterize, spectral_layers

BLOCKS = (2, 16)
RANK = 4
DIRECTIONS = ("forward", "backward")
LOOKED_AT = 2
"""First forwards, at which frames are also checked; see `sttp_riemann.batch.watch`."""


def measure(settings: Settings) -> list[Entry]:
    """Calls of each low-rank variant, forward and backward, for few blocks and for many."""
    entries = []
    for variant in (*SVDP, *STTP):
        found = {blocks: count_frame_calls(variant, blocks, settings.device) for blocks in BLOCKS}
        for index, direction in enumerate(DIRECTIONS):
            few = found[BLOCKS[0]][index]
            for blocks, calls in found.items():
                ratio = None if blocks == BLOCKS[0] else calls[index] / few
                entries.append(Entry(f"{variant.name}, {direction}", f"{blocks} blocks", calls[index], ratio))
    return entries


def count_frame_calls(variant: Variant, blocks: int, device: str) -> tuple[int, int]:
    """Operators called to build U diag(s) and V of all layers, and to carry gradients back.

    Parameters
    ----------
    variant : Variant
        Of low rank.
    blocks : int
        Equal blocks of a convolution, a 1x1 convolution and a linear layer.
    device : {"cpu", "cuda"}
        Where to compute.

    Returns
    -------
    tuple of int
        Forward, backward.
    """
    assert variant.method is not None
    model = nn.Sequential(
        *(nn.Sequential(nn.Conv2d(12, 12, 3), nn.Conv2d(12, 20, 1), nn.Linear(16, 24)) for _ in range(blocks))
    )
    reparameterize(model, RANK, variant.method, variant.frames, init="orthogonal").to(device)
    layers = list(spectral_layers(model).values())
    built: list[Tensor] = []

    def forward() -> None:
        with cached(model):
            built.extend(factor for layer in layers for factor in layer.factors())

    for _ in range(LOOKED_AT):
        forward()
    built.clear()
    calls = count_calls(forward)
    gradients = [torch.ones_like(factor) for factor in built]
    return calls, count_calls(lambda: torch.autograd.backward(built, gradients))


def count_calls(run: Run) -> int:
    """Operators of ATen that a callable calls, those that only make a view of a tensor left out.

    A view computes nothing and launches no kernel.
    """
    # The profiler's library else tells of its own start and of GPUs that are not there
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run()
    names = (event.name for event in profiled.events() or ())
    return sum(1 for name in names if name.startswith("aten::") and not _is_view(name))


@cache
def _is_view(name: str) -> bool:
    operator = getattr(torch.ops.aten, name.removeprefix("aten::"), None)
    if operator is None:
        return False
    returned = (r for overload in operator.overloads() for r in getattr(operator, overload)._schema.returns)
    return any(r.alias_info is not None and not r.alias_info.is_write for r in returned)
