"""The GAN task: a discriminator against a generator, each represented as its recipe says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from typing_extensions import override

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training import observe
from sttp_riemann.lab.training.gan_evaluation import Evaluator, call
from sttp_riemann.lab.training.gan_losses import LOSSES
from sttp_riemann.lab.training.player import Player
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.refusal import BadStepError, buffers_kept
from sttp_riemann.lab.training.represent import build_network, rehearse
from sttp_riemann.lab.training.task import Task


class Gan(Task):
    """Train a generator of images against a discriminator.

    A step is `discriminator_steps` of the discriminator, each on its own batch, and one of the generator.
    """

    def __init__(self, recipe: Recipe, accelerator: Accelerator) -> None:
        super().__init__(recipe, accelerator)
        self.classes = self.data.num_classes if recipe.gan.conditional else None
        if self.classes == 0:
            name = recipe.data.name
            raise RecipeError(f"data {name!r} have no labels to be conditional on: set conditional to false")
        ours, theirs = recipe.of_discriminator(), recipe.of_generator()
        # The generator first, as spectral normalization draws random numbers: all methods start with the same generator
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

    @override
    def step(self, draw: Callable[[], Tensor], lr: float) -> float:
        """Steps of the discriminator and one of the generator; the discriminator's last loss without its penalty.

        A refused update ends the step: earlier ones stay, later ones are skipped.
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
        """Name the network in a refusal; the buffers of both are restored, as each runs in the other's steps."""
        models = [self.discriminator.model, self.generator.model]
        with buffers_kept(models, self.recipe.optimizer.skip_bad_steps > 0):
            try:
                yield
            except BadStepError as error:
                raise BadStepError(f"{player}: {error}") from None

    def _step_discriminator(self, indices: Tensor, lr: float) -> float:
        batch = [t.to(self.accelerator.device).chunk(self.recipe.schedule.accumulate) for t in self.data.batch(indices)]
        losses: list[Tensor] = []

        def loss(part: tuple[Tensor, Tensor]) -> Tensor:
            real, real_labels = part
            with torch.no_grad():
                fake, fake_labels = self._generate(self.generator.model, len(real))
            # A single forward, so that frames are built, and spectral normalization iterates, once a step
            images, labels = torch.cat([real, fake]), torch.cat([real_labels, fake_labels])
            scores = call(self.discriminator.network, images, labels, self.classes)
            losses.append(self.loss.discriminator(*scores.float().chunk(2)))
            return losses[-1] + self.discriminator.penalty()

        self.discriminator.descend(list(zip(*batch, strict=True)), loss, lr)
        return torch.stack([part.detach() for part in losses]).mean().item()

    def _step_generator(self, lr: float) -> None:
        size = self.recipe.schedule.batch_size // self.recipe.schedule.accumulate // self.accelerator.num_processes

        def loss(size: int) -> Tensor:
            images, labels = self._generate(self.generator.network, size)
            # Unwrapped: its gradients are not used here
            scores = call(self.discriminator.model, images, labels, self.classes)
            return self.loss.generator(scores.float()) + self.generator.penalty()

        self.discriminator.model.requires_grad_(False)
        try:
            self.generator.descend([size] * self.recipe.schedule.accumulate, loss, lr)
        finally:
            self.discriminator.model.requires_grad_(True)

    def _generate(self, network: torch.nn.Module, size: int) -> tuple[Tensor, Tensor]:
        """Generate images, and their labels."""
        noise = torch.randn(size, self.latent_dim, device=self.accelerator.device)
        labels = torch.randint(max(self.data.num_classes, 1), (size,), device=self.accelerator.device)
        return call(network, noise, labels, self.classes), labels

    @override
    def evaluate(self) -> dict[str, float]:
        """Metrics of samples, the discriminator's outputs, and the state of its layers."""
        self._record, self._sheets = self.evaluator.evaluate(self.discriminator, self.generator)
        figures: dict[str, float] = self._record["figures"]
        return figures

    @override
    def records(self, step: int) -> dict[str, bytes]:
        """``stability/STEP.json``, and sheets of images ``NAME/STEP.png``."""
        sheets = {f"{name}/{step:09d}.png": image for name, image in self._sheets.items()}
        return {f"stability/{step:09d}.json": json.dumps({"step": step, **self._record}).encode(), **sheets}

    @override
    def score(self, figures: Mapping[str, float]) -> float:
        """Score of the last evaluation: by FID, or by whatever else is measured."""
        for name, sign in (("fid", -1), ("kid", -1), ("is", 1), ("diversity", 1)):
            if name in figures:
                return sign * figures[name]
        raise AssertionError("an evaluation always has its diversity")

    @override
    def summary(self) -> dict[str, Any]:
        """Report on the finished networks: sizes of both, the discriminator's singular values."""
        generator = self.generator.recipe
        sizes = observe.sizes(self.generator.result, generator.network.exclude)
        return {
            **observe.summary(self.discriminator.model.eval(), self.recipe.network.exclude),
            **{f"generator_{name}": value for name, value in sizes.items()},
        }

    def _check_size(self) -> None:
        """Refuse networks that are not built for images of the data's size."""
        with torch.no_grad():
            images, _ = self._generate(self.generator.model.eval(), 1)
        wanted = (self.data.channels, self.data.image_size, self.data.image_size)
        if images.shape[1:] != wanted:
            raise RecipeError(
                f"generator {self.recipe.generator.name!r} makes images of {images.shape[-1]} pixels, and the data's "
                f"have {self.data.image_size}: set image_size to {images.shape[-1]}, or choose another generator"
            )


def _latent_dim(generator: Player, recipe: Recipe) -> int:
    size = getattr(generator.model, "latent_dim", None)
    if not isinstance(size, int):
        raise RecipeError(f"generator {recipe.generator.name!r} makes no images: choose one such as sngan32_generator")
    return size
