"""Sizes of layers of low rank, as a table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerSize:
    """One row of the per-layer table.

    Attributes
    ----------
    name : str
        The layer.
    d_out, d_in, rank : int
        Shape of W, and its rank or that of its change.
    dof, stored, dense : int
        Degrees of freedom, numbers that the kind of frame stores, elements of W.
    dense_error : float or None
        With ``init="dense"``: relative error of W at the start, or of its outputs if moments were given.
    """

    name: str
    d_out: int
    d_in: int
    rank: int
    dof: int
    stored: int
    dense: int
    dense_error: float | None = None


@dataclass(frozen=True)
class Sizes:
    """Sizes of several layers.

    Attributes
    ----------
    layers : tuple of LayerSize
        One row per layer; of layers that share a weight, the first.
    """

    layers: tuple[LayerSize, ...]

    @property
    def dof(self) -> int:
        """Degrees of freedom of all layers."""
        return sum(layer.dof for layer in self.layers)

    @property
    def stored(self) -> int:
        """Numbers that the kind of frame stores for them."""
        return sum(layer.stored for layer in self.layers)

    @property
    def dense(self) -> int:
        """Elements of their weights."""
        return sum(layer.dense for layer in self.layers)

    def table(self) -> list[str]:
        """Lines for a reader: a heading, a row a layer, the totals."""
        width = max(5, *(len(layer.name) for layer in self.layers))
        rows = [(la.name, f"{la.d_out} x {la.d_in}", f"{la.rank}", la.dof, la.stored, la.dense) for la in self.layers]
        counted = [*rows, ("all", "", "", self.dof, self.stored, self.dense)]
        lines = [f"{'layer':{width}s} {'W':>14s} {'rank':>5s} {'dof':>12s} {'stored':>12s} {'dense':>12s}"]
        for name, shape, rank, dof, stored, dense in counted:
            lines.append(f"{name:{width}s} {shape:>14s} {rank:>5s} {dof:12,d} {stored:12,d} {dense:12,d}")
        return lines
