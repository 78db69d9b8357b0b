"""A transformer block with its query, key, value and output projections on Stiefel manifolds, under torch.compile.

The block reads the 8 rows of a digit of 8x8 pixels, from the 1,797 that the package ships, as 8 tokens. Its four
projections are spectral tensor trains; its feed-forward layers, the embedding of the rows and the head stay dense. The
compiled model is trained by `RiemannianAdam`.

Prints the largest difference between the compiled and the eager model's outputs, relative to the largest output, before
and after training; the loss at the start and at the end (means of ten batches); the test accuracy (of 360 digits and
one seed); and the largest singular value of every projection. torch.compile needs a C++ compiler on a CPU; without one
the model is traced and run by torch's own kernels, and a line says so.
"""

from __future__ import annotations

import os
import shutil

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

import sttp_riemann as sr
from sttp_riemann.lab.data import ImageData, load_dataset

WIDTH, HEADS = 64, 4
STEPS, BATCH_SIZE = 200, 64


class Attention(nn.Module):
    """Multi-head self-attention with four projections."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every token to every token; x is (batch, tokens, WIDTH)."""
        heads = (project(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for project in (self.q, self.k, self.v))
        return self.out(scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """Embed the rows of an image, one pre-norm block, mean over the rows, classify."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Linear(8, WIDTH), nn.Parameter(0.1 * torch.randn(8, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.attention = Attention()
        self.feed_forward = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, 1, 8, 8) to scores (batch, 10)."""
        x = self.embed(images.squeeze(1)) + self.position
        x = x + self.attention(self.norms[0](x))
        x = x + self.feed_forward(self.norms[1](x))
        return self.head(x.mean(1))


def compile_model(model: nn.Module) -> nn.Module:
    """Compile; where there is no C++ compiler, only trace."""
    if shutil.which(os.environ.get("CXX", "g++")):
        return torch.compile(model, dynamic=False)
    print("no C++ compiler found: tracing only, with backend='aot_eager'; install g++ for compiled kernels")
    return torch.compile(model, dynamic=False, backend="aot_eager")


def print_agreement(when: str, compiled: nn.Module, model: nn.Module, images: Tensor) -> None:
    """Largest difference between the outputs of both, relative to the largest output."""
    # On a batch of the size trained with and with gradients, so that one compiled graph serves everything
    images = images[:BATCH_SIZE]
    eager = model(images).detach()
    difference = (compiled(images).detach() - eager).abs().max() / eager.abs().max()
    print(f"compiled and eager outputs differ {when} by {float(difference):.1e} of the largest")


def train(compiled: nn.Module, data: ImageData) -> list[float]:
    """Minimize the cross-entropy over random batches; give the losses."""
    optimizer = sr.RiemannianAdam(compiled.parameters(), lr=3e-3)
    sr.register_gauge_fix(compiled, optimizer, every=50)
    losses = []
    for _ in range(STEPS):
        images, labels = data.batch(torch.randint(len(data.train_labels), (BATCH_SIZE,)))
        loss = cross_entropy(compiled(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def main() -> None:
    """Reparameterize the projections, compile, train, compare."""
    torch.manual_seed(0)
    data = load_dataset("digits")
    images, labels = data.batch(range(len(data.test_labels)), train=False)
    dense = ("embed", "feed_forward", "head")
    model = sr.reparameterize(Transformer(), rank=16, exclude=dense, init="orthogonal")
    compiled = compile_model(model)
    print_agreement("before training", compiled, model, images)
    losses = train(compiled, data)
    print_agreement("after training", compiled, model, images)
    print(f"loss: {sum(losses[:10]) / 10:.3f} at the start, {sum(losses[-10:]) / 10:.3f} at the end")
    print(f"test accuracy: {100 * float((model(images).argmax(1) == labels).float().mean()):.2f} %")
    largest = {name.rpartition(".")[2]: float(values[0]) for name, values in sr.singular_values(model).items()}
    print(f"largest singular values: {', '.join(f'{name} {value:.6f}' for name, value in largest.items())}")


if __name__ == "__main__":
    main()
