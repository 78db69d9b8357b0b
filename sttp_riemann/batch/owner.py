"""A layer that owns the cores of its weight; results shared with other layers are looked up when it is called."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from sttp_riemann.batch.layout import Member
from sttp_riemann.batch.operators import factor
from sttp_riemann.frames.frame import Frames, full_precision, wide_dtype
from sttp_riemann.trains.contraction import contract
from sttp_riemann.trains.places import Places
from sttp_riemann.trains.shape import LayerShape
from sttp_riemann.trains.spectrum import SpectrumKind, spectrum_values


class Owner(nn.Module):
    """A module whose weight is W = U diag(s) V^T.

    Attributes
    ----------
    shape : LayerShape
        Modes and ranks.
    left, right : Frames
        Cores of U and V, numbered from the outer end of the train to the spectrum.
    spectrum : Parameter or None
        (rank,), the parameter that s is computed from; None if s is not trained.
    spectrum_kind : {"identity", "learned", "free"}
        s = bound, s = bound * S / max|S|, or s = S.
    bound : float
        Largest singular value, or norm of the operator, unless the spectrum is free.
    operator : Places or None
        The convolution whose norm as an operator is bounded; None where W is bounded as a matrix.
    weight_dtype : torch.dtype
        Dtype of U, V and W as returned; frames are never stored in less than float32.
    """

    shape: LayerShape
    left: Frames
    right: Frames
    spectrum: nn.Parameter | None
    spectrum_kind: SpectrumKind
    bound: float
    operator: Places | None = None
    weight_dtype: torch.dtype

    @abstractmethod
    def from_matrix(self, matrix: Tensor) -> Tensor:
        """Reshape W from (d_out, d_in) to the layer's weight shape."""

    def sample(self) -> Tensor:
        """A representative tensor of the frames, for its dtype, device and class."""
        return self.right.tensors(len(self.right) - 1)[0]

    def member(self) -> Member:
        """What a batch needs to know about this layer."""
        return self.member_like(self.sample())

    def member_like(self, sample: Tensor) -> Member:
        """As `member`, from what `sample` returned."""
        dtypes = wide_dtype(sample.dtype), self.weight_dtype
        return Member(self.shape, type(self.left), self.spectrum_kind, self.bound, *dtypes, sample.device)

    def factor_tensors(self) -> tuple[Tensor | None, ...]:
        """Parameters and buffers that W is computed from; None stands for a missing one."""
        # Asked for several times a forward: looked up past `nn.Module.__getattr__`
        modules, own = self._modules, self._parameters
        spectrum = own["spectrum"] if "spectrum" in own else self.spectrum  # noqa: SIM401 - which is what costs time
        return *modules["left"].held(), *modules["right"].held(), spectrum  # type: ignore[union-attr, operator]

    def factor_parameters(self) -> list[nn.Parameter]:
        """Parameters that W is computed from."""
        return [t for t in self.factor_tensors() if isinstance(t, nn.Parameter)]

    def build_frames(self, dtype: torch.dtype | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """Build the frames left and right of the spectrum, for this layer alone.

        Parameters
        ----------
        dtype : torch.dtype, optional
            Of the arithmetic; by default that of the parameters, float32 or above.

        Returns
        -------
        tuple of list of Tensor
            Frames (rows, inner), from the outer end to the spectrum.
        """
        sample = self.sample()
        dtype = wide_dtype(sample.dtype) if dtype is None else dtype
        with full_precision(sample.device):
            left, right = ([side.frame(k, dtype) for k in range(len(side))] for side in (self.left, self.right))
        return left, right

    def build_cores(self, dtype: torch.dtype | None = None) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """As `build_frames`, with s (rank,) between the two."""
        left, right = self.build_frames(dtype)
        sample = self.sample()
        dtype = wide_dtype(sample.dtype) if dtype is None else dtype
        with full_precision(sample.device):
            if self.spectrum is None:
                values = torch.full((self.shape.rank,), self.bound, dtype=dtype, device=sample.device)
            else:
                values = spectrum_values(self.spectrum_kind, self.spectrum.to(dtype).unsqueeze(0), self.bound)[0]
            if self.operator is not None:
                u, v = self._contracted(left, right, values)
                values = values * factor(u * values, v, self.operator, self.bound)
        return left, values, right

    def build_factors(self, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """``U diag(s)`` (d_out, rank) and V (d_in, rank) for this layer alone; see `build_cores`."""
        left, values, right = self.build_cores(dtype)
        with full_precision(values.device):
            u, v = self._contracted(left, right, values)
            return u * values, v

    def _contracted(self, left: list[Tensor], right: list[Tensor], like: Tensor) -> tuple[Tensor, Tensor]:
        u, v = (
            contract(train, [core.unsqueeze(0) for core in cores], like=like)[0]
            for train, cores in ((self.shape.left, left), (self.shape.right, right))
        )
        return u, v

    def stored_spectrum(self) -> Tensor:
        """S (rank,), a detached copy in float64; ones if the spectrum is not trained."""
        if self.spectrum is None:
            return torch.ones(self.shape.rank, dtype=torch.float64, device=self.sample().device)
        return self.spectrum.detach().to(torch.float64, copy=True)
