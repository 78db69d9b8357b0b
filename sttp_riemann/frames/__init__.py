"""Storage of orthonormal frames, and their motion along the manifold."""

from sttp_riemann.frames.frame import Frames
from sttp_riemann.frames.householder import HouseholderFrames
from sttp_riemann.frames.riemannian import PolarStiefel, RiemannianFrames

FRAMES: dict[str, type[Frames]] = {"riemannian": RiemannianFrames, "householder": HouseholderFrames}

__all__ = ["FRAMES", "Frames", "HouseholderFrames", "PolarStiefel", "RiemannianFrames"]
