"""The factors U, s, V of all reparameterized layers of a model, computed in batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sttp_riemann.frames import FRAMES
from sttp_riemann.frames.bank import Bank, wide_dtype
from sttp_riemann.frames.gauge import sweep
from sttp_riemann.reuse import Reusable
from sttp_riemann.spectrum import Spectra, SpectrumKind
from sttp_riemann.tt import Core, LayerShape, Train, contract


@dataclass
class LayerCores:
    """Matricized cores and spectrum of one layer, each core (rows, inner), from the outer end to the spectrum."""

    left: list[Tensor]
    spectrum: Tensor
    right: list[Tensor]


@dataclass(frozen=True)
class _Group:
    """Equal trains: which layers have them, and where each of their cores stands in the banks."""

    train: Train
    layers: tuple[int, ...]
    slots: tuple[tuple[Hashable, int], ...]


class SpectralFactors(nn.Module):
    """All cores of a model in banks of equal shape, and all spectra in one parameter.

    Equal frames of all layers are computed in one call, equal trains contracted in one call, and the result is shared
    by everything that asks for it until a parameter changes. Arithmetic is in float32 or above, also under autocast.

    Parameters
    ----------
    shapes : sequence of LayerShape
        One a layer.
    cores : sequence of LayerCores
        Their start.
    frames : str
        A key of `sttp_riemann.frames.FRAMES`.
    spectrum : {"identity", "learned", "free"}
        Kind of spectrum.
    bounds : Tensor
        (L,) largest singular values.
    """

    weight_dtype: Tensor

    def __init__(
        self,
        shapes: Sequence[LayerShape],
        cores: Sequence[LayerCores],
        frames: str,
        spectrum: SpectrumKind,
        bounds: Tensor,
    ) -> None:
        super().__init__()
        self.shapes, self.frames = tuple(shapes), frames
        self.kernel_cores = tuple(cores)
        # Manifold arithmetic is wide; the weights are handed out in what the model was cast to.
        self.register_buffer("weight_dtype", torch.empty(0, dtype=bounds.dtype), persistent=False)
        self.spectra = Spectra([s.rank for s in shapes], spectrum, bounds.to(wide_dtype(bounds.dtype)))
        self._order()
        self._fill(cores)
        del self.kernel_cores
        self.spectra.assign_([c.spectrum for c in cores])
        self._reset_caches()
