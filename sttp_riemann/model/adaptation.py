"""Size of what adapters train."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sttp_riemann.checks import check_kind
from sttp_riemann.layers import Adapted
from sttp_riemann.layers.adapted import FROZEN
from sttp_riemann.model.sizes import LayerSize, Sizes
from sttp_riemann.model.weights import distinct, layer_numbers


@dataclass(frozen=True)
class Adaptation(Sizes):
    """Sizes of a model with adapters.

    Attributes
    ----------
    layers : tuple of LayerSize
        One row per adapter; of layers that share a weight, the first.
    trainable : int
        Numbers that are trained: in adapters and elsewhere.
    elsewhere : int
        Those outside of adapters.
    pretrained : int
        Parameters of the model without adapters.
    """

    trainable: int
    elsewhere: int
    pretrained: int

    @property
    def share(self) -> float:
        """Trained numbers, in percent of those of the model without adapters."""
        return 100 * self.trainable / self.pretrained

    def __str__(self) -> str:
        share = f"{self.share:.3g} % of the {self.pretrained:,} of the model"
        trained = f"{self.trainable:,} numbers are trained, {self.elsewhere:,} outside of adapters; {share}"
        return "\n".join([*self.table(), trained])


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
        rows.append(LayerSize(name, shape.d_out, shape.d_in, shape.rank, **vars(numbers)))
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
