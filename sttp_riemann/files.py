"""Atomic file writes that follow no planted link, and folder locks."""

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
"""Lock file of a folder in use; the lock is released when its process ends, however it ends."""
LONGEST_NAME = 255
"""Maximum bytes in a file name."""
DEEPEST = 64
"""Maximum nesting of a JSON value."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Random, so that nobody can plant a file of this name
_PARTIAL = ".sttp-{}.partial"


def write_atomically(path: Path, content: bytes, inside: Path | None = None) -> None:
    """Write a file atomically; an existing file stays until the new one is complete.

    Parameters
    ----------
    path : Path
        The file; a missing folder is created. A link of this name is replaced, its target left alone.
    content : bytes
        All of it.
    inside : Path, optional
        A parent folder that the user chose; no folder between it and the file may be a link. The file's own by default.

    Raises
    ------
    CheckpointError
        The disk is full, the folder is not writable, or a folder in between is a link.
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
    except (OSError, ValueError) as error:
        raise CheckpointError(f"could not write {path}; what was written before is intact; {_reason(error)}") from error


def check_writable(path: Path) -> None:
    """Check in advance that a file can be written; creates nothing.

    Raises
    ------
    CheckpointError
        The folder is not writable or cannot be created, or the file's name is that of a folder.
    """
    # These functions report names that are too long as missing; the methods of Path raise
    there = next((parent for parent in path.parents if os.path.lexists(parent)), path)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.lstat(path)  # raises where no file can have this name
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with _folder(there, there) as folder, _partial(folder):
            pass
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be written: {_reason(error)}") from error


def real_folder(parent: Path, name: str) -> Path:
    """Create a folder inside another one if it is missing.

    Raises
    ------
    CheckpointError
        It cannot be created, or something else, such as a link, has its name.
    """
    try:
        with _folder(parent / name, parent):
            return parent / name
    except (OSError, ValueError) as error:
        raise CheckpointError(f"could not write to {parent / name}: {_reason(error)}") from error


def refuse_links(folder: Path, inside: Path) -> None:
    """Refuse to write to a folder that is a link or lies below one.

    Parameters
    ----------
    folder : Path
        It may be missing.
    inside : Path
        The parent folder that the user chose; it may be a link.

    Raises
    ------
    CheckpointError
        The message names the link.
    """
    way = folder.relative_to(inside)
    for path in [inside / part for part in (way, *way.parents)][:-1]:
        if os.path.islink(path):
            raise CheckpointError(f"{path} is a link, so files would be written elsewhere: remove it")


def child(parent: Path, name: str) -> Path:
    """Path inside a folder for a name from a recipe.

    Parameters
    ----------
    parent : Path
        The folder.
    name : str
        From a recipe or a command line.

    Returns
    -------
    Path
        ``parent / name``, certain to lie directly in `parent`.

    Raises
    ------
    RecipeError
        The name is not a plain file name.
    """
    plain = name.isprintable() and "/" not in name and name not in ("", ".", "..")
    if not plain or len(os.fsencode(name)) > LONGEST_NAME:
        raise RecipeError(
            f"name {_shown(name)} cannot be a folder in {parent}/: use printable characters without '/', at most "
            f"{LONGEST_NAME} bytes, or choose a folder with --output"
        )
    return parent / name


class Lock:
    """Exclusive use of a folder until `release` or until the process ends.

    Parameters
    ----------
    folder : Path
        Created if missing.

    Raises
    ------
    CheckpointError
        Another run is using the folder, or it is not writable.
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
        """Release the lock; may be called repeatedly."""
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
    """Parse JSON, refusing whatever parsers disagree on.

    Parameters
    ----------
    text : str
        From an untrusted file.

    Returns
    -------
    Any
        The value.

    Raises
    ------
    ValueError
        It is not JSON, repeats a name, or is nested deeper than `DEEPEST` levels.
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
            raise ValueError(f"{_shown(name)} occurs twice")
        found[name] = value
    return found


@contextlib.contextmanager
def _folder(path: Path, inside: Path) -> Iterator[int]:
    """Open a folder, creating it if missing; below `inside` no link is followed."""
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
    """Create a new file for exclusive writing; it is deleted afterwards unless it was renamed."""
    name = _PARTIAL.format(secrets.token_hex(8))
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=folder)
    try:
        yield name, file
    finally:
        os.close(file)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def _sync(folder: int) -> None:
    """Flush a folder's entries to disk, where its file system supports that."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _flock(file: int) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems have no locks; runs there go unlocked
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise


def _sweep(folder: Path) -> None:
    """Remove temporary files that a killed process left in a locked folder or one level below."""
    # A folder with its own lock may belong to another process
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
    # A name with a zero byte is invalid everywhere; Python raises before asking the system
    if isinstance(error, ValueError):
        return str(error)
    if error.errno in _FULL:
        return "the disk is full: free some space and run the same command again"
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "a link or a file is where a folder or file should be: remove it, or choose another place"
    return error.strerror or str(error)


def _shown(name: str) -> str:
    return repr(name if len(name) <= 40 else f"{name[:40]}...")
