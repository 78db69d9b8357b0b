"""The training loop: steps, gauge fixing, history, checkpoints, resuming; the same for every task."""

from __future__ import annotations

import json
import math
import statistics
import time
from contextlib import ExitStack
from multiprocessing import parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from sttp_riemann.errors import DivergedError, one_line
from sttp_riemann.files import Lock, real_folder, refuse_links, write_atomically
from sttp_riemann.lab.progress import Lines, progress
from sttp_riemann.lab.training.checkpoint import save_checkpoint
from sttp_riemann.lab.training.machine import environment
from sttp_riemann.lab.training.order import seed_step
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.refusal import BadStepError, not_finite
from sttp_riemann.lab.training.schedule import is_best, is_stuck, learning_rate
from sttp_riemann.lab.training.snapshot import Run
from sttp_riemann.lab.training.storage import BESIDE, BEST, last_checkpoint, save_and_prune

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

RESULT = "result.json"
# Enough for a stable median; a long run keeps the last ones
TIMINGS_KEPT = 2000


def open_logbook(folder: Path, step: int) -> SummaryWriter:
    """Open the history of a run for tensorboard; what an earlier process wrote beyond a step is hidden.

    Raises
    ------
    CheckpointError
        The folder cannot be created, or is a link.
    """
    # Slow to import, and few runs need it
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(real_folder(folder, "tensorboard"), purge_step=step + 1)


class Trainer(Run):
    """Train as a recipe says, into a folder, resuming from the folder's last checkpoint.

    On the CPU, a run that is killed at any moment and started again equals an undisturbed one bit for bit.

    Parameters
    ----------
    recipe : Recipe
        What to train.
    folder : Path
        Folder for checkpoints and result; created if missing.

    Raises
    ------
    RecipeError
        Data, network or representation cannot be built as the recipe asks.
    CheckpointError
        The folder's checkpoint cannot be read, or is of another recipe or version; another run is using the folder,
        or it is not writable.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        super().__init__(recipe, folder)
        # Last: what cannot be built is refused before anything is written
        with ExitStack() as opened:
            if self.accelerator.is_main_process:
                opened.enter_context(Lock(folder))
            for name in BESIDE:
                refuse_links(folder / name, folder)
            if last := last_checkpoint(folder):
                self.restore(last[1], last[0])
            self.logbook: SummaryWriter | None = None
            if recipe.checkpoints.tensorboard and self.accelerator.is_main_process:
                self.logbook = opened.enter_context(open_logbook(folder, self.progress.step))
            # Closed when the run ends, however it ends
            self._opened = opened.pop_all()

    def run(self) -> dict[str, Any]:
        """Train to the end.

        Returns
        -------
        dict
            What was written to ``result.json``: the recipe, final figures, sizes, singular values, history.

        Raises
        ------
        DivergedError
            A loss or gradient is not finite, and `skip_bad_steps` allows no more such steps.
        CheckpointError
            A checkpoint cannot be written; earlier ones are intact.
        """
        try:
            with self._bar() as bar:
                while not self._done():
                    self._step()
                    bar.update()
                    evaluate = self._due(self.recipe.evaluation.evaluate_every)
                    save = self._due(self.recipe.checkpoints.checkpoint_every)
                    if evaluate or save:
                        self._check_weights()
                    if evaluate:
                        bar.set_postfix(self._evaluate())
                    if save or self._done():
                        self._save()
            return self._finish()
        except torch.linalg.LinAlgError as error:
            self._check_weights()
            raise self._diverged(self.progress.step, f"a weight cannot be decomposed ({error})") from error
        finally:
            self._opened.close()

    def _bar(self) -> Lines | tqdm[Any]:
        # A worker's bar would write over that of the process that started it
        if not self.accelerator.is_main_process or parent_process() is not None:
            return tqdm(disable=True)
        name = f"{self.recipe.label} seed {self.recipe.seed}"
        return progress(self.recipe.schedule.steps, name, "step", self.progress.step, leave=False)

    def _done(self) -> bool:
        schedule = self.recipe.schedule
        return self.progress.step >= schedule.steps or is_stuck(self._scores(), schedule.patience)

    def _scores(self) -> list[float]:
        return [self.task.score(row) for row in self.progress.history]

    def _due(self, every: int) -> bool:
        step = self.progress.step
        return step == self.recipe.schedule.steps or bool(every and step % every == 0)

    def _step(self) -> None:
        progress, recipe = self.progress, self.recipe
        seed_step(recipe.seed, progress.step, self.accelerator.process_index)
        start = time.perf_counter()
        # Reading the loss waits for the device, so this measures the step
        try:
            progress.losses.append(self.task.step(self._draw, learning_rate(recipe, progress.step)))
        except BadStepError as error:
            self._leave_out(error)
        progress.timings.append(time.perf_counter() - start)
        del progress.timings[:-TIMINGS_KEPT]
        progress.step += 1
        if recipe.optimizer.gauge_fix_every and progress.step % recipe.optimizer.gauge_fix_every == 0:
            for player in self.task.players.values():
                if player.recipe.network.has_gauge:
                    player.fix_gauge()

    def _leave_out(self, error: BadStepError) -> None:
        """Count a refused step, or end the run."""
        progress, recipe = self.progress, self.recipe
        if progress.skipped < recipe.optimizer.skip_bad_steps:
            progress.skipped += 1
            return
        before = f", after {progress.skipped} that were skipped" if progress.skipped else ""
        more = f", or raise skip_bad_steps, which is {recipe.optimizer.skip_bad_steps}, to skip such steps"
        raise self._diverged(progress.step + 1, f"{error}{before}", more) from error

    def _diverged(self, step: int, what: str, more: str = "") -> DivergedError:
        recipe = self.recipe
        clip = " or clip to 1" if recipe.optimizer.clip is None or recipe.optimizer.clip > 1 else ""
        return DivergedError(
            one_line(
                f"step {step} of {recipe.label}, seed {recipe.seed}: {what}: "
                f"set lr below {recipe.optimizer.lr:g}{clip} in another --output folder{more}"
            )
        )

    def _check_weights(self) -> None:
        """Refuse to evaluate or save a network that a step has ruined."""
        if name := not_finite({name: player.model for name, player in self.task.players.items()}):
            raise self._diverged(self.progress.step, f"the numbers of {name} are no longer finite")

    def _draw(self) -> torch.Tensor:
        """Draw this process's share of the next batch."""
        batch = self.order.draw()
        return batch[self.accelerator.process_index :: self.accelerator.num_processes]

    def _evaluate(self) -> dict[str, float]:
        progress = self.progress
        loss = torch.tensor(statistics.fmean(progress.losses or [math.nan]), device=self.accelerator.device)
        figures = {"train_loss": float(self.accelerator.reduce(loss, "mean")), **self.task.evaluate()}
        progress.history.append({"step": progress.step, **figures})
        progress.losses = []
        if self.accelerator.is_main_process:
            for name, content in self.task.records(progress.step).items():
                write_atomically(self.folder / name, content, inside=self.folder)
        if self.logbook is not None:
            for name, value in figures.items():
                self.logbook.add_scalar(name, value, progress.step)
            self.logbook.flush()
        if self.recipe.checkpoints.keep_best and is_best(self._scores()) and self.accelerator.is_main_process:
            save_checkpoint(self.folder / BEST, self.take())
        return figures

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            save_and_prune(self.folder, self.progress.step, self.take(), self.recipe.checkpoints.keep)
        self.accelerator.wait_for_everyone()

    def _finish(self) -> dict[str, Any]:
        history = self.progress.history
        result = {
            "label": self.recipe.label,
            "recipe": self.recipe.to_dict(),
            "environment": environment(),
            "final": {**history[-1], **self.task.final()},
            "skipped_steps": self.progress.skipped,
            "median_step_ms": 1000 * statistics.median(self.progress.timings),
            "largest_orthogonality_error": max((row.get("orthogonality_error", 0.0) for row in history), default=0.0),
            **self.task.summary(),
            "history": history,
        }
        if self.accelerator.is_main_process:
            write_atomically(self.folder / RESULT, json.dumps(result, indent=1).encode())
        return result
