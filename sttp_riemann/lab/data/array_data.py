"""Arrays in memory that are no images: the network sees them as they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sttp_riemann.lab.data.source import ArraySource


class ArrayData(ArraySource):
    """A data set whose inputs are passed on as they are; takes what `ArraySource` does."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.train_inputs.shape[1:])

    @property
    def channels(self) -> int:
        """Size of an input's first axis, which networks get as ``in_channels``."""
        return self.shape[0]

    def batch(self, indices: Tensor | Sequence[int], train: bool = True) -> tuple[Tensor, Tensor]:
        """Inputs, float32 or int64 (B, ...), and labels; takes what `ImageData.batch` does."""
        indices = torch.as_tensor(indices, dtype=torch.int64)
        inputs, labels = (self.train_inputs, self.train_labels) if train else (self.test_inputs, self.test_labels)
        return inputs[indices], labels[indices]
