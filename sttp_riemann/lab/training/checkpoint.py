"""Checkpoints: one sealed file of tensors and plain values."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sttp_riemann.errors import CheckpointError
from sttp_riemann.files import write_atomically
from sttp_riemann.sealed import SealError, seal, unseal

FORMAT = "sttp_riemann checkpoint 2"


@dataclass
class Checkpoint:
    """State for resuming: named tensors, and values that JSON can represent.

    Attributes
    ----------
    tensors : dict[str, Tensor]
        By name.
    values : dict
        What JSON can hold.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose name begins with ``prefix.``, without it.

        Parameters
        ----------
        prefix : str
            Without the point.

        Returns
        -------
        dict[str, Tensor]
            Empty where there are none.
        """
        start = prefix + "."
        return {name[len(start) :]: t for name, t in self.tensors.items() if name.startswith(start)}

    def add(self, prefix: str, tensors: dict[str, Tensor]) -> None:
        """Keep tensors under ``prefix.name``.

        Parameters
        ----------
        prefix : str
            Without the point.
        tensors : dict[str, Tensor]
            By the rest of their names.
        """
        self.tensors.update({f"{prefix}.{name}": tensor for name, tensor in tensors.items()})


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically.

    Parameters
    ----------
    path : Path
        Where to.
    checkpoint : Checkpoint
        Tensors on any device; not changed.

    Raises
    ------
    CheckpointError
        It cannot be written; the previous one is then intact.
    """
    try:
        content = seal(checkpoint.tensors, checkpoint.values, FORMAT)
    except SealError as error:
        raise CheckpointError(f"{path} {error}") from error
    write_atomically(path, content)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of this package.

    Parameters
    ----------
    path : Path
        A file that `save_checkpoint` wrote.

    Returns
    -------
    Checkpoint
        Tensors on the CPU.

    Raises
    ------
    CheckpointError
        The file is missing, truncated, damaged, not a safetensors file (a pickle, say), or not of this package.
    """
    # Unlike the method of Path, this reports a name that is too long as missing
    if not os.path.isfile(path):
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        return Checkpoint(*unseal(path, FORMAT))
    except SealError as error:
        raise CheckpointError(f"{path} {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


def load_model(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load a checkpoint's tensors into a model, after comparing every name, shape and type.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    tensors : dict[str, Tensor]
        From the model's ``state_dict``.
    path : Path
        Their file, for the message.

    Raises
    ------
    CheckpointError
        A tensor is missing, unexpected, or of another shape or type; nothing is then loaded.
    """
    wanted = model.state_dict()
    for name, tensor in wanted.items():
        if name not in tensors:
            raise CheckpointError(f"{path} lacks {name!r}, which the network has")
        found = tensors[name]
        if name.endswith("_extra_state"):
            continue  # compared by the layer that it is of
        if found.shape != tensor.shape or found.dtype != tensor.dtype:
            raise CheckpointError(
                f"{path}: {name!r} is {_describe(found)}, and the network's is {_describe(tensor)}: "
                "the checkpoint is of another network"
            )
    left_over = [name for name in tensors if name not in wanted]
    if left_over:
        raise CheckpointError(f"{path} has {left_over[0]!r}, which the network does not have")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the checkpoint is of another network: {error}") from error


def _describe(tensor: Tensor) -> str:
    return f"{'x'.join(map(str, tensor.shape)) or 'scalar'} {str(tensor.dtype).removeprefix('torch.')}"
