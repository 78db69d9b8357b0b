"""Check a kind of module that is split into layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sttp_riemann.frames import FRAMES
from sttp_riemann.layers import parts_of, split_for
from sttp_riemann.model.reparameterize import decompress, reparameterize
from sttp_riemann.testing.models import EXACT, copy_of, disturb_, gap, require

RANK = 3


def check_split(make: Callable[[], nn.Module], *inputs: Any) -> None:
    """Check a kind of module with several matrices in one parameter: split, it computes what the ordinary one does.

    Parameters
    ----------
    make : callable
        Returns an ordinary module whose class has a row in `SPLITS`.
    *inputs
        What the module is called with; floating point is cast as needed.

    Raises
    ------
    AssertionError
        One line on what does not hold.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> import sttp_riemann.testing
    >>> sr.testing.check_split(lambda: torch.nn.GRUCell(6, 8), torch.randn(5, 6))
    """
    dense: Any = make().double()
    name = type(dense).__name__
    x = [one.double() if isinstance(one, Tensor) and one.is_floating_point() else one for one in inputs]
    kind = split_for(dense)
    if kind is None:
        raise AssertionError(f"{name} has no row in SPLITS, or lacks a parameter or a free name that its row needs")
    parts = parts_of(kind, dense)
    held = {own: dense._parameters[own] for own in kind.pieces_of(dense)}
    numbers = sum(p.numel() for p in held.values()), sum(p.numel() for own in parts.values() for p in own.parameters())
    require(numbers[0] == numbers[1], f"{name}: its parameters have {numbers[0]} numbers, and its parts {numbers[1]}")
    kept = reparameterize(copy_of(dense), 1.0, init="dense", spectrum="free")
    for own, parameter in held.items():
        require(gap([getattr(kept, own)], [parameter]) < EXACT, f"{name}: {own} is not joined as it was split")
    require(gap(_tensors(kept(*x)), _tensors(dense(*x))) < EXACT, f"{name}: init='dense' does not keep the outputs")
    for frames in FRAMES:
        made = reparameterize(copy_of(dense), RANK, frames=frames, spectrum="free")
        disturb_(made)
        _check_made(made, dense, x, f"{name}, {frames} frames")


def _check_made(made: Any, dense: Any, x: list[Any], where: str) -> None:
    ordinary: Any = decompress(made, factored=True)
    require(type(ordinary) is type(dense), f"{where}: decompress gives a {type(ordinary).__name__}")
    require(list(ordinary.state_dict()) == list(dense.state_dict()), f"{where}: decompress changes names in the state")
    wanted = _tensors(ordinary(*x))
    for other, text in ((made, "split"), (copy_of(made), "copied")):
        require(gap(_tensors(other(*x)), wanted) < EXACT, f"{where}: {text}, its output differs")
        with torch.no_grad():
            other.eval()
            require(gap(_tensors(other(*x)), wanted) < EXACT, f"{where}: {text}, its output in evaluation differs")
            other.train()
    for module in (made, ordinary):
        sum(out.square().sum() for out in _tensors(module(*x))).backward()  # type: ignore[union-attr]
    for name, pieces in made.pieces.items():
        grad = None if ordinary._parameters.get(name) is None else ordinary._parameters[name].grad
        if grad is not None:
            core, weight = made.layers(name)[0].right[0], getattr(made, name)
            (own,) = torch.autograd.grad((weight * grad).sum(), core, allow_unused=True)
            reaches = own is not None and core.grad is not None and gap([core.grad], [own]) < 1e3 * EXACT
            require(reaches, f"{where}: {pieces[0]} does not get the gradient of {name}")
    twin: Any = copy_of(made)
    disturb_(twin, 1)
    twin.load_state_dict(made.state_dict())
    require(gap(_tensors(twin(*x)), wanted) < EXACT, f"{where}: the output differs after load_state_dict")


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return [tensor for part in output if part is not None for tensor in _tensors(part)]
