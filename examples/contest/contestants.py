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
        Learning rates of the fit to choose from.
    fields : dict
        Of a recipe: ``optimizer``, ``frames`` and their options.
    task_rates : tuple of float
        Learning rates of the real tasks to choose from; empty for what takes part in the fit alone.
    """

    name: str
    rates: tuple[float, ...]
    fields: dict[str, Any] = field(default_factory=dict)
    task_rates: tuple[float, ...] = ()

    @property
    def frames(self) -> str:
        """How it stores frames."""
        return str(self.fields.get("frames", "riemannian"))

    @property
    def pivots(self) -> bool:
        """Whether its frames may change the rows that lead."""
        return self.frames == "householder" and self.fields.get("pivots", True)

    @property
    def family(self) -> str:
        """Whose it is; on real tasks the best of each family meets the package's default."""
        if self.frames == "householder":
            return "Householder, pivoted" if self.pivots else "Householder"
        if self.frames != "riemannian":
            return "parametrizations"
        word = self.name.split("-")[0]
        return "geoopt" if word == "geoopt" else "package" if word.startswith("Riemannian") else "first order"

    def recipe(self, rate: float) -> Recipe:
        """The recipe that `sttp-riemann compare` would train it by, with a learning rate."""
        return Recipe().changed(method="sttp", rank=8, lr=rate, **self.fields)


def _rates(least: float) -> tuple[float, ...]:
    """Four rates, each about three times the one before."""
    return tuple(float(f"{least * factor:.1g}") for factor in (1, 3, 10, 30))


# From a first look at six or seven rates, 300 steps each: the best one is in the middle where there is a best one.
# Second: the least rate of real tasks, where one rate moves all parameters.
_RIVALS = {
    "geoopt-adam-qr": (0.1, 0.003),
    "geoopt-adam-cayley": (0.1, 0.003),
    "geoopt-adam-exp": (0.1, 0.003),
    "geoopt-sgd-qr": (0.3, 0.03),
    "geoopt-sgd-cayley": (0.1, 0.03),
    "geoopt-sgd-exp": (0.3, 0.03),
    "cayley-adam": (0.3, 0.003),
    "cayley-sgd": (0.3, 0.03),
    "landing": (0.3, 0.03),
    "landing-weak": (0.3, None),
    "landing-momentum": (0.3, 0.03),
    "pogo": (0.1, 0.003),
    "pogo-tangent": (0.1, 0.003),
    "pogo-sgd": (0.03, 0.03),
    "spel": (0.01, 0.001),
}
_ADAM, _SGD = (_rates(0.01), _rates(0.001)), (_rates(0.3), _rates(0.03))


def _own(name: str, rates: tuple[tuple[float, ...], tuple[float, ...]], **fields: Any) -> Contestant:
    return Contestant(name, rates[0], fields, rates[1])


CONTESTANTS = [
    *(_own(f"RiemannianAdam, {m}", _ADAM, moment=m) for m in ("matrix", "polar", "cores")),
    _own("RiemannianSGD", _SGD, optimizer="sgd"),
    Contestant("RiemannianSGD, no momentum", _rates(0.3), {"optimizer": "sgd", "momentum": 0.0}),
    *(
        Contestant(name, _rates(least), {"optimizer": name}, () if least_of_tasks is None else _rates(least_of_tasks))
        for name, (least, least_of_tasks) in _RIVALS.items()
    ),
    Contestant("pogo, no momentum", _rates(0.3), {"optimizer": "pogo", "betas": [0.0, 0.999]}),
    Contestant("pogo-sgd, no momentum", _rates(1), {"optimizer": "pogo-sgd", "momentum": 0.0}),
    _own("Householder, Adam", _ADAM, frames="householder", pivots=False),
    _own("Householder, Adam, pivoted", _ADAM, frames="householder"),
    *(
        _own(f"{frames}, Adam", _ADAM, frames=frames)
        for frames in ("torch-exp", "torch-cayley", "torch-householder", "geotorch")
    ),
]
