"""Weights from files that other programs wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from sttp_riemann.errors import reason

WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Names under which trainers put a state_dict, beside what else they save."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a ``state_dict``; nothing in the file is executed.

    Parameters
    ----------
    path : Path
        .safetensors, or written by `torch.save`: a state_dict, or a mapping that has it under one of `WRAPPERS`.

    Returns
    -------
    dict[str, Tensor]
        On the CPU; numbers of 16 bits in float32.

    Raises
    ------
    ValueError
        It cannot be read as such.
    """
    try:
        found: Any = load_file(path) if path.suffix == ".safetensors" else _load(path)
        for name in WRAPPERS:
            if isinstance(found.get(name), Mapping):
                found = found[name]
        other = next((name for name, tensor in found.items() if not isinstance(tensor, Tensor)), None)
        if other is not None:
            raise ValueError(f"{str(other)[:40]!r} in it is no tensor")
        return {str(name): _full(tensor) for name, tensor in found.items()}
    except Exception as error:
        # Damaged files make readers raise errors of many kinds
        text = f"weights {path} cannot be read as a state_dict, .safetensors or .pth: {reason(error)}"
        raise ValueError(text) from error


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _full(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
