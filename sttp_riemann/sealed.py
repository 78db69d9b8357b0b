"""Tensors and plain values in one safetensors file, with checksums throughout. Nothing in it can be executed."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sttp_riemann.files import parse_json

LARGEST_HEADER = 2**25
"""In bytes: enough for a history of 100,000 evaluations, and read within a second."""
_LENGTH = 8
_METADATA = "__metadata__"


class SealError(ValueError):
    """A file that differs from what was written; the message continues after the file's name."""


def seal(tensors: Mapping[str, Tensor], values: Mapping[str, Any], kind: str) -> bytes:
    """Write tensors and values as a file.

    Parameters
    ----------
    tensors : mapping
        Name to tensor, on any device and of any shape; they may share memory.
    values : mapping
        Anything that JSON can represent.
    kind : str
        The kind of file and the version of its layout.

    Returns
    -------
    bytes
        The file.

    Raises
    ------
    SealError
        There are more values than `read` accepts, or a tensor of a dtype that safetensors does not have.
    """
    # safetensors refuses tensors that share memory, as tied weights do
    own = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    texts = [json.dumps(dict(values)), json.dumps({name: _tensor_sum(name, t) for name, t in own.items()})]
    if sum(map(len, texts)) > LARGEST_HEADER // 2:
        raise SealError(f"would hold {sum(map(len, texts))} characters of plain values: too many to read back")
    metadata = {"format": kind, "values": texts[0], "sums": texts[1], "seal": _seal_of(kind, *texts)}
    try:
        return save(own, metadata)
    except KeyError as error:
        name = next(name for name, tensor in own.items() if tensor.dtype == error.args[0])
        raise SealError(f"cannot hold {name!r} of {error.args[0]}; cast it first") from error


def unseal(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that `seal` wrote.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        The kind that it was written with.

    Returns
    -------
    tensors : dict[str, Tensor]
        On the CPU, aligned like any other tensor: the last bit of a matrix product depends on alignment.
    values : dict
        As they were written.

    Raises
    ------
    SealError
        The file is truncated, damaged, or of another kind.
    OSError
        It cannot be opened.
    """
    with _told():
        metadata = _metadata(path)
        found = metadata.get("format", "no format")
        if found != kind:
            raise SealError(f"is not of this package's version: {found}, not {kind!r}")
        values, sums = _opened(metadata, kind)
        with safe_open(path, framework="pt", device="cpu") as file:
            if file.metadata() != metadata or set(file.keys()) != sums.keys():
                raise SealError("is damaged: a tensor is missing or was added")
            tensors = {name: file.get_tensor(name).clone() for name in sums}
    for name, tensor in tensors.items():
        if _tensor_sum(name, tensor) != sums[name]:
            raise SealError(f"is damaged: the checksum of {name!r} does not match")
    return tensors, values


def is_sealed(path: Path) -> bool:
    """Whether a safetensors file says that `seal` wrote it; one flipped bit does not hide that.

    Raises
    ------
    SealError
        It is truncated, or no safetensors file.
    OSError
        It cannot be opened.
    """
    with _told():
        return not {"values", "sums", "seal"}.isdisjoint(_metadata(path))


def plain_tensors(path: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """Tensors of a safetensors file that others wrote: without checksums.

    Parameters
    ----------
    path : Path
        The file.
    wanted : callable
        From a tensor's name to whether it is read.

    Returns
    -------
    dict[str, Tensor]
        On the CPU.

    Raises
    ------
    SealError
        The file is truncated, or no safetensors file.
    OSError
        It cannot be opened.
    """
    with _told():
        _metadata(path)
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys() if wanted(name)}  # noqa: SIM118


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Short name of tensors with their names: equal content, equal digests, on whatever device.

    Examples
    --------
    >>> import torch
    >>> from sttp_riemann.sealed import digest
    >>> digest({"weight": torch.zeros(2)}) == digest({"weight": torch.zeros(1, 2)})
    False
    """
    sums = [_tensor_sum(name, tensor.detach().cpu()) for name, tensor in tensors.items()]
    return hashlib.sha256(json.dumps(sums).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tell of a file that cannot be read in one kind of error."""
    try:
        yield
    except SealError:
        raise
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise SealError(f"is truncated or not a safetensors file ({error})") from error


def _metadata(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        found = _header(stream).get(_METADATA)
    return found if isinstance(found, dict) else {}


def _header(stream: BinaryIO) -> dict[str, Any]:
    """Parse the header separately: of two tensors with one name, safetensors returns the last."""
    length = int.from_bytes(stream.read(_LENGTH), "little")
    if length > LARGEST_HEADER:
        raise SealError(f"is truncated or not a safetensors file (a header of {length} bytes)")
    header = parse_json(stream.read(length).decode())
    if not isinstance(header, dict):
        raise SealError("is truncated or not a safetensors file (its header is not a mapping)")
    return header


def _opened(metadata: Mapping[str, str], kind: str) -> tuple[dict[str, Any], dict[str, str]]:
    values, sums = metadata["values"], metadata["sums"]
    if metadata["seal"] != _seal_of(kind, values, sums):
        raise SealError("is damaged: the checksum of its values does not match")
    found, known = parse_json(values), parse_json(sums)
    if not isinstance(found, dict) or not isinstance(known, dict):
        raise SealError("is damaged: its values are not a mapping")
    return found, known


def _tensor_sum(name: str, tensor: Tensor) -> str:
    content = hashlib.sha256(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
    content.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()


def _seal_of(*texts: str) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()
