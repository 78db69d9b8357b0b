"""Change the ranks of layers at intervals in training, to a budget."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from contextlib import ExitStack

from torch import Tensor, nn
from torch.optim import Optimizer

from sttp_riemann.checks import check_number, check_optimizer, check_whole
from sttp_riemann.layers import SpectralLayer
from sttp_riemann.model.compression import other_numbers
from sttp_riemann.model.gathering import grouped_layers, weight_gradients
from sttp_riemann.model.rank_changes import FACTOR, SMALLEST, checked, dimensions_of, grow_ranks, shrink_ranks
from sttp_riemann.model.ranks import budget_ranks, even_losses
from sttp_riemann.model.resizing import RankChanges, chain_of
from sttp_riemann.trains.bonds import widest


class RankChangeHandle:
    """What `register_rank_change` registered.

    Attributes
    ----------
    changes : list of RankChanges
        What became of the ranks, one row for each time.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, budget: float, times: list[int], factor: float, step: float
    ) -> None:
        self.changes: list[RankChanges] = []
        self._model, self._optimizer, self._budget = model, optimizer, budget
        self._times, self._factor, self._step, self._steps = times, factor, step, itertools.count(1)
        self._gathering = ExitStack()
        self._gradients: dict[str, Tensor] = {}
        self._handle = optimizer.register_step_post_hook(self._after)
        self._begin(1)

    def remove(self) -> None:
        """End it; ranks stay as they are."""
        self._handle.remove()
        self._gathering.close()

    def _begin(self, number: int) -> None:
        """Gather gradients of the step to come, where ranks grow after it."""
        if number in self._times[:-1]:
            self._gradients = self._gathering.enter_context(weight_gradients(self._model))

    def _after(self, *_: object) -> None:
        number = next(self._steps)
        if number in self._times:
            self._gathering.close()
            self.changes.append(shrink_ranks(self._model, self._optimizer, budget=self._budget))
            if number != self._times[-1]:
                layers = {n: twins[0] for n, twins in grouped_layers(self._model).items()}
                # Far below the budget, a factor at a time would take most of the training
                rank = _fitting(self._model, layers, self._budget)
                rank = {n: max(rank[n], math.ceil(self._factor * widest(layers[n].shape))) for n in self._gradients}
                length = self._step if number == 1 else 0.0
                self.changes.append(grow_ranks(self._model, self._gradients, self._optimizer, rank=rank, step=length))
        self._begin(number + 1)


def register_rank_change(
    model: nn.Module,
    optimizer: Optimizer,
    budget: float,
    until: int,
    every: int = 100,
    factor: float = 1.5,
    step: float = 0.0,
) -> RankChangeHandle:
    """Make an optimizer change the ranks of a model at regular intervals, until they fit a budget for good.

    After every `every`-th step ranks shrink to the budget, by the energy of all spectra, and then grow by `factor`, in
    the directions of that step's gradients. Ranks far below the budget grow to it after the first step, to those that
    shrinking would leave of a network whose singular values are all equal. The last time they only shrink.

    Parameters
    ----------
    model : nn.Module
        A reparameterized model whose spectra are learned or free.
    optimizer : Optimizer
        The optimizer of its parameters. Copies and pickles of it have no hooks, as always in torch.
    budget : float
        As `shrink_ranks` takes it. In between, ranks are up to `factor` larger.
    until : int
        Step after which ranks stay; at least `every`.
    every : int
        Steps from one change to the next, at least 1.
    factor : float
        As `grow_ranks` takes it.
    step : float
        As `grow_ranks` takes it, for the growth after the first step; later ones leave W as it is.

    Returns
    -------
    RankChangeHandle
        Its ``remove()`` ends this; its `changes` tell what happened.

    Raises
    ------
    TypeError
        The model is not a module, or the optimizer is not one of torch's.
    ValueError
        As `shrink_ranks` and `grow_ranks` raise it, or no change comes before `until`.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = sr.reparameterize(torch.nn.Linear(64, 32), rank=2)
    >>> optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2)
    >>> handle = sr.register_rank_change(model, optimizer, budget=0.3, until=30, every=10)
    >>> x, y = torch.randn(64, 64), torch.randn(64, 32)
    >>> for _ in range(40):
    ...     optimizer.zero_grad()
    ...     (model(x) - y).square().mean().backward()
    ...     optimizer.step()
    >>> model.rank > 2, sr.compression(model).ratio <= 30
    (True, True)
    """
    every = check_whole("every", every, "a whole number of steps above 0")
    until = check_whole("until", until, f"a number of steps of at least every, {every}", least=every)
    factor = check_number("factor", factor, FACTOR, SMALLEST, most=1000)
    step = check_number("step", step, "a share of at least 0, at most 1", least=0, most=1)
    optimizer = check_optimizer(optimizer)
    layers = {name: twins[0] for name, twins in checked(model, optimizer)[0].items()}
    for name, layer in layers.items():
        chain_of(name, layer)
    # Refused now if the budget is out of range or too small
    share = _fitting(model, layers, budget)
    times = [*range(every, until + 1, every)]
    # A network that has learned with few directions keeps to them
    if every > 1 and any(widest(layer.shape) < share[name] for name, layer in layers.items()):
        times.insert(0, 1)
    return RankChangeHandle(model, optimizer, budget, times, factor, step)


def _fitting(model: nn.Module, layers: Mapping[str, SpectralLayer], budget: float) -> dict[str, int]:
    """Ranks that fit a budget where no direction of a layer is more worth than another."""
    sizes = {name: dimensions_of(layer) for name, layer in layers.items()}
    lost = {name: even_losses(own) for name, own in sizes.items()}
    return budget_ranks(sizes, budget, other_numbers(model), lost=lost)
