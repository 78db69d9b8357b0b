"""Adapters: layers whose weight is a frozen one and a spectral change of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from sttp_riemann.batch.products import product
from sttp_riemann.checks import check_tensor
from sttp_riemann.layers.application import ADAPTER_COSTS, Application
from sttp_riemann.layers.base import SpectralLayer
from sttp_riemann.layers.options import Adapter
from sttp_riemann.layers.registered import OwnForward, register_layer
from sttp_riemann.layers.registry import LAYERS, row_for
from sttp_riemann.layers.writing import TINY, Weighted
from sttp_riemann.trains.start import draw, from_weight

FROZEN = ("base", "start_left", "start_right")
"""Parameters that an adapter has beside those of a spectral layer, and does not train."""
MERGED = "it is merged; call sr.unmerge(model) first"


class Adapted(SpectralLayer):  # type: ignore[override, misc]
    """A layer with the weight W0 + scale * U diag(s) V^T: W0 is frozen, and everything else that of a spectral layer.

    What a spectral layer tells of U diag(s) V^T (cores, singular values, degrees of freedom), this one does, too,
    without the scale; `weight` and the outputs are those of the whole.

    Attributes
    ----------
    base : Parameter
        W0, in the shape of the ordinary layer's weight; while the layer is merged, the whole weight.
    kept : Parameter or None
        W0 while the layer is merged, in the memory of the host.
    start_left, start_right : Parameter or None
        (d_out, rank) and (d_in, rank), whose product was taken off the pretrained weight at the start; None if nothing
        was.
    cast : bool
        Whether W0 has been in another dtype since it became what it is.
    """

    base: nn.Parameter
    kept: nn.Parameter | None
    start_left: nn.Parameter | None
    start_right: nn.Parameter | None
    cast: bool
    costs = ADAPTER_COSTS
    made_by = "adapt"
    held_names = (*SpectralLayer.held_names, *FROZEN)
    _tied_weights_keys: ClassVar = {**SpectralLayer._tied_weights_keys, **dict.fromkeys(FROZEN)}

    @classmethod
    @override
    def adopt(  # type: ignore[override]
        cls,
        layer: nn.Module,
        *own: Any,
        base: nn.Parameter,
        start: tuple[nn.Parameter | None, nn.Parameter | None],
        **others: Any,
    ) -> None:
        """As for every spectral layer; `base` and `start` are what the attributes say."""
        super().adopt(layer, *own, **others)
        layer.__dict__.update(kept=None, cast=False)
        for name, parameter in zip(FROZEN, (base, *start), strict=True):
            layer.register_parameter(name, parameter)

    @override
    def release(self, weight: nn.Parameter) -> None:
        for name in FROZEN:
            self._parameters.pop(name)
        del self.kept, self.cast
        super().release(weight)

    @property
    def adapter(self) -> Adapter:
        """Scale and start."""
        assert self.options.adapter is not None
        return self.options.adapter

    @property
    def pretrained(self) -> nn.Parameter:
        """W0, merged or not."""
        return self.base if self.kept is None else self.kept

    @override
    def choose(self, input: Tensor) -> Application:
        """As for every spectral layer; the whole weight while it is merged."""
        return "weight" if self.kept is not None else super().choose(input)

    @override
    def _applied(self, application: Application, *inputs: Any) -> Tensor:
        bias = getattr(self, "bias", None)
        if application == "weight":
            return self.by_weight(self.built_weight(), bias, *inputs)
        out = self.by_weight(self.base, bias, *inputs)
        return out.add(self.by_factors(application, None, *inputs).to(out.dtype), alpha=self.adapter.scale)

    @override
    def completed(self, weight: Tensor) -> Tensor:
        return self.base.add(weight, alpha=self.adapter.scale)

    @override
    def built_weight(self) -> Tensor:
        """As for every spectral layer.

        Raises
        ------
        RuntimeError
            The layer is merged and in training, so nothing would train it.
        """
        if self.kept is None:
            return super().built_weight()
        if self.training and torch.is_grad_enabled() and self.trains:
            raise RuntimeError(
                "this layer is merged, so its adapter would get no gradient: call sr.unmerge(model) before training, "
                "or model.eval()"
            )
        # Not the parameter itself, as what is handed out refuses writes
        return self.base.detach()

    @override
    @torch.no_grad()
    def dense_weight(self) -> Tensor:
        """W, added in float32 or above and rounded once."""
        base = self.base.detach()
        if self.kept is not None:
            return base.clone()
        left, right = self.build_factors()
        change = self.from_matrix(product(left, right))
        return base.to(change.dtype).add(change, alpha=self.adapter.scale).to(base.dtype)

    def merge(self, whole: nn.Parameter) -> None:
        """Answer as the ordinary layer with this weight from now on.

        Parameters
        ----------
        whole : nn.Parameter
            Result of `dense_weight`, frozen.
        """
        self.__dict__["kept"] = self.base
        self.base.data = self.base.data.cpu()
        self.base = whole

    def unmerge(self) -> None:
        """Undo `merge`."""
        assert self.kept is not None
        self.kept.data = self.kept.data.to(self.base.device)
        kept = self.__dict__["kept"]
        self.__dict__["kept"] = None
        self.base = kept

    @override
    def thin_layers(self) -> None:
        """None: the frozen weight is not of low rank."""

    @override
    def extra_repr(self) -> str:
        """Those of every spectral layer, scale and start."""
        merged = "" if self.kept is None else ", merged"
        return f"{super().extra_repr()}, scale={self.adapter.scale:g}, start={self.adapter.start}{merged}"

    @override
    def tie(self, other: Weighted) -> None:
        if self.kept is not None or (isinstance(other, Adapted) and other.kept is not None):
            raise ValueError(f"the other layer cannot share the weight of an adapter: {MERGED}")
        super().tie(other)
        for name in FROZEN:
            self._parameters[name] = other._parameters[name]

    @override
    @torch.no_grad()
    def set_weight(self, weight: Tensor) -> float:
        if self.kept is not None:
            raise ValueError(f"the weight of this layer cannot be replaced: {MERGED}")
        plain = check_tensor("weight", weight, self.base.shape).double().cpu()
        change = (plain - self.base.detach().double().cpu()) / self.adapter.scale
        error = super().set_weight(change)
        return float(error * self.adapter.scale * change.norm() / plain.norm().clamp_min(TINY))

    @override
    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start anew: frames at random and no change; or, with "pissa", the first change."""
        if self.start_left is not None and self.start_right is not None:
            first = self.start_left.double().cpu() @ self.start_right.double().cpu().mT
            self.assign_(from_weight(self.shape, first / self.adapter.scale))
            return
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, (), device="cpu")))
        cores = draw(self.shape, "orthogonal", generator)
        cores.spectrum.zero_()
        self.assign_(cores)

    @override
    def difference(self, state: Mapping[str, Any], prefix: str) -> str | None:
        return super().difference(state, prefix) if self.kept is None else MERGED

    @override
    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """The state is that of the layer before it was merged."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.kept is not None:
            destination[f"{prefix}base"] = self.kept if keep_vars else self.kept.detach()

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Adapted:
        before = self.base.dtype
        super()._apply(fn, recurse)
        self.cast |= self.base.dtype != before
        if self.kept is not None:
            self.kept.data = self.kept.data.to(self.base.dtype)
        return self

    @override
    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class has no place in a module
        state = super().__reduce_ex__(protocol)[2]  # type: ignore[index]
        return _empty, (self.dense_class,), state


_MADE: dict[type[SpectralLayer], type[Adapted]] = {}


def adapted(row: type[SpectralLayer]) -> type[Adapted] | None:
    """What layers become that keep their weight and get a change of it.

    Parameters
    ----------
    row : type
        What they would become without: a row of `LAYERS`.

    Returns
    -------
    type or None
        None if the row does not say how a given weight is applied.
    """
    if row.by_weight is SpectralLayer.by_weight and not issubclass(row, OwnForward):
        return None
    if row not in _MADE:
        facts = {"__module__": row.__module__, "__doc__": f"{row.__name__} on a frozen weight."}
        _MADE[row] = type(f"Adapted{row.__name__.removeprefix('Spectral')}", (Adapted, row), facts)
    return _MADE[row]


def residual(matrix: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """M - L R^T, bit for bit the same on every machine: one rank after the other, each entry by itself.

    Parameters
    ----------
    matrix : Tensor
        (n, m).
    left : Tensor
        (n, r).
    right : Tensor
        (m, r).

    Returns
    -------
    Tensor
        (n, m), computed in float64, in the dtype of the matrix.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.layers.adapted import residual
    >>> residual(torch.eye(2), torch.ones(2, 1), torch.ones(2, 1)).tolist()
    [[0.0, -1.0], [-1.0, 0.0]]
    """
    rest = matrix.to(torch.float64, copy=True)
    for column, row in zip(left.double().unbind(1), right.double().unbind(1), strict=True):
        rest.sub_(column.unsqueeze(1) * row)
    return rest.to(matrix.dtype)


def _empty(kind: type[nn.Module]) -> nn.Module:
    """A layer to unpickle into."""
    made = adapted(row_for(kind) or LAYERS[register_layer(kind)])
    assert made is not None
    return made.__new__(made)
