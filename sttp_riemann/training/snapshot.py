"""All of a run's state, taken into a checkpoint and put back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from sttp_riemann.training.checkpoint import Checkpoint, load_model
from sttp_riemann.training.errors import CheckpointError
from sttp_riemann.training.optimizers import join_state, split_state

if TYPE_CHECKING:
    from sttp_riemann.training.loop import Trainer


@dataclass
class Progress:
    """How far a run has come.

    Attributes
    ----------
    step : int
        Steps done.
    losses : list of float
        Of the steps since the last evaluation.
    history : list of dict
        One row an evaluation.
    timings : list of float
        Seconds of the last steps.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    timings: list[float] = field(default_factory=list)


def take(run: Trainer) -> Checkpoint:
    """Everything that the rest of a run depends on."""
    checkpoint = Checkpoint(values={"recipe": run.recipe.what_matters(), "progress": vars(run.progress)})
    for name, player in run.task.players.items():
        tensors, values = split_state(player.optimizer)
        checkpoint.add(f"model.{name}", player.model.state_dict())
        checkpoint.add(f"optimizer.{name}", tensors)
        checkpoint.values[f"optimizer.{name}"] = values
    checkpoint.add("order", run.order.state())
    checkpoint.add("random", {"cpu": torch.get_rng_state()})
    if run.accelerator.device.type == "cuda":
        checkpoint.add("random", {"cuda": torch.cuda.get_rng_state()})
    if run.accelerator.scaler is not None:
        checkpoint.values["scaler"] = run.accelerator.scaler.state_dict()
    return checkpoint


def restore(run: Trainer, checkpoint: Checkpoint) -> None:
    """Put a run where a checkpoint was taken.

    Raises
    ------
    CheckpointError
        The checkpoint is of another recipe, or does not fit the run's networks.
    """
    _check_recipe(run, checkpoint.values.get("recipe", {}))
    for name, player in run.task.players.items():
        load_model(player.model, checkpoint.part(f"model.{name}"), run.checkpoint)
        try:
            join_state(player.optimizer, checkpoint.part(f"optimizer.{name}"), checkpoint.values[f"optimizer.{name}"])
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{run.checkpoint}: the optimizer's state does not fit: {error}") from error
    run.order.restore(checkpoint.part("order"))
    random = checkpoint.part("random")
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and run.accelerator.device.type == "cuda":
        torch.cuda.set_rng_state(random["cuda"])
    if "scaler" in checkpoint.values and run.accelerator.scaler is not None:
        run.accelerator.scaler.load_state_dict(checkpoint.values["scaler"])
    run.progress = Progress(**checkpoint.values["progress"])


def _check_recipe(run: Trainer, before: dict[str, Any]) -> None:
    now = run.recipe.what_matters()
    changed = [f"{name} was {before.get(name)!r} and is {now[name]!r}" for name in now if before.get(name) != now[name]]
    if changed:
        raise CheckpointError(
            f"{run.folder} holds a run of another recipe ({'; '.join(changed)}): "
            "choose another folder with --output, or delete this one"
        )
