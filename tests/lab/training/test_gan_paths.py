"""Both paths are the same discriminator under a penalty on gradients: equal losses, and equal steps."""

from __future__ import annotations

import copy

import geoopt
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

import sttp_riemann as sr
from sttp_riemann.lab.training.gan_losses import LOSSES
from sttp_riemann.lab.training.gan_penalties import gradient_penalty
from sttp_riemann.layers.base import SpectralLayer
from sttp_riemann.model.measures import spectral_layers
from sttp_riemann.testing.models import disturb_
from tests.lab.training.test_gan_penalties import discriminator, images

RATE = 0.1


def both(method: str, spectrum: str) -> tuple[nn.Module, nn.Module]:
    """The same discriminator on the Riemannian and on the Householder path, in a generic position."""
    model = discriminator()
    sr.reparameterize(model, 3, method, "riemannian", spectrum, "orthogonal")
    disturb_(model)
    return model, sr.convert_frames(copy.deepcopy(model), "householder")


def loss_of(model: nn.Module) -> Tensor:
    """The relativistic loss with R1 and R2."""
    places = images()
    del places["between"]
    scores = model(torch.cat([*places.values()]))
    return LOSSES["relativistic"].discriminator(*scores.chunk(2)) + gradient_penalty(
        scores, places, {"r1": 1.0, "r2": 0.5}
    )


class Weight(nn.Module):
    def __init__(self, layer: SpectralLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self) -> Tensor:
        left, right = self.layer.factors()
        return left @ right.mT


def step_of_weight(layer: SpectralLayer) -> Tensor:
    """W after a step down the gradient of the loss by W, projected onto the tangent space of all W of the layer.

    That step belongs to the layer's W, not to the numbers that hold it. But it is computed here from the path's own
    gradient g and its own Jacobian J of W: J = A S B^T gives the projection A S^-1 B^T g.
    """
    points = {name: p for name, p in layer.named_parameters() if p in set(layer.factor_parameters())}
    values = tuple(p.detach().as_subclass(Tensor) for p in points.values())

    def weight(*values: Tensor) -> Tensor:
        return functional_call(Weight(layer), {f"layer.{n}": v for n, v in zip(points, values, strict=True)}, ())

    jacobians, gradients = [], []
    for p, value, block in zip(
        points.values(), values, jacrev(weight, tuple(range(len(values))))(*values), strict=True
    ):
        block, gradient = block.reshape(-1, *value.shape), p.grad.as_subclass(Tensor)
        if isinstance(p, geoopt.ManifoldParameter):
            # Only the tangent part moves a frame
            block, gradient = p.manifold.proju(value, block), p.manifold.proju(value, gradient)
        jacobians.append(block.flatten(1))
        gradients.append(gradient.flatten())
    a, s, b = torch.linalg.svd(torch.cat(jacobians, 1), full_matrices=False)
    # Gauge directions move no W
    kept = s > 1e-9 * s[0]
    projected = a[:, kept] @ ((b[kept] @ torch.cat(gradients)) / s[kept])
    now = weight(*values)
    return now - RATE * projected.view_as(now)


@pytest.mark.parametrize("spectrum", ["identity", "learned", "free"])
@pytest.mark.parametrize("method", ["svdp", "sttp"])
def test_the_loss_and_a_step_are_equal_on_both_paths(method, spectrum):
    models = both(method, spectrum)
    losses = [loss_of(model) for model in models]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-9)
    layers = [spectral_layers(model) for model in models]
    for name in layers[0]:
        steps = [step_of_weight(own[name]) for own in layers]
        torch.testing.assert_close(*steps, rtol=0, atol=1e-9)
        assert (steps[0] - Weight(layers[0][name])()).abs().max() > 1e-6
    plain = [{name: p for name, p in model.named_parameters() if name.endswith("bias")} for model in models]
    for kind, own in zip((sr.RiemannianAdam, torch.optim.Adam), plain, strict=True):
        kind(own.values(), lr=RATE).step()
    for name in plain[0]:
        torch.testing.assert_close(plain[0][name], plain[1][name], rtol=0, atol=1e-9)
