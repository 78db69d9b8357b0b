"""Sums, means and maxima of embeddings."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from sttp_riemann.layers.application import Application, Workload
from sttp_riemann.layers.base import STATIC, SpectralLayer
from sttp_riemann.layers.tracing import opaque


class SpectralEmbeddingBag(SpectralLayer, nn.EmbeddingBag):  # type: ignore[override, misc]
    """EmbeddingBag with a spectral weight (num_embeddings, embedding_dim)."""

    @property
    def applications(self) -> tuple[Application, ...]:  # type: ignore[override]
        """A sum of rows of W is one of rows of U, times V; the largest entries are not."""
        return ("weight",) if self.mode == "max" else STATIC

    @staticmethod
    @override
    def matrix_shape(layer: Any) -> tuple[int, tuple[int, ...]]:
        return layer.num_embeddings, (layer.embedding_dim,)

    @override
    def from_matrix(self, matrix: Tensor) -> Tensor:
        return matrix

    @override
    def workload(self, entries: int) -> Workload:
        """As for an embedding, but rows are multiplied by V^T once a bag: `entries` counts bags."""
        return Workload(entries, 0, 0, 0, self.embedding_dim)

    @override
    @opaque
    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        options: dict[str, Any] = {
            "offsets": offsets,
            "mode": self.mode,
            "per_sample_weights": per_sample_weights,
            "include_last_offset": self.include_last_offset,
            "padding_idx": self.padding_idx,
        }
        bags = input[..., 0] if offsets is None else offsets
        return self.applied(bags, input, options)

    @override
    def by_weight(self, weight: Tensor, bias: Tensor | None, input: Tensor, options: dict[str, Any]) -> Tensor:
        return F.embedding_bag(input, weight, **options)

    @override
    def by_factors(
        self, application: Application, bias: Tensor | None, input: Tensor, options: dict[str, Any]
    ) -> Tensor:
        left, right = self.factors()
        return F.embedding_bag(input, left, **options) @ right.mT

    @override
    def thin_layers(self) -> None:
        """None: a sequence of layers takes one input, without offsets."""
