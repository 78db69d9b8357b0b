"""Start a network from trained weights: of a run of this package, or of another program."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.networks.weights import read_weights
from sttp_riemann.lab.training.checkpoint import load_checkpoint, load_model
from sttp_riemann.lab.training.storage import checkpoint_of
from sttp_riemann.sealed import SealError, is_sealed


def load_weights(model: nn.Module, path: Path) -> None:
    """Load dense weights into a network, after comparing every name, shape and type.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    path : Path
        A state_dict, see `read_weights`; or a checkpoint of a run of one network, or its folder.

    Raises
    ------
    RecipeError
        The file cannot be read, or is of a GAN.
    CheckpointError
        A checkpoint is damaged, or the weights are of another network.
    """
    path = checkpoint_of(path)
    load_model(model, _of_run(path) if _is_run(path) else _of_others(path), path)


def _is_run(path: Path) -> bool:
    try:
        return path.suffix == ".safetensors" and is_sealed(path)
    except (SealError, OSError):
        # Its reader says what is wrong with it
        return False


def _of_run(path: Path) -> dict[str, Tensor]:
    checkpoint = load_checkpoint(path)
    players = {name.split(".")[1] for name in checkpoint.tensors if name.startswith("model.")}
    if len(players) != 1:
        raise RecipeError(f"{path} holds {' and '.join(sorted(players)) or 'no network'}: name weights of one network")
    (player,) = players
    return checkpoint.part(f"average.{player}.module") or checkpoint.part(f"model.{player}")


def _of_others(path: Path) -> dict[str, Tensor]:
    try:
        return read_weights(path)
    except ValueError as error:
        raise RecipeError(str(error)) from error
