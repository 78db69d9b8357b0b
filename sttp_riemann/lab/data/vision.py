"""Torchvision, imported only where it is needed, and the data sets that it reads."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from sttp_riemann.lab.data.source import Request


def require_torchvision(user: str) -> ModuleType:
    """Import torchvision.

    Parameters
    ----------
    user : str
        The feature that needs it, for the message.

    Raises
    ------
    ImportError
        It is missing; the message says how to get it.
    """
    try:
        return import_module("torchvision")
    except ImportError as error:
        raise ImportError(f"{user} needs torchvision: pip install 'sttp-riemann[vision]'") from error


def downloaded(url: str) -> Path:
    """Where torch keeps the weights of a URL once it has downloaded them."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name


def read_published(name: str, reader_name: str, splits: Iterable[dict[str, Any]], request: Request) -> list[Any]:
    """Read a data set of torchvision whose files have published checksums.

    Parameters
    ----------
    name : str
        Name of the data set.
    reader_name : str
        Its class in ``torchvision.datasets``.
    splits : iterable of dict
        Arguments of the class that give each part.
    request : Request
        Where the files are, and whether they may be downloaded.

    Returns
    -------
    list
        The class's data sets.

    Raises
    ------
    FileNotFoundError
        Files are missing and must not be downloaded.
    ValueError
        A file is not the published one.
    ImportError
        Torchvision is missing.
    """
    reader = getattr(require_torchvision(f"data set {name!r}").datasets, reader_name)
    folder = request.root / reader.base_folder
    files = [file for file, _ in (*reader.train_list, *reader.test_list)]
    files += [reader.meta["filename"]] if hasattr(reader, "meta") else []
    missing = [file for file in files if not (folder / file).is_file()]
    if missing and not request.download:
        raise FileNotFoundError(
            f"{name} is not in {folder.resolve()} (missing: {', '.join(missing)}): put its files there, name another "
            "folder with data_root, or allow the download with --download true"
        )
    try:
        return [reader(request.root, **split, download=request.download) for split in splits]
    except RuntimeError as error:
        raise ValueError(
            f"a file of {name} in {folder.resolve()} differs from the published one: remove the folder and allow the "
            "download with --download true"
        ) from error
