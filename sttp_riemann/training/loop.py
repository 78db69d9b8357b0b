"""The loop: steps, gauge, history, checkpoints, resumption; the same for every task."""

from __future__ import annotations

import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from sttp_riemann.training.checkpoint import load_checkpoint, save_checkpoint, write_atomically
from sttp_riemann.training.errors import DivergedError
from sttp_riemann.training.machine import build_accelerator, environment
from sttp_riemann.training.order import DataOrder
from sttp_riemann.training.recipe import Recipe
from sttp_riemann.training.snapshot import Progress, restore, take
from sttp_riemann.training.task import Task, build_task

CHECKPOINT = "checkpoint.safetensors"
RESULT = "result.json"
# Enough for a steady median; a long run keeps its last ones
TIMINGS_KEPT = 2000


class Trainer:
    """Train as a recipe says, into a folder, going on from where the folder's checkpoint stands.

    A run that is killed at any moment and started again ends, on the CPU, with the same bits as an undisturbed one.

    Parameters
    ----------
    recipe : Recipe
        What to train.
    folder : Path
        Where checkpoint and result are kept; made when missing.

    Raises
    ------
    RecipeError
        Data, network or representation cannot be had as the recipe wants them.
    CheckpointError
        The folder's checkpoint cannot be read, or is of another recipe.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self.accelerator = build_accelerator(recipe)
        torch.manual_seed(recipe.seed)
        self.task: Task = build_task(recipe, self.accelerator)
        self.order = DataOrder(self.task.size, recipe.batch_size, recipe.seed)
        self.progress = Progress()
        if self.checkpoint.exists():
            restore(self, load_checkpoint(self.checkpoint))

    @property
    def checkpoint(self) -> Path:
        """The file that the run goes on from."""
        return self.folder / CHECKPOINT

    def run(self) -> dict[str, Any]:
        """Train to the end.

        Returns
        -------
        dict
            What was written to ``result.json``: the recipe, final figures, sizes, singular values, history.

        Raises
        ------
        DivergedError
            A loss is not finite.
        CheckpointError
            A checkpoint cannot be written; the one before it is intact.
        """
        bar = tqdm(
            total=self.recipe.steps,
            initial=self.progress.step,
            desc=f"{self.recipe.label} seed {self.recipe.seed}",
            unit="step",
            leave=False,
            disable=None if self.accelerator.is_main_process else True,
        )
        with bar:
            while self.progress.step < self.recipe.steps:
                self._step()
                bar.update()
                if self._due(self.recipe.evaluate_every):
                    bar.set_postfix(self._evaluate())
                if self._due(self.recipe.checkpoint_every):
                    self._save()
        return self._finish()

    def _step(self) -> None:
        progress, recipe = self.progress, self.recipe
        lr = recipe.lr * (1 - progress.step / recipe.steps) if recipe.decay == "linear" else recipe.lr
        start = time.perf_counter()
        # The loss as a number waits for the device, so the time is the step's
        loss = self.task.step(self._draw, lr)
        progress.timings.append(time.perf_counter() - start)
        del progress.timings[:-TIMINGS_KEPT]
        progress.step += 1
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} at step {progress.step} of {recipe.label}, seed {recipe.seed}: "
                f"set lr below {recipe.lr:g}, or clip to 1, and begin in another --output folder"
            )
        progress.losses.append(loss)
        if recipe.riemannian and recipe.gauge_fix_every and progress.step % recipe.gauge_fix_every == 0:
            for player in self.task.players.values():
                player.fix_gauge()

    def _draw(self) -> torch.Tensor:
        """Draw the share of the next batch that is for this process."""
        batch = self.order.draw()
        return batch[self.accelerator.process_index :: self.accelerator.num_processes]

    def _due(self, every: int) -> bool:
        step = self.progress.step
        return step == self.recipe.steps or bool(every and step % every == 0)

    def _evaluate(self) -> dict[str, float | None]:
        progress = self.progress
        figures = self.task.evaluate()
        train_loss = statistics.fmean(progress.losses)
        progress.history.append({"step": progress.step, "train_loss": train_loss, **figures})
        progress.losses = []
        return figures

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            save_checkpoint(self.checkpoint, take(self))
        self.accelerator.wait_for_everyone()

    def _finish(self) -> dict[str, Any]:
        history, last = self.progress.history, self.progress.history[-1]
        errors = [row["orthogonality_error"] for row in history if row.get("orthogonality_error") is not None]
        result = {
            "label": self.recipe.label,
            "recipe": self.recipe.to_dict(),
            "environment": environment(),
            "final": last,
            "median_step_ms": 1000 * statistics.median(self.progress.timings),
            "largest_orthogonality_error": max(errors, default=None),
            **self.task.summary(),
            "history": history,
        }
        if self.accelerator.is_main_process:
            write_atomically(self.folder / RESULT, json.dumps(result, indent=1).encode())
        return result
