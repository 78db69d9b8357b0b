"""Distillation: a trained network teaches the one in training."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.lab.training.represent import Data, Inputs
from sttp_riemann.lab.training.saved import load_saved


class Teacher:
    """A network whose class scores another one should approach.

    Parameters
    ----------
    recipe : Recipe
        Its ``teacher`` and ``temperature``.
    data : ImageData or ArrayData
        Inputs for both networks.
    accelerator : Accelerator
        Device and precision.

    Raises
    ------
    RecipeError
        There is no such checkpoint, or it is not of a classifier of such inputs and classes.
    CheckpointError
        It cannot be read.

    Notes
    -----
    Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), Section 2.
    """

    def __init__(self, recipe: Recipe, data: Data, accelerator: Accelerator) -> None:
        assert recipe.distillation.teacher is not None
        saved = load_saved(Path(recipe.distillation.teacher))
        if saved.recipe.task != "classify":
            raise RecipeError(f"teacher {saved.path} is of task {saved.recipe.task!r}: name one of task 'classify'")
        here = Inputs.of(data)
        if saved.inputs != here:
            raise RecipeError(
                f"teacher {saved.path} is for {saved.inputs}, and the data {recipe.data.name!r} are {here}"
            )
        self.network = saved.network.to(accelerator.device).requires_grad_(False)
        self.temperature, self.accelerator = recipe.distillation.temperature, accelerator

    def distance(self, images: Tensor, scores: Tensor) -> Tensor:
        """Kullback-Leibler divergence from the teacher's softened classes to these, times the squared temperature.

        Parameters
        ----------
        images : Tensor
            (N, ...), inputs of both networks.
        scores : Tensor
            (N, ..., num_classes), the student's scores of the same images.

        Returns
        -------
        Tensor
            Scalar, with a gradient of about the size of the cross entropy's.
        """
        with torch.no_grad(), self.accelerator.autocast():
            wanted = self.network(images)
        # Of places without a label as well: the teacher has a say on all
        pair = (s.float().flatten(0, -2) / self.temperature for s in (scores, wanted))
        soft, target = (log_softmax(s, dim=1) for s in pair)
        return kl_div(soft, target, reduction="batchmean", log_target=True) * self.temperature**2
