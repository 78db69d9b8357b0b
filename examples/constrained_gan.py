"""Train a small GAN twice: with a free discriminator, and with one whose singular values are all 1.

The images are the 1,797 digits that the package ships, 8x8 pixels. Both discriminators are the same three
convolutions, a linear layer and LeakyReLUs; the second has spectral tensor trains of full rank with an identity
spectrum, held as points on Stiefel manifolds. Without batch normalization and residual sums, the product of the
layers' bounds is a bound of the whole discriminator.

Prints, for both, every layer's largest singular value, the bound of the discriminator's Lipschitz constant, the longest
gradient that it has at any real digit or sample (never above the bound), and its loss. It does not judge the samples:
for that see `sttp-riemann compare --recipe gan-digits`, which measures FID.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

import sttp_riemann as sr
from sttp_riemann.lab.data import ImageData, load_dataset
from sttp_riemann.lab.inspection import inspect

STEPS = 200
BATCH_SIZE = 64
LATENT_DIM = 16


def make_discriminator() -> nn.Sequential:
    """Images of 1x8x8 to one score."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(32, 32, 4, stride=2, padding=1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(32, 64, 4, stride=2, padding=1),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
        nn.Linear(256, 1),
    )


def make_generator() -> nn.Sequential:
    """Noise to images of 1x8x8."""
    return nn.Sequential(
        *(nn.Linear(LATENT_DIM, 128), nn.BatchNorm1d(128), nn.ReLU()),
        *(nn.Linear(128, 128), nn.BatchNorm1d(128), nn.ReLU()),
        *(nn.Linear(128, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8))),
    )


def train(discriminator: nn.Module, data: ImageData) -> tuple[nn.Module, float]:
    """Hinge loss, one step of each player a batch; give the generator and the discriminator's last loss."""
    generator = make_generator()
    players = [discriminator, generator]
    optimizers = [sr.RiemannianAdam(player.parameters(), lr=1e-3, betas=(0.0, 0.9)) for player in players]
    for _ in range(STEPS):
        real, _ = data.batch(torch.randint(len(data.train_labels), (BATCH_SIZE,)))
        fake = generator(torch.randn(BATCH_SIZE, LATENT_DIM))
        loss = relu(1 - discriminator(real)).mean() + relu(1 + discriminator(fake.detach())).mean()
        _step(optimizers[0], loss)
        _step(optimizers[1], -discriminator(fake).mean())
    return generator, loss.item()


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def longest_gradient(discriminator: nn.Module, images: Tensor) -> float:
    """Largest norm of the score's gradient by the image: a lower bound of the Lipschitz constant."""
    images = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(images).sum(), images)
    return float(gradient.flatten(1).norm(dim=1).max())


def main() -> None:
    """Train both discriminators from the same seed and print what they are."""
    data = load_dataset("digits")
    real, _ = data.batch(range(len(data.test_labels)), train=False)
    for name in ("free", "constrained"):
        torch.manual_seed(0)
        discriminator = make_discriminator()
        if name == "constrained":
            sr.reparameterize(discriminator, rank=1.0, spectrum="identity", init="orthogonal")
        generator, loss = train(discriminator, data)
        samples = generator(torch.randn(len(real), LATENT_DIM)).detach()
        report = inspect(discriminator)
        print(f"{name} discriminator")
        print(f"  largest singular values: {', '.join(f'{layer.largest:.4f}' for layer in report.layers)}")
        print(f"  bound of the Lipschitz constant: {report.operator_lipschitz:.2f}")
        print(f"  longest gradient: {longest_gradient(discriminator, torch.cat([real, samples])):.4f}")
        print(f"  loss of the discriminator: {loss:.3f}")


if __name__ == "__main__":
    main()
