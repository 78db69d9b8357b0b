"""Arrays of the user's own in one file, as ``arrays:FILE.npz`` or ``arrays:FILE.pt``."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sttp_riemann.errors import reason
from sttp_riemann.lab.data.source import ArraySource, Request, Source
from sttp_riemann.lab.data.tensors import NAMES, source_of

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def arrays(request: Request) -> Source | ArraySource:
    """Load ``train_x``, ``train_y`` and, if there, ``test_x`` and ``test_y``; see `source_of`.

    Parameters
    ----------
    request : Request
        Its `argument` is FILE: of ``numpy.savez``, or a dictionary of tensors of ``torch.save``.

    Returns
    -------
    Source or ArraySource
        The former for images.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is damaged, holds anything but such arrays, or claims more numbers than it has.
    """
    path = Path(request.argument).expanduser()
    if path.suffix not in READERS or not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {str(path)!r}: give arrays:FILE, which ends with .npz or .pt")
    try:
        return source_of(READERS[path.suffix](path))
    except Exception as error:
        # Damaged files make readers raise errors of many kinds
        raise ValueError(f"{path}: {reason(error)}") from error


def _npz(path: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as file:
        names = [info.filename.removesuffix(".npy") for info in file.infolist()]
        _check_names(names)
        _check_size(sum(info.file_size for info in file.infolist()))
        for info in file.infolist():
            with file.open(info) as stream:
                version = np.lib.format.read_magic(stream)
                if version not in _HEADERS:
                    raise ValueError(f"{info.filename} is of version {version} of the format: save it anew")
                shape, _, dtype = _HEADERS[version](stream)
                if (
                    dtype.hasobject
                    or dtype.names
                    or math.prod(shape) * dtype.itemsize != info.file_size - stream.tell()
                ):
                    raise ValueError(f"{info.filename} does not hold as many numbers as it says, or no numbers")
    with np.load(path, allow_pickle=False) as loaded:
        return {name: _tensor(name, loaded[name]) for name in names}


def _tensor(name: str, array: np.ndarray) -> Tensor:
    try:
        # Files may have another order of bytes, which torch does not know
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))
    except TypeError as error:
        raise ValueError(f"{name} are {array.dtype}: make them uint8 (images), integers or floats") from error


def _pt(path: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as file:
        if any(info.compress_type != zipfile.ZIP_STORED for info in file.infolist()) or file.testzip():
            raise ValueError("it is damaged, or not of torch.save: save it anew")
    # Mapped, so that no tensor reaches beyond the file, whatever it claims
    found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if not isinstance(found, dict) or not all(
        isinstance(t, Tensor) and t.layout is torch.strided for t in found.values()
    ):
        raise ValueError(f"it is no dictionary of tensors: save {{{NAMES[0]!r}: ..., {NAMES[1]!r}: ...}}")
    _check_names([str(name) for name in found])
    size = sum(t.numel() * t.element_size() for t in found.values())
    _check_size(size)
    if size > path.stat().st_size:
        raise ValueError("its tensors claim more numbers than it holds: save them after .contiguous()")
    return {str(name): t.detach().clone(memory_format=torch.contiguous_format) for name, t in found.items()}


def _check_names(names: list[str]) -> None:
    for name in names:
        if name not in NAMES or names.count(name) > 1:
            raise ValueError(f"it holds {name[:40]!r}: the names are {', '.join(NAMES)}, each once")


def _check_size(size: int) -> None:
    """Refuse what a few bytes may unpack to before any of it is read."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise ValueError(f"its arrays have {size:,} bytes and this machine {memory:,}: save fewer examples")


READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {".npz": _npz, ".pt": _pt}
"""Functions that read a file, by its suffix."""
