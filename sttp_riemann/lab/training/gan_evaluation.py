"""Evaluation of a GAN during training: metrics of its samples, sample sheets, and the state of its discriminator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.data import ImageData
from sttp_riemann.lab.training import observe
from sttp_riemann.lab.training.gan_losses import LOSSES
from sttp_riemann.lab.training.player import Player
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.sheets import png, slerp_path
from sttp_riemann.lab.training.stability import diversity, layer_records, plain_copy, trained_norms

if TYPE_CHECKING:
    from sttp_riemann.lab.metrics import MetricOptions

SHEET = 64
"""Number of samples in a sheet."""
PROBES = 4
"""Batches of real and of generated images to probe the discriminator with."""
PATHS, PATH_STEPS = 6, 9
"""Number of latent interpolations, and of images in each."""


def call(network: nn.Module, inputs: Tensor, labels: Tensor, classes: int | None) -> Tensor:
    """Outputs of a network, which is given the labels if it is conditional on classes."""
    outputs: Tensor = network(inputs) if classes is None else network(inputs, labels)
    return outputs


class Evaluator:
    """Evaluate with the same noise, labels and real images every time.

    Parameters
    ----------
    recipe : Recipe
        Metrics, extractor, sizes.
    data : ImageData
        Real images.
    latent_dim : int
        Length of the noise.
    classes : int or None
        Classes of conditional networks.
    accelerator : Accelerator
        Device and precision.

    Raises
    ------
    RecipeError
        A metric cannot be measured.
    """

    def __init__(
        self, recipe: Recipe, data: ImageData, latent_dim: int, classes: int | None, accelerator: Accelerator
    ) -> None:
        self.recipe, self.accelerator, self.classes = recipe, accelerator, classes
        self.latent_dim = latent_dim
        generator = torch.Generator().manual_seed(recipe.seed)
        # Of as many generated images, as losses compare pairs
        self.probe = min(PROBES * recipe.schedule.batch_size, len(data.train_images))
        probe = torch.randperm(len(data.train_images), generator=generator)[: self.probe]
        self.real, self.real_labels = data.batch(probe)
        if recipe.evaluation.metrics:
            self.options = self._metric_options(data)
            self.reference = _as_bytes(data)
        self.ends = torch.randn(2, PATHS, latent_dim, generator=generator)
        self.seed = int(torch.randint(2**31, (), generator=generator))

    def evaluate(self, discriminator: Player, generator: Player) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Evaluate both networks; neither is changed.

        Returns
        -------
        record : dict
            ``figures`` for the history; ``layers``, see `layer_records`; ``outputs``, the discriminator's, on ``real``
            and ``fake`` images.
        sheets : dict[str, bytes]
            PNG images by name.
        """
        network = generator.result.eval()
        measured = self.recipe.evaluation.metric_samples if self.recipe.evaluation.metrics else 0
        count = max(self.probe, measured)
        fakes, labels = self._samples(network, count)
        figures = self._measure(fakes[:measured], network) if measured else {}
        plain = plain_copy(discriminator.model, discriminator.recipe.network.low_rank)
        probe = (fakes[: self.probe].float() / 127.5 - 1, labels[: self.probe])
        outputs: dict[str, list[float]] = {}

        def loss(model: nn.Module) -> Tensor:
            real = self._judge(model, self.real, self.real_labels)
            fake = self._judge(model, *probe)
            outputs.update(real=real.tolist(), fake=fake.tolist())
            return LOSSES[self.recipe.gan.loss].discriminator(real, fake)

        layers = layer_records(plain, loss, self.recipe.evaluation.operator_norms)
        for name, norm in trained_norms(discriminator.model).items():
            layers[name]["trained_norm"] = norm
        figures |= {
            "diversity": diversity(probe[0], self.real),
            "real_output": float(torch.tensor(outputs["real"]).mean()),
            "fake_output": float(torch.tensor(outputs["fake"]).mean()),
            "largest_spectral_norm": max(layer["spectral_norm"] for layer in layers.values()),
            **observe.frames(discriminator.model),
        }
        sheets = {"samples": png(fakes[:SHEET]), "interpolations": png(self._paths(network), columns=PATH_STEPS)}
        return {"figures": figures, "layers": layers, "outputs": outputs}, sheets

    @torch.no_grad()
    def _samples(self, network: nn.Module, count: int) -> tuple[Tensor, Tensor]:
        """Generate images uint8 (count, C, H, W), and their labels."""
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(count, self.latent_dim, generator=generator)
        labels = torch.arange(count) % (self.classes or 1)
        size = self.recipe.evaluation.evaluate_batch_size
        parts = zip(noise.split(size), labels.split(size), strict=True)
        return torch.cat([self._draw(network, *part) for part in parts]), labels

    def _draw(self, network: nn.Module, noise: Tensor, labels: Tensor) -> Tensor:
        device = self.accelerator.device
        with self.accelerator.autocast():
            images = call(network, noise.to(device), labels.to(device), self.classes)
        return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()

    @torch.no_grad()
    def _paths(self, network: nn.Module) -> Tensor:
        noise = slerp_path(self.ends[0], self.ends[1], PATH_STEPS).flatten(0, 1)
        labels = torch.arange(PATHS).repeat_interleave(PATH_STEPS) % (self.classes or 1)
        return self._draw(network, noise, labels)

    def _judge(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        device = self.accelerator.device
        return call(model, images.to(device), labels.to(device), self.classes).float()

    def _measure(self, fakes: Tensor, network: nn.Module) -> dict[str, float]:
        from sttp_riemann.lab.metrics import MetricError, measure

        generator = (network, self.latent_dim, self.classes or 0)
        with torch.random.fork_rng(devices=[]):
            try:
                return measure(fakes, self.reference, self.recipe.evaluation.metrics, self.options, generator)
            except MetricError as error:
                raise RecipeError(f"metrics: {error}") from error

    def _metric_options(self, data: ImageData) -> MetricOptions:
        """Options of the metrics; those that cannot be measured are refused before any training."""
        try:
            # Slow to import, and not every run needs it
            from sttp_riemann.lab.metrics import MetricError, MetricOptions, check
        except ImportError as error:
            raise RecipeError(
                "metrics need torch-fidelity: pip install 'sttp-riemann[gan]', or set metrics to []"
            ) from error

        recipe = self.recipe
        options = MetricOptions(
            recipe.evaluation.extractor,
            recipe.evaluation.extractor_weights,
            recipe.data.download,
            recipe.evaluation.is_splits,
            recipe.evaluation.kid_subsets,
            recipe.evaluation.kid_subset_size,
            cuda=self.accelerator.device.type == "cuda",
            root=recipe.data.root,
        )
        with torch.random.fork_rng(devices=[]):
            try:
                real, size = len(data.train_images), (data.channels, data.image_size)
                check(recipe.evaluation.metrics, options, recipe.evaluation.metric_samples, real, size)
            except MetricError as error:
                raise RecipeError(f"metrics: {error}") from error
        return options


def _as_bytes(data: ImageData) -> Tensor:
    """All training images as the network sees them, uint8."""
    parts = torch.arange(len(data.train_images)).split(1024)
    return torch.cat([((data.batch(part)[0] + 1) * 127.5).round().to(torch.uint8) for part in parts])
