"""The GAN task: a discriminator against a generator, each represented as its recipe says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from typing_extensions import override

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training import observe
from sttp_riemann.lab.training.gan_evaluation import Evaluator, call
from sttp_riemann.lab.training.gan_losses import LOSSES
from sttp_riemann.lab.training.gan_penalties import GRADIENT_PENALTIES, Place, between, gradient_penalty
from sttp_riemann.lab.training.player import Player
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.refusal import BadStepError, buffers_kept
from sttp_riemann.lab.training.represent import build_network, rehearse
from sttp_riemann.lab.training.task import Task


class Gan(Task):
    """Train a generator of images against a discriminator.

    A step is `discriminator_steps` of the discriminator, each on its own batch, and one of the generator, which has a
    batch of its own if the loss is paired.
    """

    def __init__(self, recipe: Recipe, accelerator: Accelerator) -> None:
        super().__init__(recipe, accelerator)
        self.classes = self.data.num_classes if recipe.gan.conditional else None
        labels = self.data.train_labels
        if self.classes == 0 or (self.classes and (labels.is_floating_point() or labels.ndim > 1)):
            name = recipe.data.name
            raise RecipeError(f"data {name!r} have no classes to be conditional on: set conditional to false")
        ours, theirs = recipe.of_discriminator(), recipe.of_generator()
        # The generator first, as spectral normalization draws random numbers: all methods start with the same generator
        self.generator = Player(build_network(theirs, self.data, self.classes), theirs, accelerator)
        judge = build_network(ours, self.data, self.classes)
        rehearse(judge, ours, self.data, None if self.classes is None else torch.zeros(1, dtype=torch.int64), (1,))
        self.places = {GRADIENT_PENALTIES[name].place for name in recipe.gan.gradient_penalty}
        if self.places:
            _check_apart(judge, recipe)
        self.discriminator = Player(judge, ours, accelerator)
        self.players = {"discriminator": self.discriminator, "generator": self.generator}
        self.latent_dim = _latent_dim(self.generator, recipe)
        self.loss = LOSSES[recipe.gan.loss]
        # Both rates fall together
        self.lr_ratio = (recipe.gan.discriminator_lr or recipe.optimizer.lr) / recipe.optimizer.lr
        self.size = len(self.data.train_images)
        self.evaluator = Evaluator(recipe, self.data, self.latent_dim, self.classes, accelerator)
        self._check_size()

    @override
    def step(self, draw: Callable[[], Tensor], lr: float) -> float:
        """Steps of the discriminator and one of the generator; the discriminator's last loss without its penalties.

        A refused update ends the step: earlier ones stay, later ones are skipped.
        """
        self.discriminator.network.train()
        self.generator.network.train()
        loss = 0.0
        for _ in range(self.recipe.gan.discriminator_steps):
            indices = draw()
            with self._told("discriminator"):
                loss = self._step_discriminator(indices, lr * self.lr_ratio)
        with self._told("generator"):
            self._step_generator(lr, self._parts(draw()) if self.loss.paired else None)
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

    def _parts(self, indices: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Real images and their labels, in the parts that a batch is computed in."""
        parts = (t.to(self.accelerator.device).chunk(self.recipe.schedule.accumulate) for t in self.data.batch(indices))
        return list(zip(*parts, strict=True))

    def _step_discriminator(self, indices: Tensor, lr: float) -> float:
        losses: list[Tensor] = []
        pairs = self.loss.paired or "between" in self.places
        weights = self.recipe.gan.gradient_penalty

        def loss(part: tuple[Tensor, Tensor]) -> Tensor:
            real, real_labels = part
            with torch.no_grad():
                fake, fake_labels = self._generate(self.generator.model, len(real), real_labels if pairs else None)
            places: dict[Place, Tensor] = {"real": real, "fake": fake}
            labels = [real_labels, fake_labels]
            if "between" in self.places:
                places["between"] = between(real, fake)
                labels.append(real_labels)
            for place in self.places:
                places[place].requires_grad_()
            # A single forward, so that frames are built, and spectral normalization iterates, once a step
            images = torch.cat([*places.values()])
            scores = call(self.discriminator.network, images, torch.cat(labels), self.classes).float()
            losses.append(self.loss.discriminator(*scores[: 2 * len(real)].chunk(2)))
            total = losses[-1] + self.discriminator.penalty()
            return total + gradient_penalty(scores, places, weights) if weights else total

        self.discriminator.descend(self._parts(indices), loss, lr)
        return torch.stack([part.detach() for part in losses]).mean().item()

    def _step_generator(self, lr: float, batch: Sequence[tuple[Tensor, Tensor]] | None = None) -> None:
        count = self.recipe.schedule.accumulate
        size = self.recipe.schedule.batch_size // count // self.accelerator.num_processes
        parts: Sequence[tuple[Tensor, Tensor] | None] = batch or [None] * count

        def loss(part: tuple[Tensor, Tensor] | None) -> Tensor:
            real, known = part or (None, None)
            images, labels = self._generate(self.generator.network, size, known)
            if real is not None:
                images, labels = torch.cat([real, images]), torch.cat([labels, labels])
            # Unwrapped: its gradients are not used here
            scores = call(self.discriminator.model, images, labels, self.classes).float()
            return self.loss.generator(scores[:-size], scores[-size:]) + self.generator.penalty()

        self.discriminator.model.requires_grad_(False)
        try:
            self.generator.descend(parts, loss, lr)
        finally:
            self.discriminator.model.requires_grad_(True)

    def _generate(self, network: nn.Module, size: int, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Generate images, and their labels, which are drawn unless they are given."""
        noise = torch.randn(size, self.latent_dim, device=self.accelerator.device)
        if labels is None:
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
        for name, sign in (("fid", -1), ("kid", -1), ("is", 1), ("modes", 1), ("diversity", 1)):
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


def _check_apart(model: nn.Module, recipe: Recipe) -> None:
    """Refuse a discriminator in which an output depends on other images of the batch."""
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        raise RecipeError(
            f"gradient_penalty needs outputs that depend on one image each, and network {recipe.network.name!r} has "
            "batch normalization: set gradient_penalty to {}, or choose one such as sngan32_discriminator"
        )


def _latent_dim(generator: Player, recipe: Recipe) -> int:
    size = getattr(generator.model, "latent_dim", None)
    if not isinstance(size, int):
        raise RecipeError(f"generator {recipe.generator.name!r} makes no images: choose one such as sngan32_generator")
    return size
