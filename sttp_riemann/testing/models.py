"""Helpers of the checks: small models in generic positions, comparisons, assertions."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sttp_riemann.frames import FRAMES, Frames
from sttp_riemann.frames.momentum import momentum_of, turn_bases_
from sttp_riemann.layers import SpectralLayer
from sttp_riemann.model.measures import spectral_layers
from sttp_riemann.model.reparameterize import reparameterize
from sttp_riemann.trains.shape import Train, absorb

EXACT = 1e-10
"""Tolerance for two computations of the same numbers in float64."""


def require(holds: bool, claim: str) -> None:
    """Raise `AssertionError` with a message unless a claim holds.

    Parameters
    ----------
    holds : bool
        Whether the claim holds.
    claim : str
        One line that says what does not hold.

    Raises
    ------
    AssertionError
        The claim does not hold.
    """
    if not holds:
        raise AssertionError(claim)


@contextmanager
def registered(kind: type[Frames] | str) -> Iterator[str]:
    """Context in which a kind of frame has a name in `FRAMES`.

    Parameters
    ----------
    kind : type or str
        A kind of frame, with or without a row in `FRAMES`; or the name of a row.

    Yields
    ------
    str
    """
    known = [name for name, row in FRAMES.items() if kind in (name, row)]
    if known:
        yield known[0]
        return
    if isinstance(kind, str):
        raise AssertionError(f"there is no kind of frame {kind!r}; FRAMES has {', '.join(FRAMES)}")
    FRAMES["checked"] = kind
    try:
        yield "checked"
    finally:
        del FRAMES["checked"]


def spectral_network(frames: str, seed: int = 0, **options: Any) -> nn.Sequential:
    """A linear layer and a convolution in float64, reparameterized, in a generic position.

    Parameters
    ----------
    frames : str
        Kind of frame.
    seed : int
        Seed of the initialization.
    **options
        Options of `reparameterize`.

    Returns
    -------
    nn.Sequential
    """
    model = nn.Sequential(nn.Linear(12, 18), nn.Conv2d(4, 6, 3)).double()
    reparameterize(model, 4, frames=frames, init="orthogonal", seed=seed, **options)
    disturb_(model, seed)
    return model


@torch.no_grad()
def disturb_(model: nn.Module, seed: int = 0, scale: float = 0.3) -> None:
    """Move every parameter to a generic point, frames along their manifold.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    seed : int
        Seed of the directions.
    scale : float
        Standard deviation of each entry's move.
    """
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        step = scale * torch.randn(p.shape, dtype=torch.float64, generator=generator).to(p)
        manifold = getattr(p, "manifold", None)
        p.copy_(p + step if manifold is None else manifold.retr(p, manifold.proju(p, step)))


@torch.no_grad()
def turn_(model: nn.Module, seed: int = 0, optimizer: Optimizer | None = None) -> None:
    """Make a random gauge move on every inner bond of every layer; all weights stay unchanged.

    Parameters
    ----------
    model : nn.Module
        A model whose parameters are its frames; changed in place.
    seed : int
        Seed of the rotations.
    optimizer : Optimizer, optional
        What it keeps for the frames is carried along.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in spectral_layers(model).values():
        for train, side in ((layer.shape.left, layer.left), (layer.shape.right, layer.right)):
            _turn_train_(train, side, generator, optimizer)


def _turn_train_(train: Train, side: Frames, generator: torch.Generator, optimizer: Optimizer | None) -> None:
    move: Tensor | None = None
    for k, core in enumerate(train.cores):
        point = side[k]
        if point is None:
            move = None
            continue
        outer, move = move, None
        if k + 1 < len(train.cores):
            move = rotation(core.inner, generator).to(point)
        for tensor in (point, *(() if optimizer is None else momentum_of(optimizer)(point))):
            turned = tensor if outer is None else absorb(outer, tensor, core.outer_first)
            tensor.copy_(turned if move is None else turned @ move)
        if optimizer is not None:
            turn_bases_(optimizer, point, outer, move)


def rotation(size: int, generator: torch.Generator) -> Tensor:
    """A random orthogonal matrix in float64.

    Parameters
    ----------
    size : int
        Its rows and columns.
    generator : torch.Generator
        Source of randomness.

    Returns
    -------
    Tensor
        (size, size).
    """
    return torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator)).Q


def weights_of(model: nn.Module) -> list[Tensor]:
    """W of every reparameterized layer, a detached copy each.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model.

    Returns
    -------
    list of Tensor
    """
    return [layer.weight.detach().clone() for layer in spectral_layers(model).values()]


def gap(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Largest difference of an entry.

    Parameters
    ----------
    ours, theirs : list of Tensor
        Equal shapes.

    Returns
    -------
    float
        NaN if any entry is.
    """
    pairs = zip(ours, theirs, strict=True)
    return float(torch.stack([(a.detach().double() - b.detach().double()).abs().max() for a, b in pairs]).max())


def tensors_of(state: Any) -> list[Tensor]:
    """Every tensor and number in a state, in order, copied.

    Parameters
    ----------
    state : dict, list, tuple or Tensor
        For example a `state_dict`.

    Returns
    -------
    list of Tensor
    """
    if isinstance(state, Tensor):
        return [state.detach().clone()]
    if isinstance(state, int | float):
        return [torch.tensor(float(state))]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [tensor for value in values for tensor in tensors_of(value)]


def equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    """Whether tensors are bitwise equal.

    Parameters
    ----------
    ours, theirs : list of Tensor
        In the same order.

    Returns
    -------
    bool
    """
    return len(ours) == len(theirs) and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def copy_of(model: nn.Module) -> nn.Module:
    """A copy that shares nothing.

    Parameters
    ----------
    model : nn.Module
        Any.

    Returns
    -------
    nn.Module
    """
    return copy.deepcopy(model)


def layers_of(model: nn.Module) -> list[SpectralLayer]:
    """Reparameterized layers, in order.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model.

    Returns
    -------
    list of SpectralLayer
    """
    return list(spectral_layers(model).values())
