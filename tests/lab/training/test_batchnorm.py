from __future__ import annotations

import pytest
import torch
from torch import nn

from sttp_riemann.lab.training import batchnorm
from sttp_riemann.lab.training.batchnorm import SharedBatchNorm


@pytest.fixture
def alone(monkeypatch):
    """One process that takes itself for all."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: None)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)


@pytest.mark.parametrize("momentum", [0.3, None])
@pytest.mark.parametrize(
    ("kind", "shape"), [(nn.BatchNorm1d, (8, 5)), (nn.BatchNorm2d, (4, 5, 3, 2)), (nn.BatchNorm3d, (2, 5, 2, 2, 3))]
)
def test_alone_it_is_torchs_batch_normalization(kind, shape, momentum, alone):
    torch.manual_seed(0)
    plain, other = (kind(5, momentum=momentum) for _ in range(2))
    shared = SharedBatchNorm.of(other)
    for _ in range(3):
        x, y = ((torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 3 + 1).requires_grad_() for _ in "ab")
        plain(x).pow(3).sum().backward()
        shared(y).pow(3).sum().backward()
        assert torch.allclose(x.grad, y.grad, atol=1e-4)
    assert torch.allclose(plain.eval()(x), shared.eval()(x), atol=1e-6)
    assert torch.allclose(plain.weight.grad, shared.weight.grad, rtol=1e-4)
    for name, tensor in plain.state_dict().items():
        assert torch.allclose(tensor.float(), shared.state_dict()[name].float(), rtol=1e-5)


def test_a_model_keeps_its_names_and_numbers(alone):
    class Two:
        num_processes = 2
        device = torch.device("cpu")

    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sequential(nn.BatchNorm2d(3)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batchnorm.share_statistics(model, Two())
    assert isinstance(model[1][0], SharedBatchNorm)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
