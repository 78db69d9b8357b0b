"""Peers that make orthonormal frames (B, d, r) from parameters: one function and one row of the table each."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from sttp_riemann.frames import HouseholderFrames
from sttp_riemann.frames.householder import compact_wy, reflectors_of
from sttp_riemann.trains.shape import Core

INSTALL = "not installed: pip install 'sttp-riemann[bench]'"
Maker = tuple[Callable[[], Tensor], list[Tensor]]
"""What computes the frames, and the parameters it computes them from."""


@dataclass(frozen=True)
class Peer:
    """A way to make frames.

    Attributes
    ----------
    name : str
        For the reader.
    make : callable
        From frames (B, d, r) to start at, to a `Maker`.
    module : str
        What must be installed.
    slow : bool
        Whether large frames may take it minutes.
    """

    name: str
    make: Callable[[Tensor], Maker]
    module: str = "torch"
    slow: bool = False

    @property
    def missing(self) -> str:
        """Why it cannot take part; empty where it can."""
        return "" if installed(self.module) else INSTALL


def installed(module: str) -> bool:
    """Whether a package is there to be imported."""
    return importlib.util.find_spec(module) is not None


def _ours(frames: Tensor) -> Maker:
    reflectors = _reflectors(frames)
    return lambda: compact_wy(reflectors), [reflectors]


def _our_bank(frames: Tensor) -> Maker:
    batch, rows, rank = frames.shape
    cores = [Core(1, rows, rank, reduced=False)] * batch
    held = HouseholderFrames(cores, list(frames))

    def make() -> Tensor:
        stacks = (torch.stack(own) for own in zip(*(held.tensors(k) for k in range(batch)), strict=True))
        return held.materialize(cores[0], *stacks)

    return make, list(held.parameters())


def _torch_householder(frames: Tensor) -> Maker:
    from torch_householder import torch_householder_orgqr

    reflectors = _reflectors(frames)
    return lambda: torch_householder_orgqr(reflectors), [reflectors]


def _householder_product(frames: Tensor) -> Maker:
    reflectors = _reflectors(frames)
    return lambda: torch.linalg.householder_product(reflectors, 2 / (reflectors * reflectors).sum(-2)), [reflectors]


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


def _reflectors(frames: Tensor) -> Tensor:
    return reflectors_of(frames)[0].contiguous().requires_grad_()


OURS = "compact WY (ours)"
PEERS = (
    Peer(OURS, _ours),
    Peer("Householder frames (ours)", _our_bank),
    Peer("torch-householder", _torch_householder, "torch_householder"),
    Peer("torch.linalg.householder_product", _householder_product, slow=True),
    Peer("torch orthogonal (householder map)", _torch_orthogonal, slow=True),
    Peer("geotorch (orthogonal)", _geotorch, "geotorch", slow=True),
)
