"""Samples measured against real images by torch-fidelity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torch_fidelity import GenerativeModelModuleWrapper, calculate_metrics

from sttp_riemann.metrics.cache import cache_folder
from sttp_riemann.metrics.digits_classifier import digest, load_classifier
from sttp_riemann.metrics.extractor import DIGITS, EXTRACTORS, register

# Torch-fidelity's names of what each metric gives, by ours
METRICS: dict[str, dict[str, str]] = {
    "is": {"is": "inception_score_mean", "is_std": "inception_score_std"},
    "fid": {"fid": "frechet_inception_distance"},
    "kid": {"kid": "kernel_inception_distance_mean", "kid_std": "kernel_inception_distance_std"},
    "prc": {"precision": "precision", "recall": "recall"},
    "ppl": {"ppl": "perceptual_path_length_mean"},
}
_SWITCHES = {"is": "isc"}


class MetricError(ValueError):
    """A metric that cannot be had; the message names the remedy."""


@dataclass(frozen=True)
class MetricOptions:
    """How images are measured.

    Attributes
    ----------
    extractor : str
        A key of `EXTRACTORS`.
    weights : str or None
        File with the extractor's weights; None takes the cached ones.
    download : bool
        Whether Inception's weights may be downloaded where they are not cached.
    is_splits, kid_subsets, kid_subset_size : int
        As torch-fidelity has them.
    batch_size : int
        Images at a time.
    cuda : bool
        Whether to compute on a GPU.
    """

    extractor: str = "digits"
    weights: str | None = None
    download: bool = False
    is_splits: int = 10
    kid_subsets: int = 100
    kid_subset_size: int = 1000
    batch_size: int = 256
    cuda: bool = False


class Images(Dataset[Tensor]):
    """Images as torch-fidelity wants them: uint8, three channels.

    Parameters
    ----------
    images : Tensor
        Of uint8, (N, C, H, W) with C = 1 or 3.
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        image = self.images[index]
        return image.expand(3, *image.shape[1:])

    def digest(self) -> str:
        """Name of the content: equal images, equal names."""
        content = hashlib.sha256(str(tuple(self.images.shape)).encode())
        content.update(self.images.contiguous().numpy().tobytes())
        return content.hexdigest()[:16]


def measure(
    samples: Tensor | Path,
    reference: Tensor | Path | None,
    names: Sequence[str],
    options: MetricOptions,
    generator: tuple[nn.Module, int, int] | None = None,
) -> dict[str, float]:
    """Measure samples against real images.

    Parameters
    ----------
    samples : Tensor or Path
        Images as uint8 (N, C, H, W) with C = 1 or 3, or a folder with images.
    reference : Tensor, Path or None
        Real images; what is extracted from a tensor is cached. None where no metric compares.
    names : sequence of str
        Keys of `METRICS`.
    options : MetricOptions
        How.
    generator : (nn.Module, int, int), optional
        For ``ppl``: from noise to images in [-1, 1], the noise's length, and the number of classes or 0.

    Returns
    -------
    dict[str, float]
        Figure name to value.

    Raises
    ------
    MetricError
        The extractor's weights cannot be had, or there are too few images.
    """
    register()
    _check_weights(options)
    known: dict[str, Any] = {
        "feature_extractor": EXTRACTORS[options.extractor],
        "feature_extractor_weights_path": options.weights,
        "isc_splits": options.is_splits,
        "kid_subsets": options.kid_subsets,
        "kid_subset_size": options.kid_subset_size,
        "batch_size": options.batch_size,
        "cuda": options.cuda,
        "cache_root": str(cache_folder() / "fidelity"),
        # Worker processes for images that are in memory already cost more than they save
        "save_cpu_ram": True,
        "verbose": False,
    }
    compared = [name for name in names if name != "ppl"]
    found: dict[str, float] = {}
    if compared:
        switches = {_SWITCHES.get(name, name): True for name in compared}
        found |= _calculate(**known, **switches, **_inputs(samples, reference, options))
    if "ppl" in names:
        if generator is None:
            raise MetricError("perceptual path length needs the generator itself, not only its samples")
        found |= _calculate(**known, **_path_length(generator, len(Images(torch.as_tensor(samples))), options))
    return {ours: float(found[theirs]) for name in names for ours, theirs in METRICS[name].items()}


def _calculate(**settings: Any) -> dict[str, float]:
    try:
        return dict(calculate_metrics(**settings))
    except (ValueError, OSError) as error:
        raise MetricError(f"torch-fidelity cannot measure: {error}") from error


def _inputs(samples: Tensor | Path, reference: Tensor | Path | None, options: MetricOptions) -> dict[str, Any]:
    inputs: dict[str, Any] = {"input1": _input(samples)}
    if reference is not None:
        inputs["input2"] = _input(reference)
    if isinstance(reference, Tensor):
        classifier = options.extractor == "digits"
        weights = (
            digest(load_classifier(None if options.weights is None else Path(options.weights))) if classifier else ""
        )
        inputs["input2_cache_name"] = f"{Images(reference).digest()}{weights}"
    return inputs


def _input(images: Tensor | Path) -> Images | str:
    return Images(images) if isinstance(images, Tensor) else str(images)


def _check_weights(options: MetricOptions) -> None:
    if options.extractor == "digits" or options.download:
        return
    if options.weights is not None:
        if not Path(options.weights).is_file():
            raise MetricError(f"there is no file {options.weights} with Inception's weights: mend extractor_weights")
        return
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(URL_INCEPTION_V3).name
    if not cached.is_file():
        raise MetricError(
            "the Inception network's weights are not on this machine: set download to true, name their file in "
            "extractor_weights, or set extractor to 'digits' or metrics to []"
        )


def _path_length(generator: tuple[nn.Module, int, int], count: int, options: MetricOptions) -> dict[str, Any]:
    module, size, classes = generator
    return {
        "ppl": True,
        "input1": GenerativeModelModuleWrapper(_Rgb(module), size, "normal", classes, make_eval=False),
        "input1_model_num_samples": count,
        "input1_model_num_classes": classes,
        "ppl_sample_similarity": DIGITS if options.extractor == "digits" else "lpips-vgg16",
        # Steps this small vanish in whole numbers
        "ppl_sample_similarity_dtype": "float32",
        # Its percentiles need a numpy older than 2.4
        "ppl_discard_percentile_lower": None,
        "ppl_discard_percentile_higher": None,
    }


class _Rgb(nn.Module):
    """A generator's images with three channels and values 0 .. 255."""

    def __init__(self, generator: Callable[..., Tensor]) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, *inputs: Tensor) -> Tensor:
        images = self.generator(*inputs)
        return ((images + 1) * 127.5).expand(-1, 3, -1, -1)
