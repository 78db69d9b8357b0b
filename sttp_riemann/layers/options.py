"""How a layer's weight is parameterized: part of its state, compared on loading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from sttp_riemann.checks import LARGEST, check_number
from sttp_riemann.frames import FRAMES, HouseholderFrames
from sttp_riemann.trains.shape import KernelModes, LayerShape, Method
from sttp_riemann.trains.spectrum import SMALLEST, BoundOf, SpectrumKind

USUAL: dict[str, Any] = {"bound_from_weight": False, "init": "orthogonal", "first_rows": False}
"""Options that a state need not fit, and what they are where it does not tell them."""
LATER: dict[str, Any] = {"pivots": False, "bound_of": "matrix", "scale": None, "start": None}
"""Options that a state has to fit, and what they are where it does not tell them."""


STARTS = ("zero", "pissa", "gradient")
"""How the change of a frozen weight starts."""


def check_scale(value: object) -> float:
    """Refuse anything but a factor that float32 can hold.

    Parameters
    ----------
    value : object
        As given.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        It is no number in the range.
    """
    return check_number("scale", value, f"a number from {SMALLEST:g} to {LARGEST:g}", least=SMALLEST, most=LARGEST)


@dataclass(frozen=True)
class Adapter:
    """What makes a layer an adapter: its weight is W0 + scale * U diag(s) V^T, with W0 frozen.

    Attributes
    ----------
    scale : float
        Factor of the change.
    start : {"zero", "pissa", "gradient"}
        How the change started; with "pissa" its first value was taken off W0.
    """

    scale: float
    start: str

    @property
    def residual(self) -> bool:
        """Whether W0 is what the first value of the change left of the pretrained weight."""
        return self.start == "pissa"


@dataclass(frozen=True)
class Options:
    """Options of one layer, as `reparameterize` takes them.

    Attributes
    ----------
    method : {"sttp", "svdp"}
        Trains, or one core per side.
    spectrum : {"identity", "learned", "free"}
        How s is computed.
    bound : float
        Largest singular value, unless the spectrum is free.
    bound_from_weight : bool
        Whether `bound` was taken from the layer's original weight and so is saved with its state.
    kernel_modes : {"flat", "prime"}
        Modes of the kernel positions.
    init : str
        How the cores were initialized; told in the state, and not compared.
    pivots : bool
        Whether any rows of Householder frames may lead, and not only the first ones.
    bound_of : {"matrix", "operator"}
        Whether `bound` is that of W as a matrix, or of the layer as an operator on whole maps.
    adapter : Adapter or None
        None where W is U diag(s) V^T itself.
    """

    method: Method
    spectrum: SpectrumKind
    bound: float
    bound_from_weight: bool
    kernel_modes: KernelModes
    init: str
    pivots: bool
    bound_of: BoundOf = field(default="matrix", kw_only=True)
    adapter: Adapter | None = field(default=None, kw_only=True)

    def told(self, shape: LayerShape, frames: str) -> dict[str, Any]:
        """All options, as they are written to files; what is as usual and not compared is left out.

        Parameters
        ----------
        shape : LayerShape
            Of the layer.
        frames : str
            Kind of its frames.

        Returns
        -------
        dict[str, Any]
            What JSON can hold; `sttp_riemann.layers.told.read_told` reads it.
        """
        others = {
            "bound_from_weight": self.bound_from_weight,
            "init": self.init,
            "first_rows": not self.pivots and FRAMES[frames] is not HouseholderFrames,
        }
        return self._facts(shape, frames) | {name: value for name, value in others.items() if value != USUAL[name]}

    def difference(self, shape: LayerShape, frames: str, state: Any) -> str | None:
        """Reason why a state does not fit.

        Parameters
        ----------
        shape : LayerShape
            Of the layer.
        frames : str
            Kind of its frames.
        state : Tensor
            Result of `encode`.

        Returns
        -------
        str or None
            None if it fits.
        """
        found = decode(state)
        if found is None:
            return "its options in the state (_extra_state) cannot be read"
        facts = self._facts(shape, frames)
        for name, mine in {**facts, **{n: usual for n, usual in LATER.items() if n not in facts}}.items():
            theirs = found.get(name, LATER.get(name))
            free = name == "bound" and (self.bound_from_weight or self.spectrum == "free")
            if mine != theirs and not (free and isinstance(theirs, float) and theirs > 0):
                return f"{name} is {_text(mine)} here and {_text(theirs)} in the state"
        return None

    def bounded(self, state: Any) -> Options:
        """The same options with the bound of a fitting state."""
        found = decode(state)
        bound = (found or {}).get("bound")
        return replace(self, bound=bound) if self.bound_from_weight and isinstance(bound, float) else self

    def _facts(self, shape: LayerShape, frames: str) -> dict[str, Any]:
        # Told only where it matters, so that states without it are as they were before there was any
        pivoted = self.pivots and FRAMES[frames] is HouseholderFrames
        others = {"pivots": pivoted, "bound_of": self.bound_of}
        return {
            "method": self.method,
            "modes": list(shape.modes),
            "ranks": list(shape.ranks),
            "frames": frames,
            "spectrum": self.spectrum,
            "bound": self.bound,
            "kernel_modes": self.kernel_modes,
            **{name: value for name, value in others.items() if value != LATER[name]},
            **({} if self.adapter is None else vars(self.adapter)),
        }


def encode(told: Mapping[str, Any]) -> Tensor:
    """Encode what a layer tells of itself as whole numbers, which averages and casts of a state leave unchanged.

    Parameters
    ----------
    told : mapping
        What JSON can hold.

    Returns
    -------
    Tensor
        (N,), int32: characters of a JSON text.
    """
    return torch.tensor([ord(c) for c in json.dumps(dict(told))], dtype=torch.int32, device="cpu")


def decode(state: Any) -> dict[str, Any] | None:
    """Decode what `encode` wrote; None if it is unreadable.

    Parameters
    ----------
    state : Tensor
        Whole numbers, possibly in a floating-point dtype after averaging.

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
