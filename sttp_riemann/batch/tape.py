"""Backward pass from built frames to their parameters, in fewer calls than autograd makes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sttp_riemann.batch.layout import Group, Layout
from sttp_riemann.frames import Frames
from sttp_riemann.trains.contraction import Pull, trace_contract
from sttp_riemann.trains.shape import Core
from sttp_riemann.trains.spectrum import SpectrumKind, trace_values

Parts = list[list[Tensor | None]]


class Tape:
    """Record of one build, in order; can be replayed backwards any number of times."""

    def __init__(self) -> None:
        self._banks: list[Pull] = []
        self._spectra: list[Pull] = []
        self._groups: list[tuple[Pull, Tensor, Tensor | float]] = []

    def bank(self, kind: type[Frames], core: Core, *stacks: Tensor) -> Tensor:
        """Frames of a bank; see `Frames.trace`."""
        frames, pull = kind.trace(core, *stacks)
        self._banks.append(pull)
        return frames

    def spectrum(self, kind: SpectrumKind, stored: Tensor, bounds: Tensor | float) -> Tensor:
        """Values of a spectrum; see `sttp_riemann.trains.spectrum.trace_values`."""
        values, pull = trace_values(kind, stored, bounds)
        self._spectra.append(pull)
        return values

    def group(self, group: Group, cores: Sequence[Tensor], factors: Tensor | float, like: Tensor) -> Tensor:
        """Contract the trains of a group, and scale their columns by factors (B, rank), (B, 1) or a single number."""
        frames, pull = trace_contract(group.train, cores, like)
        self._groups.append((pull, frames, factors))
        return scaled(frames, factors)

    def pull(self, layout: Layout, output: str, grads: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Gradients of the stacks from those of the pieces; None for unused stacks.

        Parameters
        ----------
        layout : Layout
            Layout of the build.
        output : {"pairs", "cores"}
            Kind of output that was built.
        grads : sequence of Tensor or None
            One per piece.

        Returns
        -------
        list of Tensor or None
            One per stack, in the order of `Plan.stack`.
        """
        remaining = iter(grads)
        of_frames: Parts = [[] for _ in layout.banks]
        of_values: Parts = [[] for _ in layout.spectra]
        for number, group in enumerate(layout.groups):
            if output == "pairs":
                by_core, of_spectrum = self._back(number, group, next(remaining))
            else:
                by_core = [next(remaining) for _ in group.cores]
                of_spectrum = next(remaining) if group.train.side == "left" else None
            for (bank, _), grad in zip(group.cores, by_core, strict=True):
                of_frames[bank].append(grad)
            if group.spectrum is not None:
                of_values[group.spectrum[0]].append(of_spectrum)
        found: list[Tensor | None] = []
        for equal, pull, parts, sizes in zip(layout.banks, self._banks, of_frames, layout.shares, strict=True):
            whole = _joined(parts, sizes)
            found += [None] * layout.kind.components(equal.core) if whole is None else pull(whole)
        for pull, parts, sizes in zip(self._spectra, of_values, layout.spectrum_shares, strict=True):
            whole = _joined(parts, sizes)
            found += (None,) if whole is None else pull(whole)
        return found

    def _back(self, number: int, group: Group, grad: Tensor | None) -> tuple[Sequence[Tensor | None], Tensor | None]:
        """Gradients of a group's cores and singular values."""
        if grad is None:
            return [None] * len(group.cores), None
        pull, frames, factors = self._groups[number]
        grad = grad.to(frames.dtype)
        of_values = (grad * frames).sum(1) if group.spectrum is not None else None
        return pull(scaled(grad, factors)), of_values


def scaled(frames: Tensor, factors: Tensor | float) -> Tensor:
    """Scale the columns of frames.

    Parameters
    ----------
    frames : Tensor
        (B, dim, rank), or (1, dim, rank).
    factors : Tensor or float
        (B, rank), (B, 1), or a single number.

    Returns
    -------
    Tensor
        (B, dim, rank).
    """
    if isinstance(factors, float):
        return frames if factors == 1.0 else frames * factors
    return frames * factors.unsqueeze(1)


def _joined(parts: Sequence[Tensor | None], sizes: Sequence[int]) -> Tensor | None:
    given = next((part for part in parts if part is not None), None)
    if given is None or len(parts) == 1:
        return given
    pairs = zip(parts, sizes, strict=True)
    return torch.cat([given.new_zeros(size, *given.shape[1:]) if part is None else part for part, size in pairs])
