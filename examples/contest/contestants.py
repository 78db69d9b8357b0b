"""Who takes part in the contest, with the learning rates that each may choose from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import rivals  # noqa: F401 - adds the rows that the names below are of

from sttp_riemann.lab.training.recipe import Recipe


@dataclass(frozen=True)
class Contestant:
    """An optimizer together with the frames that it trains.

    Attributes
    ----------
    name : str
        For a reader.
    rates : tuple of float
        Learning rates to choose from.
    fields : dict
        Of a recipe: ``optimizer``, ``frames`` and their options.
    """

    name: str
    rates: tuple[float, ...]
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> str:
        """How it stores frames."""
        return str(self.fields.get("frames", "riemannian"))

    @property
    def pivots(self) -> bool:
        """Whether its frames may change the rows that lead."""
        return self.frames == "householder" and self.fields.get("pivots", True)

    def recipe(self, rate: float) -> Recipe:
        """The recipe that `sttp-riemann compare` would train it by, with a learning rate."""
        return Recipe().changed(method="sttp", rank=8, lr=rate, **self.fields)


def _rates(least: float) -> tuple[float, ...]:
    """Four rates, each about three times the one before."""
    return tuple(float(f"{least * factor:.1g}") for factor in (1, 3, 10, 30))


# From a first look at six or seven rates, 300 steps each: the best one is in the middle where there is a best one
_RIVALS = {
    "geoopt-adam-qr": 0.1,
    "geoopt-adam-cayley": 0.1,
    "geoopt-adam-exp": 0.1,
    "geoopt-sgd-qr": 0.3,
    "geoopt-sgd-cayley": 0.1,
    "geoopt-sgd-exp": 0.3,
    "cayley-adam": 0.3,
    "cayley-sgd": 0.3,
    "landing": 0.3,
    "landing-weak": 0.3,
    "landing-momentum": 0.3,
    "pogo": 0.1,
    "pogo-tangent": 0.1,
    "pogo-sgd": 0.03,
    "spel": 0.01,
}
CONTESTANTS = [
    *(Contestant(f"RiemannianAdam, {m}", _rates(0.01), {"moment": m}) for m in ("matrix", "polar", "cores")),
    Contestant("RiemannianSGD", _rates(0.3), {"optimizer": "sgd"}),
    Contestant("RiemannianSGD, no momentum", _rates(0.3), {"optimizer": "sgd", "momentum": 0.0}),
    *(Contestant(name, _rates(least), {"optimizer": name}) for name, least in _RIVALS.items()),
    Contestant("pogo, no momentum", _rates(0.3), {"optimizer": "pogo", "betas": [0.0, 0.999]}),
    Contestant("pogo-sgd, no momentum", _rates(1), {"optimizer": "pogo-sgd", "momentum": 0.0}),
    Contestant("Householder, Adam", _rates(0.01), {"frames": "householder", "pivots": False}),
    Contestant("Householder, Adam, pivoted", _rates(0.01), {"frames": "householder"}),
    *(
        Contestant(f"{frames}, Adam", _rates(0.01), {"frames": frames})
        for frames in ("torch-exp", "torch-cayley", "torch-householder", "geotorch")
    ),
]
