"""The history of a run for tensorboard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sttp_riemann.files import real_folder


class Logbook:
    """Scalars of a run under ``tensorboard/`` in its folder.

    Parameters
    ----------
    folder : Path
        The run's folder.
    step : int
        Where the run starts or resumes; later entries of an earlier process are hidden.

    Raises
    ------
    CheckpointError
        The folder cannot be created, or is a link.
    """

    def __init__(self, folder: Path, step: int) -> None:
        # Slow to import, and few runs need it
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(real_folder(folder, "tensorboard"), purge_step=step + 1)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Log figures of a step."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
