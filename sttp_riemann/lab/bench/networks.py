"""Training steps of whole networks, dense and at low rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from sttp_riemann.batch.cached import cached
from sttp_riemann.lab.bench.contest import Contest, Contestant, Run
from sttp_riemann.lab.bench.settings import Settings
from sttp_riemann.lab.networks import build_model
from sttp_riemann.layers.recompute import Recompute
from sttp_riemann.model.reparameterize import reparameterize
from sttp_riemann.optim import RiemannianAdam
from sttp_riemann.trains.shape import Method

LR = 1e-4
KEEPING = ", keeping V^T x"


@dataclass(frozen=True)
class Form:
    """How the weights of a network are held; without a method they stay dense."""

    name: str
    method: Method | None = None
    frames: Literal["riemannian", "householder"] = "riemannian"
    recompute: Recompute = "auto"

    def apply(self, model: nn.Module, rank: int) -> nn.Module:
        """Bring a network into this form, in place."""
        if self.method is None:
            return model
        return reparameterize(model, rank, self.method, self.frames, init="orthogonal", recompute=self.recompute)

    def optimizer(self, model: nn.Module) -> Optimizer:
        """Adam, on the manifold where there are frames on it."""
        if self.method is not None and self.frames == "riemannian":
            return RiemannianAdam(model.parameters(), lr=LR, fused=True)
        return torch.optim.Adam(model.parameters(), lr=LR, fused=True)


DENSE = Form("dense")
SVDP = (Form("SVDP riemannian", "svdp"), Form("SVDP householder", "svdp", "householder"))
STTP = (Form("STTP riemannian", "sttp"), Form("STTP householder", "sttp", "householder"))
FORMS = (DENSE, *SVDP, *STTP, *(replace(f, name=f.name + KEEPING, recompute="never") for f in (*SVDP, *STTP)))


@dataclass(frozen=True)
class Job:
    """A network with a loss to minimize.

    Attributes
    ----------
    title : str
        Name for readers.
    rank : int
        Of its layers, unless they stay dense.
    build : callable
        Builds it, dense.
    loss : callable
        From the network and two batches of inputs, of which it may use one, to a scalar.
    shape : tuple of int
        Of a batch.
    """

    title: str
    rank: int
    build: Callable[[], nn.Module]
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor]
    shape: tuple[int, ...]

    def built(self) -> nn.Module:
        """Give the network, the same each time."""
        torch.manual_seed(0)
        return self.build()


def hinge(model: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Loss of a discriminator."""
    return F.relu(1 - model(real)).mean() + F.relu(1 + model(fake)).mean()


def cross_entropy(model: nn.Module, images: Tensor, _: Tensor) -> Tensor:
    """Loss of a classifier of ten classes."""
    return F.cross_entropy(model(images), torch.arange(len(images), device=images.device) % 10)


def mean_square(model: nn.Module, inputs: Tensor, _: Tensor) -> Tensor:
    """Mean square of the outputs."""
    return model(inputs).square().mean()


def chain(depth: int, width: int) -> nn.Sequential:
    """Build equal linear layers with rectifiers between them."""
    return nn.Sequential(*(layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())))


SNGAN, WRN = (partial(build_model, name) for name in ("sngan32_discriminator", "wide_resnet"))
DIGITS = partial(build_model, "digits_resnet", in_channels=1)
# In full and, to see that everything runs, tiny
PAPER = {
    False: (
        Job("SNGAN-32 discriminator, rank 64", 64, SNGAN, hinge, (64, 3, 32, 32)),
        Job("WRN-28-10, rank 64", 64, WRN, cross_entropy, (16, 3, 32, 32)),
    ),
    True: (
        Job("SNGAN-32 discriminator, width 8, rank 2", 2, partial(SNGAN, width=8), hinge, (2, 3, 32, 32)),
        Job("WRN-10-1, rank 2", 2, partial(WRN, depth=10, widen_factor=1), cross_entropy, (2, 3, 32, 32)),
    ),
}
# As the recipe of the digits trains it
SMALL = {
    False: Job("digits, rank 16", 16, DIGITS, cross_entropy, (64, 1, 8, 8)),
    True: Job("digits, width 8, rank 2", 2, partial(DIGITS, width=8, depth=1), cross_entropy, (2, 1, 8, 8)),
}
CHAIN = {
    False: {"depth": 4, "width": 256, "rank": 32, "batch": 256},
    True: {"depth": 1, "width": 8, "rank": 2, "batch": 4},
}
ALONG: dict[bool, dict[str, tuple[int, ...]]] = {
    False: {"depth": (1, 2, 4, 8, 16), "width": (64, 128, 256, 512, 1024), "rank": (4, 8, 16, 32, 64, 128)},
    True: {"depth": (1, 2), "width": (8, 12), "rank": (2, 4)},
}


def training(settings: Settings) -> list[Contest]:
    """List one contest a network, all forms in it: those of the paper, and a small one."""
    job = SMALL[settings.quick]
    return [*papers(settings), _contest(_case(job), job, (DENSE, *SVDP, *STTP), settings)]


def papers(settings: Settings) -> list[Contest]:
    """List one contest a network of the paper, all forms in it."""
    return [_contest(_case(job), job, FORMS, settings) for job in PAPER[settings.quick]]


def _case(job: Job) -> str:
    return f"{job.title}, batch {job.shape[0]}"


def growth(settings: Settings) -> list[Contest]:
    """List one contest a size of a chain, along one dimension at a time."""
    contests = []
    for along, sizes in ALONG[settings.quick].items():
        for size in sizes:
            own = {**CHAIN[settings.quick], along: size}
            build, shape = partial(chain, own["depth"], own["width"]), (own["batch"], own["width"])
            job = Job(f"{along} {size}", own["rank"], build, mean_square, shape)
            contests.append(_contest(job.title, job, (DENSE, *STTP), settings))
    return contests


def _contest(case: str, job: Job, forms: Sequence[Form], settings: Settings) -> Contest:
    builds = {form.name: partial(training_step, job, form, settings.device, settings.compile) for form in forms}
    return Contest(case, tuple(Contestant(name, build) for name, build in builds.items()))


def training_step(job: Job, form: Form, device: str, compiled: bool = False) -> Run:
    """Set up a full training step: gradients cleared, forward, backward, optimizer.

    Parameters
    ----------
    job : Job
        Which network.
    form : Form
        How its weights are held.
    device : {"cpu", "cuda"}
        Where to compute.
    compiled : bool
        Whether to pass the network through `torch.compile`.

    Returns
    -------
    callable
        One step a call.
    """
    model = form.apply(job.built(), job.rank).to(device).train()
    optimizer, inputs = form.optimizer(model), [noise(job.shape, device, seed) for seed in (0, 1)]
    called: nn.Module = torch.compile(model) if compiled else model  # type: ignore[assignment]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with cached(model):  # a discriminator is called twice a step
            job.loss(called, *inputs).backward()
        optimizer.step()

    return step


def noise(shape: Sequence[int], device: str, seed: int = 0) -> Tensor:
    """Give inputs that are the same for every contestant."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(device)
