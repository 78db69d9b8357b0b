"""Features of images: extractors read safely from files, and a checksummed cache of real images' features."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_fidelity import FeatureExtractorBase
from torch_fidelity.metric_fid import fid_features_to_statistics
from torch_fidelity.utils import create_feature_extractor, extract_featuresdict_from_input_id

from sttp_riemann.errors import reason
from sttp_riemann.lab.metrics.cache import kept
from sttp_riemann.sealed import digest

_ONLY, _NOT_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@contextlib.contextmanager
def weights_only() -> Iterator[None]:
    """Let torch read only tensors from files; torch-fidelity would let a file execute code."""
    before = {name: os.environ.pop(name, None) for name in (_ONLY, _NOT_ONLY)}
    os.environ[_ONLY] = "1"
    try:
        yield
    finally:
        del os.environ[_ONLY]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def build_extractor(name: str, layers: list[str], weights: str | None, cuda: bool = False) -> FeatureExtractorBase:
    """Build one of torch-fidelity's extractors.

    Parameters
    ----------
    name : str
        Name in torch-fidelity's registry.
    layers : list of str
        Requested features.
    weights : str or None
        File with its weights; None for its own.
    cuda : bool
        Whether it computes on a GPU.

    Returns
    -------
    FeatureExtractorBase
        In evaluation mode.

    Raises
    ------
    ValueError
        The weights cannot be read, or belong to another network.
    """
    try:
        with weights_only():
            return create_feature_extractor(name, layers, cuda, feature_extractor_weights_path=weights, verbose=False)
    except Exception as error:
        # Damaged files make readers raise errors of many kinds
        where = "its own file" if weights is None else weights
        raise ValueError(f"{where} cannot be read as the weights of {name!r}: {reason(error)}") from error


class Features:
    """Features of a set of images and their statistics for FID, extracted on demand.

    Parameters
    ----------
    images : Any
        A data set as torch-fidelity accepts it.
    extractor : FeatureExtractorBase
        The extractor.
    settings : mapping
        Torch-fidelity's.
    name : str, optional
        Cache name of the images; without it nothing is cached.
    """

    def __init__(
        self, images: Any, extractor: FeatureExtractorBase, settings: Mapping[str, Any], name: str | None = None
    ) -> None:
        self._images, self._extractor, self._settings = images, extractor, settings
        self._name = name and f"{name}-{extractor.get_name()}-{digest(extractor.state_dict())}"
        self._found: dict[str, Tensor] = {}

    def of(self, layer: str) -> Tensor:
        """Features (N, D) of a layer."""
        if layer not in self._found:
            self._found |= self._kept(f"features-{layer}", lambda: {layer: self._extract()[layer]})
        return self._found[layer]

    def statistics(self, layer: str) -> dict[str, np.ndarray]:
        """Mean ``mu`` (D,) and covariance ``sigma`` (D, D) of the features of a layer."""

        def compute() -> dict[str, Tensor]:
            return {key: torch.as_tensor(value) for key, value in fid_features_to_statistics(self.of(layer)).items()}

        return {key: value.numpy() for key, value in self._kept(f"statistics-{layer}", compute).items()}

    def _extract(self) -> dict[str, Tensor]:
        # One pass extracts all layers, and caching one must not drop the others
        settings = {**self._settings, "input1": self._images}
        self._found |= extract_featuresdict_from_input_id(1, self._extractor, **settings)
        return self._found

    def _kept(self, what: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        return compute() if self._name is None else kept(f"fidelity/{self._name}-{what}.safetensors", compute)
