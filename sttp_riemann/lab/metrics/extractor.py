"""Our classifiers for torch-fidelity: feature extractors, and measures of similarity of two images."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from torch_fidelity import register_feature_extractor, register_sample_similarity
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
from torch_fidelity.sample_similarity_base import SampleSimilarityBase
from typing_extensions import override

from sttp_riemann.lab.metrics.classifiers import load_classifier

OURS = {
    "digits": "sttp-digits",
    "stacked_digits": "sttp-stacked-digits",
    "fashion_mnist": "sttp-fashion-mnist",
}
EXTRACTORS = {**OURS, "inception-v3-compat": "inception-v3-compat"}
"""Names in torch-fidelity's registry, by their names in recipes; those of the first need no download."""


class DigitsExtractor(FeatureExtractorBase):
    """Features and logits of the classifier of digits.

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

    of: ClassVar[str] = "digits"

    def __init__(
        self, name: str, features_list: list[str], feature_extractor_weights_path: str | None = None, **unused: Any
    ) -> None:
        super().__init__(name, features_list)
        self.classifier = load_classifier(self.of, feature_extractor_weights_path)

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
        features, logits = self.classifier.of_gray(images)
        found = {"features": features, "logits": logits}
        return tuple(found[name] for name in self.features_list)


class StackedExtractor(DigitsExtractor):
    """Features of each channel side by side, logits of the 1,000 triples of classes, and the likeliest triple."""

    @staticmethod
    @override
    def get_provided_features_list() -> tuple[str, ...]:
        return ("features", "logits", "modes")

    @staticmethod
    @override
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """Triples for mode counts, and else as for single digits."""
        return "modes" if metric == "modes" else DigitsExtractor.get_default_feature_layer_for_metric(metric)

    @override
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Requested features of images uint8 (N, 3, H, W), each (N, ...)."""
        features, logits = self.classifier.of_channels(images)
        a, b, c = logits.unbind(1)
        find = {
            "features": lambda: features.flatten(1),
            "logits": lambda: (a[:, :, None, None] + b[:, None, :, None] + c[:, None, None, :]).flatten(1),
            "modes": lambda: (logits.argmax(2) * logits.new_tensor([100, 10, 1])).sum(1, keepdim=True),
        }
        return tuple(find[name]() for name in self.features_list)


class FashionExtractor(DigitsExtractor):
    """Features and logits of the classifier of Fashion-MNIST."""

    of = "fashion_mnist"


class DigitsSimilarity(SampleSimilarityBase):
    """Squared distance between two images' features, for perceptual path length.

    Parameters
    ----------
    name : str
        Name in torch-fidelity's registry.
    **unused
        Settings of other measures.
    """

    of: ClassVar[str] = "digits"

    def __init__(self, name: str, **unused: Any) -> None:
        super().__init__(name)
        self.classifier = load_classifier(self.of)

    @override
    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Distances (N,) of images (N, 3, H, W) with values 0 .. 255."""
        difference = self.classifier.of_gray(one)[0] - self.classifier.of_gray(other)[0]
        return difference.square().sum(1)


class StackedSimilarity(DigitsSimilarity):
    """Sum over channels of the squared distances between two images' features."""

    @override
    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        difference = self.classifier.of_channels(one)[0] - self.classifier.of_channels(other)[0]
        return difference.square().sum((1, 2))


class FashionSimilarity(DigitsSimilarity):
    """The same with the classifier of Fashion-MNIST."""

    of = "fashion_mnist"


def register() -> None:
    """Register our classifiers with torch-fidelity under the names of `OURS`; may be called repeatedly."""
    kinds = {
        "digits": (DigitsExtractor, DigitsSimilarity),
        "stacked_digits": (StackedExtractor, StackedSimilarity),
        "fashion_mnist": (FashionExtractor, FashionSimilarity),
    }
    for name, (extractor, similarity) in kinds.items():
        if OURS[name] not in FEATURE_EXTRACTORS_REGISTRY:
            register_feature_extractor(OURS[name], extractor)
            register_sample_similarity(OURS[name], similarity)
