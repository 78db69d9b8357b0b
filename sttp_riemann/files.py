"""Files that are whole or not there: written beside their place, through no link that somebody planted, and locked."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sttp_riemann.errors import CheckpointError, RecipeError

LOCK = ".lock"
"""File in a folder that is locked while somebody works there; a process that ends, however it ends, leaves it free."""
LONGEST_NAME = 255
"""Bytes of a file's name that file systems take."""
DEEPEST = 64
"""Levels of a JSON value."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Whoever could guess the name could plant something there
_PARTIAL = ".sttp-{}.partial"


def write_atomically(path: Path, content: bytes, inside: Path | None = None) -> None:
    """Put a file in place whole or not at all; what was there stays until then.

    Parameters
    ----------
    path : Path
        The file; its folder is made when missing. A link of this name is replaced, and what it leads to is left alone.
    content : bytes
        All of it.
    inside : Path, optional
        A folder above, chosen by the user, below which no folder on the way may be a link: by default the file's own.

    Raises
    ------
    CheckpointError
        The disk is full, the folder cannot be written to, or a folder on the way is a link.
    """
    try:
        with _folder(path.parent, path.parent if inside is None else inside) as folder:
            with _partial(folder) as (name, file):
                with os.fdopen(file, "wb", closefd=False) as stream:
                    stream.write(content)
                # A rename may reach the disk before the content does
                os.fsync(file)
                os.replace(name, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            _sync(folder)
    except OSError as error:
        raise CheckpointError(f"could not write {path}; what was written before is intact; {_reason(error)}") from error


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written at the end of long work; nothing is made.

    Raises
    ------
    CheckpointError
        The folder can neither be written to nor be made, or the file's name is that of a folder.
    """
    # Names that are too long are not there to these functions, and raise in the methods of a path
    there = next((parent for parent in path.parents if os.path.lexists(parent)), path)
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with _folder(there, there) as folder, _partial(folder):
            pass
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be written: {_reason(error)}") from error


def real_folder(parent: Path, name: str) -> Path:
    """Make a folder in another one, where it is missing.

    Raises
    ------
    CheckpointError
        It cannot be made, or something else is there, such as a link to elsewhere.
    """
    try:
        with _folder(parent / name, parent):
            return parent / name
    except (OSError, ValueError) as error:
        raise CheckpointError(f"could not write to {parent / name}: {_reason(error)}") from error


def refuse_links(folder: Path, inside: Path) -> None:
    """Refuse a folder that will be written to and is a link, or below one.

    Parameters
    ----------
    folder : Path
        It may be missing.
    inside : Path
        The folder above that the user chose, which may be a link.

    Raises
    ------
    CheckpointError
        The message names the link.
    """
    way = folder.relative_to(inside)
    for path in [inside / part for part in (way, *way.parents)][:-1]:
        if os.path.islink(path):
            raise CheckpointError(f"{path} is a link, and what is written there would be elsewhere: remove it")


def child(parent: Path, name: str) -> Path:
    """Give the place in a folder of something that a recipe names.

    Parameters
    ----------
    parent : Path
        The folder.
    name : str
        From a recipe or a command line.

    Returns
    -------
    Path
        ``parent / name``, which is in `parent` and nowhere else.

    Raises
    ------
    RecipeError
        The name is no single name of a file.
    """
    plain = name.isprintable() and "/" not in name and name not in ("", ".", "..")
    if not plain or len(os.fsencode(name)) > LONGEST_NAME:
        raise RecipeError(
            f"name {_shown(name)} cannot be a folder in {parent}/: use printable characters without '/', at most "
            f"{LONGEST_NAME} bytes, or choose a folder with --output"
        )
    return parent / name


class Lock:
    """A folder for one process alone, from here on until `release` or until the process ends.

    Parameters
    ----------
    folder : Path
        Made when missing.

    Raises
    ------
    CheckpointError
        Another run is in the folder, or it cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self._file: int | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            try:
                _flock(file)
            except BaseException:
                os.close(file)
                raise
        except BlockingIOError as error:
            raise CheckpointError(
                f"another run is in {folder}: wait for its end, or choose another folder with --output"
            ) from error
        except (OSError, ValueError) as error:
            raise CheckpointError(f"could not write to {folder}: {_reason(error)}") from error
        self._file = file
        _sweep(folder)

    def release(self) -> None:
        """Let others in; any number of times."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()


def parse_json(text: str) -> Any:
    """Read JSON that every reader understands alike.

    Parameters
    ----------
    text : str
        From a file that anybody may have written.

    Returns
    -------
    Any
        The value.

    Raises
    ------
    ValueError
        It is no JSON, names something twice, or is nested deeper than `DEEPEST` levels.
    """
    try:
        value = json.loads(text, object_pairs_hook=_without_twins)
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST} levels") from None
    level = [value]
    for _ in range(DEEPEST):
        level = [item for part in level for item in _items(part)]
    if any(isinstance(part, dict | list) for part in level):
        raise ValueError(f"nested deeper than {DEEPEST} levels")
    return value


def _items(part: Any) -> Any:
    return part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{_shown(name)} is there twice")
        found[name] = value
    return found


@contextlib.contextmanager
def _folder(path: Path, inside: Path) -> Iterator[int]:
    """Open a folder and make it when missing; from `inside` on through no link."""
    inside.mkdir(parents=True, exist_ok=True)
    folder = os.open(inside, _FOLDER)
    try:
        for part in path.relative_to(inside).parts:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=folder)
                _sync(folder)
            below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = below
        yield folder
    finally:
        os.close(folder)


@contextlib.contextmanager
def _partial(folder: int) -> Iterator[tuple[str, int]]:
    """Open a file that was not there before, for one writer alone; it is gone afterwards unless it was renamed."""
    name = _PARTIAL.format(secrets.token_hex(8))
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=folder)
    try:
        yield name, file
    finally:
        os.close(file)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def _sync(folder: int) -> None:
    """See to it that the names in a folder reach the disk, where its file system can be asked to."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _flock(file: int) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems know no locks, and runs there are better than none
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise


def _sweep(folder: Path) -> None:
    """Remove what a process that was killed while it wrote left in a folder that is locked now, and just below it."""
    # A folder with a lock of its own may be another process's
    below = (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink() and LOCK not in _names(path))
    for place in (folder, *below):
        for left in place.glob(_PARTIAL.format("*")):
            with contextlib.suppress(OSError):
                left.unlink()


def _names(folder: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(folder)
    return []


def _reason(error: OSError | ValueError) -> str:
    # No system knows a name with a zero byte in it, and Python says so before asking
    if isinstance(error, ValueError):
        return str(error)
    if error.errno in _FULL:
        return "the disk is full: free some space and run the same command again"
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "a link or a file is where a folder or a file of its own should be: remove it, or choose another place"
    return error.strerror or str(error)


def _shown(name: str) -> str:
    return repr(name if len(name) <= 40 else f"{name[:40]}...")
