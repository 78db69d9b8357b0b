"""The frames of many layers from their parameters, as one step of the graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from sttp_riemann.batch.layout import Group, Layout, Member
from sttp_riemann.batch.owner import Owner
from sttp_riemann.frames.frame import full_precision
from sttp_riemann.spectrum import spectrum_values
from sttp_riemann.tt import contract

Output = Literal["pairs", "cores"]
"""What is built: ``U diag(s)`` (d_out, rank) and V (d_in, rank) of each layer; or its frames, core by core, and s."""


class Plan:
    """How to build the frames of layers that agree in kind of frame, dtypes and device; knows shapes, not layers.

    Parameters
    ----------
    members : sequence of Member
        The layers.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.layout = Layout(members)
        self._dtype, self._weight_dtype = members[0].dtype, members[0].weight_dtype
        components = [self.layout.kind.components(bank.core) for bank in self.layout.banks]
        self._banks = list(zip(self.layout.banks, components, strict=True))
        self._sizes = [len(bank.slots) for bank, count in self._banks for _ in range(count)]
        self._sizes += map(len, self.layout.spectra)
        self.owners = [(i, side) for bank, count in self._banks for _ in range(count) for i, side, _ in bank.slots]
        self.owners += [(i, "left") for own in self.layout.spectra for i in own]
        self._shares = [
            [len(group.members) for group in self.layout.groups for at, _ in group.cores if at == bank]
            for bank in range(len(self.layout.banks))
        ]
        self._spectrum_shares = [
            [len(group.members) for group in self.layout.groups if group.spectrum and group.spectrum[0] == line]
            for line in range(len(self.layout.spectra))
        ]
        # Never of an inference mode that happens to be on: training uses them as well
        with torch.inference_mode(False), torch.no_grad():
            self._empty = torch.empty((), dtype=self._dtype, device=members[0].device)
            self._spectrum_bounds = [self._bounds(own) for own in self.layout.spectra]
            self._group_bounds = [self._bounds(group.members) for group in self.layout.groups]

    def _bounds(self, members: Sequence[int]) -> Tensor | float:
        """(B, 1), or one number for all."""
        bounds = [self.layout.members[i].bound for i in members]
        return bounds[0] if len(set(bounds)) == 1 else self._empty.new_tensor(bounds).unsqueeze(1)

    def gather(self, layers: Sequence[Owner]) -> list[Tensor]:
        """Everything that the frames of these layers are computed from: banks one after the other, then spectra."""
        found: list[Tensor] = []
        for bank, count in self._banks:
            own = [(layers[i].left if side == "left" else layers[i].right).tensors(k) for i, side, k in bank.slots]
            found += [tensors[component] for component in range(count) for tensors in own]
        return found + [layers[i].spectrum for own in self.layout.spectra for i in own]  # type: ignore[misc]

    def stack(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """One tensor for each component of a bank, and one for each spectrum: (B, ...)."""
        wide = (t if t.dtype == self._dtype else t.to(self._dtype) for t in tensors)
        return [_stack(list(islice(wide, size))) for size in self._sizes]

    def split(self, stacks: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Undo `stack`; None of what there is none of."""
        found: list[Tensor | None] = []
        for stack, size in zip(stacks, self._sizes, strict=True):
            found += [None] * size if stack is None else _rows(stack)
        return found

    def frames(self, stacks: Sequence[Tensor]) -> list[Tensor]:
        """(B, rows, rank) of every bank."""
        remaining = iter(stacks)
        return [self.layout.kind.materialize(bank.core, *islice(remaining, count)) for bank, count in self._banks]

    def build(self, stacks: Sequence[Tensor], output: Output) -> list[list[Tensor]]:
        """What is wanted of each layer, in the order of the layers."""
        with full_precision(self._empty.device):
            frames = self.frames(stacks)
            spectra = stacks[len(stacks) - len(self.layout.spectra) :]
            kinds = (self.layout.members[own[0]].spectrum for own in self.layout.spectra)
            values = [spectrum_values(*each) for each in zip(kinds, spectra, self._spectrum_bounds, strict=True)]
            found: list[list[Tensor]] = [[] for _ in self.layout.members]
            make = self._pair if output == "pairs" else self._cores
            # Each bank and each spectrum is handed out from its first row to its last, so that none is sliced
            by_group = [iter(_split(*each)) for each in zip(frames, self._shares, strict=True)]
            values_by_group = [iter(_split(*each)) for each in zip(values, self._spectrum_shares, strict=True)]
            for group, bounds in zip(self.layout.groups, self._group_bounds, strict=True):
                cores = [next(by_group[bank]) for bank, _ in group.cores]
                own = None if group.spectrum is None else next(values_by_group[group.spectrum[0]])
                for i, tensors in zip(group.members, make(group, cores, own, bounds), strict=True):
                    found[i] += tensors
        return found

    def _pair(
        self, group: Group, cores: list[Tensor], values: Tensor | None, bounds: Tensor | float
    ) -> Iterable[list[Tensor]]:
        frames = contract(group.train, cores, like=self._empty)
        if values is not None:
            frames = frames * values.unsqueeze(1)
        elif group.train.side == "left" and bounds != 1.0:
            frames = frames * (bounds if isinstance(bounds, float) else bounds.unsqueeze(-1))
        rows = _rows(frames.to(self._weight_dtype))
        # A train without cores is one identity for all
        return ([row] for row in (rows if len(rows) == len(group.members) else [rows[0]] * len(group.members)))

    def _cores(
        self, group: Group, cores: list[Tensor], values: Tensor | None, bounds: Tensor | float
    ) -> Iterable[list[Tensor]]:
        columns = [_rows(core) for core in cores]
        if group.train.side == "left":
            if values is None:
                values = self._empty.new_ones(len(group.members), group.train.rank) * bounds
            columns.append(_rows(values))
        return (list(own) for own in zip(*columns, strict=True))

    def __call__(self, layers: Sequence[Owner], output: Output) -> list[list[Tensor]]:
        """Build for these layers; differentiable where gradients are on.

        What nobody uses gets the gradient None, also where others of its batch are used.
        """
        tensors = self.gather(layers)
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            flat = iter(_Build.apply(self, output, *tensors))
            return [list(islice(flat, len(self.sides(i, output)))) for i in range(len(layers))]
        with torch.no_grad():
            return self.build(self.stack(tensors), output)

    def sides(self, member: int, output: Output) -> list[str]:
        """On which side of the spectrum each tensor is that is built for a layer."""
        if output == "pairs":
            return ["left", "right"]
        shape = self.layout.members[member].shape
        return ["left"] * (len(shape.left.cores) + 1) + ["right"] * len(shape.right.cores)


class _Build(torch.autograd.Function):
    """A part of the graph that may be walked back through any number of times, with no gradient for what was unused.

    Autograd frees a graph after one backward; what is shared by two losses, each with a backward of its own, must
    outlive the first. So the inner graph is kept here for as long as its outputs are. Activation checkpointing and the
    like, which look after what is saved meanwhile, must not see it: a second forward may find it there and save none.
    """

    @staticmethod
    def forward(ctx: Any, plan: Plan, output: Output, *tensors: Tensor) -> tuple[Tensor, ...]:
        wanted = [t.requires_grad for t in tensors]
        ctx.plan, ctx.output, ctx.wanted, ctx.inputs = plan, output, wanted, tensors
        flags = iter(wanted)
        ctx.leaves = [
            stack.detach().requires_grad_(any(list(islice(flags, len(stack))))) for stack in plan.stack(tensors)
        ]
        with torch.enable_grad(), saved_tensors_hooks(_as_it_is, _as_it_is):
            ctx.results = plan.build(ctx.leaves, output)
        ctx.set_materialize_grads(False)
        needed = {owner for owner, flag in zip(plan.owners, wanted, strict=True) if flag}
        found, constant = [], []
        for i, own in enumerate(ctx.results):
            for result, side in zip(own, plan.sides(i, output), strict=True):
                found.append(result.detach())
                if (i, side) not in needed:
                    constant.append(found[-1])
        ctx.mark_non_differentiable(*constant)
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        again = torch.is_grad_enabled()
        if again:  # asked for a graph of the gradient
            with torch.enable_grad():
                results = plan.build(plan.stack(ctx.inputs), ctx.output)
            sources = [t for t, wanted in zip(ctx.inputs, ctx.wanted, strict=True) if wanted]
        else:
            results = ctx.results
            sources = [leaf for leaf in ctx.leaves if leaf.requires_grad]
        remaining, used, ends = iter(grads), set(), []
        for i, own in enumerate(results):
            for result, grad, side in zip(own, islice(remaining, len(own)), plan.sides(i, ctx.output), strict=True):
                if grad is not None and result.requires_grad:
                    ends.append((result, grad))
                    used.add((i, side))
        if not ends:
            return None, None, *(None for _ in ctx.inputs)
        found = iter(
            torch.autograd.grad(
                [r for r, _ in ends],
                sources,
                [g for _, g in ends],
                retain_graph=True,
                create_graph=again,
                allow_unused=True,
            )
        )
        if again:
            by_tensor = [next(found) if wanted else None for wanted in ctx.wanted]
        else:
            stacks = (next(found) if leaf.requires_grad else None for leaf in ctx.leaves)
            by_tensor = plan.split([None if g is None else g.contiguous() for g in stacks])
        kept = (
            g if wanted and owner in used else None
            for g, wanted, owner in zip(by_tensor, ctx.wanted, plan.owners, strict=True)
        )
        # Contiguous, as DistributedDataParallel wants the gradients of parameters
        given = (None if g is None else g.contiguous().to(t.dtype) for g, t in zip(kept, ctx.inputs, strict=True))
        return None, None, *given


def _split(stack: Tensor, sizes: Sequence[int]) -> Sequence[Tensor]:
    return [stack] if len(sizes) == 1 else stack.split(sizes)


def _rows(stack: Tensor) -> Sequence[Tensor]:
    return [stack.squeeze(0)] if len(stack) == 1 else stack.unbind()


def _stack(tensors: list[Tensor]) -> Tensor:
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(tensors)


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor
