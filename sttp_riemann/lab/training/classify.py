"""The classification task: cross entropy, accuracy; optionally a teacher and a spectral penalty."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.functional import cross_entropy
from typing_extensions import override

import sttp_riemann as sr
from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training import observe
from sttp_riemann.lab.training.augment import Augmentation
from sttp_riemann.lab.training.distill import Teacher
from sttp_riemann.lab.training.player import Player
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.refusal import buffers_kept
from sttp_riemann.lab.training.represent import build_network
from sttp_riemann.lab.training.task import Task


class Classification(Task):
    """Train a network to classify images, or other inputs."""

    def __init__(self, recipe: Recipe, accelerator: Accelerator) -> None:
        super().__init__(recipe, accelerator)
        self.augment = Augmentation(recipe, self.data.num_classes, self.data.batch(torch.tensor([0]))[0][0])
        self.classifier = Player(build_network(recipe, self.data, self.data.num_classes), recipe, accelerator)
        self.players = {"classifier": self.classifier}
        self.teacher = None if recipe.distillation.teacher is None else Teacher(recipe, self.data, accelerator)
        # Independent of the seed, so that all runs of a study hold out the same images
        order = torch.randperm(len(self.data.train_labels), generator=torch.Generator().manual_seed(0))
        share = recipe.evaluation.validation
        held = round(share * len(order))
        if share and not 0 < held < len(order):
            raise RecipeError(f"validation {share} of {len(order)} training images leaves one part empty")
        # In the order of the data where nothing is held out
        self._held, self._kept = order[:held].sort().values, order[held:].sort().values
        self.size = len(self._kept)

    @override
    def step(self, draw: Callable[[], Tensor], lr: float) -> float:
        """One optimizer step on one batch; its cross entropy."""
        self.classifier.network.train()
        batch = self._to_device(self.augment(*self.data.batch(self._kept[draw()])))
        parts = list(zip(*(tensor.chunk(self.recipe.schedule.accumulate) for tensor in batch), strict=True))
        entropies: list[Tensor] = []
        with buffers_kept([self.classifier.model], self.recipe.optimizer.skip_bad_steps > 0):
            self.classifier.descend(parts, lambda part: self._loss(part, entropies), lr)
        return torch.stack(entropies).mean().item()

    def _loss(self, part: Sequence[Tensor], entropies: list[Tensor]) -> Tensor:
        images, labels = part
        scores = self.classifier.network(images)
        loss = cross_entropy(scores, labels, label_smoothing=self.recipe.data.label_smoothing)
        entropies.append(loss.detach())
        if self.teacher is not None:
            loss = loss.lerp(self.teacher.distance(images, scores), self.recipe.distillation.distill)
        return loss + self.classifier.penalty()

    @override
    def evaluate(self) -> dict[str, float]:
        """Loss and accuracy on the images held out, or else the test images; state of the frames."""
        measured = self._measure("validation", self._held, train=True) if len(self._held) else self._test()
        return {**measured, **observe.frames(self.classifier.result)}

    @override
    def final(self) -> dict[str, float]:
        """Loss and accuracy on the test images, if earlier evaluations used images held out."""
        return self._test() if len(self._held) else {}

    def _test(self) -> dict[str, float]:
        return self._measure("test", torch.arange(len(self.data.test_labels)), train=False)

    @torch.no_grad()
    def _measure(self, name: str, images_of: Tensor, train: bool) -> dict[str, float]:
        model = self.classifier.result.eval()
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        totals = torch.zeros(3, dtype=torch.float64, device=self.accelerator.device)
        with sr.cached(model):
            for part in images_of[rank::world].split(self.recipe.evaluation.evaluate_batch_size):
                images, labels = self._to_device(self.data.batch(part, train=train))
                with self.accelerator.autocast():
                    scores = model(images).float()
                loss = cross_entropy(scores, labels, reduction="sum")
                hits = (scores.argmax(1) == labels).sum()
                totals += torch.stack([loss.double(), hits.double(), hits.new_tensor(len(labels)).double()])
        loss_sum, hits_sum, count = self.accelerator.reduce(totals, "sum").tolist()
        return {f"{name}_loss": loss_sum / count, f"{name}_accuracy": hits_sum / count}

    @override
    def score(self, figures: Mapping[str, float]) -> float:
        """Accuracy on the images held out, or else on the test images; no choice is then based on it."""
        return figures["validation_accuracy" if len(self._held) else "test_accuracy"]

    @override
    def summary(self) -> dict[str, Any]:
        return observe.summary(self.classifier.result, self.recipe.network.exclude)

    def _to_device(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        images, labels = batch
        return images.to(self.accelerator.device), labels.to(self.accelerator.device)
