"""When a run collapsed, and which layer of the discriminator with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Samples have collapsed where they spread less than this share of what real images do, at this many evaluations up to
# the end. On the shipped digits runs end at 0.8 and more, or else at 0.71 and less
LEAST = 0.75
LASTING = 2
# A layer's spectrum collapses where its norm has grown by this factor while its stable rank fell to this share
GROWN = 1.25
FALLEN = 0.8

Layers = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Collapse:
    """A loss of diversity that does not come back.

    Attributes
    ----------
    step : int
        First evaluation from which diversity is lost for good.
    diversity, before : float
        What is left at that step, and the most up to then.
    layer : str or None
        The layer whose stable rank fell most while its spectral norm grew; None where there is none: samples have then
        collapsed for a reason other than the spectrum of a layer.
    layer_step : int
        When that layer's spectrum had collapsed; 0 where there is none.
    spectral_norm, stable_rank : tuple of float
        Of that layer's trained weight, at the first evaluation and at that step; zeros where there is none.
    """

    step: int
    diversity: float
    before: float
    layer: str | None
    layer_step: int = 0
    spectral_norm: tuple[float, float] = (0.0, 0.0)
    stable_rank: tuple[float, float] = (0.0, 0.0)

    def __str__(self) -> str:
        lost = f"diversity {self.before:.2f} to {self.diversity:.2f}"
        if self.before == self.diversity:
            lost = f"diversity {self.diversity:.2f} from the first evaluation on"
        if self.layer is None:
            return f"step {self.step}, {lost}, no layer's spectrum collapsed"
        (norm, norm_now), (rank, rank_now) = self.spectral_norm, self.stable_rank
        return (
            f"step {self.step}, {lost}, layer {self.layer} by step {self.layer_step}: spectral norm of its trained "
            f"weight {norm:.2f} to {norm_now:.2f}, stable rank {rank:.2f} to {rank_now:.2f}"
        )


def detect(records: Sequence[Mapping[str, Any]]) -> Collapse | None:
    """Find the collapse of a run.

    Parameters
    ----------
    records : sequence of mapping
        Of its evaluations in order, each with ``step``, ``figures`` and ``layers``.

    Returns
    -------
    Collapse or None
        None for a run that still has diversity at its end.
    """
    values = [record["figures"]["diversity"] for record in records]
    # A generator that has just begun makes samples that are alike, too: only what is lost at the end counts
    if len(values) < LASTING or max(values[-LASTING:]) >= LEAST:
        return None
    index = max((i + 1 for i, value in enumerate(values) if value >= LEAST), default=0)
    return _with_layer(records, index, values[index], max(values[: index + 1]))


def _with_layer(records: Sequence[Mapping[str, Any]], index: int, diversity: float, before: float) -> Collapse:
    """Name the layer whose spectrum collapsed first, at the collapse or after it."""
    for record in records[index:]:
        layer = _fallen(records[0]["layers"], record["layers"])
        if layer is not None:
            then, now = records[0]["layers"][layer], record["layers"][layer]
            norms, ranks = ((then[k], now[k]) for k in ("trained_norm", "stable_rank"))
            return Collapse(records[index]["step"], diversity, before, layer, record["step"], norms, ranks)
    return Collapse(records[index]["step"], diversity, before, None)


def _fallen(then: Layers, now: Layers) -> str | None:
    """Name the layer whose norm grew and whose stable rank fell most; None if there is no such layer."""
    shares = {
        name: now[name]["stable_rank"] / layer["stable_rank"]
        for name, layer in then.items()
        if layer["stable_rank"] > 0 and now[name]["trained_norm"] >= GROWN * layer["trained_norm"]
    }
    lowest = min(shares, key=shares.__getitem__, default=None)
    return lowest if lowest is not None and shares[lowest] <= FALLEN else None
