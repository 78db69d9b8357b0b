"""How a layer's weight is parameterized: part of its state, and compared when a state is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sttp_riemann.frames import FRAMES, HouseholderFrames
from sttp_riemann.trains.shape import KernelModes, LayerShape, Method
from sttp_riemann.trains.spectrum import SpectrumKind


@dataclass(frozen=True)
class Options:
    """Options of one layer, as `reparameterize` takes them.

    Attributes
    ----------
    method : {"sttp", "svdp"}
        Trains or one core a side.
    spectrum : {"identity", "learned", "free"}
        How s is computed.
    bound : float
        Largest singular value, unless the spectrum is free.
    bound_from_weight : bool
        Whether that is a number which comes from the layer's first weight, and so travels with its state.
    kernel_modes : {"flat", "prime"}
        Modes of the kernel positions.
    init : str
        Where the cores started; not part of the state.
    pivots : bool
        Whether any rows of Householder frames may lead, and not only the first ones.
    """

    method: Method
    spectrum: SpectrumKind
    bound: float
    bound_from_weight: bool
    kernel_modes: KernelModes
    init: str
    pivots: bool

    def encode(self, shape: LayerShape, frames: str) -> Tensor:
        """These options as whole numbers, which averages and casts of a state leave as they are.

        Parameters
        ----------
        shape : LayerShape
            Of the layer.
        frames : str
            Kind of its frames.

        Returns
        -------
        Tensor
            (N,), int32: characters of a JSON text.
        """
        return torch.tensor([ord(c) for c in json.dumps(self._facts(shape, frames))], dtype=torch.int32, device="cpu")

    def difference(self, shape: LayerShape, frames: str, state: Any) -> str | None:
        """What keeps a state from being loaded.

        Parameters
        ----------
        shape : LayerShape
            Of the layer.
        frames : str
            Kind of its frames.
        state : Tensor
            What `encode` gave.

        Returns
        -------
        str or None
            None where it fits.
        """
        found = decode(state)
        if found is None:
            return "its options in the state (_extra_state) cannot be read"
        for name, mine in ({"pivots": False} | self._facts(shape, frames)).items():
            theirs = found.get(name, False if name == "pivots" else None)
            free = name == "bound" and (self.bound_from_weight or self.spectrum == "free")
            if mine != theirs and not (free and isinstance(theirs, float) and theirs > 0):
                return f"{name} is {_text(mine)} here and {_text(theirs)} in the state"
        return None

    def bounded(self, state: Any) -> Options:
        """The same, with the bound of a state that fits."""
        found = decode(state)
        bound = (found or {}).get("bound")
        return replace(self, bound=bound) if self.bound_from_weight and isinstance(bound, float) else self

    def _facts(self, shape: LayerShape, frames: str) -> dict[str, Any]:
        # Told only where it matters, so that states without pivots are as they were before there were any
        pivots = {"pivots": True} if self.pivots and FRAMES[frames] is HouseholderFrames else {}
        return {
            "method": self.method,
            "modes": list(shape.modes),
            "ranks": list(shape.ranks),
            "frames": frames,
            "spectrum": self.spectrum,
            "bound": self.bound,
            "kernel_modes": self.kernel_modes,
            **pivots,
        }


def decode(state: Any) -> dict[str, Any] | None:
    """Facts that `Options.encode` wrote; None where they cannot be read.

    Parameters
    ----------
    state : Tensor
        Whole numbers, also as floating-point ones after an average.

    Returns
    -------
    dict or None
    """
    try:
        found = json.loads("".join(chr(round(c)) for c in state.tolist()))
    except (AttributeError, TypeError, ValueError, OverflowError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _text(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list) else repr(value)
