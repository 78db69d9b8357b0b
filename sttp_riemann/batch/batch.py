"""Build the frames of many layers from their parameters, as one node of the autograd graph."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from sttp_riemann.batch.layout import Group, Layout, Member
from sttp_riemann.batch.owner import Owner
from sttp_riemann.batch.tape import Tape, scaled
from sttp_riemann.frames.frame import full_precision
from sttp_riemann.trains.contraction import contract
from sttp_riemann.trains.memory import side_by_side
from sttp_riemann.trains.shape import Train
from sttp_riemann.trains.spectrum import spectrum_values

Output = Literal["pairs", "cores"]
"""What is built: ``U diag(s)`` (d_out, rank) and V (d_in, rank) of each layer; or its frames, core by core, and s."""


class Plan:
    """Plan for building the frames of layers with equal kind of frame, dtypes and device; knows shapes, not layers.

    Parameters
    ----------
    members : sequence of Member
        The layers.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.layout = Layout(members)
        # Of each layer, those whose weights have its shapes
        alike: dict[tuple[Train, Train], list[int]] = {}
        for i, member in enumerate(members):
            alike.setdefault((member.shape.left, member.shape.right), []).append(i)
        self.equals = [alike[member.shape.left, member.shape.right] for member in members]
        self._dtype, self._weight_dtype = members[0].dtype, members[0].weight_dtype
        components = [self.layout.kind.components(bank.core) for bank in self.layout.banks]
        self._banks = list(zip(self.layout.banks, components, strict=True))
        self._sizes = [len(bank.slots) for bank, count in self._banks for _ in range(count)]
        self._sizes += map(len, self.layout.spectra)
        self.owners = [(i, side) for bank, count in self._banks for _ in range(count) for i, side, _ in bank.slots]
        self.owners += [(i, "left") for own in self.layout.spectra for i in own]
        # Never inference tensors, even inside inference mode: training uses them as well
        with torch.inference_mode(False), torch.no_grad():
            self._empty = torch.empty((), dtype=self._dtype, device=members[0].device)
            self._spectrum_bounds = [self._bounds(own) for own in self.layout.spectra]
            self._group_bounds = [self._bounds(group.members) for group in self.layout.groups]

    def _bounds(self, members: Sequence[int]) -> Tensor | float:
        """(B, 1), or one number for all layers."""
        bounds = [self.layout.members[i].bound for i in members]
        return bounds[0] if len(set(bounds)) == 1 else self._empty.new_tensor(bounds).unsqueeze(1)

    def gather(self, layers: Sequence[Owner]) -> list[Tensor]:
        """All tensors that the frames of these layers are computed from: bank after bank, then spectra."""
        found: list[Tensor] = []
        for bank, count in self._banks:
            own = [(layers[i].left if side == "left" else layers[i].right).tensors(k) for i, side, k in bank.slots]
            found += [tensors[component] for component in range(count) for tensors in own]
        return found + [layers[i].spectrum for own in self.layout.spectra for i in own]  # type: ignore[misc]

    def stack(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """One tensor per component of a bank, and one per spectrum: (B, ...)."""
        wide = (t if t.dtype == self._dtype or not t.is_floating_point() else t.to(self._dtype) for t in tensors)
        return [_stack(list(islice(wide, size))) for size in self._sizes]

    def split(self, stacks: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Undo `stack`; None stays None."""
        found: list[Tensor | None] = []
        for stack, size in zip(stacks, self._sizes, strict=True):
            found += [None] * size if stack is None else _rows(stack)
        return found

    def build(self, stacks: Sequence[Tensor], output: Output, tape: Tape | None = None) -> list[Piece]:
        """Build the requested output of the layers, group by group.

        Differentiable by autograd where gradients are enabled; otherwise a tape records the backward pass.
        """
        remaining, kind = iter(stacks), self.layout.kind
        with full_precision(self._empty.device):
            frames = []
            for bank, count in self._banks:
                parts = islice(remaining, count)
                frames.append(
                    kind.materialize(bank.core, *parts) if tape is None else tape.bank(kind, bank.core, *parts)
                )
            values = []
            for members, bounds in zip(self.layout.spectra, self._spectrum_bounds, strict=True):
                given = self.layout.members[members[0]].spectrum, next(remaining), bounds
                values.append(spectrum_values(*given) if tape is None else tape.spectrum(*given))
            # Rows of each bank and spectrum are handed out in order, so a single split serves all groups
            rows = [iter(_split(*each)) for each in zip(frames, self.layout.shares, strict=True)]
            rows_of_values = [iter(_split(*each)) for each in zip(values, self.layout.spectrum_shares, strict=True)]
            pieces: list[Piece] = []
            for group, bounds in zip(self.layout.groups, self._group_bounds, strict=True):
                cores = [next(rows[bank]) for bank, _ in group.cores]
                own = None if group.spectrum is None else next(rows_of_values[group.spectrum[0]])
                if output == "pairs":
                    factors = own if own is not None else bounds if group.train.side == "left" else 1.0
                    train = group, cores, factors, self._empty
                    contracted = _contracted(*train) if tape is None else tape.group(*train)
                    pieces.append(Piece(group, contracted.to(self._weight_dtype)))
                    continue
                pieces += [Piece(group, core) for core in cores]
                if group.train.side == "left":
                    whole = self._empty.new_ones(len(group.members), group.train.rank)
                    pieces.append(Piece(group, whole * bounds if own is None else own))
        return pieces

    def __call__(self, layers: Sequence[Owner], output: Output) -> list[list[Tensor]]:
        """Build for these layers, one list per layer; differentiable where gradients are enabled.

        A layer whose results are unused gets the gradient None, even if others of its batch are used.
        """
        # Plain tensors: the tensor subclass of geoopt's parameters would only cost time
        with torch._C.DisableTorchFunctionSubclass():
            tensors = self.gather(layers)
            found: list[list[Tensor]] = [[] for _ in layers]
            if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
                rows = iter(_Build.apply(self, output, *tensors))
                for group in self.pieces(output):
                    for i in group.members:
                        found[i].append(next(rows))
                return found
            with torch.no_grad():
                for piece in self.build(self.stack(tensors), output):
                    for i, row in zip(piece.group.members, piece.rows(), strict=True):
                        found[i].append(row)
            return found

    def check_versions(self, tensors: Sequence[Tensor], versions: Sequence[int]) -> None:
        """Refuse a backward through frames modified in place since; stacked ones are copies.

        Raises
        ------
        RuntimeError
            As autograd's own.
        """
        first = 0
        for size in self._sizes:
            if size == 1 and tensors[first]._version != versions[first]:
                raise RuntimeError(
                    "a frame needed for gradient computation has been modified by an inplace operation: call backward "
                    "before the optimizer's step"
                )
            first += size

    def pieces(self, output: Output) -> list[Group]:
        """The groups that `build` returns pieces of, in order."""
        if output == "pairs":
            return self.layout.groups
        return [g for g in self.layout.groups for _ in range(len(g.cores) + (g.train.side == "left"))]


class Piece(NamedTuple):
    """The result for one group: (B, ...), or (1, ...) where it is the same for all layers."""

    group: Group
    stack: Tensor

    def rows(self) -> Sequence[Tensor]:
        """One tensor per member."""
        rows = _rows(self.stack)
        return rows if len(rows) == len(self.group.members) else [rows[0]] * len(self.group.members)


class _Build(torch.autograd.Function):
    """Autograd node that supports repeated backward passes and gives no gradient to unused inputs.

    Autograd frees a graph after one backward; results shared by two losses, each with its own backward, must
    outlive the first. So the tape lives as long as its outputs. Activation checkpointing and other hooks on saved
    tensors do not see it: a second forward may reuse it and save nothing.
    """

    @staticmethod
    def forward(ctx: Any, plan: Plan, output: Output, *tensors: Tensor) -> tuple[Tensor, ...]:
        wanted = [t.requires_grad for t in tensors]
        ctx.plan, ctx.output, ctx.wanted, ctx.inputs = plan, output, wanted, tensors
        ctx.versions = [t._version for t in tensors]
        ctx.tape = Tape()
        pieces = plan.build(plan.stack(tensors), output, ctx.tape)
        ctx.set_materialize_grads(False)
        needed = {owner for owner, flag in zip(plan.owners, wanted, strict=True) if flag}
        found, constant = [], []
        for piece in pieces:
            # A frame that is itself a parameter is returned as a separate tensor
            for i, row in zip(piece.group.members, Piece(piece.group, piece.stack.detach()).rows(), strict=True):
                found.append(row)
                if (i, piece.group.train.side) not in needed:
                    constant.append(row)
        ctx.mark_non_differentiable(*constant)
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        remaining, used, by_piece = iter(grads), set(), []
        for group in plan.pieces(ctx.output):
            own = list(islice(remaining, len(group.members)))
            by_piece.append(_joined(own))
            used |= {(i, group.train.side) for i, g in zip(group.members, own, strict=True) if g is not None}
        if torch.is_grad_enabled():  # create_graph=True
            by_tensor = _differentiably(plan, ctx.output, ctx.inputs, ctx.wanted, by_piece)
        else:
            plan.check_versions(ctx.inputs, ctx.versions)
            # A backward that is called within autocast runs under it
            with full_precision(plan._empty.device):
                by_stack = ctx.tape.pull(plan.layout, ctx.output, by_piece)
            by_tensor = plan.split([None if g is None else g.contiguous() for g in by_stack])
        kept = (
            g if wanted and owner in used else None
            for g, wanted, owner in zip(by_tensor, ctx.wanted, plan.owners, strict=True)
        )
        return None, None, *map(_given, kept, ctx.inputs)


def _given(grad: Tensor | None, like: Tensor) -> Tensor | None:
    """Contiguous, as DistributedDataParallel requires of gradients."""
    if grad is None or (grad.dtype == like.dtype and grad.is_contiguous()):
        return grad
    return grad.contiguous().to(like.dtype)


def _differentiably(
    plan: Plan, output: Output, inputs: Sequence[Tensor], wanted: Sequence[bool], grads: Sequence[Tensor | None]
) -> list[Tensor | None]:
    pieces = plan.build(plan.stack(inputs), output)
    ends = [(p.stack, g) for p, g in zip(pieces, grads, strict=True) if g is not None and p.stack.requires_grad]
    if not ends:
        return [None] * len(inputs)
    stacks, given = zip(*ends, strict=True)
    sources = [t for t, flag in zip(inputs, wanted, strict=True) if flag]
    found = iter(torch.autograd.grad(stacks, sources, given, create_graph=True, allow_unused=True))
    return [next(found) if flag else None for flag in wanted]


def _joined(grads: Sequence[Tensor | None]) -> Tensor | None:
    """Gradient of a stack from those of its rows; None if all rows are unused."""
    given = next((g for g in grads if g is not None), None)
    if given is None:
        return None
    full = [torch.zeros_like(given) if g is None else g for g in grads]
    whole = None if len(full) == 1 or torch.is_grad_enabled() else side_by_side(full)
    return _stack(full) if whole is None else whole


def _contracted(group: Group, cores: Sequence[Tensor], factors: Tensor | float, like: Tensor) -> Tensor:
    return scaled(contract(group.train, cores, like), factors)


def _split(stack: Tensor, sizes: Sequence[int]) -> Sequence[Tensor]:
    return [stack] if len(sizes) == 1 else stack.split(sizes)


def _rows(stack: Tensor) -> Sequence[Tensor]:
    return [stack.squeeze(0)] if len(stack) == 1 else stack.unbind()


def _stack(tensors: list[Tensor]) -> Tensor:
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(tensors)
