"""Size of a reparameterized model, compared with the dense one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sttp_riemann.layers import Adapted, SpectralLayer
from sttp_riemann.model.measures import spectral_layers
from sttp_riemann.model.reach import Left, left_numbers, told
from sttp_riemann.model.weights import distinct, layer_numbers, weighted_layers


@dataclass(frozen=True)
class LayerSize:
    """One row of the per-layer table.

    Attributes
    ----------
    name : str
        The layer.
    d_out, d_in, rank : int
        Shape of W and its rank.
    dof, stored, dense : int
        Degrees of freedom, stored trainable numbers, elements of W.
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
    dense_error: float | None


@dataclass(frozen=True)
class Compression:
    """Sizes of a reparameterized model.

    Attributes
    ----------
    layers : tuple of LayerSize
        One row per reparameterized layer.
    left : tuple of Left
        What is not reparameterized, by module, and why: its `reason` is a key of `sttp_riemann.model.reach.REASONS`.
    """

    layers: tuple[LayerSize, ...]
    left: tuple[Left, ...]

    @property
    def other(self) -> int:
        """C: every other parameter and every floating-point buffer."""
        return sum(row.numbers for row in self.left)

    @property
    def dof(self) -> int:
        """Degrees of freedom of the reparameterized weights."""
        return sum(layer.dof for layer in self.layers)

    @property
    def stored(self) -> int:
        """Trainable numbers that the kind of frame stores for them."""
        return sum(layer.stored for layer in self.layers)

    @property
    def dense(self) -> int:
        """Elements of these weights."""
        return sum(layer.dense for layer in self.layers)

    @property
    def ratio(self) -> float:
        """Z in percent: 100 (dof + other) / (dense + other)."""
        return percent_left(self.dof, self.dense, self.other)

    @property
    def reached(self) -> float:
        """Share, in percent, of the dense model's numbers that are reparameterized."""
        return 100 * self.dense / (self.dense + self.other)

    def __str__(self) -> str:
        width = max(5, *(len(layer.name) for layer in self.layers))
        lines = [f"{'layer':{width}s} {'W':>14s} {'rank':>5s} {'dof':>12s} {'stored':>12s} {'dense':>12s}"]
        for layer in self.layers:
            shape = f"{layer.d_out} x {layer.d_in}"
            counts = f"{layer.dof:12,d} {layer.stored:12,d} {layer.dense:12,d}"
            lines.append(f"{layer.name:{width}s} {shape:>14s} {layer.rank:5d} {counts}")
        total = f"{'all':{width}s} {'':14s} {'':5s} {self.dof:12,d} {self.stored:12,d} {self.dense:12,d}"
        numbers = self.dense + self.other
        lines += [total, f"Z = {self.ratio:.2f} %, counting {self.other:,} other numbers"]
        lines += [f"reached {self.reached:.2f} % of {numbers:,} numbers" + ("; left as they are:" if self.left else "")]
        return "\n".join([*lines, *told(self.left, numbers)])


def compression(model: nn.Module) -> Compression:
    """Count degrees of freedom, stored numbers and dense elements of a reparameterized model.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model.

    Returns
    -------
    Compression
        Totals, Z in percent, one row per layer, and what was not reached and why; prints as a table.

    Raises
    ------
    ValueError
        If the model has no reparameterized layer, or an adapter, which compresses nothing: see `adaptation`.

    Notes
    -----
    Obukhov et al. 2021, Eq. (11); batch-norm statistics count, `num_batches_tracked` does not.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(64, 32), rank=4)
    >>> sizes = sr.compression(model)
    >>> sizes.dof, sizes.dense, sizes.other
    (128, 2048, 32)
    >>> round(sizes.ratio, 2), round(sizes.reached, 2)
    (7.69, 98.46)
    """
    rows = []
    for name, layer in distinct(spectral_layers(model)).items():
        if isinstance(layer, Adapted):
            raise ValueError(
                f"layer {name!r} is an adapter on a frozen weight, which compresses nothing: sr.adaptation(model) "
                "counts what it trains"
            )
        numbers, shape = layer_numbers(layer), layer.shape
        rows.append(
            LayerSize(name, shape.d_out, shape.d_in, shape.rank, **vars(numbers), dense_error=layer.dense_error)
        )
    return Compression(tuple(rows), left_numbers(model))


def ratio_of(model: nn.Module) -> float:
    """Z in percent of any model.

    Parameters
    ----------
    model : nn.Module
        Dense or reparameterized.

    Returns
    -------
    float
        100 of a dense model, and of one with adapters, whose own numbers do not count.
    """
    layers = [la for la in distinct(weighted_layers(model)).values() if not isinstance(la, Adapted)]
    numbers = [layer_numbers(layer) for layer in layers if isinstance(layer, SpectralLayer)]
    return percent_left(sum(n.dof for n in numbers), sum(n.dense for n in numbers), other_numbers(model))


def percent_left(dof: int, dense: int, other: int) -> float:
    """Z in percent: 100 (dof + other) / (dense + other).

    Parameters
    ----------
    dof, dense, other : int
        Degrees of freedom and elements of the weights, and all other numbers of the model.

    Returns
    -------
    float
    """
    return 100 * (dof + other) / (dense + other)


def other_numbers(model: nn.Module) -> int:
    """C: all parameters and floating-point buffers except cores and spectra, shared ones counted once.

    Parameters
    ----------
    model : nn.Module
        Dense or reparameterized.

    Returns
    -------
    int
        For a dense model, all its numbers.
    """
    return sum(row.numbers for row in left_numbers(model))
