"""Data sets that torchvision reads: check for their files, and say what to do if they are missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sttp_riemann.lab.data.source import Request


def require_files(name: str, folder: Path, file_names: Sequence[str], request: Request) -> None:
    """Check that a data set's files exist, unless they may be downloaded.

    Parameters
    ----------
    name : str
        Name of the data set.
    folder : Path
        Where its files belong.
    file_names : sequence of str
        Their names.
    request : Request
        Says whether to download.

    Raises
    ------
    FileNotFoundError
        A file is missing and must not be downloaded.
    """
    missing = [file for file in file_names if not (folder / file).is_file()]
    if missing and not request.download:
        raise FileNotFoundError(
            f"{name} is not in {folder.resolve()} (missing: {', '.join(missing)}): put its files there, name another "
            "folder with data_root, or allow the download with --download true"
        )


def corrupted(name: str, folder: Path) -> ValueError:
    """Error for existing files with wrong checksums."""
    return ValueError(
        f"a file of {name} in {folder.resolve()} differs from the published one: remove the folder and allow the "
        "download with --download true"
    )
