"""Cores of the matrices of a model, by decomposition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from sttp_riemann.trains.shape import LayerShape
from sttp_riemann.trains.start import LayerCores, from_weight


def decomposed(
    matrices: Mapping[str, Tensor],
    shapes: Sequence[LayerShape],
    verb: str,
    option: str,
    roots: Mapping[str, Tensor] | None = None,
) -> list[LayerCores]:
    """Decompose a matrix a layer, and show how far it is.

    Parameters
    ----------
    matrices : mapping
        Layer name to matrix (d_out, d_in).
    shapes : sequence of LayerShape
        Of the layers, in the same order.
    verb : str
        What is being done, for the progress bar.
    option : str
        Name of the option that asks for it, for the message.
    roots : mapping, optional
        Layer name to the root of its inputs' moment, as `tt_svd` takes it.

    Returns
    -------
    list of LayerCores

    Raises
    ------
    ValueError
        A matrix has no decomposition; the message names the layer.
    """
    # Not before it is needed: the library works without it
    from tqdm import tqdm

    cores = []
    pairs = zip(matrices.items(), shapes, strict=True)
    # Shown where it takes more than a moment, and only in a terminal
    for (name, matrix), shape in tqdm(pairs, verb, len(shapes), leave=False, disable=None, delay=1):
        try:
            cores.append(from_weight(shape, matrix, (roots or {}).get(name)))
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}; fix it, exclude it, or use another {option}") from error
    return cores
