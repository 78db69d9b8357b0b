"""When a run collapsed, and which layer of the discriminator with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Samples have collapsed where they spread less than this share of what real images do, or cover less than this share of
# the modes that they covered at best, at this many evaluations up to the end. On the shipped digits runs end at a
# diversity of 0.8 and more, or else of 0.71 and less
LEAST = 0.75
LASTING = 2
FORMS = {"diversity": ".2f", "modes": ",.0f"}
# A layer's spectrum collapses where its norm has grown by this factor while its stable rank fell to this share
GROWN = 1.25
FALLEN = 0.8

Layers = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Collapse:
    """A loss of diversity, or of modes, that does not come back.

    Attributes
    ----------
    step : int
        First evaluation from which it is lost for good.
    measure : {"diversity", "modes"}
        What is lost; where both are, what went first.
    left, before : float
        What is left of it at that step, and the most up to then.
    layer : str or None
        The layer whose stable rank fell most while its spectral norm grew; None where there is none: samples have then
        collapsed for a reason other than the spectrum of a layer.
    layer_step : int
        When that layer's spectrum had collapsed; 0 where there is none.
    spectral_norm, stable_rank : tuple of float
        Of that layer's trained weight, at the first evaluation and at that step; zeros where there is none.
    """

    step: int
    measure: str
    left: float
    before: float
    layer: str | None
    layer_step: int = 0
    spectral_norm: tuple[float, float] = (0.0, 0.0)
    stable_rank: tuple[float, float] = (0.0, 0.0)

    def __str__(self) -> str:
        before, left = (format(value, FORMS[self.measure]) for value in (self.before, self.left))
        lost = f"{self.measure} {before} to {left}"
        if self.before == self.left:
            lost = f"{self.measure} {left} from the first evaluation on"
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
        None for a run that still has diversity, and its modes, at its end.
    """
    measures = {name: [record["figures"][name] for record in records] for name in FORMS if _all_have(records, name)}
    found = [(index, name) for name, values in measures.items() if (index := _lost(name, values)) is not None]
    if not found:
        return None
    index, name = min(found)
    values = measures[name]
    return _with_layer(records, index, name, values[index], max(values[: index + 1]))


def _all_have(records: Sequence[Mapping[str, Any]], name: str) -> bool:
    return all(name in record["figures"] for record in records)


def _lost(name: str, values: Sequence[float]) -> int | None:
    """Place of the evaluation from which a measure is lost for good; None where it is not."""
    least = LEAST * max(values, default=0.0) if name == "modes" else LEAST
    # A generator that has just begun makes samples that are alike, too: only what is lost at the end counts
    if len(values) < LASTING or max(values[-LASTING:]) >= least:
        return None
    return max((i + 1 for i, value in enumerate(values) if value >= least), default=0)


def _with_layer(records: Sequence[Mapping[str, Any]], index: int, measure: str, left: float, before: float) -> Collapse:
    """Name the layer whose spectrum collapsed first, at the collapse or after it."""
    for record in records[index:]:
        layer = _fallen(records[0]["layers"], record["layers"])
        if layer is not None:
            then, now = records[0]["layers"][layer], record["layers"][layer]
            norms, ranks = ((then[k], now[k]) for k in ("trained_norm", "stable_rank"))
            return Collapse(records[index]["step"], measure, left, before, layer, record["step"], norms, ranks)
    return Collapse(records[index]["step"], measure, left, before, None)


def _fallen(then: Layers, now: Layers) -> str | None:
    """Name the layer whose norm grew and whose stable rank fell most; None if there is no such layer."""
    shares = {
        name: now[name]["stable_rank"] / layer["stable_rank"]
        for name, layer in then.items()
        if layer["stable_rank"] > 0 and now[name]["trained_norm"] >= GROWN * layer["trained_norm"]
    }
    lowest = min(shares, key=shares.__getitem__, default=None)
    return lowest if lowest is not None and shares[lowest] <= FALLEN else None
