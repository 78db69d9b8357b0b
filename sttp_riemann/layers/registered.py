"""Layers of the user's own classes: their own forward, on a spectral weight."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import Tensor, nn
from typing_extensions import override

from sttp_riemann.checks import shown
from sttp_riemann.layers.base import SpectralLayer
from sttp_riemann.layers.registry import LAYERS, row_for
from sttp_riemann.layers.tracing import opaque

APPLIES = ("forward", "_conv_forward", "_output_padding")
"""Methods that a class overrides to apply its weight in its own way."""

Kind = TypeVar("Kind", bound=type[nn.Module])


class Registered(SpectralLayer):  # type: ignore[override, misc]
    """What `register_layer` makes of a class; pickled as that class, as this one has no place in a module."""

    @override
    def thin_layers(self) -> None:
        """None: the class stays what it is."""

    @override
    def __reduce_ex__(self, protocol: Any) -> Any:
        state = super().__reduce_ex__(protocol)[2]  # type: ignore[index]
        return _empty, (self.dense_class,), state


class OwnForward(Registered):  # type: ignore[override, misc]
    """A class with a forward of its own."""

    applications = ("weight",)

    @staticmethod
    @override
    def columns(layer: nn.Module, input: Tensor) -> None:
        """None: what the class does with its weight is not known."""


def register_layer(kind: Kind) -> Kind:
    """Let `reparameterize` reach layers of an own class, derived from one that it reaches.

    Such a layer keeps its own forward, which reads W as ``self.weight``: weight standardization, own padding or scaled
    embeddings are computed from W as they were from the dense weight.

    Parameters
    ----------
    kind : type
        Subclass of Linear, Conv2d, Embedding or another layer that `reparameterize` reaches. Its instances must hold
        ``weight`` as a parameter in the shape of the base class, and not write into it.

    Returns
    -------
    type
        The same class, so this works as a decorator.

    Raises
    ------
    TypeError
        It is no class of ordinary layers.
    ValueError
        It derives from none that `reparameterize` reaches.

    Notes
    -----
    A class that does not override its base's forward is applied like its base, in the cheapest way. Registering twice
    changes nothing.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> @sr.register_layer
    ... class Halved(torch.nn.Linear):
    ...     def forward(self, input):
    ...         return torch.nn.functional.linear(input, self.weight / 2)
    >>> layer = sr.reparameterize(Halved(16, 8), rank=4)
    >>> inputs = torch.randn(3, 16)
    >>> torch.allclose(layer(inputs), inputs @ layer.weight.T / 2, atol=1e-6)
    True
    >>> type(sr.decompress(layer)).__name__
    'Halved'
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)) or issubclass(kind, SpectralLayer):
        raise TypeError(f"kind must be a class of ordinary layers, got {shown(kind)}")
    if row_for(kind) is None:
        LAYERS[kind] = _row(kind)
    return kind


def _row(kind: type[nn.Module]) -> type[SpectralLayer]:
    lineage = list(kind.__mro__)
    known = {base: row for base in lineage if (row := row_for(base)) and not issubclass(row, Registered)}
    if not known:
        raise ValueError(
            f"kind must derive from a layer that reparameterize reaches, got {shown(kind)}; for others, write a row of "
            "sttp_riemann.layers.LAYERS, as the guide's page 'Add your own' says"
        )
    base, row = next(iter(known.items()))
    own = any(name in vars(link) for link in lineage[: lineage.index(base)] for name in APPLIES)
    made = (OwnForward, row, kind) if own else (Registered, row, kind)
    members: dict[str, Any] = {"__module__": kind.__module__, "__doc__": f"{kind.__name__} with a spectral weight."}
    if own:
        members["forward"] = opaque(kind.forward)
    return type(f"Spectral{kind.__name__}", made, members)


def _empty(kind: type[nn.Module]) -> nn.Module:
    """A layer to unpickle into."""
    row = LAYERS[register_layer(kind)]
    return row.__new__(row)
