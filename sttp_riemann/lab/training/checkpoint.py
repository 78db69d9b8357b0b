"""Checkpoints: one sealed file of tensors and plain values."""

from __future__ import annotations

import os
from collections.abc import Mapping
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
    there, wanted = _described(tensors), _described(model.state_dict())
    other = [name for name in {**wanted, **there} if wanted.get(name) != there.get(name)]
    if other:
        found, known = there.get(other[0], "missing"), wanted.get(other[0], "missing")
        fault = f"{other[0]!r} is {found}, and the network's is {known}"
        raise CheckpointError(f"{path}: {fault}: the checkpoint is of another network")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the checkpoint is of another network: {error}") from error


def _described(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Shapes and types; those of extra states are compared by the layers that they are of."""
    about = {
        name: f"{'x'.join(map(str, t.shape)) or 'scalar'} {str(t.dtype).removeprefix('torch.')}"
        for name, t in tensors.items()
    }
    return {name: "there" if name.endswith("_extra_state") else text for name, text in about.items()}
