"""Give layers of a model other ranks, in place, and an optimizer their new parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sttp_riemann.frames import Frames
from sttp_riemann.frames.carrying import Turn, carry_frames, carry_reflectors, carry_values, keep_reflectors
from sttp_riemann.frames.frame import wide_dtype
from sttp_riemann.frames.momentum import momentum_of
from sttp_riemann.layers import SpectralLayer
from sttp_riemann.model.weights import EXACT, frame_error
from sttp_riemann.trains.bonds import Resized, WholeChain, whole_chain, widest
from sttp_riemann.trains.shape import LayerShape
from sttp_riemann.trains.start import LayerCores

SIDES = ("left", "right")


@dataclass(frozen=True)
class RankChange:
    """What became of one layer.

    Attributes
    ----------
    name : str
        The layer.
    before, after : int
        Rank of its widest bond.
    moved : float
        Frobenius norm of the change of W, relative to that of W before.
    moments : {"carried", "partly", "restarted", "none"}
        What became of all that the optimizer kept for the layer: its parameters have it, some begin anew, all do; or
        there was nothing.
    """

    name: str
    before: int
    after: int
    moved: float
    moments: str


@dataclass(frozen=True)
class RankChanges:
    """What became of all layers of a model; prints as a table.

    Attributes
    ----------
    layers : tuple of RankChange
        In the order of the model, unchanged ones included.
    """

    layers: tuple[RankChange, ...]

    def __str__(self) -> str:
        width = max(5, *(len(row.name) for row in self.layers))
        lines = [f"{'layer':{width}s} {'rank':>5s} {'now':>5s} {'W moved by':>11s}  moments"]
        for row in self.layers:
            lines.append(f"{row.name:{width}s} {row.before:5d} {row.after:5d} {row.moved:11.2e}  {row.moments}")
        return "\n".join(lines)


@torch.no_grad()
def chain_of(name: str, layer: SpectralLayer) -> WholeChain:
    """Frames and singular values of a layer whose ranks can change, in float64.

    Parameters
    ----------
    name : str
        The layer, for messages.
    layer : SpectralLayer
        The layer.

    Returns
    -------
    WholeChain

    Raises
    ------
    ValueError
        Its spectrum is the identity, it is bounded as an operator, or its frames are off their manifold.
    """
    if layer.spectrum is None:
        raise ValueError(
            f"layer {name!r} has an identity spectrum, in which no value is smaller than another and none can begin at "
            "0: its rank cannot change; reparameterize with spectrum='learned' or 'free', or leave the layer out"
        )
    if layer.operator is not None:
        raise ValueError(
            f"layer {name!r} is bounded as an operator, so all its singular values change with the rank: it cannot "
            "change; reparameterize with bound_of='matrix', or leave the layer out"
        )
    if frame_error(layer) > EXACT:
        raise ValueError(f"the frames of layer {name!r} are off their manifold: call sr.project(model) first")
    left, values, right = layer.build_cores(torch.float64)
    return whole_chain(layer.shape, [c.detach() for c in left], values.detach(), [c.detach() for c in right])


@torch.no_grad()
def resize(
    model: nn.Module,
    groups: Mapping[str, Sequence[SpectralLayer]],
    changes: Mapping[str, tuple[LayerShape, Resized]],
    optimizer: Optimizer | None,
) -> RankChanges:
    """Give layers other ranks, in place.

    Parameters
    ----------
    model : nn.Module
        Theirs.
    groups : mapping
        All reparameterized layers by name, those that share a weight together.
    changes : mapping
        Shape and cores of those that change.
    optimizer : Optimizer or None
        Its groups get the new parameters in place of the old ones, and its state follows.

    Returns
    -------
    RankChanges

    Raises
    ------
    ValueError
        The optimizer scales the entries of a Riemannian frame one by one. Nothing has changed then.
    """
    if optimizer is not None:
        for name in changes:
            for parameter in groups[name][0].factor_parameters():
                if hasattr(parameter, "manifold"):
                    momentum_of(optimizer)(parameter)
    made = {name: _Change(groups[name][0], *change) for name, change in changes.items()}
    # Nothing can fail from here on
    rows = []
    for name, twins in groups.items():
        layer = twins[0]
        before = widest(layer.shape)
        if name not in made:
            rows.append(RankChange(name, before, before, 0.0, "none"))
            continue
        change = made[name]
        factors = layer.build_factors(torch.float64)
        words = "none" if optimizer is None else change.follow(optimizer)
        for twin in twins:
            twin.left, twin.spectrum, twin.right = change.left, change.spectrum, change.right
            twin.shape = change.shape
        rows.append(RankChange(name, before, widest(layer.shape), _moved(layer, factors), words))
    everything = [twins[0].shape.saving for twins in groups.values()]
    for twins in groups.values():
        for twin in twins:
            twin.room = sum(everything) / len(everything)
    return RankChanges(tuple(rows))


class _Change:
    """New frames and spectrum of a layer, and how an optimizer follows."""

    def __init__(self, layer: SpectralLayer, shape: LayerShape, resized: Resized) -> None:
        self.layer, self.shape, self.resized = layer, shape, resized
        values = resized.chain.values.clone()
        if layer.spectrum_kind == "learned" and bool(values.any()):
            # The truncation of inner bonds makes values smaller, and the largest of a learned spectrum is the bound
            largest = values.abs().argmax()
            values[largest] = values[largest].sign() * layer.bound
            values *= layer.stored_spectrum().abs().max() / layer.bound
        sample = layer.sample()
        left, right = (
            [frame.clone() for frame in frames[len(frames) - len(train.cores) :]]
            for frames, train in zip(resized.chain.frames, (shape.left, shape.right), strict=True)
        )
        cores = LayerCores(left, values, right)
        # Points of St may stay in any gauge, and moments with them
        direct = layer.left.direct
        orders: tuple[list[Tensor], list[Tensor]] = ([], []) if direct else cores.fix_gauge(shape, layer.left.pivoted)
        assert layer.spectrum is not None
        self.spectrum = nn.Parameter(cores.spectrum.to(layer.spectrum), layer.spectrum.requires_grad)
        self.left, self.right = (
            type(old)(train.cores, own, order).to(sample.device, wide_dtype(sample.dtype)).train(old.training)
            for old, train, own, order in zip(
                (layer.left, layer.right), (shape.left, shape.right), (left, right), orders, strict=True
            )
        )
        self.olds, self.news = (
            [_by_mode(frames, len(own)) for frames, own in zip(pair, resized.chain.frames, strict=True)]
            for pair in ((layer.left, layer.right), (self.left, self.right))
        )
        for side, frames in (("left", left), ("right", right)):
            for k, frame in enumerate(frames):
                keep_reflectors(getattr(layer, side), getattr(self, side), (self._before(side, k), k), frame)
        for old, new in zip(self.olds, self.news, strict=True):
            for k, parameter in enumerate(new):
                if parameter is not None:
                    nearest = _nearest(old, k)
                    before = None if nearest is None else old[nearest]
                    parameter.requires_grad_(layer.trains if before is None else before.requires_grad)

    def _before(self, side: str, k: int) -> int | None:
        """Place among the old frames of a side of the core that is at a place among the new ones; None for none."""
        place = k + len(getattr(self.layer, side)) - len(getattr(self, side))
        return place if place >= 0 else None

    def follow(self, optimizer: Optimizer) -> str:
        """Give an optimizer the new parameters; a word on what it kept for the old ones."""
        replaced: list[tuple[Tensor, str, list[tuple[Tensor, str]]]] = []
        carries, layer = [], self.layer
        assert layer.spectrum is not None
        old_parameters = [layer.spectrum, *(p for own in self.olds for p in own if p is not None)]
        any_state = any(optimizer.state.get(p) for p in old_parameters)
        orphans: list[tuple[Tensor, str]] = [(self.spectrum, "spectrum")]
        resized = self.resized
        carries.append(carry_values(optimizer, layer.spectrum, self.spectrum, [own[-1] for own in resized.maps]))
        sides = zip(SIDES, self.olds, self.news, resized.chain.trains, resized.chain.frames, resized.maps, strict=True)
        for side, olds, news, train, frames, maps in sides:
            offsets = [len(own) - len(getattr(whole, side)) for own, whole in ((olds, layer), (news, self))]
            if layer.left.direct:
                outers = [maps[0].new_ones(1, 1), *maps[:-1]]
                turns = [Turn(*each) for each in zip(train.cores, frames, outers, maps, strict=True)]
                carries += carry_frames(optimizer, turns, olds, news)
            else:
                pair = getattr(layer, side), getattr(self, side)
                for k in range(len(pair[1])):
                    if pair[1][k] is not None:
                        carries.append(carry_reflectors(optimizer, *pair, (self._before(side, k), k)))
            heirs: dict[int, list[tuple[Tensor, str]]] = {k: [] for k, p in enumerate(olds) if p is not None}
            for k, parameter in enumerate(news):
                if parameter is not None:
                    nearest = _nearest(olds, k)
                    target = orphans if nearest is None else heirs[nearest]
                    target.append((parameter, f"{side}.{k - offsets[1]}"))
            replaced += [(p, f"{side}.{k - offsets[0]}", heirs[k]) for k, p in enumerate(olds) if p is not None]
        replaced.append((layer.spectrum, "spectrum", orphans))
        _replace(optimizer, replaced)
        if not any_state:
            return "none"
        return "carried" if all(carries) else "partly" if any(carries) else "restarted"


def _by_mode(frames: Frames, modes: int) -> list[nn.Parameter | None]:
    """The parameter of the core of each mode; None where the core is left out or has no degrees of freedom."""
    return [None] * (modes - len(frames)) + [frames[k] for k in range(len(frames))]


def _nearest(parameters: Sequence[nn.Parameter | None], k: int) -> int | None:
    """Place of the parameter whose options in an optimizer the one at a place is to have."""
    held = [i for i, p in enumerate(parameters) if p is not None]
    return min(held, key=lambda i: (abs(i - k), i < k), default=None)


def _replace(optimizer: Optimizer, replaced: Sequence[tuple[Tensor, str, list[tuple[Tensor, str]]]]) -> None:
    """Put new parameters in the places of old ones in an optimizer's groups, and drop what it kept for the old ones."""
    heirs = {id(old): (name, new) for old, name, new in replaced}
    for group in optimizer.param_groups:
        old = list(group["params"])
        group["params"][:] = [p for before in old for p in _heirs_of(heirs, before)]
        if "param_names" in group:
            group["param_names"][:] = [
                name
                for before, told in zip(old, list(group["param_names"]), strict=True)
                for name in _names_of(heirs, before, told)
            ]
    for parameter, _, _ in replaced:
        optimizer.state.pop(parameter, None)


def _heirs_of(heirs: Mapping[int, tuple[str, list[tuple[Tensor, str]]]], before: Tensor) -> list[Tensor]:
    return [p for p, _ in heirs[id(before)][1]] if id(before) in heirs else [before]


def _names_of(heirs: Mapping[int, tuple[str, list[tuple[Tensor, str]]]], before: Tensor, told: str) -> list[str]:
    if id(before) not in heirs:
        return [told]
    suffix, new = heirs[id(before)]
    return [told.removesuffix(suffix) + name for _, name in new]


def _moved(layer: SpectralLayer, before: tuple[Tensor, Tensor]) -> float:
    """Relative change of W, from thin factors before and now."""
    (u, v), (now_u, now_v) = before, layer.build_factors(torch.float64)
    ends = [torch.linalg.qr(torch.cat(pair, 1)).R for pair in ((u, -now_u), (v, now_v))]
    size = torch.linalg.matrix_norm(torch.linalg.qr(u).R @ torch.linalg.qr(v).R.mT)
    return float(torch.linalg.matrix_norm(ends[0] @ ends[1].mT) / size.clamp_min(torch.finfo(u.dtype).tiny))
