"""How a layer is applied to its input: by building W, or factor by factor, whichever is cheaper at the input's size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Application = Literal["auto", "weight", "factored"]
APPLICATIONS = ("auto", "weight", "factored")

# Multiply-adds that a processor does while it moves one number to or from memory.
BALANCE = 16


@dataclass(frozen=True)
class Workload:
    """One call of a layer.

    Attributes
    ----------
    d_out, d_in, rank : int
        Shape of W and its rank.
    positions_in, positions_out : int
        Places (batch times space times groups) at which V, and then U, are applied.
    dense_positions : int
        Places at which all of W is applied.
    channels_in, channels_out : int
        Numbers read and written at each of these places.
    """

    d_out: int
    d_in: int
    rank: int
    positions_in: int
    positions_out: int
    dense_positions: int
    channels_in: int
    channels_out: int

    def weight_cost(self) -> int:
        """Multiply-adds, and traffic in their units, of building W and applying it."""
        build = self.d_out * self.d_in * self.rank
        traffic = self._outside() + 2 * self.d_out * self.d_in
        return build + self.dense_positions * self.d_out * self.d_in + BALANCE * traffic

    def factored_cost(self) -> int:
        """The same for V, then U diag(s)."""
        thin = self.positions_in * self.d_in * self.rank + self.positions_out * self.d_out * self.rank
        traffic = self._outside() + 2 * self.rank * self.positions_out
        return thin + BALANCE * traffic

    def _outside(self) -> int:
        return self.positions_in * self.channels_in + self.positions_out * self.channels_out


def prefers_factored(application: Application, workload: Workload) -> bool:
    """Whether to apply the factors one after the other; decided by `application` unless that is "auto".

    Notes
    -----
    Obukhov et al. 2021, Section 6, with memory traffic added. The backward pass multiplies both sides alike.
    """
    if application != "auto":
        return application == "factored"
    return workload.factored_cost() < workload.weight_cost()
