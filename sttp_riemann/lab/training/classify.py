"""The classification task: cross entropy, accuracy; a teacher and a spectral penalty where asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.functional import cross_entropy

import sttp_riemann as sr
from sttp_riemann.lab.training import observe
from sttp_riemann.lab.training.augment import Augmentation
from sttp_riemann.lab.training.distill import Teacher
from sttp_riemann.lab.training.player import Player
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.refusal import buffers_kept
from sttp_riemann.lab.training.represent import build_network, load_data


class Classification:
    """Train a network to tell classes of images apart.

    Parameters
    ----------
    recipe : Recipe
        Data, network, representation.
    accelerator : Accelerator
        Device, precision, processes.

    Raises
    ------
    RecipeError
        Data, network or representation cannot be had as the recipe wants them.
    """

    def __init__(self, recipe: Recipe, accelerator: Accelerator) -> None:
        self.recipe, self.accelerator = recipe, accelerator
        self.data = load_data(recipe)
        self.augment = Augmentation(recipe, self.data.num_classes, self.data.batch(torch.tensor([0]))[0][0])
        self.classifier = Player(build_network(recipe, self.data, self.data.num_classes), recipe, accelerator)
        self.players = {"classifier": self.classifier}
        self.teacher = None if recipe.distillation.teacher is None else Teacher(recipe, self.data, accelerator)
        self.size = len(self.data.train_images)

    def step(self, draw: Callable[[], Tensor], lr: float) -> float:
        """One optimizer step on one batch; its cross entropy."""
        self.classifier.network.train()
        batch = self._to_device(self.augment(*self.data.batch(draw())))
        parts = list(zip(*(tensor.chunk(self.recipe.schedule.accumulate) for tensor in batch), strict=True))
        entropies: list[Tensor] = []
        with buffers_kept([self.classifier.model], self.recipe.optimizer.skip_bad_steps > 0):
            self.classifier.descend(parts, lambda part: self._loss(part, entropies), lr)
        return torch.stack(entropies).mean().item()

    def _loss(self, part: Sequence[Tensor], entropies: list[Tensor]) -> Tensor:
        recipe, player, (images, labels) = self.recipe, self.classifier, part
        scores = player.network(images)
        loss = cross_entropy(scores, labels, label_smoothing=recipe.data.label_smoothing)
        entropies.append(loss.detach())
        if self.teacher is not None:
            loss = loss.lerp(self.teacher.distance(images, scores), recipe.distillation.distill)
        if recipe.network.method == "dense" or recipe.network.penalty == "none":
            return loss
        return loss + recipe.network.penalty_weight * sr.spectral_penalty(player.model, kind=recipe.network.penalty)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Loss and accuracy on the test images, and the orthogonality error and chart margin of the frames."""
        model = self.classifier.result.eval()
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        totals = torch.zeros(3, dtype=torch.float64, device=self.accelerator.device)
        indices = torch.arange(rank, len(self.data.test_images), world)
        with sr.cached(model):
            for part in indices.split(self.recipe.evaluation.evaluate_batch_size):
                images, labels = self._to_device(self.data.batch(part, train=False))
                with self.accelerator.autocast():
                    scores = model(images).float()
                loss = cross_entropy(scores, labels, reduction="sum")
                hits = (scores.argmax(1) == labels).sum()
                totals += torch.stack([loss.double(), hits.double(), hits.new_tensor(len(labels)).double()])
        loss_sum, hits_sum, count = self.accelerator.reduce(totals, "sum").tolist()
        return {
            "test_loss": loss_sum / count,
            "test_accuracy": hits_sum / count,
            **observe.frames(model),
        }

    def score(self, figures: Mapping[str, float]) -> float:
        """Accuracy on the test images."""
        return figures["test_accuracy"]

    def summary(self) -> dict[str, Any]:
        """Tell of the finished network: sizes, singular values."""
        return observe.summary(self.classifier.result, self.recipe.network.exclude)

    def write_records(self, folder: Path, step: int) -> None:
        """Nothing is too big for the history."""

    def _to_device(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        images, labels = batch
        return images.to(self.accelerator.device), labels.to(self.accelerator.device)
