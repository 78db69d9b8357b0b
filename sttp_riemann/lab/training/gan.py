"""The GAN task: a discriminator and a generator against each other, each represented as its recipe says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

import sttp_riemann as sr
from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training import observe
from sttp_riemann.lab.training.gan_evaluation import Evaluation, Evaluator
from sttp_riemann.lab.training.gan_losses import LOSSES
from sttp_riemann.lab.training.player import Player
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.refusal import BadStepError, buffers_kept
from sttp_riemann.lab.training.represent import build_network, load_data, rehearse


class Gan:
    """Train a generator of images against a discriminator.

    A step is `discriminator_steps` of the discriminator, each on a batch of its own, and one of the generator.

    Parameters
    ----------
    recipe : Recipe
        Data, networks, representations, loss.
    accelerator : Accelerator
        Device, precision, processes.

    Raises
    ------
    RecipeError
        Data, a network, a representation or a metric cannot be had as the recipe wants them.
    """

    def __init__(self, recipe: Recipe, accelerator: Accelerator) -> None:
        self.recipe, self.accelerator = recipe, accelerator
        self.data = load_data(recipe)
        self.classes = self.data.num_classes if recipe.gan.conditional else None
        if self.classes == 0:
            name = recipe.data.name
            raise RecipeError(f"data {name!r} have no labels to be conditional on: set conditional to false")
        ours, theirs = recipe.of_discriminator(), recipe.of_generator()
        # First, as spectral normalization draws random numbers: all methods begin with the same generator
        self.generator = Player(build_network(theirs, self.data, self.classes), theirs, accelerator)
        judge = build_network(ours, self.data, self.classes)
        rehearse(judge, ours, self.data, None if self.classes is None else torch.zeros(1, dtype=torch.int64), (1,))
        self.discriminator = Player(judge, ours, accelerator)
        self.players = {"discriminator": self.discriminator, "generator": self.generator}
        self.latent_dim = _latent_dim(self.generator, recipe)
        self.loss = LOSSES[recipe.gan.loss]
        self.size = len(self.data.train_images)
        self.evaluator = Evaluator(recipe, self.data, self.latent_dim, self.classes, accelerator)
        self._check_size()
        self._last: Evaluation | None = None

    def step(self, draw: Callable[[], Tensor], lr: float) -> float:
        """Steps of the discriminator and one of the generator; the discriminator's last loss without its penalty.

        One that is refused ends the step: those before it stay, those after it are left out.
        """
        self.discriminator.network.train()
        self.generator.network.train()
        loss = 0.0
        for _ in range(self.recipe.gan.discriminator_steps):
            indices = draw()
            with self._told("discriminator"):
                loss = self._step_discriminator(indices, lr)
        with self._told("generator"):
            self._step_generator(lr)
        return loss

    @contextmanager
    def _told(self, player: str) -> Iterator[None]:
        """Name the network in a refusal; both keep their buffers, as each runs in the other's steps."""
        models = [self.discriminator.model, self.generator.model]
        with buffers_kept(models, self.recipe.optimizer.skip_bad_steps > 0):
            try:
                yield
            except BadStepError as error:
                raise BadStepError(f"{player}: {error}") from None

    def _step_discriminator(self, indices: Tensor, lr: float) -> float:
        images, labels = (tensor.to(self.accelerator.device) for tensor in self.data.batch(indices))
        count = self.recipe.schedule.accumulate
        losses: list[Tensor] = []

        def loss(part: tuple[Tensor, Tensor]) -> Tensor:
            real, real_labels = part
            with torch.no_grad():
                fake, fake_labels = self._generate(self.generator.model, len(real))
            # One forward: frames are built, and spectral normalization iterates, once a step
            scores = self._judge(
                self.discriminator.network, torch.cat([real, fake]), torch.cat([real_labels, fake_labels])
            )
            losses.append(self.loss.discriminator(*scores.float().chunk(2)))
            return losses[-1] + _penalty(self.discriminator)

        self.discriminator.descend(list(zip(images.chunk(count), labels.chunk(count), strict=True)), loss, lr)
        return torch.stack([part.detach() for part in losses]).mean().item()

    def _step_generator(self, lr: float) -> None:
        size = self.recipe.schedule.batch_size // self.recipe.schedule.accumulate // self.accelerator.num_processes

        def loss(size: int) -> Tensor:
            images, labels = self._generate(self.generator.network, size)
            # Unwrapped: its gradients are nobody's business here
            scores = self._judge(self.discriminator.model, images, labels)
            return self.loss.generator(scores.float()) + _penalty(self.generator)

        self.discriminator.model.requires_grad_(False)
        try:
            self.generator.descend([size] * self.recipe.schedule.accumulate, loss, lr)
        finally:
            self.discriminator.model.requires_grad_(True)

    def _generate(self, network: torch.nn.Module, size: int) -> tuple[Tensor, Tensor]:
        """Draw images, and the labels that they are of."""
        noise = torch.randn(size, self.latent_dim, device=self.accelerator.device)
        labels = torch.randint(max(self.data.num_classes, 1), (size,), device=self.accelerator.device)
        return (network(noise) if self.classes is None else network(noise, labels)), labels

    def _judge(self, network: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        scores: Tensor = network(images) if self.classes is None else network(images, labels)
        return scores

    def evaluate(self) -> dict[str, float]:
        """Metrics of samples, the discriminator's outputs, and the state of its layers."""
        self._last = self.evaluator.evaluate(self.discriminator, self.generator)
        return self._last.figures

    def final(self) -> dict[str, float]:
        """Nothing: there is no test set."""
        return {}

    def write_records(self, folder: Path, step: int) -> None:
        """Write the sample sheets and the record of every layer."""
        if self._last is not None:
            self._last.write(folder, step)

    def score(self, figures: Mapping[str, float]) -> float:
        """Tell which evaluation is the best: by FID, or by whatever else is measured."""
        for name, sign in (("fid", -1), ("kid", -1), ("is", 1), ("diversity", 1)):
            if name in figures:
                return sign * figures[name]
        raise AssertionError("an evaluation always has its diversity")

    def summary(self) -> dict[str, Any]:
        """Tell of the finished networks: sizes of both, the discriminator's singular values."""
        generator = self.generator.recipe
        sizes = observe.sizes(self.generator.result, generator.network.exclude)
        return {
            **observe.summary(self.discriminator.model.eval(), self.recipe.network.exclude),
            **{f"generator_{name}": value for name, value in sizes.items()},
        }

    def _check_size(self) -> None:
        """Refuse networks that are not made for images of the data's size."""
        with torch.no_grad():
            images, _ = self._generate(self.generator.model.eval(), 1)
        wanted = (self.data.channels, self.data.image_size, self.data.image_size)
        if images.shape[1:] != wanted:
            raise RecipeError(
                f"generator {self.recipe.generator.name!r} makes images of {images.shape[-1]} pixels, and the data's "
                f"have {self.data.image_size}: set image_size to {images.shape[-1]}, or choose another generator"
            )


def _penalty(player: Player) -> Tensor | float:
    recipe = player.recipe
    if not recipe.network.low_rank or recipe.network.penalty == "none":
        return 0.0
    return recipe.network.penalty_weight * sr.spectral_penalty(player.model, kind=recipe.network.penalty)


def _latent_dim(generator: Player, recipe: Recipe) -> int:
    size = getattr(generator.model, "latent_dim", None)
    if not isinstance(size, int):
        raise RecipeError(f"generator {recipe.generator.name!r} makes no images: choose one such as sngan32_generator")
    return size
