"""Size of a reparameterized model, compared with the dense one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sttp_riemann.layers import Adapted, SpectralLayer
from sttp_riemann.model.measures import spectral_layers
from sttp_riemann.model.reach import Left, left_numbers, told
from sttp_riemann.model.sizes import LayerSize, Sizes
from sttp_riemann.model.weights import distinct, layer_numbers, weighted_layers


@dataclass(frozen=True)
class Compression(Sizes):
    """Sizes of a reparameterized model.

    Attributes
    ----------
    layers : tuple of LayerSize
        One row per reparameterized layer.
    left : tuple of Left
        What is not reparameterized, by module, and why: its `reason` is a key of `sttp_riemann.model.reach.REASONS`.
    """

    left: tuple[Left, ...]

    @property
    def other(self) -> int:
        """C: every other parameter and every floating-point buffer."""
        return sum(row.numbers for row in self.left)

    @property
    def ratio(self) -> float:
        """Z in percent: 100 (dof + other) / (dense + other)."""
        return percent_left(self.dof, self.dense, self.other)

    @property
    def reached(self) -> float:
        """Share, in percent, of the dense model's numbers that are reparameterized."""
        return 100 * self.dense / (self.dense + self.other)

    def __str__(self) -> str:
        numbers = self.dense + self.other
        lines = [*self.table(), f"Z = {self.ratio:.2f} %, counting {self.other:,} other numbers"]
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
        numbers, shape, error = layer_numbers(layer), layer.shape, layer.dense_error
        rows.append(LayerSize(name, shape.d_out, shape.d_in, shape.rank, **vars(numbers), dense_error=error))
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
