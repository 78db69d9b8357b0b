"""Compress a trained network: low-rank weights as close as the ranks allow, then fine-tuning."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

import sttp_riemann as sr
from sttp_riemann.errors import RecipeError
from sttp_riemann.files import Lock, check_writable, real_folder, write_atomically
from sttp_riemann.lab.networks.fitting import network_for
from sttp_riemann.lab.networks.registry import TORCHVISION
from sttp_riemann.lab.networks.torchvision_zoo import pretrained_network
from sttp_riemann.lab.networks.weights import read_weights
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.represent import Data, Inputs, build_network, check_labels, load_data, represent
from sttp_riemann.lab.training.saved import SOLE, load_saved, save_network
from sttp_riemann.lab.training.scoring import MEASURED, tested_score
from sttp_riemann.lab.training.storage import checkpoint_of
from sttp_riemann.lab.training.weights import load_weights
from sttp_riemann.lab.units import amount, told, words
from sttp_riemann.model.compression import Compression
from sttp_riemann.model.measures import layer_ranks
from sttp_riemann.sealed import digest

MODEL = "compressed.safetensors"
TEACHER = "dense.safetensors"
TABLE = "compression.txt"
FIGURES = "compression.json"
# Default input of torchvision's networks
TORCHVISION_SIZE = 224
CALIBRATION = 2048
"""Default number of training examples for measuring inputs."""
# A convolution's inputs are unfolded, nine times as large
CALIBRATION_BATCH = 64


@dataclass(frozen=True)
class Trained:
    """A dense network to compress.

    Attributes
    ----------
    model : nn.Module
        The network.
    recipe : Recipe
        How it was trained; for a torchvision network only its architecture.
    inputs : Inputs
        What it takes and gives.
    accuracy : float or None
        On its test examples, if known; R^2 of a regression.
    on_data : bool
        Whether it was trained on the data that its recipe names.
    """

    model: nn.Module
    recipe: Recipe
    inputs: Inputs
    accuracy: float | None
    on_data: bool = False


@dataclass(frozen=True)
class Compressed:
    """A compressed network.

    Attributes
    ----------
    model : nn.Module
        The network, fine-tuned if requested.
    sizes : Compression
        Numbers and, before fine-tuning, error of every layer.
    accuracies : dict[str, float]
        On the test examples, as far as known: ``dense``, ``compressed``, ``fine_tuned``; R^2 of a regression.
    measured : str
        What they are: ``test_accuracy`` or ``test_r2``.
    history : list of dict
        What fine-tuning measured after every epoch.
    file_size : int
        Bytes of the network's file.
    """

    model: nn.Module
    sizes: Compression
    accuracies: dict[str, float]
    history: list[dict[str, float]]
    file_size: int
    measured: str = "test_accuracy"

    @property
    def dense_size(self) -> int:
        """Bytes of the numbers of the dense network."""
        return 4 * (self.sizes.dense + self.sizes.other)

    def __str__(self) -> str:
        lines = [str(self.sizes), *_error_lines(self.sizes)]
        share = self.file_size / self.dense_size
        lines.append(f"file: {self.file_size:,} bytes, {100 * share:.1f} % of the dense network's")
        for epoch, row in enumerate(self.history, 1):
            held = self.measured.replace("test", "validation")
            name = held if held in row else self.measured
            lines.append(f"epoch {epoch}: {told(name, row[name])}")
        found = [f"{name.replace('_', '-')} {amount(self.measured, value)}" for name, value in self.accuracies.items()]
        return "\n".join([*lines, *([f"{words(self.measured)}: {', '.join(found)}"] if found else [])])


def load_trained(
    name: str, weights: Path | None = None, download: bool = False, network: Mapping[str, Any] | None = None
) -> Trained:
    """Load a dense network.

    Parameters
    ----------
    name : str
        ``torchvision:NAME``, or the path of a run's folder or of a checkpoint; with `network`, of weights.
    weights : Path, optional
        File with the weights of a torchvision network; by default torchvision's own.
    download : bool
        Whether these may be downloaded.
    network : mapping, optional
        Fields of a recipe that say which network the weights are of: ``network``, ``network_options``; and of its
        ``data``, if given, which then set the sizes of inputs and output.

    Returns
    -------
    Trained
        The network on the CPU, in evaluation mode.

    Raises
    ------
    RecipeError
        The network is not dense, a GAN's, or its weights are not available.
    CheckpointError
        The checkpoint cannot be read.
    """
    if network is not None:
        return _of_weights(Path(name), Recipe().changed(**network, method="dense"), "data" in network)
    if name.startswith(TORCHVISION):
        try:
            model, classes = pretrained_network(name.removeprefix(TORCHVISION), weights, download)
        except (ValueError, ImportError) as error:
            raise RecipeError(str(error)) from error
        options = {"transform_input": model.transform_input} if hasattr(model, "transform_input") else {}
        recipe = Recipe().changed(
            network=name, network_options=options, method="dense", name=name.removeprefix(TORCHVISION)
        )
        return Trained(model, recipe, Inputs((3, TORCHVISION_SIZE, TORCHVISION_SIZE), classes), None)
    if weights is not None:
        raise RecipeError(f"--weights is for a {TORCHVISION}NAME: {name} has its own")
    saved = load_saved(Path(name))
    model = saved.network
    method = saved.recipe.network.method
    if method != "dense":
        raise RecipeError(f"{saved.path} holds a network of method {method!r}: name one of method 'dense'")
    history = saved.values.get("progress", {}).get("history")
    return Trained(
        model, saved.recipe, saved.inputs, history[-1].get(MEASURED[saved.recipe.task]) if history else None, True
    )


def _of_weights(path: Path, recipe: Recipe, with_data: bool) -> Trained:
    """Load the weights of a network that a recipe names."""
    recipe, path = recipe.changed(name=path.stem), checkpoint_of(path)
    if with_data:
        data = load_data(recipe)
        inputs = Inputs.of(data)
        recipe = recipe.changed(task="regress" if data.train_labels.is_floating_point() else "classify")
        model = build_network(recipe, inputs, inputs.num_classes)
        load_weights(model, path)
        return Trained(model.eval(), recipe, inputs, None)
    try:
        state = read_weights(path)
        model, classes, channels = network_for(recipe.network.name, state, recipe.network.options)
    except (ValueError, ImportError) as error:
        raise RecipeError(f"{path} of {recipe.network.name!r}: {error}") from error
    return Trained(model.eval(), recipe, Inputs((channels, 0, 0), classes), None)


def compress(
    trained: Trained, output: Path, changes: Mapping[str, Any], epochs: int = 0, calibrate: int | None = None
) -> Compressed:
    """Compress a network, fine-tune it if asked, and write it with its errors into a folder.

    Parameters
    ----------
    trained : Trained
        The dense network; not changed.
    output : Path
        Folder for the network, a table as text and as JSON, and the run of the fine-tuning.
    changes : mapping
        Fields of its recipe to change: ``rank`` or ``budget``, and what fine-tuning needs.
    epochs : int
        Passes over the training examples to fine-tune by. The dense network is the teacher of a classifier, unless
        ``distill`` is 0.
    calibrate : int, optional
        Training examples for measuring the inputs of layers, to preserve outputs instead of weights, and the statistics
        of batch normalization; 0 turns it off. By default 2048 with fine-tuning, which needs the data anyway.

    Returns
    -------
    Compressed
        What was written into the folder.

    Raises
    ------
    RecipeError
        A field is not valid, neither rank nor budget is given, the budget is too small, or the data do not fit.
    CheckpointError
        A file cannot be written, or another compression is using the folder.

    Notes
    -----
    Each weight starts from its singular value decomposition and TT-SVD, weighted with
    the second moment of the layer's inputs where these are measured.
    """
    recipe = _recipe(trained, changes)
    for name, number in {"epochs": epochs, "calibrate": calibrate or 0}.items():
        if number < 0:
            raise RecipeError(f"{name} must not be negative, not {number}")
    calibrate = (CALIBRATION if epochs else 0) if calibrate is None else calibrate
    # Check the data and the folder before the long part
    data = _data(recipe, trained, needed=bool(epochs or calibrate), named="data" in changes)
    check_writable(output / MODEL)
    moments = sr.input_moments(trained.model, _images(data, calibrate)) if data and calibrate else None
    model = represent(copy.deepcopy(trained.model), recipe, moments)
    if data and calibrate:
        update_bn(_images(data, calibrate), model)
    sizes = sr.compression(model)
    recipe = recipe.changed(rank=layer_ranks(model), budget=None, init="identity")
    with Lock(output):
        accuracies = {} if trained.accuracy is None else {"dense": trained.accuracy}
        if data is not None:
            accuracies = {
                "dense": tested_score(trained.model, data, recipe),
                "compressed": tested_score(model, data, recipe),
            }
        history: list[dict[str, float]] = []
        if epochs and data is not None:
            held = round(recipe.evaluation.validation * len(data.train_labels))
            steps = math.ceil((len(data.train_labels) - held) / recipe.schedule.batch_size)
            tuning = recipe.changed(steps=steps * epochs, evaluate_every=steps)
            if recipe.task == "classify" and recipe.distillation.distill and recipe.distillation.teacher is None:
                tuning = tuning.changed(teacher=str(output / TEACHER))
                save_network(output / TEACHER, trained.model, trained.recipe, Inputs.of(data))
            model, history = _fine_tune(model, tuning, output, calibrate)
            accuracies["fine_tuned"] = tested_score(model, data, recipe)
        save_network(output / MODEL, model, recipe, trained.inputs)
        compressed = Compressed(
            model, sizes, accuracies, history, (output / MODEL).stat().st_size, MEASURED[recipe.task]
        )
        write_atomically(output / TABLE, f"{compressed}\n".encode())
        write_atomically(output / FIGURES, json.dumps(_figures(compressed), indent=1).encode())
        return compressed


def _recipe(trained: Trained, changes: Mapping[str, Any]) -> Recipe:
    if "rank" not in changes and "budget" not in changes:
        raise RecipeError("how far to compress: give --budget, such as 0.1, or --rank")
    if "rank" in changes and "budget" in changes:
        raise RecipeError("give either --rank or --budget: both say how far to compress")
    size = trained.inputs.shape[-1] if trained.inputs.kind == "images" and trained.inputs.known else None
    images = {} if size is None else {"image_size": size, "channels": trained.inputs.channels}
    start = {"method": "sttp", "init": "dense", "budget": None, "weights": None, **images}
    recipe = trained.recipe.changed(**{**start, **changes})
    if not recipe.network.low_rank:
        raise RecipeError(f"method {recipe.network.method!r} does not compress: set method to 'sttp' or 'svdp'")
    return recipe


def _data(recipe: Recipe, trained: Trained, needed: bool, named: bool) -> Data | None:
    """The data that the network was trained on; None where nothing needs them and they are not known or not there."""
    if not trained.inputs.known:
        if needed:
            raise RecipeError(
                "epochs and calibrate need the data that the network was trained on: name them with --data"
            )
        return None
    if not needed and not named and not trained.on_data:
        return None
    try:
        data = load_data(recipe)
    except RecipeError:
        if needed or named:
            raise
        return None
    check_labels(recipe, data)
    here, inputs = Inputs.of(data), trained.inputs
    if here.num_classes != inputs.num_classes:
        raise RecipeError(
            f"data {recipe.data.name!r} are for {here.num_classes} outputs and the network has "
            f"{inputs.num_classes}: set data to what it was trained for"
        )
    # A convolutional network takes images of any size
    if here.kind != inputs.kind or (here.kind != "images" and here.shape != inputs.shape):
        raise RecipeError(f"data {recipe.data.name!r} are {here}, and the network is for {inputs}: set data to such")
    return data


def _images(data: Data, count: int) -> Iterator[Tensor]:
    chosen = torch.randperm(len(data.train_labels), generator=torch.Generator().manual_seed(0))[:count]
    return (data.batch(part)[0] for part in chosen.split(CALIBRATION_BATCH))


def _fine_tune(
    model: nn.Module, recipe: Recipe, output: Path, calibrate: int
) -> tuple[nn.Module, list[dict[str, float]]]:
    # Another start is another run: resuming from its checkpoints would mix the two
    run = Trainer(recipe, real_folder(output, f"fine-tuning-{digest(model.state_dict())[:8]}"))
    if run.progress.step == 0:
        player = run.task.players[SOLE[recipe.task]]
        for twin in {id(twin): twin for twin in (player.model, player.result)}.values():
            twin.load_state_dict(model.state_dict())
    run.run()
    result = run.task.players[SOLE[recipe.task]].result
    if calibrate:
        update_bn(_images(load_data(recipe), calibrate), result, device=run.accelerator.device)
    return result.cpu().eval(), run.progress.history


def _error_lines(sizes: Compression) -> list[str]:
    width = max(5, *(len(layer.name) for layer in sizes.layers))
    rows = [f"{layer.name:{width}s} {layer.dense_error:14.2e}" for layer in sizes.layers]
    return [f"{'layer':{width}s} {'relative error':>14s}", *rows]


def _figures(compressed: Compressed) -> dict[str, Any]:
    layers = [asdict(layer) for layer in compressed.sizes.layers]
    return {
        "ratio": compressed.sizes.ratio,
        "measured": compressed.measured,
        "bytes": compressed.file_size,
        "dense_bytes": compressed.dense_size,
        "accuracies": compressed.accuracies,
        "history": compressed.history,
        "layers": layers,
    }
