"""What an optimizer keeps for the cores of a train, carried to other ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sttp_riemann.frames.frame import Frames
from sttp_riemann.frames.householder import HouseholderFrames
from sttp_riemann.frames.momentum import CARRIED, FRESH, PER_MATRIX
from sttp_riemann.trains.bonds import left_out
from sttp_riemann.trains.shape import Core, absorb

SAME = 1e-5
"""Largest difference of an entry of two matrices that count as the same: frames may be in float32."""


class Turn(NamedTuple):
    """How one core follows from the one before.

    Attributes
    ----------
    core : Core
        The new one.
    frame : Tensor
        (rows, inner), the new frame in float64.
    outer, inner : Tensor
        (new rank, old rank), maps of the two rank indices.
    """

    core: Core
    frame: Tensor
    outer: Tensor
    inner: Tensor


def carry_frames(
    optimizer: Optimizer, turns: Sequence[Turn], olds: Sequence[Tensor | None], news: Sequence[Tensor | None]
) -> list[bool]:
    """Carry the moments of frames that are parameters themselves; old entries are left for the caller to drop.

    Parameters
    ----------
    optimizer : Optimizer
        Of the old parameters.
    turns : sequence of Turn
        For every core of a train, those that are left out included.
    olds, news : sequence of Tensor or None
        The parameter of each core; None where it is left out.

    Returns
    -------
    list of bool
        For each new parameter whether it has what was kept for the old one; False if it begins anew.

    Notes
    -----
    First moments are cores whose rank indices are mapped as those of the frame are, and made tangent where something
    was cut. Second moments of a whole matrix stay. Those in eigenbases are mapped as the squares of uncorrelated
    entries are; entries that nothing maps to get the largest, which makes first steps short. The count of steps, and
    with it the correction of the bias, goes on: what is kept is an average over as many steps as before.
    """
    states = [{} if p is None else dict(optimizer.state.get(p, {})) for p in olds]
    known = [bool(state) and all(name in FRESH or _of_bases(name) for name in state) for state in states]
    found: list[dict[str, Any]] = [{} for _ in turns]
    for name in CARRIED:
        vectors = [_in_place(s, name, t.core) if ok else None for s, ok, t in zip(states, known, turns, strict=True)]
        if any(vector is not None for vector in vectors):
            for own, vector in zip(found, carried(turns, vectors), strict=True):
                own[name] = vector
    carries = []
    for turn, state, own, ok, new in zip(turns, states, found, known, news, strict=True):
        if new is None:
            continue
        carries.append(ok)
        if ok:
            optimizer.state[new] = _state(turn, state, own, new)
    return carries


def carried(turns: Sequence[Turn], vectors: Sequence[Tensor | None]) -> list[Tensor]:
    """Tangent vectors at the new cores, from those at the old ones.

    Parameters
    ----------
    turns : sequence of Turn
        For every core of a train.
    vectors : sequence of Tensor or None
        (old rows, old inner), tangent at the old cores; None for zero. Where nothing is cut, nothing is projected, as
        some optimizers keep first moments that are not tangent.

    Returns
    -------
    list of Tensor
        (rows, inner) each, float64. Where ranks have grown, W moves along them as it did.

    Notes
    -----
    A new column n beside old ones K, which move along M, moves along -K M^T n: it stays orthogonal to them. A core that
    is left out cannot move: what turned it turns the next one.
    """
    found, passed = [], None
    for (core, frame, outer, inner), vector in zip(turns, vectors, strict=True):
        moved = torch.zeros_like(frame)
        if vector is not None:
            moved = absorb(outer.mT, vector.to(frame), core.outer_first) @ inner.mT
        if inner.shape[0] > inner.shape[1]:
            old = inner @ inner.mT
            part = old @ (frame.mT @ moved).mT
            moved = moved - frame @ (part - part @ old)
        if not (_lossless(outer) and _lossless(inner)):
            along = frame.mT @ moved
            moved = moved - frame @ (along + along.mT) / 2
        if passed is not None:
            moved = moved + absorb(passed.mT, frame, core.outer_first)
        passed = (moved - moved.mT) / 2 if left_out(core) else None
        found.append(moved if passed is None else torch.zeros_like(moved))
    return found


def _lossless(move: Tensor) -> bool:
    """Whether a map of a rank index keeps lengths."""
    eye = torch.eye(move.shape[1], dtype=move.dtype, device=move.device)
    return torch.allclose(move.mT @ move, eye, rtol=0, atol=SAME)


def _of_bases(name: str) -> bool:
    return name.partition("_")[0] in ("outer", "inner")


def _in_place(state: dict[str, Any], name: str, core: Core) -> Tensor | None:
    """A first moment as a core; optimizers may keep it in bases of the rank indices."""
    vector = state.get(name)
    if vector is None:
        return None
    back = {index: state[f"{index}_basis"].double().mT for index in ("outer", "inner") if f"{index}_basis" in state}
    return _turned(vector.double(), back, core)


def _turned(x: Tensor, moves: dict[str, Tensor], core: Core) -> Tensor:
    x = absorb(moves["outer"], x, core.outer_first) if "outer" in moves else x
    return x @ moves["inner"] if "inner" in moves else x


def _state(turn: Turn, state: dict[str, Any], first: dict[str, Tensor], new: Tensor) -> dict[str, Any]:
    found = {"step": state["step"]} if "step" in state else {}
    bases, squares = _bases(turn, state)
    for name in CARRIED:
        if state.get(name) is not None:
            moves = {index: bases[f"{index}_basis"] for index in squares if f"{index}_basis" in bases}
            found[name] = _turned(first[name], moves, turn.core).to(state[name])
        elif name in state:
            found[name] = None
    for name in PER_MATRIX:
        if name in state:
            second = state[name]
            if squares:
                found[name] = filled(lambda x: _turned(x, squares, turn.core), second.double()).to(second)
            elif second.shape[-2:] == (1, 1):
                found[name] = second.clone()
            else:  # geoopt repeats the number in every entry
                found[name] = second[..., :1, :1].expand(new.shape).clone()
    sample = state.get("exp_avg", new)
    return {**found, **{name: value.to(sample) for name, value in bases.items()}}


def _bases(turn: Turn, state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gram matrices over the rank indices with their bases, and by index squares of old entries in new bases."""
    if "inner_gram" not in state:
        return {}, {}
    found: dict[str, Tensor] = {}
    squares: dict[str, Tensor] = {}
    whole = state["inner_gram"].double().trace().view(1, 1)
    for index, move in (("outer", turn.outer), ("inner", turn.inner)):
        # An index of rank 1 has no Gram matrix of its own; its only entry is the same number
        own = {"gram": whole, "basis": torch.ones_like(whole), "values": whole}
        own = {name: state[f"{index}_{name}"].double() if f"{index}_{name}" in state else own[name] for name in own}
        gram = move @ own["gram"] @ move.mT
        vectors, values = _basis(move, gram, own["basis"], own["values"])
        squares[index] = (own["basis"].mT @ move.mT @ vectors).square()
        if index == "inner" or turn.core.outer > 1:
            found |= {f"{index}_gram": gram, f"{index}_basis": vectors, f"{index}_values": values}
    return found, squares


def _basis(move: Tensor, gram: Tensor, basis: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Basis (r, r) of a rank index and its values (1, r), ascending: the old one where no rank is lost."""
    new, old = move.shape
    if new < old:
        values, vectors = torch.linalg.eigh(gram)
        return vectors, values.unsqueeze(0)
    q, r = torch.linalg.qr(move @ basis, mode="complete")
    kept = q[:, :old] * torch.where(r.diagonal() < 0, -1.0, 1.0).to(r)
    return torch.cat([q[:, old:], kept], 1), torch.cat([values.new_zeros(1, new - old), values], 1)


def filled(mapped: Callable[[Tensor], Tensor], second: Tensor) -> Tensor:
    """Map second moments, and give entries that nothing maps to the largest of them.

    Parameters
    ----------
    mapped : callable
        Linear map of second moments, whose weights for one entry add up to 1 or less.
    second : Tensor
        Second moments.

    Returns
    -------
    Tensor
    """
    missing = 1 - mapped(torch.ones_like(second))
    return mapped(second) + missing.where(missing > SAME, 0) * second.max()


def carry_values(optimizer: Optimizer, old: nn.Parameter, new: nn.Parameter, maps: Sequence[Tensor]) -> bool:
    """Carry the moments of singular values.

    Parameters
    ----------
    optimizer : Optimizer
        Of the old parameter.
    old, new : Parameter
        (rank,) each.
    maps : sequence of Tensor
        (new rank, old rank), of the bond of the spectrum as U and as V have it.

    Returns
    -------
    bool
        Whether the new parameter has what was kept for the old one; False if it begins anew.
    """
    move = (maps[0] * maps[1]).to(device=old.device)
    return _carry_entries(optimizer, old, new, lambda x: move @ x.double(), lambda x: move.square() @ x.double())


def keep_reflectors(old: Frames, new: Frames, places: tuple[int | None, int], frame: Tensor) -> None:
    """Store a frame of St in the signs that it had, so that columns which stay have the same reflectors.

    Parameters
    ----------
    old, new : Frames
        The frames of a train before and now; the new ones are changed in place.
    places : tuple of int
        Of the core among them; None if it was left out.
    frame : Tensor
        (rows, inner), the new frame.
    """
    k, place = places
    if k is None or not isinstance(old, HouseholderFrames) or not isinstance(new, HouseholderFrames):
        return
    a, b = old.cores[k], new.cores[place]
    if a.reduced or b.reduced or a.rows != b.rows:
        return
    signs, columns = frame.new_zeros(b.inner), min(a.inner, b.inner)
    signs[:columns] = old.tensors(k)[0][:columns].to(frame)
    new.assign_(place, frame, signs)


def carry_reflectors(optimizer: Optimizer, old: Frames, new: Frames, places: tuple[int | None, int]) -> bool:
    """Carry the moments of a frame's reflectors, where they are the same at the new rank.

    Parameters
    ----------
    optimizer : Optimizer
        Of the old parameter.
    old, new : Frames
        The frames of a train before and now.
    places : tuple of int
        Of the core among them; None if it was left out.

    Returns
    -------
    bool
        Whether the new parameter has what was kept for the old one; False if it begins anew.

    Notes
    -----
    The first columns of a product of reflections depend on the first reflectors alone, so that frames of St keep theirs
    where columns were added, or the last ones cut. Others get new reflectors, in which old moments mean nothing.
    """
    k, place = places
    if k is None or not isinstance(old, HouseholderFrames) or not isinstance(new, HouseholderFrames):
        return False
    point, other = old[k], new[place]
    a, b = old.cores[k], new.cores[place]
    alike = (a.rows, a.outer, a.reduced) == (b.rows, b.outer, b.reduced)
    if point is None or other is None or not alike or not torch.equal(old.order(k), new.order(place)):
        return False
    columns, here, there = min(a.inner, b.inner), _entries(a, point.device), _entries(b, point.device)
    reflectors = [_spread(at, own.detach()) for at, own in ((here, point), (there, other))]
    same = torch.allclose(reflectors[0][:, :columns], reflectors[1][:, :columns], rtol=SAME, atol=SAME)
    if not same or not torch.equal(old.tensors(k)[0][:columns], new.tensors(place)[0][:columns]):
        return False

    def mapped(x: Tensor) -> Tensor:
        wide = x.new_zeros(b.rows, b.inner)
        wide[:, :columns] = _spread(here, x)[:, :columns]
        numbers = x.new_zeros(other.numel())
        numbers[there[there >= 0]] = wide[there >= 0]
        return numbers.view_as(other)

    return _carry_entries(optimizer, point, other, mapped, mapped)


def _carry_entries(
    optimizer: Optimizer,
    old: nn.Parameter,
    new: nn.Parameter,
    first: Callable[[Tensor], Tensor],
    second: Callable[[Tensor], Tensor],
) -> bool:
    state = optimizer.state.get(old, {})
    if not state or not FRESH.issuperset(state):
        return False
    found: dict[str, Any] = {}
    for name, value in state.items():
        if not isinstance(value, Tensor) or name == "step":
            found[name] = value
        else:
            found[name] = (first(value) if name in CARRIED else filled(second, value)).to(value)
    optimizer.state[new] = found
    return True


def _entries(core: Core, device: torch.device) -> Tensor:
    """(rows, inner): place of every entry of the reflectors among the stored numbers; -1 where it is not free."""
    places = torch.full((core.rows, core.inner), -1, device=device)
    free = (core.rows - core.inner) * core.inner
    places[core.inner :] = torch.arange(free, device=device).view(-1, core.inner)
    if not core.reduced:
        row, column = torch.tril_indices(core.inner, core.inner, -1, device=device)
        places[row, column] = torch.arange(free, free + len(row), device=device)
    return places


def _spread(places: Tensor, numbers: Tensor) -> Tensor:
    """Reflectors (rows, inner) without their unit diagonal, from the stored numbers."""
    return numbers.flatten()[places.clamp_min(0)] * (places >= 0)
