"""The state of a run: its start, its checkpoints, and how it is restored from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sttp_riemann.errors import CheckpointError, RecipeError
from sttp_riemann.lab.forms import check_form
from sttp_riemann.lab.training.checkpoint import Checkpoint, load_model
from sttp_riemann.lab.training.classify import Classification
from sttp_riemann.lab.training.gan import Gan
from sttp_riemann.lab.training.machine import build_accelerator, code_version
from sttp_riemann.lab.training.optimizers import join_state, split_state
from sttp_riemann.lab.training.order import DataOrder
from sttp_riemann.lab.training.recipe import Recipe, flatten
from sttp_riemann.lab.training.regress import Regression
from sttp_riemann.lab.training.represent import Inputs
from sttp_riemann.lab.training.saved import PROGRESS, Progress, describe
from sttp_riemann.lab.training.task import Task

TASKS: dict[str, type[Task]] = {"classify": Classification, "regress": Regression, "gan": Gan}
"""Kinds of training by the names that recipes give them."""


class Run:
    """Everything that the rest of a run depends on; random numbers follow from the recipe's seed.

    Parameters
    ----------
    recipe : Recipe
        What is trained.
    folder : Path
        Where to.

    Attributes
    ----------
    accelerator : Accelerator
        Device and precision.
    task : Task
        Networks and optimizers.
    order : DataOrder
        Of the examples.
    progress : Progress
        How far the run has come.

    Raises
    ------
    RecipeError
        Data, network or representation cannot be built as the recipe asks.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self.accelerator = build_accelerator(recipe)
        torch.manual_seed(recipe.seed)
        self.task = TASKS[recipe.task](recipe, self.accelerator)
        self.order = DataOrder(self.task.size, recipe.schedule.batch_size, recipe.seed)
        self.progress = Progress()

    def take(self) -> Checkpoint:
        """Copy everything into a checkpoint."""
        players = self.task.players
        about = describe(self.recipe, Inputs.of(self.task.data), {name: p.model for name, p in players.items()})
        checkpoint = Checkpoint(values={**about, "progress": vars(self.progress)})
        for name, player in players.items():
            tensors, settings = split_state(player.optimizer)
            checkpoint.add(f"model.{name}", player.model.state_dict())
            checkpoint.add(f"optimizer.{name}", tensors)
            checkpoint.values[f"optimizer.{name}"] = settings
            if player.average is not None:
                checkpoint.add(f"average.{name}", player.average.state_dict())
        checkpoint.add("order", self.order.state())
        if self.accelerator.scaler is not None:
            checkpoint.values["scaler"] = self.accelerator.scaler.state_dict()
        return checkpoint

    def restore(self, checkpoint: Checkpoint, path: Path) -> None:
        """Restore the state from a checkpoint that was read from a path.

        Raises
        ------
        CheckpointError
            The checkpoint is of another recipe or version, or does not fit the run's networks.
        """
        before = checkpoint.values.get("recipe")
        code = checkpoint.values.get("code")
        check_origin(self.recipe, self.folder, before if isinstance(before, dict) else {}, code)
        for name, player in self.task.players.items():
            load_model(player.model, checkpoint.part(f"model.{name}"), path)
            if player.average is not None:
                load_model(player.average, checkpoint.part(f"average.{name}"), path)
        try:
            self._check_tensors(checkpoint)
            for name, player in self.task.players.items():
                part = f"optimizer.{name}"
                join_state(player.optimizer, player.model, checkpoint.part(part), checkpoint.values[part])
            self.order.restore(checkpoint.part("order"))
            if (scaler := self.accelerator.scaler) is not None:
                form = {name: type(value) for name, value in scaler.state_dict().items()}
                check_form(checkpoint.values["scaler"], form)
                scaler.load_state_dict(checkpoint.values["scaler"])
            self.progress = self._progress(checkpoint.values["progress"])
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            reason = str(error) if isinstance(error, ValueError) else repr(error)
            raise CheckpointError(f"{path} does not fit this run: {reason}") from error

    def _check_tensors(self, checkpoint: Checkpoint) -> None:
        """Refuse tensors that the run does not use."""
        known = self.take().tensors
        # These are checked as they are loaded
        optimizers = tuple(f"optimizer.{name}." for name in self.task.players)
        for tensor in checkpoint.tensors:
            if tensor not in known and not tensor.startswith(optimizers):
                raise ValueError(f"it has a tensor {tensor!r}, which the run does not use")

    def _progress(self, values: Any) -> Progress:
        check_form(values, PROGRESS)
        progress = Progress(**values)
        steps = self.recipe.schedule.steps
        if not 0 <= progress.step <= steps or len(progress.timings) < min(progress.step, 1):
            raise ValueError(f"step {progress.step} of {steps}, with {len(progress.timings)} times of steps")
        if not 0 <= progress.skipped <= progress.step:
            raise ValueError(f"{progress.skipped} of {progress.step} steps were skipped")
        for row in progress.history:
            check_form(row, {"step": int})
            self.task.score(row)
        if progress.step == steps and not progress.history:
            raise ValueError("the history is empty after the last step")
        return progress


def check_origin(recipe: Recipe, folder: Path, before: Mapping[str, Any], code: str | None) -> None:
    """Refuse to resume a folder's run if it is a different one.

    Parameters
    ----------
    recipe : Recipe
        Of the run wanted.
    folder : Path
        Where a run was found.
    before : mapping
        Its recipe, by section.
    code : str or None
        The version of the package that started it.

    Raises
    ------
    CheckpointError
        The message names what differs.
    """
    now = recipe.what_matters()
    try:
        before = flatten(before)
        changed = [f"{k} was {before.get(k)!r} and is {value!r}" for k, value in now.items() if before.get(k) != value]
    except RecipeError as error:
        changed = [str(error)]
    if changed:
        raise CheckpointError(
            f"{folder} holds a run of another recipe ({'; '.join(changed)}): "
            "choose another folder with --output, or delete this one"
        )
    if code != code_version():
        raise CheckpointError(
            f"{folder} holds a run of version {code} and this is {code_version()}: "
            "install that version to resume, or choose another folder with --output"
        )
