"""Embeddings."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from sttp_riemann.layers.application import Application, Workload
from sttp_riemann.layers.base import SpectralLayer, filled
from sttp_riemann.layers.tracing import opaque


class SpectralEmbedding(SpectralLayer, nn.Embedding):  # type: ignore[override, misc]
    """Embedding with a spectral weight (num_embeddings, embedding_dim).

    `padding_idx` contributes no gradient. Its vector is a row of W like any other, so it is not zero.
    """

    @staticmethod
    @override
    def matrix_shape(layer: Any) -> tuple[int, tuple[int, ...]]:
        return layer.num_embeddings, (layer.embedding_dim,)

    @override
    def from_matrix(self, matrix: Tensor) -> Tensor:
        return matrix

    @override
    def workload(self, entries: int) -> Workload:
        """A lookup costs one row: the choice is between building W and multiplying rows by V^T."""
        return Workload(entries, 0, 0, 0, self.embedding_dim)

    @override
    @opaque
    def forward(self, input: Tensor) -> Tensor:
        return self.applied(input, input)

    @override
    def by_weight(self, weight: Tensor, bias: Tensor | None, input: Tensor) -> Tensor:
        return F.embedding(input, weight, self.padding_idx)

    @override
    def by_factors(self, application: Application, bias: Tensor | None, input: Tensor) -> Tensor:
        left, right = self.factors()
        encode = partial(F.embedding, input, left)
        codes = encode()
        with self._keeping(codes, encode):
            vectors = codes @ right.mT
        if self.padding_idx is None:
            return vectors
        return torch.where((input == self.padding_idx).unsqueeze(-1), vectors.detach(), vectors)

    @override
    def _thin_layers(self, left: Tensor, right: Tensor) -> nn.Sequential:
        lookup = nn.Embedding(left.shape[0], left.shape[1], padding_idx=self.padding_idx, _weight=left.clone())
        return nn.Sequential(lookup, filled(nn.Linear(right.shape[1], self.embedding_dim), right))
