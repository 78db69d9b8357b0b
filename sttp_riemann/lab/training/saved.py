"""Networks in checkpoints: how they are described, and rebuilt without their training data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sttp_riemann.checks import check_mapping
from sttp_riemann.errors import CheckpointError, RecipeError
from sttp_riemann.lab.forms import Each, check_form
from sttp_riemann.lab.plugins import imported, require
from sttp_riemann.lab.training.checkpoint import Checkpoint, load_checkpoint, load_model, save_checkpoint
from sttp_riemann.lab.training.machine import code_version
from sttp_riemann.lab.training.recipe import Recipe, nest
from sttp_riemann.lab.training.represent import Inputs, build_network
from sttp_riemann.lab.training.storage import checkpoint_of
from sttp_riemann.model.contents import content
from sttp_riemann.model.measures import layer_ranks
from sttp_riemann.model.saving import restore
from sttp_riemann.model.stored import of_sealed

SOLE = {"classify": "classifier", "regress": "regressor"}
"""Names of the network of a task that has one."""
COMPACT = "compact"
PROGRESS = {"step": int, "losses": [float], "history": [Each(float)], "timings": [float], "skipped": int}
"""Entries on progress in a checkpoint; see `Progress`."""
_NETWORKS = {
    "recipe": dict,
    "inputs": {"shape": [int], "num_classes": int, "kind": str},
    "ranks": Each(Each(int)),
}


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


@dataclass(frozen=True)
class Saved:
    """The networks of a checkpoint, with their recipe.

    Attributes
    ----------
    path : Path
        The checkpoint.
    recipe : Recipe
        Of the run.
    inputs : Inputs
        What the networks take and give.
    values : dict
        All plain values of the checkpoint.
    players : dict[str, nn.Module]
        The networks by name, in evaluation mode; running averages in place of networks that have one.
    """

    path: Path
    recipe: Recipe
    inputs: Inputs
    values: dict[str, Any]
    players: dict[str, nn.Module]

    @property
    def network(self) -> nn.Module:
        """The network of a task that has one.

        Raises
        ------
        RecipeError
            The checkpoint is a GAN's.
        """
        if self.recipe.task not in SOLE:
            raise RecipeError(f"{self.path} holds a {' and a '.join(self.players)}: name a checkpoint of one network")
        return self.players[SOLE[self.recipe.task]]

    def example(self, player: str) -> Tensor:
        """An input of a network, of zeros: as the data set has them, or noise for a generator."""
        latent: int | None = getattr(self.players[player], "latent_dim", None)
        return self.inputs.example() if latent is None else torch.zeros(1, latent)


def load_saved(path: Path) -> Saved:
    """Rebuild the networks of a checkpoint and load their weights.

    Parameters
    ----------
    path : Path
        A checkpoint, or the folder of a run, for its last checkpoint.

    Returns
    -------
    Saved
        Networks on the CPU.

    Raises
    ------
    CheckpointError
        It cannot be read, or is of another version and does not fit.
    RecipeError
        There is none, or a network cannot be built here.
    """
    path = checkpoint_of(path)
    checkpoint = load_checkpoint(path)
    try:
        check_form(checkpoint.values, _NETWORKS)
        # A network that was saved without a run has none
        check_form(checkpoint.values.get("progress", vars(Progress())), PROGRESS)
        check_form(checkpoint.values.get("imports", []), [str])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not say which network it is of; write it again ({error})") from error
    require(checkpoint.values.get("imports", []), path)
    try:
        recipe = Recipe.recorded(checkpoint.values["recipe"])
        inputs, ranks = Inputs(**checkpoint.values["inputs"]), checkpoint.values["ranks"]
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not say which network it is of; write it again ({error})") from error
    players = {}
    for name, player in _recipes(recipe).items():
        classes = inputs.num_classes if recipe.task != "gan" or recipe.gan.conditional else None
        # Ranks from a budget depend on weights that are gone; the initialization makes no difference here
        known = player.changed(rank=ranks.get(name) or 1, budget=None, init="identity", weights=None)
        if COMPACT in checkpoint.values:
            dense = build_network(known.changed(method="dense"), inputs, classes)
            players[name] = _restored(dense, _tensors_of(checkpoint, name), checkpoint.values[COMPACT], path).eval()
            continue
        players[name] = build_network(known, inputs, classes).eval()
        load_model(players[name], _tensors_of(checkpoint, name), path)
    return Saved(path, recipe, inputs, checkpoint.values, players)


def _restored(dense: nn.Module, tensors: dict[str, Tensor], values: Any, path: Path) -> nn.Module:
    try:
        stored = of_sealed(str(path), tensors, check_mapping("compact", values, "a mapping"))
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}; write it again") from error
    return restore(dense, stored)


def describe(recipe: Recipe, inputs: Inputs, models: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Describe networks, given by name, so that they can be rebuilt without their data."""
    return {
        "code": code_version(),
        "recipe": nest(recipe.what_matters()),
        "imports": imported(),
        "inputs": asdict(inputs),
        "ranks": {name: layer_ranks(model) for name, model in models.items()},
    }


def save_network(path: Path, model: nn.Module, recipe: Recipe, inputs: Inputs) -> None:
    """Write the network of a task that has one for `load_saved` to rebuild, in few numbers.

    Parameters
    ----------
    path : Path
        Where to.
    model : nn.Module
        The network, represented as `recipe` says.
    recipe : Recipe
        How it was trained.
    inputs : Inputs
        What it takes and gives.

    Raises
    ------
    CheckpointError
        It cannot be written; an existing file is then intact.
    """
    name = SOLE[recipe.task]
    checkpoint = Checkpoint(values=describe(recipe, inputs, {name: model}))
    if recipe.network.low_rank:
        tensors, checkpoint.values[COMPACT] = content(model, compact=True)
    else:
        tensors = model.state_dict()
    checkpoint.add(f"model.{name}", tensors)
    save_checkpoint(path, checkpoint)


def _tensors_of(checkpoint: Checkpoint, player: str) -> dict[str, Tensor]:
    """State of a network in a checkpoint; that of its running average if it has one."""
    return checkpoint.part(f"average.{player}.module") or checkpoint.part(f"model.{player}")


def _recipes(recipe: Recipe) -> dict[str, Recipe]:
    if recipe.task in SOLE:
        return {SOLE[recipe.task]: recipe}
    return {"discriminator": recipe.of_discriminator(), "generator": recipe.of_generator()}
