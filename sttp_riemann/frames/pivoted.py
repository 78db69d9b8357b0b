"""Householder frames of St_U that any rows may lead."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sttp_riemann.frames.householder import HouseholderFrames
from sttp_riemann.trains.contraction import Pull
from sttp_riemann.trains.shape import Core


class PivotedFrames(HouseholderFrames):
    """Householder frames with a buffer ``rows_k`` (rows,) beside each frame of St_U: its rows, the leading ones first.

    The reflectors are those of the frame with its rows in that order.

    Notes
    -----
    A chart of St_U folds where its leading block is singular. Rows chosen by QR with column pivoting of X^T keep it
    away from there; W and the degrees of freedom are the same for any rows.
    """

    pivoted = True

    @staticmethod
    def components(core: Core) -> int:
        """Rows of a frame of St_U, and what there is without them."""
        return HouseholderFrames.components(core) + core.reduced

    def lead(self, k: int, order: Tensor) -> None:
        """Keep the order of a frame of St_U."""
        if not self.cores[k].reduced:
            return
        held = self._buffers.get(f"rows_{k}")
        if held is None:
            self.register_buffer(f"rows_{k}", order.clone())
        else:
            held.copy_(order)

    def order(self, k: int) -> Tensor:
        """As it is kept; of a frame of St the first rows."""
        held = self._buffers.get(f"rows_{k}")
        return super().order(k) if held is None else held

    def hold(self, k: int, frame: Tensor) -> None:
        """The first rows lead unless others do already."""
        if f"rows_{k}" not in self._buffers:
            self.lead(k, torch.arange(self.cores[k].rows, device=frame.device))
        super().hold(k, frame)

    def tensors(self, k: int) -> tuple[Tensor, ...]:
        """Signs, rows of a frame of St_U, and the entries if there are any."""
        rows, entries = self._buffers.get(f"rows_{k}"), self._parameters.get(str(k))
        if rows is not None and entries is not None:  # the usual case, without detours: this is asked for every step
            return self._buffers[f"sign_{k}"], rows, entries  # type: ignore[return-value]
        found = super().tensors(k)
        return found if rows is None else (found[0], rows, *found[1:])

    @staticmethod
    def materialize(core: Core, *stacks: Tensor) -> Tensor:
        """Multiply the reflections, and put each row in its place."""
        if not core.reduced:
            return HouseholderFrames.materialize(core, *stacks)
        sign, rows, *entries = stacks
        if not entries:
            return _placed(HouseholderFrames.materialize(core, sign), rows, _places(rows))
        return _forward(sign, rows, entries[0])[0]

    @staticmethod
    def trace(core: Core, *stacks: Tensor) -> tuple[Tensor, Pull]:
        """Multiply the reflections, and differentiate them in the compact WY form."""
        if not core.reduced:
            return HouseholderFrames.trace(core, *stacks)
        if len(stacks) == 2:
            return PivotedFrames.materialize(core, *stacks), lambda grad: (None, None)
        sign, rows, below = stacks
        frames, t_inverse, m, places = _forward(sign, rows, below)

        def pull(grad: Tensor) -> Sequence[Tensor | None]:
            flat = (rows + places[:, :1]).flatten()
            ordered = grad.flatten(0, 1).index_select(0, flat).view_as(grad)
            of_rest = ordered[:, core.inner :]
            grad_m = torch.baddbmm(ordered[:, : core.inner], below.mT, of_rest)
            grad_gram = torch.bmm(torch.linalg.solve_triangular(t_inverse.mT, grad_m, upper=False), m.mT).triu_()
            grad_gram.diagonal(0, 1, 2).mul_(0.5)  # as in the gradient of `compact_wy`
            return None, None, torch.bmm(of_rest, m.mT).baddbmm_(below, grad_gram + grad_gram.mT, alpha=-1)

        return frames, pull

    def assign_(self, k: int, frame: Tensor, signs: Tensor | None = None) -> None:
        """Take over a frame whose leading rows are in St_U."""
        super().assign_(k, frame[self.order(k)], signs)


def _forward(sign: Tensor, rows: Tensor, below: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `compact_wy`; the leading block of the reflectors, the identity, is left out of all products."""
    t_inverse = torch.bmm(below.mT, below)
    half_squared_norm = (below * below).sum(-2, dtype=torch.float64).add(1).mul(0.5)
    t_inverse.diagonal(0, 1, 2).copy_(half_squared_norm)
    m = torch.linalg.solve_triangular(t_inverse, torch.diag_embed(sign.neg()).mT, upper=True)
    ordered = torch.cat([m, torch.bmm(below, m)], 1)
    ordered.diagonal(0, 1, 2).add_(sign)
    places = _places(rows)
    return _placed(ordered, rows, places), t_inverse, m, places


def _places(rows: Tensor) -> Tensor:
    """(B, rows), places among the rows of all frames of a batch."""
    return torch.arange(rows.numel(), device=rows.device).view_as(rows)


def _placed(frames: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """Undo the order. Copying rows to where they belong takes ten times as long as looking up where they come from."""
    sources = torch.empty_like(rows).scatter(1, rows, places).flatten()
    return frames.flatten(0, 1).index_select(0, sources).view_as(frames)
