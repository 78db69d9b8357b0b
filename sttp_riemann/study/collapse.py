"""When a run collapsed, and which layer of the discriminator went with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Samples have collapsed where they spread less than this share of what real images do, at this many evaluations and
# to the end
LEAST = 0.7
LASTING = 2
# A layer's spectrum collapses where its norm has grown by this factor while its stable rank fell to this share
GROWN = 1.25
FALLEN = 0.8


@dataclass(frozen=True)
class Collapse:
    """A loss of diversity that does not come back.

    Attributes
    ----------
    step : int
        The first evaluation from which on diversity is lost; the first of all where it was never there.
    diversity, before : float
        What is left at that step, and the most that there was before it.
    layer : str or None
        The layer whose stable rank fell most while its spectral norm grew; None where there is none: samples have then
        collapsed for a reason other than the spectrum of a layer.
    spectral_norm, stable_rank : tuple of float
        Of that layer, at its lowest norm before and at the step; zeros where there is no layer.
    """

    step: int
    diversity: float
    before: float
    layer: str | None
    spectral_norm: tuple[float, float] = (0.0, 0.0)
    stable_rank: tuple[float, float] = (0.0, 0.0)

    def __str__(self) -> str:
        told = f"step {self.step}, diversity {self.before:.2f} to {self.diversity:.2f}"
        if self.layer is None:
            return f"{told}, no layer's spectrum collapsed"
        return (
            f"{told}, layer {self.layer}: spectral norm {self.spectral_norm[0]:.2f} to {self.spectral_norm[1]:.2f}, "
            f"stable rank {self.stable_rank[0]:.2f} to {self.stable_rank[1]:.2f}"
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
        None for a run whose diversity is there at the end.
    """
    values = [record["figures"]["diversity"] for record in records]
    # A generator that has just begun makes samples that are alike, too: only what is lost at the end counts
    if len(values) < LASTING or max(values[-LASTING:]) >= LEAST:
        return None
    index = max((i + 1 for i, value in enumerate(values) if value >= LEAST), default=0)
    return _with_layer(records, index, values[index], max(values[: index + 1]))


def _with_layer(records: Sequence[Mapping[str, Any]], index: int, diversity: float, before: float) -> Collapse:
    """Name the layer that has changed most by the time of the collapse, or by the end where it goes on."""
    step, names = records[index]["step"], records[0]["layers"]
    found: tuple[float, str] | None = None
    for name in names:
        first, now = (_norm_and_rank(records[i], name) for i in (0, index))
        share = now[1] / max(first[1], 1e-12)
        if now[0] >= GROWN * first[0] and share <= FALLEN and (found is None or share < found[0]):
            found = share, name
    if found is None:
        return Collapse(step, diversity, before, None)
    (norm, rank), (norm_now, rank_now) = (_norm_and_rank(records[i], found[1]) for i in (0, index))
    return Collapse(step, diversity, before, found[1], (norm, norm_now), (rank, rank_now))


def _norm_and_rank(record: Mapping[str, Any], layer: str) -> tuple[float, float]:
    values = record["layers"][layer]
    return values["trained_norm"], values["stable_rank"]
