"""Check a kind of layer."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from sttp_riemann.frames import FRAMES
from sttp_riemann.layers import LAYERS, SpectralLayer, adapted, kind_of, row_for
from sttp_riemann.model.adapt import adapt
from sttp_riemann.model.merging import merge, unmerge
from sttp_riemann.model.reparameterize import decompress, reparameterize
from sttp_riemann.model.weights import layer_values, matrix_values, weight_matrix
from sttp_riemann.testing.models import EXACT, copy_of, disturb_, gap, require

RANK = 3


def check_layer(make: Callable[[], nn.Module], *inputs: Tensor) -> None:
    """Check a kind of layer: its matrix, and that the spectral layer computes what the ordinary one does.

    If its row defines `by_weight` and `by_factors`, adapters of it are checked, too.

    Parameters
    ----------
    make : callable
        Returns an ordinary layer whose class has a row in `LAYERS`.
    *inputs : Tensor
        What the layer is called with; floating point is cast as needed.

    Raises
    ------
    AssertionError
        One line on what does not hold.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> import sttp_riemann.testing
    >>> sr.testing.check_layer(lambda: torch.nn.Linear(12, 18), torch.randn(5, 12))
    """
    dense: Any = make().double()
    name = type(dense).__name__
    x = [one.double() if one.is_floating_point() else one for one in inputs]
    kind = row_for(kind_of(dense))
    if kind is None:
        raise AssertionError(f"{name} has no row in LAYERS")
    _check_matrix(kind, dense, name)
    _check_columns(kind, dense, x, name)
    for frames, options in product(FRAMES, _options()):
        made = reparameterize(copy_of(dense), RANK, frames=frames, init="orthogonal", **options)
        disturb_(made)
        _check_spectral(made, dense, x, f"{name}, {frames} frames, {options['method']}, {options['spectrum']}")
        if options == {"method": "sttp", "spectrum": "free"} and adapted(kind) is not None:
            _check_adapted(adapt(copy_of(dense), RANK, frames=frames, scale=0.5), dense, x, f"{name}, {frames} frames")
    kept = reparameterize(copy_of(dense), 1.0, init="dense", spectrum="free")
    require(gap([kept(*x)], [dense(*x)]) < EXACT, f"{name}: at full rank init='dense' does not keep the outputs")


def _options() -> Iterator[dict[str, Any]]:
    for method, spectrum in product(("sttp", "svdp"), ("learned", "identity", "free")):
        yield {"method": method, "spectrum": spectrum}


def _check_matrix(kind: type[SpectralLayer], dense: Any, name: str) -> None:
    rows, columns = kind.matrix_shape(dense)
    shape = tuple(kind.to_matrix(dense.weight).shape)
    wanted = rows, math.prod(columns)
    require(shape == wanted, f"{name}: to_matrix gives {shape}, but matrix_shape says {wanted}")
    again = kind.from_matrix(dense, kind.to_matrix(dense.weight))
    require(torch.equal(again, dense.weight), f"{name}: from_matrix does not undo to_matrix")


@torch.no_grad()
def _check_columns(kind: type[SpectralLayer], dense: Any, x: Sequence[Tensor], name: str) -> None:
    columns = kind.columns(dense, x[0])
    if columns is None or getattr(dense, "groups", 1) > 1:
        return
    plain = copy.deepcopy(dense)
    if plain.bias is not None:
        nn.init.zeros_(plain.bias)
    outputs = (columns @ kind.to_matrix(dense.weight).mT).norm()
    same = bool(torch.isclose(outputs, plain(*x).norm(), rtol=1e-9))
    require(same, f"{name}: the matrix times the columns of an input is not the layer's output")


@torch.no_grad()
def _check_spectral(layer: Any, dense: Any, x: Sequence[Tensor], where: str) -> None:
    kind = LAYERS[kind_of(dense)]
    require(isinstance(layer, kind), f"{where}: the spectral layer is not a {kind.__name__}")
    require(
        layer.weight.shape == dense.weight.shape, f"{where}: the weight does not have the shape of the ordinary layer's"
    )
    values = layer_values(layer)
    true = matrix_values(weight_matrix(layer))[: len(values)]
    require(gap([values], [true]) < EXACT, f"{where}: the singular values are not those of the weight")
    if layer.spectrum_kind != "free":
        largest = float(true[0])
        require(
            abs(largest - layer.bound) < EXACT, f"{where}: the largest singular value is {largest:g}, not the bound"
        )
    ordinary = decompress(layer)
    require(type(ordinary) is type(dense), f"{where}: decompress gives a {type(ordinary).__name__}")
    wanted = ordinary(*x)
    for application in ("auto", *layer.applications):
        layer.application = application
        require(gap([layer(*x)], [wanted]) < EXACT, f"{where}: applied as {application!r} its output differs")
    layer.application = "auto"
    require(
        gap([decompress(layer, factored=True)(*x)], [wanted]) < EXACT, f"{where}: the output of its thin layers differs"
    )
    twin: Any = copy_of(layer)
    disturb_(twin, 1)
    twin.load_state_dict(layer.state_dict())
    require(torch.equal(twin.weight, layer.weight), f"{where}: the weight differs after load_state_dict")


@torch.no_grad()
def _check_adapted(layer: Any, dense: Any, x: Sequence[Tensor], where: str) -> None:
    wanted = dense(*x)
    require(torch.equal(layer(*x), wanted), f"{where}: adapted, with a change of zero, its output differs")
    disturb_(layer)
    require(gap([layer(*x)], [wanted]) > EXACT, f"{where}: adapted, its change has no effect")
    wanted = decompress(layer)(*x)
    for application in ("auto", *layer.applications):
        layer.application = application
        require(
            gap([layer(*x)], [wanted]) < EXACT, f"{where}: adapted and applied as {application!r} its output differs"
        )
    base = layer.base.clone()
    require(gap([merge(layer)(*x)], [wanted]) < EXACT, f"{where}: merged, its output differs")
    unmerge(layer)
    require(torch.equal(layer.base, base), f"{where}: unmerge does not bring its frozen weight back")
