"""Size of what adapters train."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sttp_riemann.checks import check_kind
from sttp_riemann.layers import Adapted
from sttp_riemann.layers.adapted import FROZEN
from sttp_riemann.model.weights import distinct, layer_numbers


@dataclass(frozen=True)
class AdapterSize:
    """One row of the per-layer table.

    Attributes
    ----------
    name : str
        The layer.
    d_out, d_in, rank : int
        Shape of W and rank of its change.
    dof, stored, dense : int
        Degrees of freedom of the change, numbers that represent it, elements of W.
    """

    name: str
    d_out: int
    d_in: int
    rank: int
    dof: int
    stored: int
    dense: int


@dataclass(frozen=True)
class Adaptation:
    """Sizes of a model with adapters.

    Attributes
    ----------
    layers : tuple of AdapterSize
        One row per adapter; of layers that share a weight, the first.
    trainable : int
        Numbers that are trained: in adapters and elsewhere.
    elsewhere : int
        Those outside of adapters.
    pretrained : int
        Parameters of the model without adapters.
    """

    layers: tuple[AdapterSize, ...]
    trainable: int
    elsewhere: int
    pretrained: int

    @property
    def dof(self) -> int:
        """Degrees of freedom of all changes."""
        return sum(layer.dof for layer in self.layers)

    @property
    def stored(self) -> int:
        """Numbers that represent all changes, trained or not."""
        return sum(layer.stored for layer in self.layers)

    @property
    def dense(self) -> int:
        """Elements of the adapted weights."""
        return sum(layer.dense for layer in self.layers)

    @property
    def share(self) -> float:
        """Trained numbers, in percent of those of the model without adapters."""
        return 100 * self.trainable / self.pretrained

    def __str__(self) -> str:
        width = max(5, *(len(layer.name) for layer in self.layers))
        lines = [f"{'layer':{width}s} {'W':>14s} {'rank':>5s} {'dof':>12s} {'stored':>12s} {'dense':>12s}"]
        for layer in self.layers:
            shape = f"{layer.d_out} x {layer.d_in}"
            counts = f"{layer.dof:12,d} {layer.stored:12,d} {layer.dense:12,d}"
            lines.append(f"{layer.name:{width}s} {shape:>14s} {layer.rank:5d} {counts}")
        lines.append(f"{'all':{width}s} {'':14s} {'':5s} {self.dof:12,d} {self.stored:12,d} {self.dense:12,d}")
        share = f"{self.share:.3g} % of the {self.pretrained:,} of the model"
        lines.append(f"{self.trainable:,} numbers are trained, {self.elsewhere:,} outside of adapters; {share}")
        return "\n".join(lines)


def adapted_layers(model: nn.Module) -> dict[str, Adapted]:
    """Adapters by name.

    Parameters
    ----------
    model : nn.Module
        A model with adapters.

    Returns
    -------
    dict[str, Adapted]
        In the order of the model.

    Raises
    ------
    TypeError
        It is not a module.
    ValueError
        There is none.
    """
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, Adapted)}
    if not layers:
        raise ValueError("the model has no adapter; call adapt first")
    return layers


def adaptation(model: nn.Module) -> Adaptation:
    """Count what the adapters of a model train, beside what it has.

    Parameters
    ----------
    model : nn.Module
        A model with adapters.

    Returns
    -------
    Adaptation
        Totals, the share that is trained, and one row per adapter; prints as a table.

    Raises
    ------
    TypeError
        `model` is not a module.
    ValueError
        It has no adapter.

    Notes
    -----
    Degrees of freedom as in Obukhov et al. 2021, Section 3. A Riemannian frame stores more numbers than it has degrees
    of freedom, a Householder frame of St_U just as many.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.adapt(torch.nn.Linear(64, 32), rank=4, method="svdp")
    >>> sizes = sr.adaptation(model)
    >>> sizes.trainable, sizes.dof, sizes.pretrained
    (388, 368, 2080)
    >>> round(sizes.share, 1)
    18.7
    """
    layers = adapted_layers(model)
    rows = []
    for name, layer in distinct(layers).items():
        numbers, shape = layer_numbers(layer), layer.shape
        rows.append(AdapterSize(name, shape.d_out, shape.d_in, shape.rank, **vars(numbers)))
    own = {id(p) for layer in layers.values() for p in layer.factor_parameters()}
    starts = {id(p) for layer in layers.values() for name in FROZEN[1:] if (p := layer._parameters[name]) is not None}
    # What is trained is counted as it is, not as it should be
    every = [p for p in model.parameters() if id(p) not in starts]
    trained = [p for p in every if p.requires_grad]
    return Adaptation(
        tuple(rows),
        trainable=sum(p.numel() for p in trained),
        elsewhere=sum(p.numel() for p in trained if id(p) not in own),
        pretrained=sum(p.numel() for p in every if id(p) not in own),
    )
