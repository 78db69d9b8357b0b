"""Checkpoints in a run's folder, and which of them to keep."""

from __future__ import annotations

import os
from pathlib import Path

from sttp_riemann.errors import CheckpointError, RecipeError
from sttp_riemann.lab.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

BEST = "best.safetensors"
BESIDE = ("stability", "samples", "interpolations", "tensorboard")
"""Folders in a run's folder."""


def checkpoint_path(folder: Path, step: int) -> Path:
    """Path of the checkpoint after a number of steps."""
    return folder / f"checkpoint-{step:09d}.safetensors"


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in a run's folder, oldest first, except the copy of the best."""
    return sorted(folder.glob(f"checkpoint-{'[0-9]' * 9}.safetensors"))


def checkpoint_of(path: Path) -> Path:
    """Resolve the path of a checkpoint, or of a run's folder, whose last checkpoint it is.

    Raises
    ------
    RecipeError
        There is none.
    """
    # Unlike the methods of Path, these report a name that is too long as missing
    if not os.path.exists(path):
        raise RecipeError(f"there is no checkpoint {path}")
    if os.path.isdir(path):
        if found := checkpoints(path):
            return found[-1]
        others = ", ".join(sorted(p.name for p in path.glob("*.safetensors")))
        raise RecipeError(f"{path} has no checkpoint of a run: name a file{f', such as {others}' if others else ''}")
    return path


def run_folders(study: Path) -> list[Path]:
    """Folders of runs in a study's folder, in order: those that have a checkpoint."""
    return sorted({path.parent for path in study.rglob(f"checkpoint-{'[0-9]' * 9}.safetensors")})


def last_checkpoint(folder: Path) -> tuple[Path, Checkpoint] | None:
    """Read the checkpoint that a run resumes from; None if there is none.

    Raises
    ------
    CheckpointError
        It cannot be read; the message says how to continue without it.
    """
    found = checkpoints(folder)
    if not found:
        return None
    try:
        return found[-1], load_checkpoint(found[-1])
    except CheckpointError as error:
        rest = "the run then resumes from the previous one" if len(found) > 1 else "the run then starts over"
        raise CheckpointError(f"{error}: delete it, {rest}") from error


def save_and_prune(folder: Path, step: int, checkpoint: Checkpoint, keep: int) -> None:
    """Write a checkpoint, and then remove those that are older than the last `keep`.

    Raises
    ------
    CheckpointError
        It cannot be written; all earlier ones are then intact.
    """
    save_checkpoint(checkpoint_path(folder, step), checkpoint)
    for old in checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
