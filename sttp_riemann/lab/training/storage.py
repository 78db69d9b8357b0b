"""Checkpoints in a run's folder, and which of them to keep."""

from __future__ import annotations

from pathlib import Path

from sttp_riemann.errors import CheckpointError
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


def save_best(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint of the best evaluation so far.

    Raises
    ------
    CheckpointError
        It cannot be written; the previous one is then intact.
    """
    save_checkpoint(folder / BEST, checkpoint)
