"""Save the complete state of a run to a checkpoint, and restore it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from accelerate import Accelerator

from sttp_riemann.errors import CheckpointError, RecipeError
from sttp_riemann.lab.forms import Each, check_form
from sttp_riemann.lab.plugins import imported
from sttp_riemann.lab.training.checkpoint import Checkpoint, load_model
from sttp_riemann.lab.training.machine import code_version
from sttp_riemann.lab.training.optimizers import join_state, split_state
from sttp_riemann.lab.training.order import DataOrder
from sttp_riemann.lab.training.recipe import Recipe, flatten, nest
from sttp_riemann.lab.training.task import Task
from sttp_riemann.model.measures import layer_ranks

PROGRESS = {"step": int, "losses": [float], "history": [Each(float)], "timings": [float], "skipped": int}
"""Entries on progress in a checkpoint; see `Progress`."""


@dataclass
class Progress:
    """Progress of a run.

    Attributes
    ----------
    step : int
        Steps done.
    losses : list of float
        Of the steps since the last evaluation.
    history : list of dict
        One row per evaluation.
    timings : list of float
        Seconds of the last steps.
    skipped : int
        Skipped steps, whose loss or gradient was not finite; they count as done.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    timings: list[float] = field(default_factory=list)
    skipped: int = 0


class Run(Protocol):
    """The objects that hold a run's state.

    Attributes
    ----------
    recipe : Recipe
        What is trained.
    folder : Path
        Where to.
    accelerator : Accelerator
        Device and precision.
    task : Task
        Networks and optimizers.
    order : DataOrder
        Of the examples.
    progress : Progress
        How far the run has come.
    """

    recipe: Recipe
    folder: Path
    accelerator: Accelerator
    task: Task
    order: DataOrder
    progress: Progress


def take(run: Run) -> Checkpoint:
    """Everything that the rest of a run depends on; random numbers follow from the recipe's seed."""
    data = run.task.data
    values = {
        "code": code_version(),
        "recipe": nest(run.recipe.what_matters()),
        "imports": imported(),
        # For rebuilding the networks without the data
        "images": {"channels": data.channels, "image_size": data.image_size, "num_classes": data.num_classes},
        "ranks": {name: layer_ranks(player.model) for name, player in run.task.players.items()},
        "progress": vars(run.progress),
    }
    checkpoint = Checkpoint(values=values)
    for name, player in run.task.players.items():
        tensors, settings = split_state(player.optimizer)
        checkpoint.add(f"model.{name}", player.model.state_dict())
        checkpoint.add(f"optimizer.{name}", tensors)
        checkpoint.values[f"optimizer.{name}"] = settings
        if player.average is not None:
            checkpoint.add(f"average.{name}", player.average.state_dict())
    checkpoint.add("order", run.order.state())
    if run.accelerator.scaler is not None:
        checkpoint.values["scaler"] = run.accelerator.scaler.state_dict()
    return checkpoint


def restore(run: Run, checkpoint: Checkpoint, path: Path) -> None:
    """Restore a run to a checkpoint.

    Raises
    ------
    CheckpointError
        The checkpoint is of another recipe or version, or does not fit the run's networks.
    """
    before = checkpoint.values.get("recipe")
    check_origin(run.recipe, run.folder, before if isinstance(before, dict) else {}, checkpoint.values.get("code"))
    for name, player in run.task.players.items():
        load_model(player.model, checkpoint.part(f"model.{name}"), path)
        if player.average is not None:
            load_model(player.average, checkpoint.part(f"average.{name}"), path)
    try:
        _check_parts(run, checkpoint)
        for name, player in run.task.players.items():
            part = f"optimizer.{name}"
            join_state(player.optimizer, player.model, checkpoint.part(part), checkpoint.values[part])
        run.order.restore(checkpoint.part("order"))
        if (scaler := run.accelerator.scaler) is not None:
            form = {name: type(value) for name, value in scaler.state_dict().items()}
            check_form(checkpoint.values["scaler"], form)
            scaler.load_state_dict(checkpoint.values["scaler"])
        run.progress = _progress(run, checkpoint.values["progress"])
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = str(error) if isinstance(error, ValueError) else repr(error)
        raise CheckpointError(f"{path} does not fit this run: {reason}") from error


def _check_parts(run: Run, checkpoint: Checkpoint) -> None:
    """Refuse tensors that the run does not use."""
    known = [f"{part}.{name}." for part in ("model", "optimizer") for name in run.task.players]
    known += [f"average.{name}." for name, player in run.task.players.items() if player.average is not None]
    known += [f"order.{name}" for name in run.order.state()]
    for tensor in checkpoint.tensors:
        if not tensor.startswith(tuple(known)):
            raise ValueError(f"it has a tensor {tensor!r}, which the run does not use")


def _progress(run: Run, values: Any) -> Progress:
    check_form(values, PROGRESS)
    progress = Progress(**values)
    steps = run.recipe.schedule.steps
    if not 0 <= progress.step <= steps or len(progress.timings) < min(progress.step, 1):
        raise ValueError(f"step {progress.step} of {steps}, with {len(progress.timings)} times of steps")
    if not 0 <= progress.skipped <= progress.step:
        raise ValueError(f"{progress.skipped} of {progress.step} steps were skipped")
    for row in progress.history:
        check_form(row, {"step": int})
        run.task.score(row)
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
    except RecipeError as error:
        raise CheckpointError(
            f"{folder} holds a run of another recipe ({error}): choose another folder with --output, or delete this one"
        ) from error
    changed = [f"{name} was {before.get(name)!r} and is {now[name]!r}" for name in now if before.get(name) != now[name]]
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
