"""How orthonormal frames are stored and moved."""

from sttp_riemann.frames.bank import Bank
from sttp_riemann.frames.householder import HouseholderBank
from sttp_riemann.frames.riemannian import PolarStiefel, RiemannianBank

FRAMES: dict[str, type[Bank]] = {"riemannian": RiemannianBank, "householder": HouseholderBank}

__all__ = ["FRAMES", "Bank", "HouseholderBank", "PolarStiefel", "RiemannianBank"]
