"""Frames (batch, d, r), forward and backward, against the peers: a function and a column of the table each."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from sttp_riemann.frames import HouseholderFrames
from sttp_riemann.frames.householder import compact_wy, reflectors_of
from sttp_riemann.lab.bench.contest import Contest, Contestant, Run
from sttp_riemann.lab.bench.settings import Settings
from sttp_riemann.trains.shape import Core

SHAPES = {
    False: ((8, 128, 64), (8, 1152, 64), (8, 5760, 64), (64, 8, 4), (4, 1280, 256)),
    True: ((2, 12, 4), (3, 6, 6)),  # to see that everything runs
}
# From this many rows on some peers take seconds to hours, or gigabytes
TALL = 1000
INSTALL = "not installed: pip install 'sttp-riemann[bench]'"

Maker = tuple[Callable[[], Tensor], list[Tensor]]
"""What computes frames, and the parameters from which it does."""


def installed(module: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(module) is not None


def frames(settings: Settings) -> list[Contest]:
    """List one contest a shape."""
    return [_contest(shape, settings.device) for shape in SHAPES[settings.quick]]


def _contest(shape: tuple[int, ...], device: str) -> Contest:
    large = shape[1] >= TALL or device == "cuda"
    return Contest(
        str(shape),
        tuple(
            Contestant(name, partial(build, make, shape, device), slow and large, "" if installed(module) else INSTALL)
            for name, (make, module, slow) in PEERS.items()
        ),
    )


def build(make: Callable[[Tensor], Maker], shape: Sequence[int], device: str) -> Run:
    """Set up frames by one of `PEERS`: a call makes them and carries a fixed gradient back to the parameters."""
    generator = torch.Generator().manual_seed(0)
    start = torch.linalg.qr(torch.randn(*shape, generator=generator))[0].to(device)
    gradient = torch.randn(*shape, generator=generator).to(device)
    forward, parameters = make(start)

    def run() -> None:
        for parameter in parameters:
            parameter.grad = None
        forward().backward(gradient)

    return run


def reflectors(frames: Tensor) -> Tensor:
    """Give the Householder vectors of frames as a parameter."""
    return reflectors_of(frames)[0].contiguous().requires_grad_()


def _compact_wy(frames: Tensor) -> Maker:
    vectors = reflectors(frames)
    return lambda: compact_wy(vectors), [vectors]


def _householder_frames(frames: Tensor) -> Maker:
    batch, rows, rank = frames.shape
    cores = [Core(1, rows, rank, reduced=False)] * batch
    held = HouseholderFrames(cores, list(frames))

    def make() -> Tensor:
        stacks = (torch.stack(own) for own in zip(*(held.tensors(k) for k in range(batch)), strict=True))
        return held.materialize(cores[0], *stacks)

    return make, list(held.parameters())


def _torch_householder(frames: Tensor) -> Maker:
    from torch_householder import torch_householder_orgqr

    vectors = reflectors(frames)
    return lambda: torch_householder_orgqr(vectors), [vectors]


def _householder_product(frames: Tensor) -> Maker:
    vectors = reflectors(frames)
    return lambda: torch.linalg.householder_product(vectors, 2 / (vectors * vectors).sum(-2)), [vectors]


def _torch_orthogonal(frames: Tensor) -> Maker:
    # Without a base matrix, which would be d x d and multiply every frame
    module = _Holder(frames)
    parametrizations.orthogonal(module, "weight", orthogonal_map="householder", use_trivialization=False)
    return module, list(module.parameters())


def _geotorch(frames: Tensor) -> Maker:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its use of what torch deprecates
        import geotorch
    module = _Holder(frames)
    geotorch.orthogonal(module, "weight")
    return module, list(module.parameters())


class _Holder(nn.Module):
    """A weight for others to parametrize."""

    def __init__(self, frames: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(frames.clone())

    def forward(self) -> Tensor:
        return self.weight


PEERS: dict[str, tuple[Callable[[Tensor], Maker], str, bool]] = {
    # From frames to start at to a maker; the package that it needs; whether large frames may take it minutes
    "compact WY (ours)": (_compact_wy, "torch", False),
    "Householder frames (ours)": (_householder_frames, "torch", False),
    "torch-householder": (_torch_householder, "torch_householder", False),
    "torch.linalg.householder_product": (_householder_product, "torch", True),
    "torch orthogonal (householder map)": (_torch_orthogonal, "torch", True),
    "geotorch (orthogonal)": (_geotorch, "geotorch", True),
}
