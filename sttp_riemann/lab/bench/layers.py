"""Single layers: serving them beside tltorch's, and training them at the sizes of language models."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import geoopt
import torch
from torch import Tensor, nn

from sttp_riemann.batch.cached import cached
from sttp_riemann.batch.frozen import frozen
from sttp_riemann.lab.bench.contest import Contest, Contestant, Run
from sttp_riemann.lab.bench.frames import installed
from sttp_riemann.lab.bench.networks import DENSE, LR, SVDP, Form, Job, chain, mean_square, noise, training_step
from sttp_riemann.lab.bench.settings import Settings
from sttp_riemann.model.reparameterize import reparameterize

NO_TLTORCH = "not installed: pip install 'sttp-riemann[bench]'"
# Rows, the sizes that tltorch factorizes inputs and outputs into, and a rank. The first are those of tensorly/torch#35
SERVED: dict[bool, tuple[tuple[int, tuple[int, ...], tuple[int, ...], int], ...]] = {
    False: ((4, (4, 4), (2, 5), 2), (256, (32, 32), (32, 32), 32), (256, (64, 64), (32, 32), 64)),
    True: ((4, (4, 4), (2, 5), 2),),
}
# Outputs, inputs, ranks; and tokens
LANGUAGE: dict[bool, tuple[tuple[int, int, tuple[int, ...]], ...]] = {
    False: ((2048, 8192, (32, 64, 128, 256)), (4096, 4096, (32, 64, 128, 256))),
    True: ((12, 24, (2,)),),
}
TOKENS = {False: 4096, True: 8}
STACK = {False: (8, 4096, 64), True: (2, 12, 2)}


def serving(settings: Settings) -> list[Contest]:
    """List one contest a linear layer, which is applied without gradients."""
    missing = "" if installed("tltorch") else NO_TLTORCH
    contests = []
    for rows, inputs, outputs, rank in SERVED[settings.quick]:
        d_in, d_out = (torch.Size(sizes).numel() for sizes in (inputs, outputs))
        run = partial(served, rows, d_in, d_out, rank, settings.device)
        theirs = partial(tltorch_layer, rows, inputs, outputs, settings.device)
        contestants = [
            Contestant("dense", partial(run, "dense")),
            Contestant("two thin layers", partial(run, "thin")),
            Contestant("ours, riemannian, frozen", partial(run, "riemannian")),
            Contestant("ours, householder, frozen", partial(run, "householder")),
            Contestant("tltorch, factorized", partial(theirs, "factorized"), missing=missing),
            Contestant("tltorch, reconstructed", partial(theirs, "reconstructed"), missing=missing),
        ]
        contests.append(Contest(f"{d_out} x {d_in}, rank {rank}, {rows} rows", tuple(contestants)))
    return contests


def served(rows: int, d_in: int, d_out: int, rank: int, device: str, kind: str) -> Run:
    """Set up the forward of a layer in evaluation.

    Parameters
    ----------
    rows, d_in, d_out, rank : int
        Sizes.
    device : {"cpu", "cuda"}
        Where to compute.
    kind : {"dense", "thin", "riemannian", "householder"}
        A dense layer, two thin ones, or frames of either kind, frozen.

    Returns
    -------
    callable
        One forward a call.
    """
    torch.manual_seed(0)
    model: nn.Module = nn.Linear(d_in, d_out)
    if kind == "thin":
        model = nn.Sequential(nn.Linear(d_in, rank, bias=False), nn.Linear(rank, d_out))
    elif kind != "dense":
        reparameterize(model, rank, "sttp", kind)
    model = model.to(device).eval()
    if kind in ("riemannian", "householder"):
        frozen(model)
    return _forward(model, noise((rows, d_in), device))


def tltorch_layer(rows: int, inputs: Sequence[int], outputs: Sequence[int], device: str, implementation: str) -> Run:
    """Set up the forward of tltorch's layer, as in its issue 35."""
    import tltorch

    d_in, d_out = torch.Size(inputs).numel(), torch.Size(outputs).numel()
    layer: Any = tltorch.FactorizedLinear.from_linear(
        nn.Linear(d_in, d_out),
        auto_tensorize=False,
        in_tensorized_features=tuple(inputs),
        out_tensorized_features=tuple(outputs),
        rank=0.1,
        factorization="tucker",
        implementation=implementation,
    )
    return _forward(layer.to(device).eval(), noise((rows, d_in), device))


def _forward(model: nn.Module, x: Tensor) -> Run:
    def run() -> None:
        with torch.no_grad():
            model(x)

    return run


def language(settings: Settings) -> list[Contest]:
    """List one contest a linear layer of a language model and rank: its parts, beside its own two products."""
    contests = []
    for d_out, d_in, ranks in LANGUAGE[settings.quick]:
        for rank in ranks:
            shape = (TOKENS[settings.quick], d_in)
            job = Job(f"{d_out} x {d_in}, rank {rank}", rank, partial(nn.Linear, d_in, d_out), mean_square, shape)
            own = [Contestant("two products", partial(products, job, d_out, settings.device))]
            own += [Contestant("retraction", partial(retraction, job, settings.device))]
            for form in SVDP:
                of = f", {form.frames}"
                own += [
                    Contestant(f"build{of}", partial(build, job, form, settings.device)),
                    Contestant(f"optimizer{of}", partial(optimizer_step, job, form, settings.device)),
                    Contestant(f"step{of}", partial(training_step, job, form, settings.device, settings.compile)),
                ]
            contests.append(Contest(job.title, tuple(own)))
    return contests


def products(job: Job, d_out: int, device: str) -> Run:
    """Set up V^T x and U (V^T x), forward and backward, of two ordinary matrices."""
    model = nn.Sequential(nn.Linear(job.shape[1], job.rank, bias=False), nn.Linear(job.rank, d_out)).to(device)
    x = noise(job.shape, device)

    def run() -> None:
        model.zero_grad()
        mean_square(model, x, x).backward()

    return run


def build(job: Job, form: Form, device: str) -> Run:
    """Set up building U diag(s) and V, and carrying fixed gradients back to the parameters."""
    layer: Any = form.apply(job.built(), job.rank).to(device)
    gradients = [torch.ones_like(factor) for factor in layer.factors()]

    def run() -> None:
        layer.zero_grad()
        with cached(layer):
            torch.autograd.backward(layer.factors(), gradients)

    return run


def optimizer_step(job: Job, form: Form, device: str) -> Run:
    """Set up the optimizer's step alone: of Riemannian frames the retraction is in it."""
    layer = form.apply(job.built(), job.rank).to(device)
    optimizer = form.optimizer(layer)
    for seed, parameter in enumerate(layer.parameters()):
        parameter.grad = noise(parameter.shape, device, seed)
    return optimizer.step


def retraction(job: Job, device: str) -> Run:
    """Set up the retraction of both frames alone, along a tangent vector that a step of Adam might have."""
    layer = SVDP[0].apply(job.built(), job.rank).to(device)
    points = [p for p in layer.parameters() if isinstance(p, geoopt.ManifoldParameter)]
    frames = [(p.manifold, p.detach().unsqueeze(0)) for p in points]
    moves = [(manifold, x, manifold.proju(x, noise(x.shape, device)), torch.empty_like(x)) for manifold, x in frames]
    scale = torch.full((), LR, device=device)

    def run() -> None:
        for manifold, x, tangent, room in moves:
            manifold.move_(x, tangent, scale, room=room)

    return run


def stack(settings: Settings) -> list[Contest]:
    """List the one contest of equal layers of a language model, for their memory."""
    depth, width, rank = STACK[settings.quick]
    job = Job(f"{depth} layers of {width} x {width}", rank, partial(chain, depth, width), mean_square,
              (TOKENS[settings.quick], width))  # fmt: skip
    builds = {form.name: partial(training_step, job, form, settings.device) for form in (DENSE, *SVDP)}
    title = f"{job.title}, rank {rank}, {job.shape[0]} tokens"
    return [Contest(title, tuple(Contestant(name, make) for name, make in builds.items()))]
