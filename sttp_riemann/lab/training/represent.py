"""Load a recipe's data, and build its networks with the representation of weights that it asks for."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.errors import RecipeError, one_line
from sttp_riemann.lab.data import ArrayData, ImageData, load_dataset
from sttp_riemann.lab.networks import build_model
from sttp_riemann.lab.networks.baselines import BASELINES
from sttp_riemann.lab.networks.registry import MOST_NUMBERS
from sttp_riemann.lab.networks.rehearsal import check_scores
from sttp_riemann.lab.training.plain import shown
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.weights import load_weights
from sttp_riemann.model.weights import weighted_layers

Data = ImageData | ArrayData
InputKind = Literal["images", "numbers", "indices"]
_SETTINGS = inspect.signature(sr.reparameterize).parameters
# What a network too large for the machine raises depends on torch and the system
_IMPOSSIBLE = (ValueError, TypeError, RuntimeError, MemoryError, OverflowError)


def load_data(recipe: Recipe) -> Data:
    """Data of a recipe, loaded once for all runs of a comparison.

    Raises
    ------
    RecipeError
        They cannot be loaded, or the recipe is for images and they are not.
    """
    own = recipe.data
    data = _load(own.name, own.root, own.download, own.image_size, own.channels)
    if isinstance(data, ArrayData):
        of_images = {"task 'gan'": recipe.task == "gan", "augment": own.augment, "mixup": own.mixup}
        for what in (what for what, given in of_images.items() if given):
            raise RecipeError(f"{what} needs images, and the data {shown(own.name)} are arrays: leave it out")
    return data


def check_labels(recipe: Recipe, data: Data) -> None:
    """Refuse labels of another task than the recipe's, which has one network.

    Raises
    ------
    RecipeError
        They are classes and should be numbers, or the other way round.
    """
    floats, other = ("integers", "floats"), ("regress", "classify")
    found, wanted = data.train_labels.is_floating_point(), recipe.task == "regress"
    if found != wanted:
        raise RecipeError(
            f"task {recipe.task!r} is for labels that are {floats[wanted]}, and those of the data "
            f"{shown(recipe.data.name)} are {floats[found]}: save them as {floats[wanted]}, or set task to "
            f"{other[wanted]!r}"
        )
    for what in (what for what in ("augment", "mixup") if _places(data) and getattr(recipe.data, what)):
        raise RecipeError(f"{what} is for one label an image, and those of {shown(recipe.data.name)} are of places")


@functools.lru_cache(maxsize=1)
def _load(name: str, root: str | None, download: bool, image_size: int | None, channels: int | None) -> Data:
    try:
        return load_dataset(name, root=root, download=download, image_size=image_size, channels=channels)
    except (ValueError, OSError, ImportError) as error:
        raise RecipeError(f"data {shown(name)}: {error}") from error


@dataclass(frozen=True)
class Inputs:
    """What a network takes and gives.

    Attributes
    ----------
    shape : tuple of int
        Of one input, such as (channels, height, width); 0 stands for a size that is not known.
    num_classes : int
        Length of the output; 0 where the data have no labels.
    kind : {"images", "numbers", "indices"}
        Images, and numbers that are none, are float32; indices, as of words, int64.
    places : tuple of int
        Shape of the labels of one input: a class each; empty for one class, or numbers, for all of it.

    Raises
    ------
    ValueError
        There is nothing like that.
    """

    shape: tuple[int, ...]
    num_classes: int
    kind: InputKind = "images"
    places: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("shape", "places"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        lengths = (3,) if self.kind == "images" else range(1, 64)
        right = len(self.shape) in lengths and min(self.shape) >= 0 and self.shape[0] > 0
        if (
            not right
            or math.prod(self.shape) > MOST_NUMBERS
            or self.num_classes < 0
            or len(self.places) > 64
            or not all(type(size) is int and 0 < size <= MOST_NUMBERS for size in self.places)
            or self.kind not in get_args(InputKind)
        ):
            raise ValueError(f"there are no such inputs: {self}")

    @classmethod
    def of(cls, data: Data) -> Inputs:
        """Describe a data set."""
        if isinstance(data, ImageData):
            return cls(data.shape, data.num_classes, places=_places(data))
        kind: InputKind = "numbers" if data.train_inputs.is_floating_point() else "indices"
        return cls(data.shape, data.num_classes, kind, _places(data))

    @property
    def channels(self) -> int:
        """Size of the first axis."""
        return self.shape[0]

    @property
    def known(self) -> bool:
        """Whether all sizes are."""
        return 0 not in self.shape

    def example(self, count: int = 1) -> Tensor:
        """Zeros as an input of a network, (count, ...)."""
        return torch.zeros(count, *self.shape, dtype=torch.int64 if self.kind == "indices" else torch.float32)


def _places(data: Data) -> tuple[int, ...]:
    labels = data.train_labels
    return () if labels.is_floating_point() else tuple(labels.shape[1:])


def build_network(recipe: Recipe, data: Data | Inputs, num_classes: int | None) -> nn.Module:
    """Network of a recipe with fresh weights, or those that it names, represented by the recipe's method.

    Parameters
    ----------
    recipe : Recipe
        Its ``network``, ``network_options``, ``weights``, ``method`` and what belongs to that.
    data : ImageData, ArrayData or Inputs
        What the network takes.
    num_classes : int or None
        Classes of a classifier or of a conditional network.

    Returns
    -------
    nn.Module

    Raises
    ------
    RecipeError
        The network or its representation cannot be built, or there are no such weights.
    CheckpointError
        The weights are damaged, or of another network.
    """
    try:
        model = build_model(
            recipe.network.name, num_classes=num_classes, in_channels=data.channels, **recipe.network.options
        )
    except _IMPOSSIBLE as error:
        raise RecipeError(one_line(f"network {recipe.network.name!r}: {error}")) from error
    if recipe.task != "gan":
        places = data.places if isinstance(data, Inputs) else _places(data)
        rehearse(model, recipe, data, None, (1, *places, num_classes or 0))
    if recipe.network.weights is not None:
        load_weights(model, Path(recipe.network.weights))
    return represent(model, recipe)


def rehearse(
    model: nn.Module, recipe: Recipe, data: Data | Inputs, labels: Tensor | None, wanted: tuple[int, ...]
) -> None:
    """Check that a network accepts inputs of the data, in parts of a batch as small as the recipe's.

    Raises
    ------
    RecipeError
        It is a network for another task or other inputs.
    """
    inputs = data if isinstance(data, Inputs) else Inputs.of(data)
    if not inputs.known:
        return
    try:
        training = recipe.schedule.batch_size == recipe.schedule.accumulate
        check_scores(model, inputs.example(), labels, wanted, training)
    except ValueError as error:
        raise RecipeError(f"network {recipe.network.name!r} {error}") from error


def represent(model: nn.Module, recipe: Recipe, moments: Mapping[str, Tensor] | None = None) -> nn.Module:
    """Represent a network's weights as a recipe says, in place; trained ones as `reparameterize` does with moments.

    Raises
    ------
    RecipeError
        The representation is not possible.
    """
    try:
        return _represent(model, recipe, moments)
    except _IMPOSSIBLE as error:
        raise RecipeError(one_line(str(error))) from error


def _represent(model: nn.Module, recipe: Recipe, moments: Mapping[str, Tensor] | None) -> nn.Module:
    if recipe.network.method in BASELINES:
        return BASELINES[recipe.network.method](model, tuple(recipe.network.exclude))
    if not recipe.network.low_rank:
        # Layers that other methods leave dense are not counted; a name without a match is reported before training
        weighted_layers(model, recipe.network.exclude)
        return model
    # Fields of the same name are passed on
    settings = {name: value for name, value in vars(recipe.network).items() if name in _SETTINGS}
    if recipe.network.budget is not None:
        settings["rank"] = None
    if recipe.network.spectrum == "learned":
        # 1 unless the weights were dense; on loading, the state sets it
        settings["spectral_bound"] = "initial"
    return sr.reparameterize(model, **settings, seed=recipe.seed, moments=moments)
