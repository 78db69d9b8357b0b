"""What an ablation probes: the conditioning of a path, its gradients along a run, its drift in float32."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geoopt
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

import sttp_riemann as sr
from sttp_riemann.frames import Frames
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.recipe import Recipe
from sttp_riemann.layers.base import SpectralLayer
from sttp_riemann.model.measures import spectral_layers
from sttp_riemann.optim import RiemannianAdam

# Singular values below this share of the largest are zeros with the rounding of float32 frames
NOTHING = 1e-6
CHUNK = 64
# Of the layer that drifts
FEATURES = 64
RATE = 1e-2


def differential(layer: SpectralLayer) -> Tensor:
    """Singular values of the differential of W with respect to what its path's optimizer moves.

    Parameters
    ----------
    layer : SpectralLayer
        On either path.

    Returns
    -------
    Tensor
        Descending, float64, as many as there are independent directions: the degrees of freedom, less the scale of
        a learned spectrum, which its division by the maximum takes out.

    Notes
    -----
    On the Riemannian path the differential is taken on the tangent space, with the metric of the steps; along the
    gauge it is zero, and those zeros are left out, as no gradient points there.
    """
    layer = copy.deepcopy(layer).double()
    points = {name: p for name, p in layer.named_parameters() if p in set(layer.factor_parameters())}
    values = tuple(p.detach().as_subclass(Tensor) for p in points.values())

    def weight(*values: Tensor) -> Tensor:
        return functional_call(_Weight(layer), {f"layer.{n}": v for n, v in zip(points, values, strict=True)}, ())

    blocks = jacrev(weight, argnums=tuple(range(len(values))), chunk_size=CHUNK)(*values)
    rows = []
    for point, value, block in zip(points.values(), values, blocks, strict=True):
        flat = block.reshape(-1, *value.shape)
        if isinstance(point, geoopt.ManifoldParameter):
            flat = point.manifold.proju(value, flat)
        rows.append(flat.flatten(1))
    count = layer.dof - (1 if layer.spectrum_kind == "learned" else 0)
    return torch.linalg.svdvals(torch.cat(rows, 1))[:count]


class _Weight(nn.Module):
    def __init__(self, layer: SpectralLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self) -> Tensor:
        left, right = self.layer.factors()
        return left @ right.mT


def independent(values: Tensor) -> int:
    """Count the directions that move W at all.

    While values of the spectrum are equal, turning U and V together within them leaves W as it is.
    """
    return int((values > NOTHING * values[0]).sum())


def condition(values: Tensor) -> float:
    """Largest over smallest singular value of the `independent` directions."""
    return float(values[0] / values[independent(values) - 1])


@dataclass(frozen=True)
class Probe:
    """What was observed along one run.

    Attributes
    ----------
    norms : Tensor
        (steps,), norm of the gradient of all frames' parameters; Riemannian on the Riemannian path.
    start, end : Tensor
        Singular values of the differential of the probed layer's W, before and after training.
    """

    norms: Tensor
    start: Tensor
    end: Tensor

    @property
    def spread(self) -> float:
        """95 % quantile of the norms over their 5 % quantile, without the first tenth of the run."""
        low, high = torch.quantile(self.norms[len(self.norms) // 10 :], torch.tensor([0.05, 0.95]))
        return float(high / low)


def probe(recipe: Recipe) -> Probe:
    """Train as a recipe says, in a temporary folder, and observe the run.

    Parameters
    ----------
    recipe : Recipe
        Of a low-rank classifier. The probed layer is the last but one, or the only one.

    Returns
    -------
    Probe
    """
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, Path(folder))
        (player,) = trainer.task.players.values()
        layer = list(spectral_layers(player.model).values())[-2:][0]
        start = differential(layer)
        frames = [module for module in player.model.modules() if isinstance(module, Frames)]
        norms: list[float] = []

        def record(*_: Any) -> None:
            gradients = [_gradient(p) for own in frames for p in own.parameters() if p.grad is not None]
            norms.append(float(torch.stack([g.square().sum() for g in gradients]).sum().sqrt()))

        player.optimizer.register_step_pre_hook(record)
        trainer.run()
        return Probe(torch.tensor(norms), start, differential(layer))


@torch.no_grad()
def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    if isinstance(parameter, geoopt.ManifoldParameter):
        return parameter.manifold.egrad2rgrad(parameter, parameter.grad)
    return parameter.grad


def drift(method: str, frames: str, rank: int, steps: int, seed: int = 0) -> float:
    """Let a layer of 64 x 64 approach a fixed matrix in both precisions.

    Parameters
    ----------
    method : {"sttp", "svdp"}
        Of the layer.
    frames : {"riemannian", "householder"}
        Path.
    rank : int
        Of the layer.
    steps : int
        Of Adam, or of Riemannian Adam, with a learning rate that falls linearly to 0.
    seed : int
        Of the matrix and the start.

    Returns
    -------
    float
        Relative Frobenius distance of the W of float32 to that of float64.
    """
    wide, narrow = (
        _descend(method, frames, rank, steps, seed, dtype).weight.detach().double()
        for dtype in (torch.float64, torch.float32)
    )
    return float(torch.linalg.matrix_norm(narrow - wide) / torch.linalg.matrix_norm(wide))


def _descend(method: str, frames: str, rank: int, steps: int, seed: int, dtype: torch.dtype) -> nn.Linear:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(FEATURES, FEATURES, generator=generator, dtype=torch.float64)
    target = (target / torch.linalg.matrix_norm(target, 2)).to(dtype)
    # The same start to the last bit of float32
    layer = nn.Linear(FEATURES, FEATURES, bias=False, dtype=torch.float32)
    sr.reparameterize(layer, min(rank, FEATURES), method, frames, init="orthogonal", seed=seed)  # type: ignore[arg-type]
    layer = layer.to(dtype)
    kind = RiemannianAdam if frames == "riemannian" else torch.optim.Adam
    optimizer = kind(layer.parameters(), lr=RATE)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
        optimizer.zero_grad()
        (layer.weight - target).square().sum().backward()
        optimizer.step()
    return layer
