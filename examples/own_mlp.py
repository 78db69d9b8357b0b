"""Train your own MLP with low-rank orthonormal layers, then convert it back to an ordinary MLP.

The 1,797 digits that the package ships, 8x8 pixels, are classified by an MLP whose weights are spectral tensor trains
on Stiefel manifolds, each at most 3-Lipschitz. `RiemannianAdam` trains it, its frames are converted to
Householder reflectors, and finally it becomes an ordinary model again. A dense MLP is trained for comparison.

Prints the sizes of every layer, both test accuracies (of 360 digits and one seed: a percent is four digits), the
orthogonality error of the frames, the largest singular value, and how far the outputs move, relative to the largest of
them, through the conversion to Householder frames and through `decompress`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import sttp_riemann as sr
from sttp_riemann.lab.data import ImageData, load_dataset

EPOCHS = 20
BATCH_SIZE = 64


def make_mlp() -> nn.Sequential:
    """Your model: nothing in it knows of this package."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )


def train(model: nn.Module, data: ImageData, optimizer: torch.optim.Optimizer) -> None:
    """Minimize the cross-entropy over shuffled batches."""
    for _ in range(EPOCHS):
        for indices in torch.randperm(len(data.train_labels)).split(BATCH_SIZE):
            images, labels = data.batch(indices)
            loss = cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of the images that are recognized."""
    return float((model(images).argmax(1) == labels).float().mean())


def main() -> None:
    """Reparameterize, train, convert, decompress; print what each step did."""
    torch.manual_seed(0)
    data = load_dataset("digits")
    images, labels = data.batch(range(len(data.test_labels)), train=False)
    plain = make_mlp()
    train(plain, data, torch.optim.Adam(plain.parameters(), lr=1e-3))

    # The last layer has few numbers: it stays as it is
    model = sr.reparameterize(make_mlp(), rank=16, exclude="5", init="orthogonal", spectral_bound=3.0)
    print(sr.compression(model))
    optimizer = sr.RiemannianAdam(model.parameters(), lr=5e-3)
    # Every 100 steps the frames move along the gauge, back into St_U; weights and training do not notice
    sr.register_gauge_fix(model, optimizer, every=100)
    train(model, data, optimizer)
    print(f"test accuracy: {100 * accuracy(model, images, labels):.2f} %")
    print(f"test accuracy with dense layers: {100 * accuracy(plain, images, labels):.2f} %")
    print(f"orthogonality error: {sr.orthogonality_error(model):.1e}")
    largest = max(float(values[0]) for values in sr.singular_values(model).values())
    print(f"largest singular value: {largest:.6f}")

    with torch.no_grad():
        before = model(images)
        sr.convert_frames(model, "householder")
        print(f"outputs moved by conversion to Householder frames: {moved(before, model(images)):.1e}")
        dense = sr.decompress(model)
        print(f"outputs moved by decompress: {moved(before, dense(images)):.1e}")
    print(f"layers afterwards: {', '.join(type(layer).__name__ for layer in dense)}")


def moved(before: Tensor, after: Tensor) -> float:
    """Largest difference, relative to the largest entry."""
    return float((after - before).abs().max() / before.abs().max())


if __name__ == "__main__":
    main()
