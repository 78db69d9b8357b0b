"""The weight of a spectral layer: built from its cores, and projected into them."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sttp_riemann.batch.cached import part_of
from sttp_riemann.batch.frozen import kept_for
from sttp_riemann.batch.operators import initial_norm
from sttp_riemann.checks import check_flag, check_kind, check_tensor
from sttp_riemann.compat import in_transform
from sttp_riemann.frames.frame import wide_dtype
from sttp_riemann.layers.application import Application
from sttp_riemann.layers.state import Parameterized
from sttp_riemann.layers.tracing import refuse_torchscript_onnx
from sttp_riemann.layers.weight import SpectralWeight, guarded
from sttp_riemann.trains.start import LayerCores, draw, from_weight

LOSSY = 1e-3
"""Relative error of an assigned weight above which a warning is given."""
TINY = torch.finfo(torch.float64).tiny


class Weighted(Parameterized):
    """A module with a weight that can be read, assigned, frozen, hooked and tied.

    Attributes
    ----------
    application : {"auto", "weight", "factored", "train"}
        How the layer is applied.
    weight_hooks : dict
        Functions called with the gradient of W, where W is built.
    """

    application: Application
    weight_hooks: OrderedDict[int, Callable[[Tensor], Tensor | None]]

    def to_matrix(self, weight: Tensor) -> Tensor:
        """Reshape a weight to the matrix (d_out, d_in)."""
        raise NotImplementedError

    def factors(self) -> tuple[Tensor, Tensor]:
        """``U diag(s)`` (d_out, rank) and ``V`` (d_in, rank)."""
        if in_transform():  # compilers cannot trace results that layers share
            refuse_torchscript_onnx()
            left, right = self.build_factors()
            return left.to(self.weight_dtype), right.to(self.weight_dtype)
        kept = kept_for(self)
        if kept is None:
            part, i = part_of(self)
            left, right = part.get(i, "pairs")
        else:
            left, right = kept.factors
        return left, right

    def core_frames(self) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """Frames (rows, inner) left and right of the spectrum, and s (rank,) between them."""
        if in_transform() or self.operator is not None:
            return self.build_cores()
        kept = kept_for(self)
        if kept is None:
            part, i = part_of(self)
            built = part.get(i, "cores")
        else:
            built = kept.cores()
        count = len(self.left)
        return built[:count], built[count], built[count + 1 :]

    def built_weight(self) -> Tensor:
        """W in the shape of the original layer's weight, as the layer applies it."""
        if in_transform():
            left, right = self.factors()
            return self.completed(self.from_matrix(left @ right.mT))
        kept = kept_for(self)
        if kept is None:
            part, i = part_of(self)
            weight = self.completed(part.weight(i))
        else:
            weight = self.completed(kept.weight())
        if self.weight_hooks and weight.requires_grad and not getattr(weight, "hooked", False):
            weight.hooked = True  # type: ignore[attr-defined]
            for hook in self.weight_hooks.values():
                weight.register_hook(hook)
        return weight

    def completed(self, weight: Tensor) -> Tensor:
        """W from U diag(s) V^T in its shape: the same, unless the layer adds something to it."""
        return weight

    @property
    def weight(self) -> Tensor:
        """W in the shape of the original layer's weight, differentiable and read-only.

        Assigning a tensor projects it into the layer; see `set_weight`.
        """
        weight = self.built_weight()
        return weight if in_transform() or isinstance(weight, SpectralWeight) else guarded(weight, ref(self))

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "weight":
            super().__setattr__(name, value)
            return
        other = value.layer() if isinstance(value, SpectralWeight) else None
        if isinstance(other, Weighted) and other is not self:
            self.tie(other)
            return
        error = self.set_weight(value)
        if error > LOSSY:
            warnings.warn(
                f"the assigned weight is represented with a relative error of {error:.2g}: rank {self.rank}, "
                f"spectrum {self.spectrum_kind!r} and bound {self.bound:g} allow no better",
                stacklevel=2,
            )

    def tie(self, other: Weighted) -> None:
        """Tie to another layer: share all its cores.

        Parameters
        ----------
        other : Weighted
            A layer whose weight has the same shape and options.

        Raises
        ------
        TypeError
            `other` is not a reparameterized layer.
        ValueError
            Its weight is of another shape or parameterized in another way.
        """
        check_kind("other", other, Weighted, "a reparameterized layer")
        alike = self.options == other.options and self.shape == other.shape and self.operator == other.operator
        if not alike:
            raise ValueError("the other layer must parameterize its weight in the same way to share it")
        self.left, self.spectrum, self.right = other.left, other.spectrum, other.right

    @torch.no_grad()
    def set_weight(self, weight: Tensor) -> float:
        """Replace the weight, as closely as ranks, spectrum and bound allow.

        Parameters
        ----------
        weight : Tensor
            In the shape of the layer's weight.

        Returns
        -------
        float
            Relative Frobenius error of W against it.

        Raises
        ------
        TypeError
            `weight` is not a tensor.
        ValueError
            It is of another shape, complex, sparse, not finite or beyond 1e30.
        """
        plain = check_tensor("weight", weight, self.from_matrix(self._empty_matrix()).shape)
        matrix = self.to_matrix(plain).double().cpu()
        cores = from_weight(self.shape, matrix)
        largest = float(cores.spectrum.abs().max())
        if self.options.bound_from_weight and largest > 0:
            own = largest if self.operator is None else initial_norm(self.shape, cores, self.operator)
            self.options = replace(self.options, bound=own)
        self.assign_(cores)
        left, right = self.build_factors(torch.float64)
        return float((left @ right.mT).cpu().sub_(matrix).norm() / matrix.norm().clamp_min(TINY))

    def _empty_matrix(self) -> Tensor:
        return torch.empty(self.shape.d_out, self.shape.d_in, device="meta")

    @torch.no_grad()
    def assign_(self, cores: LayerCores) -> None:
        """Replace the cores, in place.

        Parameters
        ----------
        cores : LayerCores
            In float64; their gauge is fixed in place.
        """
        orders = cores.fix_gauge(self.shape, self.left.pivoted)
        sample = self.sample()
        for frames, own, order in zip((self.left, self.right), (cores.left, cores.right), orders, strict=True):
            for k, frame in enumerate(own):
                frames.lead(k, order[k])
                frames.assign_(k, frame.to(device=sample.device, dtype=wide_dtype(sample.dtype)))
        if self.spectrum is not None:
            self.spectrum.copy_(cores.spectrum)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw cores and bias anew: the cores by the original `init`, or uniformly if that was a dense weight."""
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, (), device="cpu")))
        self.assign_(draw(self.shape, "orthogonal" if self.options.init == "dense" else self.options.init, generator))
        if isinstance(bias := getattr(self, "bias", None), Tensor):
            fan_in, _ = nn.init._calculate_fan_in_and_fan_out(self.from_matrix(self._empty_matrix()))
            nn.init.uniform_(bias, -(fan_in**-0.5), fan_in**-0.5)

    @property
    def trains(self) -> bool:
        """Whether any parameter of the weight is trained."""
        return any(p.requires_grad for p in self.factor_parameters())

    def freeze(self, frozen: bool = True) -> None:
        """Freeze or unfreeze the weight.

        Parameters
        ----------
        frozen : bool
            Whether to freeze it.

        Raises
        ------
        ValueError
            It is neither True nor False.
        """
        frozen = check_flag("frozen", frozen)
        for parameter in self.factor_parameters():
            parameter.requires_grad_(not frozen)

    def hook_weight(self, weight: Tensor, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Register a hook on the gradient of W.

        Parameters
        ----------
        weight : Tensor
            The present W.
        hook : callable
            As `torch.Tensor.register_hook` takes it.

        Returns
        -------
        RemovableHandle
            Its `remove` removes the hook.

        Raises
        ------
        TypeError
            The weight is not a tensor, or the hook is not callable.
        RuntimeError
            The layer does not always build W.
        """
        check_kind("weight", weight, Tensor, "a tensor")
        check_kind("hook", hook, Callable, "a function of the gradient")
        if self.application != "weight":
            raise RuntimeError(
                "this layer is applied by its factors without building W, so the hook would never be called: set "
                "layer.application = 'weight' first"
            )
        handle = RemovableHandle(self.weight_hooks)
        self.weight_hooks[handle.id] = hook
        if weight.requires_grad:
            weight.register_hook(hook)
            weight.hooked = True  # type: ignore[attr-defined]
        return handle
