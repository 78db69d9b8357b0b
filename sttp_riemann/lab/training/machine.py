"""Where a run computes: device, precision, processes; and the versions to report with its results."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training.recipe import Recipe


def build_accelerator(recipe: Recipe) -> Accelerator:
    """Accelerator for a recipe, even if an earlier run of this process had another precision.

    Raises
    ------
    RecipeError
        The device or the number of processes does not fit the recipe.
    """
    if recipe.machine.threads is not None:
        torch.set_num_threads(recipe.machine.threads)
    # accelerate keeps one precision per process, but a study may have several
    AcceleratorState._reset_state(reset_partial_state=False)
    precision = {"float32": "no"}.get(recipe.machine.precision, recipe.machine.precision)
    accelerator = Accelerator(cpu=recipe.machine.device == "cpu", mixed_precision=precision)
    if recipe.machine.precision == "fp16" and accelerator.device.type == "cpu":
        raise RecipeError("precision 'fp16' needs an accelerator, but there is none: set precision to 'bf16'")
    batch_size, parts = recipe.schedule.batch_size, recipe.schedule.accumulate
    shares = parts * accelerator.num_processes
    if batch_size % shares:
        raise RecipeError(
            f"batch_size {batch_size} cannot be shared equally by {accelerator.num_processes} processes "
            f"in {parts} parts each: make it a multiple of {shares}"
        )
    return accelerator


def code_version() -> str:
    """Version of the package that is installed."""
    return version("sttp-riemann")


def environment() -> dict[str, Any]:
    """Versions and threads that results depend on; nothing that identifies the machine."""
    return {
        "sttp_riemann": code_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "geoopt": version("geoopt"),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }
