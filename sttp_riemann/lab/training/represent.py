"""Load a recipe's images, and build its networks with the representation of weights that it asks for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.errors import RecipeError, one_line
from sttp_riemann.lab.data import ImageData, load_dataset
from sttp_riemann.lab.networks import build_model
from sttp_riemann.lab.networks.baselines import BASELINES
from sttp_riemann.lab.networks.rehearsal import check_scores
from sttp_riemann.lab.training.plain import shown
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.model.weights import weighted_layers

_SETTINGS = inspect.signature(sr.reparameterize).parameters
# What a network too large for the machine raises depends on torch and the system
_IMPOSSIBLE = (ValueError, TypeError, RuntimeError, MemoryError, OverflowError)


def load_data(recipe: Recipe) -> ImageData:
    """Images of a recipe, loaded once for all runs of a comparison.

    Raises
    ------
    RecipeError
        They cannot be loaded.
    """
    return _load(recipe.data.name, recipe.data.root, recipe.data.download, recipe.data.image_size, recipe.data.channels)


@functools.lru_cache(maxsize=1)
def _load(name: str, root: str | None, download: bool, image_size: int | None, channels: int | None) -> ImageData:
    try:
        return load_dataset(name, root=root, download=download, image_size=image_size, channels=channels)
    except (ValueError, OSError, ImportError) as error:
        raise RecipeError(f"data {shown(name)}: {error}") from error


@dataclass(frozen=True)
class Images:
    """The kind of images that a network takes.

    Attributes
    ----------
    channels : int
        As in `ImageData`.
    image_size : int
        Side of an image, in pixels.
    num_classes : int
        0 where the data have no labels.
    """

    channels: int
    image_size: int
    num_classes: int

    def __post_init__(self) -> None:
        if self.channels < 1 or self.image_size < 1 or self.num_classes < 0:
            raise ValueError(f"there are no such images: {self}")

    @classmethod
    def of(cls, data: ImageData) -> Images:
        """Describe the images of a data set."""
        return cls(data.channels, data.image_size, data.num_classes)


def build_network(recipe: Recipe, data: ImageData | Images, num_classes: int | None) -> nn.Module:
    """Network of a recipe with fresh weights, represented by the recipe's method.

    Parameters
    ----------
    recipe : Recipe
        Its ``network``, ``network_options``, ``method`` and what belongs to that.
    data : ImageData or Images
        The network's images.
    num_classes : int or None
        Classes of a classifier or of a conditional network.

    Returns
    -------
    nn.Module

    Raises
    ------
    RecipeError
        The network or its representation cannot be built.
    """
    try:
        model = build_model(
            recipe.network.name, num_classes=num_classes, in_channels=data.channels, **recipe.network.options
        )
    except _IMPOSSIBLE as error:
        raise RecipeError(one_line(f"network {recipe.network.name!r}: {error}")) from error
    if recipe.task == "classify":
        rehearse(model, recipe, data, None, (1, num_classes or 0))
    return represent(model, recipe)


def rehearse(
    model: nn.Module, recipe: Recipe, data: ImageData | Images, labels: Tensor | None, wanted: tuple[int, ...]
) -> None:
    """Check that a network accepts images of the data, in parts of a batch as small as the recipe's.

    Raises
    ------
    RecipeError
        It is a network for another task or other images.
    """
    try:
        image = (data.channels, data.image_size, data.image_size)
        check_scores(model, image, labels, wanted, training=recipe.schedule.batch_size == recipe.schedule.accumulate)
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
