"""Rivals of the package's own optimizers and frames, as rows of its registries.

``sttp-riemann compare --import rivals ...``, run in this folder, knows them by name. No row copies code: each is
written from its paper's formulas, which its docstring states, and says what of them could not be checked.
"""

from __future__ import annotations

from dataclasses import replace

import geoopt

from rivals.cayley import CayleyAdam, CayleySGD
from rivals.geoopts import GeooptAdam, GeooptSGD, on
from rivals.landing import Landing, LandingMomentum, LandingWeak
from rivals.parametrized import KINDS
from rivals.pogo import Pogo, PogoSGD, PogoTangent
from rivals.spel import Spel
from sttp_riemann.frames import FRAMES
from sttp_riemann.lab.training.optimizer_registry import OPTIMIZERS

_RETRACTIONS = {
    "qr": geoopt.EuclideanStiefel,
    "cayley": geoopt.CanonicalStiefel,
    "exp": geoopt.EuclideanStiefelExact,
}
_ADAMS = {
    **{f"geoopt-adam-{name}": on(manifold, GeooptAdam) for name, manifold in _RETRACTIONS.items()},
    "cayley-adam": CayleyAdam,
    "pogo": Pogo,
    "pogo-tangent": PogoTangent,
    "spel": Spel,
}
_SGDS = {
    **{f"geoopt-sgd-{name}": on(manifold, GeooptSGD) for name, manifold in _RETRACTIONS.items()},
    "cayley-sgd": CayleySGD,
    "landing": Landing,
    "landing-weak": LandingWeak,
    "landing-momentum": LandingMomentum,
    "pogo-sgd": PogoSGD,
}

_ONE_NUMBER_A_MATRIX = ("cayley-adam", "pogo", "pogo-tangent")

# Options, and what steps other parameters, are those of Adam and SGD in the registry
for _family, _rows in (("adam", _ADAMS), ("sgd", _SGDS)):
    for _name, _kind in _rows.items():
        _options = {"moment": "matrix"} if _name in _ONE_NUMBER_A_MATRIX else {}
        _row = replace(OPTIMIZERS[_family], riemannian=_kind, frame_options=lambda section, own=_options: own)
        OPTIMIZERS[_name] = _row
FRAMES.update(KINDS)
