"""Storage of orthonormal frames, and their motion along the manifold."""

from sttp_riemann.frames.frame import Frames
from sttp_riemann.frames.householder import HouseholderFrames
from sttp_riemann.frames.pivoted import PivotedFrames
from sttp_riemann.frames.riemannian import PolarStiefel, RiemannianFrames

FRAMES: dict[str, type[Frames]] = {"riemannian": RiemannianFrames, "householder": HouseholderFrames}


def frames_kind(name: str, pivots: bool) -> type[Frames]:
    """The class of a kind of frame.

    Parameters
    ----------
    name : str
        A key of `FRAMES`.
    pivots : bool
        Whether any rows may lead, where the kind knows that.

    Returns
    -------
    type
        A subclass of `Frames`.
    """
    kind = FRAMES[name]
    return PivotedFrames if pivots and kind is HouseholderFrames else kind


__all__ = ["FRAMES", "Frames", "HouseholderFrames", "PivotedFrames", "PolarStiefel", "RiemannianFrames", "frames_kind"]
