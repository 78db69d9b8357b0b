"""What a file tells of a layer: read with care."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sttp_riemann.checks import check_choice, check_flag, check_mapping, check_number, check_whole, shown
from sttp_riemann.frames import FRAMES, HouseholderFrames
from sttp_riemann.layers.options import LATER, STARTS, USUAL, Adapter, Options, check_scale
from sttp_riemann.trains.shape import KERNEL_MODES, METHODS
from sttp_riemann.trains.spectrum import BOUNDS_OF, SPECTRA, check_bound
from sttp_riemann.trains.start import INITS

NEEDED = ("method", "modes", "ranks", "frames", "spectrum", "bound", "kernel_modes")
MORE = ("dtype", *LATER, *USUAL)
NARROW = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""Dtypes of W that are not those of its frames."""


@dataclass(frozen=True)
class Told:
    """A layer as a file tells it.

    Attributes
    ----------
    options : Options
        How the weight is parameterized.
    frames : str
        Kind of frames.
    modes, ranks : tuple of int
        The chain of modes, and the ranks of its bonds.
    dtype : torch.dtype or None
        Of W, where it is narrower than the frames.
    """

    options: Options
    frames: str
    modes: tuple[int, ...]
    ranks: tuple[int, ...]
    dtype: torch.dtype | None


def read_told(found: Any) -> Told:
    """Check and read what `Parameterized.told` wrote.

    Parameters
    ----------
    found : Any
        From an untrusted file.

    Returns
    -------
    Told

    Raises
    ------
    ValueError
        An entry is missing, unknown, of the wrong type or out of range; the message names it.
    """
    check_mapping("its description", found, "a mapping of options")
    for name in NEEDED:
        if name not in found:
            raise ValueError(f"{name} is missing")
    for name in found:
        if name not in (*NEEDED, *MORE):
            raise ValueError(f"{shown(name)} is no option of this version of sttp_riemann")
    check_choice("method", found["method"], METHODS)
    check_choice("frames", found["frames"], tuple(FRAMES))
    check_choice("spectrum", found["spectrum"], SPECTRA)
    check_choice("kernel_modes", found["kernel_modes"], KERNEL_MODES)
    # A name would be taken for the bound of the present weight
    check_number("bound", found["bound"], "a number")
    check_bound("bound", found["bound"])
    others: dict[str, Any] = USUAL | LATER | found
    check_choice("init", others["init"], INITS)
    check_choice("bound_of", others["bound_of"], BOUNDS_OF)
    adapter = _adapter(found)
    if others["bound_of"] == "operator" and (found["spectrum"] == "free" or adapter is not None):
        kind = "an adapter" if adapter is not None else "a free spectrum"
        raise ValueError(f"bound_of is 'operator', and {kind} has no bound")
    given = check_flag("pivots", others["pivots"])
    first = check_flag("first_rows", others["first_rows"])
    options = Options(
        method=found["method"],
        spectrum=found["spectrum"],
        bound=float(found["bound"]),
        bound_from_weight=check_flag("bound_from_weight", others["bound_from_weight"]),
        kernel_modes=found["kernel_modes"],
        init=others["init"],
        pivots=given if FRAMES[found["frames"]] is HouseholderFrames else not first,
        bound_of=others["bound_of"],
        adapter=adapter,
    )
    return Told(options, found["frames"], _sizes("modes", found), _sizes("ranks", found), _narrow(found))


def _adapter(found: Mapping[str, Any]) -> Adapter | None:
    if "scale" not in found and "start" not in found:
        return None
    check_choice("start", found.get("start"), STARTS)
    return Adapter(check_scale(found.get("scale")), found["start"])


def _sizes(name: str, found: Mapping[str, Any]) -> tuple[int, ...]:
    wanted = "a list of whole numbers above 0"
    if not isinstance(found[name], list) or not found[name]:
        raise ValueError(f"{name} must be {wanted}, got {shown(found[name])}")
    return tuple(check_whole(name, size, wanted) for size in found[name])


def _narrow(found: Mapping[str, Any]) -> torch.dtype | None:
    if "dtype" not in found:
        return None
    check_choice("dtype", found["dtype"], tuple(NARROW))
    return NARROW[found["dtype"]]
