"""What tasks of one network with labels share: held-out examples, steps, measures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch import Tensor
from typing_extensions import override

import sttp_riemann as sr
from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training import observe
from sttp_riemann.lab.training.augment import Augmentation
from sttp_riemann.lab.training.player import Player
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.refusal import buffers_kept
from sttp_riemann.lab.training.represent import build_network, check_labels
from sttp_riemann.lab.training.saved import SOLE
from sttp_riemann.lab.training.task import Task


class Supervised(Task):
    """Train one network to tell labels.

    Attributes
    ----------
    measured : str
        Name of the measure that scores a network; more is better.
    player : Player
        The network.
    """

    measured: ClassVar[str]

    def __init__(self, recipe: Recipe, accelerator: Accelerator) -> None:
        super().__init__(recipe, accelerator)
        check_labels(recipe, self.data)
        self.augment = Augmentation(recipe, self.data.num_classes, self.data.batch(torch.tensor([0]))[0][0])
        self.player = Player(build_network(recipe, self.data, self.data.num_classes), recipe, accelerator)
        self.players = {SOLE[recipe.task]: self.player}
        # Independent of the seed, so that all runs of a study hold out the same examples
        order = torch.randperm(len(self.data.train_labels), generator=torch.Generator().manual_seed(0))
        share = recipe.evaluation.validation
        held = round(share * len(order))
        if share and not 0 < held < len(order):
            raise RecipeError(f"validation {share} of {len(order)} training examples leaves one part empty")
        # In the order of the data where nothing is held out
        self._held, self._kept = order[:held].sort().values, order[held:].sort().values
        self.size = len(self._kept)

    @abstractmethod
    def criterion(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of a batch, which the history records."""

    def taught(self, inputs: Tensor, outputs: Tensor, loss: Tensor) -> Tensor:
        """The loss with a teacher's share, where there is a teacher."""
        return loss

    @abstractmethod
    def sums(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Sums over some of the examples, float64 (M,), of which `measures` are made."""

    @abstractmethod
    def measures(self, sums: Sequence[float], labels: Tensor) -> dict[str, float]:
        """Measures of all examples, from their sums and labels; among them `measured`."""

    @override
    def step(self, draw: Callable[[], Tensor], lr: float) -> float:
        """One optimizer step on one batch; its loss."""
        self.player.network.train()
        batch = self._to_device(self.augment(*self.data.batch(self._kept[draw()])))
        parts = list(zip(*(tensor.chunk(self.recipe.schedule.accumulate) for tensor in batch), strict=True))
        losses: list[Tensor] = []
        with buffers_kept([self.player.model], self.recipe.optimizer.skip_bad_steps > 0):
            self.player.descend(parts, lambda part: self._loss(part, losses), lr)
        return torch.stack(losses).mean().item()

    def _loss(self, part: Sequence[Tensor], losses: list[Tensor]) -> Tensor:
        inputs, labels = part
        outputs = self.player.network(inputs)
        loss = self.criterion(outputs, labels)
        losses.append(loss.detach())
        return self.taught(inputs, outputs, loss) + self.player.penalty()

    @override
    def evaluate(self) -> dict[str, float]:
        """Measures of the examples held out, or else of the test examples; state of the frames."""
        measured = self._measure("validation", self._held, train=True) if len(self._held) else self._test()
        return {**measured, **observe.frames(self.player.result)}

    @override
    def final(self) -> dict[str, float]:
        """Measures of the test examples, if earlier evaluations used examples held out."""
        return self._test() if len(self._held) else {}

    def _test(self) -> dict[str, float]:
        return self._measure("test", torch.arange(len(self.data.test_labels)), train=False)

    @torch.no_grad()
    def _measure(self, name: str, places: Tensor, train: bool) -> dict[str, float]:
        model = self.player.result.eval()
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        totals = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        with sr.cached(model):
            for part in places[rank::world].split(self.recipe.evaluation.evaluate_batch_size):
                inputs, labels = self._to_device(self.data.batch(part, train=train))
                with self.accelerator.autocast():
                    outputs = model(inputs).float()
                totals = totals + self.sums(outputs, labels)
        sums = self.accelerator.reduce(totals, "sum").tolist()
        labels = (self.data.train_labels if train else self.data.test_labels)[places]
        return {f"{name}_{what}": value for what, value in self.measures(sums, labels).items()}

    @override
    def score(self, figures: Mapping[str, float]) -> float:
        """`measured` on the examples held out, or else on the test examples; no choice is then based on it."""
        return figures[f"{'validation' if len(self._held) else 'test'}_{self.measured}"]

    @override
    def summary(self) -> dict[str, Any]:
        return observe.summary(self.player.result, self.recipe.network.exclude)

    def _to_device(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        inputs, labels = batch
        return inputs.to(self.accelerator.device), labels.to(self.accelerator.device)
