"""Variants of the networks that the paper trains: by their own authors, or as in the code released with the paper."""

from __future__ import annotations

from typing import Literal, get_args

from sttp_riemann.checks import shown

NetworkVariant = Literal["original", "released"]


def is_released(variant: NetworkVariant) -> bool:
    """Whether a network is to be that of the released code.

    Parameters
    ----------
    variant : {"original", "released"}
        As given.

    Raises
    ------
    ValueError
        It is neither.
    """
    if variant not in get_args(NetworkVariant):
        raise ValueError(f"variant must be 'original' or 'released', got {shown(variant)}")
    return variant == "released"
