"""Compress a trained ResNet-18 of torchvision to a share of its numbers, then fine-tune it.

Weights from ImageNet would have to be downloaded, so the network is first trained here for a few epochs, on the digits
that the package ships, resized to 16x16 pixels. Each weight is then replaced by one of low rank, U diag(s) V^T with
orthonormal U and V, whose outputs on training images are nearest to those of the layer; a budget for the whole network
sets the ranks. Finally the network is fine-tuned for one epoch. `method="sttp"` would store U and V as tensor trains.

Prints the sizes of every layer and the relative error of its outputs, Z (the network's numbers relative to the dense
one's), and the test accuracy before compression, after it, and after fine-tuning. The accuracies are of 360 digits and
of one seed: a percent is four digits. They say nothing about ImageNet.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.models import resnet18

import sttp_riemann as sr
from sttp_riemann.lab.data import ImageData, load_dataset

BUDGET = 0.1
BATCH_SIZE = 64
CALIBRATION = 128


def train(model: nn.Module, data: ImageData, epochs: int, lr: float) -> None:
    """Minimize the cross-entropy over shuffled batches; plain parameters are stepped by Adam."""
    optimizer = sr.RiemannianAdam(model.parameters(), lr=lr)
    steps = epochs * (len(data.train_labels) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, cycle_momentum=False)
    model.train()
    for _ in range(epochs):
        # The last, smaller batch is left out: batch normalization needs more than a few images
        for indices in torch.randperm(len(data.train_labels)).split(BATCH_SIZE)[:-1]:
            images, labels = data.batch(indices)
            loss = cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def accuracy(model: nn.Module, data: ImageData) -> float:
    """Share of the test images that are recognized."""
    images, labels = data.batch(range(len(data.test_labels)), train=False)
    return float((model.eval()(images).argmax(1) == labels).float().mean())


def main() -> None:
    """Train a dense network, compress it, fine-tune it; print what each step did."""
    torch.manual_seed(0)
    data = load_dataset("digits", image_size=16, channels=3)
    model = resnet18(weights=None, num_classes=10)
    train(model, data, epochs=3, lr=1e-3)
    accuracies = {"before compression": accuracy(model, data)}

    # What a layer answers to its own inputs is kept, and not its matrix
    moments = sr.input_moments(model.eval(), [data.batch(range(CALIBRATION))[0]])
    sr.reparameterize(model, budget=BUDGET, method="svdp", init="dense", moments=moments)
    sizes = sr.compression(model)
    for layer in sizes.layers:
        print(f"{layer.name:24s} {layer.dense:9,d} -> {layer.dof:7,d} numbers, relative error {layer.dense_error:.2f}")
    print(f"budget {100 * BUDGET:.0f} %, Z = {sizes.ratio:.2f} %")
    accuracies["after compression"] = accuracy(model, data)

    train(model, data, epochs=1, lr=3e-4)
    accuracies["after fine-tuning"] = accuracy(model, data)
    for name, value in accuracies.items():
        print(f"test accuracy {name}: {100 * value:.2f} %")
    print(f"orthogonality error: {sr.orthogonality_error(model):.1e}")


if __name__ == "__main__":
    main()
