"""Certified norms of layers and Lipschitz bounds of networks, against norms that are found."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sttp_riemann as sr
from sttp_riemann.lab.networks.sngan import SNGANDiscriminator
from sttp_riemann.layers import register_layer
from tests.strategies import LAYER_KINDS, disturb, whole_norm


class Residual(nn.Module):
    """Sums, products with constants, parts, joins, pooling and means."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.norm, self.short = nn.BatchNorm2d(6), nn.Conv2d(2, 6, 1)
        self.pool, self.gain = nn.MaxPool2d(3, 2, 1), nn.Parameter(torch.tensor([0.5, -2.0, 1.0]).view(3, 1, 1))

    def forward(self, x: Tensor, scale: float = 0.5) -> Tensor:
        maps = F.leaky_relu(self.norm(self.first(x)), 0.2)
        maps = self.second(maps)
        maps += scale * self.short(x)
        maps = F.avg_pool2d(torch.relu(maps), 2) - 1 / 3
        maps = torch.cat([maps[:, :3] * self.gain, maps[:, 3:] / 2], 1)
        return torch.sigmoid(self.pool(maps)).view(x.size(0), -1).sum(1) + maps.mean((1, 2, 3))


def steepest(network: nn.Module, size: tuple[int, ...], steps: int = 15) -> float:
    """Largest |f(x) - f(y)| / |x - y| that gradient ascent on both finds."""
    torch.manual_seed(1)
    pair = [torch.randn(1, *size, requires_grad=True), torch.randn(1, *size, requires_grad=True)]
    optimizer, found = torch.optim.Adam(pair, lr=0.1), 0.0
    for _ in range(steps):
        ratio = (network(pair[0]) - network(pair[1])).norm() / (pair[0] - pair[1]).norm()
        found = max(found, float(ratio.detach()))
        optimizer.zero_grad()
        (-ratio).backward()
        optimizer.step()
    return found


def discriminator() -> nn.Module:
    return SNGANDiscriminator(8, in_channels=2, width=8)


def chain() -> nn.Module:
    layers = nn.Conv2d(2, 8, 3, 2, 1, padding_mode="circular"), nn.ReLU(), nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.Tanh()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5), nn.LeakyReLU(-3.0))


@pytest.mark.parametrize("bound_of", [None, "matrix", "operator"])
@pytest.mark.parametrize("make", [Residual, discriminator, chain])
def test_no_pair_of_inputs_is_farther_apart_than_the_bound_allows(make, bound_of) -> None:
    torch.manual_seed(0)
    network = make()
    if bound_of is not None:
        disturb(sr.reparameterize(network, 4, bound_of=bound_of), scale=0.05)
    network.eval()
    bound = sr.lipschitz_bound(network, torch.zeros(1, 2, 8, 8))
    found = steepest(network, (2, 8, 8))
    assert 0 < found <= bound < 1000 * found


def test_the_bound_of_a_linear_chain_is_the_product_of_its_norms() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4)).eval()
    norms = sr.operator_norms(network)
    assert sr.lipschitz_bound(network, torch.zeros(2, 8)) == pytest.approx(norms["0"] * norms["2"])
    assert norms["0"] == pytest.approx(float(torch.linalg.matrix_norm(network[0].weight.detach(), 2)), rel=1e-4)
    assert sr.lipschitz_bound(network[0], torch.zeros(1, 8)) == norms["0"]


@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("kind", LAYER_KINDS)
def test_the_norm_of_a_layer_is_bounded(kind, rank) -> None:
    torch.manual_seed(0)
    make, size = LAYER_KINDS[kind]
    layer = make() if rank is None else disturb(sr.reparameterize(make(), rank, spectrum="free"))
    (bound,) = sr.operator_norms(layer).values()
    assert whole_norm(layer, size) <= bound


def test_frames_off_their_manifold_are_bounded_as_they_are() -> None:
    layer = sr.reparameterize(nn.Conv1d(3, 6, 3), 3, bound_of="operator")
    with torch.no_grad():
        layer.left[0].mul_(3)
    dense = sr.decompress(layer)
    assert sr.operator_norms(layer)[""] == pytest.approx(sr.operator_norms(dense)[""], rel=0.02)


@register_layer
class Doubled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, 2 * self.weight)


def steps(function: Callable[[Tensor], Tensor]) -> Callable[[], nn.Module]:
    """A network that is one function."""

    class Steps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    return Steps


def written_by_another_name(x: Tensor) -> Tensor:
    y = torch.relu(x)
    z = y.view(-1)
    z += x.view(-1)
    return y


def read_after_it_was_written(x: Tensor) -> Tensor:
    y = torch.relu(x)
    z = F.leaky_relu(y, 3.0, True)
    return z + y


def constant_written(x: Tensor) -> Tensor:
    total = torch.zeros(2, 4)
    total += x
    return x + total


def written_as_asked(x: Tensor) -> Tensor:
    return torch.add(x, x, out=torch.zeros(2, 4))


def written_in_place(x: Tensor) -> Tensor:
    y = torch.relu(2 * x)
    y += x
    y /= 2
    return F.relu(y, True)


def hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, inputs, output: 5 * output)
    return layer


def replaced() -> nn.Module:
    """As libraries do that wrap models in place."""
    layer = nn.Linear(4, 4)
    layer.forward = lambda x: 5 * nn.Linear.forward(layer, x)
    return nn.Sequential(layer)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Softmax(1)), r"'1' \(Softmax\) has no rule"),
        (lambda: nn.Sequential(sr.reparameterize(Doubled(4, 4), 2)), r"'0' \(SpectralDoubled\) has no rule"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), r"'1' \(LayerNorm\) has no rule"),
        (lambda: nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False)), "keeps no running statistics"),
        (steps(lambda x: x * x), r"mul \(step 'mul'\) takes several tensors"),
        (steps(lambda x: 1 / x), "divides by what depends on the input"),
        (steps(lambda x: torch.div(x, 2, rounding_mode="floor")), "has no rule with 'rounding_mode'"),
        (steps(lambda x: x.sum(1, dtype=torch.int32)), "has no rule with 'dtype'"),
        (steps(lambda x: x.mul(other=2)), "has no rule with 'other'"),
        (steps(lambda x: x.to(torch.int32)), "has no rule"),
        (steps(lambda x: x if x.sum() > 0 else -x), "torch.fx cannot trace it"),
        (steps(written_by_another_name), r"iadd .* writes into what is read again later, as 'relu'"),
        (steps(read_after_it_was_written), "leaky_relu .* writes into what is read again later, as 'relu'"),
        (steps(constant_written), "add_ .* has no rule"),
        (steps(written_as_asked), "has no rule with 'out'"),
        (lambda: nn.Sequential(hooked(nn.Linear(4, 4))), r"'0' \(Linear\) has no rule"),
        (replaced, r"'0' \(Linear\) has no rule"),
        (lambda: nn.Linear(5, 4), "cannot be called with the example"),
    ],
)
def test_what_has_no_bound_is_named_in_one_line(make, message) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        sr.lipschitz_bound(make().eval(), torch.zeros(2, 4))
    assert "\n" not in str(refused.value)


def test_a_hook_of_the_model_counts() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    before = sr.lipschitz_bound(network, torch.zeros(1, 4))
    assert sr.lipschitz_bound(hooked(network), torch.zeros(1, 4)) == pytest.approx(5 * before)


def test_steps_that_write_into_their_inputs_leave_the_example_alone() -> None:
    example = -torch.ones(1, 4)
    assert sr.lipschitz_bound(steps(written_in_place)().eval(), example) == pytest.approx(1.5)
    assert sr.lipschitz_bound(nn.Sequential(nn.ReLU(inplace=True)).eval(), example) == 1
    assert torch.equal(example, -torch.ones(1, 4))


def test_an_adapter_counts_with_its_whole_weight() -> None:
    torch.manual_seed(0)
    for make, size in ((lambda: nn.Linear(6, 5), (2, 6)), (lambda: nn.Conv1d(3, 6, 3, padding=1), (1, 3, 9))):
        model = disturb(sr.adapt(nn.Sequential(make()), 2, scale=3.0)).eval()
        before = sr.operator_norms(model)["0"]
        whole = sr.operator_norms(sr.decompress(model))["0"]
        assert before == pytest.approx(whole, rel=1e-5)
        assert sr.lipschitz_bound(model, torch.zeros(size)) == pytest.approx(before)
        assert sr.operator_norms(sr.merge(model))["0"] == pytest.approx(before, rel=1e-5)


def test_a_network_in_training_and_a_weight_that_is_not_finite_are_refused() -> None:
    network = nn.Sequential(nn.Conv1d(2, 2, 3))
    with pytest.raises(ValueError, match=r"is in training.*call model.eval\(\) first"):
        sr.lipschitz_bound(network, torch.zeros(1, 2, 8))
    nn.init.constant_(network[0].weight, math.nan)
    with pytest.raises(ValueError, match="the weight of layer '0' holds NaN"):
        sr.operator_norms(network)
    with pytest.raises(ValueError, match="no linear layer, convolution or embedding"):
        sr.operator_norms(nn.ReLU())
    with pytest.raises(ValueError, match="the example has no values"):
        sr.lipschitz_bound(nn.ReLU().eval(), torch.zeros(0, 4))


def test_the_norm_of_a_layer_with_weight_normalization_is_that_of_its_weight() -> None:
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3))
    plain = nn.Conv1d(4, 4, 3)
    with torch.no_grad():
        plain.weight.copy_(layer.weight)
    model = sr.reparameterize(nn.Sequential(layer, nn.Conv1d(4, 5, 3)), 2)
    assert sr.operator_norms(model)["0"] == pytest.approx(sr.operator_norms(plain)[""], rel=1e-6)
