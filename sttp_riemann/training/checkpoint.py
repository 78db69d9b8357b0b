"""Checkpoints: one safetensors file, its plain values as JSON in the header. Nothing in it can be executed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sttp_riemann.training.errors import CheckpointError

FORMAT = "sttp_riemann checkpoint 1"


@dataclass
class Checkpoint:
    """What is needed to go on: named tensors, and values that JSON can hold.

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


def write_atomically(path: Path, content: bytes) -> None:
    """Put a file in place whole or not at all; what was there stays until then.

    Parameters
    ----------
    path : Path
        The file; its folder is made when missing.
    content : bytes
        All of it.

    Raises
    ------
    CheckpointError
        The disk is full or the folder cannot be written to.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            # A rename may reach the disk before the content does
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        reason = "the disk is full: free some space and run the same command again" if full else error.strerror
        raise CheckpointError(f"could not write {path}; what was written before is intact; {reason}") from error


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint beside its place and rename it.

    Parameters
    ----------
    path : Path
        Where to.
    checkpoint : Checkpoint
        Tensors of any device; they stay as they are.

    Raises
    ------
    CheckpointError
        It cannot be written; the previous one is then intact.
    """
    # safetensors refuses tensors that share memory, which tied weights do
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in checkpoint.tensors.items()}
    metadata = {"format": FORMAT, "values": json.dumps(checkpoint.values)}
    write_atomically(path, save(tensors, metadata))


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
        The file is missing, truncated, no safetensors file (a pickle, say), or not of this package.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                found = metadata.get("format", "no format")
                raise CheckpointError(f"{path} is not a checkpoint of this package's version: {found}, not {FORMAT!r}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            values = dict(json.loads(metadata["values"]))
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise CheckpointError(
            f"{path} is truncated or not a safetensors file: delete it to begin the run anew ({error})"
        ) from error
    return Checkpoint(tensors, values)


def load_model(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Put a checkpoint's tensors into a model, after comparing every name, shape and type.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    tensors : dict[str, Tensor]
        What the model's ``state_dict`` gave.
    path : Path
        Where they are from, for the message.

    Raises
    ------
    CheckpointError
        A tensor is missing, left over, or of another shape or type; nothing is then loaded.
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
        raise CheckpointError(f"{path} has {left_over[0]!r}, which the network has not")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the checkpoint is of another network: {error}") from error


def _describe(tensor: Tensor) -> str:
    return f"{'x'.join(map(str, tensor.shape)) or 'scalar'} {str(tensor.dtype).removeprefix('torch.')}"
