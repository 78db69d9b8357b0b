"""How good a network is, apart from a run."""

from __future__ import annotations

import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.regress import explained
from sttp_riemann.lab.training.represent import Data

MEASURED = {"classify": "test_accuracy", "regress": "test_r2"}
"""What tells how good a network is, by the task."""


@torch.no_grad()
def tested_score(model: nn.Module, data: Data, recipe: Recipe) -> float:
    """Measure a network on the test examples, on an accelerator if there is one.

    Parameters
    ----------
    model : nn.Module
        The network; on the CPU afterwards, in evaluation mode.
    data : ImageData or ArrayData
        With test examples.
    recipe : Recipe
        Of a task in `MEASURED`.

    Returns
    -------
    float
        What `MEASURED` names.
    """
    device = torch.device("cuda" if recipe.machine.device == "auto" and torch.cuda.is_available() else "cpu")
    model = model.to(device).eval()
    with sr.cached(model):
        parts = torch.arange(len(data.test_labels)).split(recipe.evaluation.evaluate_batch_size)
        outputs = torch.cat([model(data.batch(part, train=False)[0].to(device)).cpu() for part in parts])
    model.cpu()
    if recipe.task == "regress":
        return explained(float((outputs.double() - data.test_labels).square().sum()), data.test_labels)
    return int((outputs.argmax(-1) == data.test_labels).sum()) / int((data.test_labels >= 0).sum())
