import pytest
import torch
from torch.nn.functional import cross_entropy

import sttp_riemann as sr
from sttp_riemann.lab.data import load_dataset
from sttp_riemann.lab.networks import build_model


def accuracy_after_training(method):
    torch.manual_seed(0)
    data, steps = load_dataset("digits"), 300
    model = build_model("digits_resnet", in_channels=1)
    if method != "dense":
        sr.reparameterize(model, rank=16, method=method)
    optimizer = sr.RiemannianAdam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(steps):
        images, labels = data.batch(torch.randint(len(data.train_images), (64,)))
        optimizer.zero_grad()
        cross_entropy(model(images), labels).backward()
        optimizer.step()
        schedule.step()
    images, labels = data.batch(range(len(data.test_images)), train=False)
    with torch.no_grad():
        return (model.eval()(images).argmax(1) == labels).float().mean()


@pytest.mark.slow
@pytest.mark.parametrize(("method", "least"), [("dense", 0.97), ("svdp", 0.95), ("sttp", 0.95)])
def test_a_network_of_rank_16_learns_the_digits_in_300_steps(method, least):
    assert accuracy_after_training(method) >= least
