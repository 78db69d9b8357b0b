"""State of a spectral layer: its options, saved with the parameters and compared on loading; sizes; casts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from sttp_riemann.batch.owner import Owner
from sttp_riemann.frames import FRAMES
from sttp_riemann.frames.frame import wide_dtype
from sttp_riemann.layers.options import Options, encode
from sttp_riemann.trains.places import Places
from sttp_riemann.trains.spectrum import SpectrumKind


class Parameterized(Owner):
    """A module with the options of its weight's parameterization.

    Attributes
    ----------
    options : Options
        Part of the state.
    held_names : tuple of str
        How the names of what the layer holds begin.
    made_by : str
        What made the layer of an ordinary one.
    """

    options: Options
    held_names: ClassVar[tuple[str, ...]] = ("left.", "right.", "spectrum", "_extra_state")
    made_by: ClassVar[str] = "reparameterize"

    @property
    def spectrum_kind(self) -> SpectrumKind:  # type: ignore[override]
        """How s is computed."""
        return self.options.spectrum

    @property
    def bound(self) -> float:  # type: ignore[override]
        """Largest singular value, or norm of the operator."""
        return self.options.bound

    @staticmethod
    def places(layer: Any) -> Places | None:
        """Where a convolution's kernel meets its input.

        Parameters
        ----------
        layer : nn.Module
            An ordinary layer.

        Returns
        -------
        Places or None
            None where the norm of the layer is that of its matrix, or is not known.
        """
        return None

    @property
    def operator(self) -> Places | None:  # type: ignore[override]
        """The convolution whose norm as an operator is bounded; None where W is bounded as a matrix."""
        return self.places(self) if self.options.bound_of == "operator" else None

    @property
    def frames(self) -> str:
        """Kind of frame, a key of `sttp_riemann.frames.FRAMES`."""
        # A derived kind comes after its base
        return next(name for name, kind in reversed(FRAMES.items()) if isinstance(self.left, kind))

    @property
    def rank(self) -> int:
        """Number of singular values."""
        return self.shape.rank

    @property
    def dof(self) -> int:
        """Degrees of freedom of the weight."""
        return self.shape.dof(self.spectrum_kind != "identity")

    @property
    def stored(self) -> int:
        """Number of trainable parameters that represent the weight."""
        kind = FRAMES[self.frames]
        frames = sum(kind.numbers(core) for core in (*self.shape.left.cores, *self.shape.right.cores))
        return frames + (0 if self.spectrum is None else self.rank)

    @override
    def get_extra_state(self) -> Tensor:
        """Options, as whole numbers: averages and casts of states leave those unchanged."""
        return encode(self.told())

    def told(self, frames: str | None = None) -> dict[str, Any]:
        """The options, and the dtype of W where the frames do not have it: all that makes the layer of a dense one.

        Parameters
        ----------
        frames : str, optional
            Kind of frames to tell instead of its own.

        Returns
        -------
        dict[str, Any]
            What JSON can hold.
        """
        dtype = self.weight_dtype
        narrow = {} if wide_dtype(dtype) == dtype else {"dtype": str(dtype).removeprefix("torch.")}
        return self.options.told(self.shape, frames or self.frames) | narrow

    @override
    def set_extra_state(self, state: Tensor) -> None:
        """Adopt a bound that comes from the weights; every other option was compared before."""
        self.options = self.options.bounded(state)

    def difference(self, state: Mapping[str, Any], prefix: str) -> str | None:
        """Reason why a state does not fit the layer.

        Parameters
        ----------
        state : mapping
            Of the model.
        prefix : str
            Of the layer's names in it.

        Returns
        -------
        str or None
            None if it fits.
        """
        options = state.get(f"{prefix}_extra_state")
        if options is not None:
            return self.options.difference(self.shape, self.frames, options)
        dense = f"{prefix}weight" in state
        return f"it is that of a dense layer; load it before you call {self.made_by}" if dense else None

    @override
    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        metadata: Any,
        strict: bool,
        missing: list[str],
        unexpected: list[str],
        errors: list[str],
    ) -> None:
        difference = self.difference(state_dict, prefix)
        if difference is not None:
            errors.append(f"layer {prefix.removesuffix('.')!r} cannot load this state: {difference}")
            # Substitute the layer's own values for what does not fit, so that torch reports no second error
            names = tuple(f"{prefix}{part}" for part in self.held_names)
            own = self.state_dict(prefix=prefix, keep_vars=True)
            for name in [name for name in (*state_dict, *own) if name.startswith(names)]:
                state_dict.pop(name, None)
                state_dict.update({name: own[name]} if name in own else {})
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, unexpected, errors)
        self._widen_spectrum()

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Parameterized:
        """Cast and move: frames and spectrum stay in float32 or above, W follows the model."""
        spectrum = self.spectrum
        probe = torch.empty(0, dtype=self.weight_dtype, device=self.sample().device)

        def keep_wide(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            kept = spectrum is not None and (tensor is spectrum or tensor is spectrum.grad)
            narrow = kept and wide_dtype(moved.dtype) != moved.dtype
            return tensor.to(moved.device) if narrow else moved

        super()._apply(fn if spectrum is None else keep_wide, recurse)
        self.weight_dtype = fn(probe).dtype
        return self

    def _widen_spectrum(self) -> None:
        # With assign=True the parameter now is the tensor of the narrow checkpoint
        if self.spectrum is not None and wide_dtype(self.spectrum.dtype) != self.spectrum.dtype:
            self.spectrum.data = self.spectrum.data.to(wide_dtype(self.spectrum.dtype))
