"""Which checkpoints lie in a run's folder, and which of them are kept."""

from __future__ import annotations

from pathlib import Path

from sttp_riemann.training.checkpoint import Checkpoint, save_checkpoint

BEST = "best.safetensors"


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint after a number of steps lies."""
    return folder / f"checkpoint-{step:09d}.safetensors"


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in a run's folder, oldest first, without the best one's copy."""
    return sorted(folder.glob(f"checkpoint-{'[0-9]' * 9}.safetensors"))


def save_and_prune(folder: Path, step: int, checkpoint: Checkpoint, keep: int) -> None:
    """Write a checkpoint, and then remove those that are older than the last `keep`.

    Raises
    ------
    CheckpointError
        It cannot be written; those before are then all there.
    """
    save_checkpoint(checkpoint_path(folder, step), checkpoint)
    for old in checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)


def save_best(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint of the best evaluation so far.

    Raises
    ------
    CheckpointError
        It cannot be written; the one before is then intact.
    """
    save_checkpoint(folder / BEST, checkpoint)
