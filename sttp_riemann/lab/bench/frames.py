"""Householder frames, forward and backward, against the peers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from sttp_riemann.lab.bench.contest import Contest, Contestant, Run
from sttp_riemann.lab.bench.peers import OURS, PEERS
from sttp_riemann.lab.bench.settings import Settings

SHAPES = ((8, 128, 64), (8, 1152, 64), (8, 5760, 64), (64, 8, 4), (4, 1280, 256))
QUICK_SHAPES = ((2, 12, 4), (3, 6, 6))
# From this many rows on some peers take seconds to hours, or gigabytes
TALL = 1000


def contests(settings: Settings) -> list[Contest]:
    """List one contest a shape (batch, d, r)."""
    found = []
    for shape in QUICK_SHAPES if settings.quick else SHAPES:
        contestants = tuple(
            Contestant(
                peer.name,
                partial(build, index, shape, settings.device),
                guarded=peer.slow and (shape[1] >= TALL or settings.device == "cuda"),
                missing=peer.missing,
            )
            for index, peer in enumerate(PEERS)
        )
        found.append(Contest(str(shape), contestants, OURS))
    return found


def build(peer: int, shape: Sequence[int], device: str) -> Run:
    """Set up frames of one of `PEERS`: a call makes them and carries a fixed gradient back to the parameters."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.linalg.qr(torch.randn(*shape, generator=generator))[0].to(device)
    gradient = torch.randn(*shape, generator=generator).to(device)
    make, parameters = PEERS[peer].make(frames)

    def run() -> Tensor:
        for parameter in parameters:
            parameter.grad = None
        made = make()
        made.backward(gradient)
        return made

    return run
