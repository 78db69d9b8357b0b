"""The digits classifier for torch-fidelity: a feature extractor, and a measure of similarity of two images."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch_fidelity import register_feature_extractor, register_sample_similarity
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
from torch_fidelity.sample_similarity_base import SampleSimilarityBase
from typing_extensions import override

from sttp_riemann.lab.metrics.digits_classifier import as_digits, load_classifier

DIGITS = "sttp-digits"
EXTRACTORS = {"digits": DIGITS, "inception-v3-compat": "inception-v3-compat"}
"""Names in torch-fidelity's registry, by their names in recipes."""


class DigitsExtractor(FeatureExtractorBase):
    """Features and logits of the digits classifier.

    Parameters
    ----------
    name : str
        Name in torch-fidelity's registry.
    features_list : list of str
        ``"features"``, ``"logits"`` or both.
    feature_extractor_weights_path : str, optional
        File of a classifier; by default that in the user's cache.
    **unused
        Settings of other extractors.
    """

    def __init__(
        self, name: str, features_list: list[str], feature_extractor_weights_path: str | None = None, **unused: Any
    ) -> None:
        super().__init__(name, features_list)
        self.classifier = load_classifier(feature_extractor_weights_path)

    @staticmethod
    @override
    def get_provided_features_list() -> tuple[str, ...]:
        return ("features", "logits")

    @staticmethod
    @override
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """Classes for the inception score, features for every other metric."""
        return "logits" if metric == "isc" else "features"

    @staticmethod
    @override
    def can_be_compiled() -> bool:
        """The network is too small to gain from it."""
        return False

    @override
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Requested features of images uint8 (N, 3, H, W)."""
        features, logits = self.classifier(as_digits(images))
        found = {"features": features, "logits": logits}
        return tuple(found[name] for name in self.features_list)


class DigitsSimilarity(SampleSimilarityBase):
    """Squared distance between two images' features, for perceptual path length.

    Parameters
    ----------
    name : str
        Name in torch-fidelity's registry.
    **unused
        Settings of other measures.
    """

    def __init__(self, name: str, **unused: Any) -> None:
        super().__init__(name)
        self.classifier = load_classifier()

    @override
    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Distances (N,) of images (N, 3, H, W) with values 0 .. 255."""
        difference = self.classifier(as_digits(one))[0] - self.classifier(as_digits(other))[0]
        return difference.square().sum(1)


def register() -> None:
    """Register the digits classifier with torch-fidelity as ``sttp-digits``; may be called repeatedly."""
    if DIGITS not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(DIGITS, DigitsExtractor)
        register_sample_similarity(DIGITS, DigitsSimilarity)
