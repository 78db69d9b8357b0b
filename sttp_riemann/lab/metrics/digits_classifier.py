"""A small classifier of handwritten digits, trained in seconds on those that the package ships."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, interpolate, normalize
from typing_extensions import override

from sttp_riemann.errors import CheckpointError
from sttp_riemann.files import write_atomically
from sttp_riemann.lab.data import ImageData, load_dataset
from sttp_riemann.lab.metrics.cache import cache_folder
from sttp_riemann.sealed import SealError, seal, unseal

SIDE = 8
FEATURES = 64
EPOCHS = 30
BATCH = 64
SEED = 0
LR = 1e-2
# Training shifts images by up to a pixel, as generated ones need not be centred
SHIFT = 1
# Change this with anything that changes the weights
FILE = "digits-classifier-1.safetensors"
KEPT = "sttp_riemann digits classifier 1"


class DigitsClassifier(nn.Module):
    """Three convolutions, average pooling, a linear layer.

    The pooled maps, scaled to a mean square of 1, are the features that metrics use. KID takes their third power.
    """

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, FEATURES, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(FEATURES, FEATURES, 3, padding=1),
            nn.ReLU(),
        )
        self.linear = nn.Linear(FEATURES, 10)

    @override
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 64) and logits (N, 10) of gray images (N, 1, 8, 8) in [-1, 1]."""
        features = FEATURES**0.5 * normalize(self.maps(images).mean((2, 3)))
        return features, self.linear(features)


def as_digits(images: Tensor) -> Tensor:
    """Convert RGB images (N, 3, H, W) with values 0 .. 255 for the classifier: gray, 8x8, in [-1, 1]."""
    gray = images.float().mean(1, keepdim=True) / 127.5 - 1
    if gray.shape[-1] > SIDE:
        return adaptive_avg_pool2d(gray, SIDE)
    return gray if gray.shape[-1] == SIDE else interpolate(gray, size=(SIDE, SIDE), mode="bilinear")


def train_classifier() -> DigitsClassifier:
    """Train the classifier; the same weights every time on the same machine."""
    data = load_dataset("digits")
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(SEED)
        model = DigitsClassifier()
        optimizer = torch.optim.Adam(model.parameters(), lr=LR)
        count = len(data.train_images)
        total = EPOCHS * (count // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=total)
        for step in range(total):
            if step % (count // BATCH) == 0:
                order = torch.randperm(count)
            images, labels = data.batch(order[step % (count // BATCH) * BATCH :][:BATCH])
            shift = [int(s) for s in torch.randint(-SHIFT, SHIFT + 1, (2,))]
            loss = cross_entropy(model(images.roll(shift, (2, 3)))[1], labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval().requires_grad_(False)


@torch.no_grad()
def test_accuracy(model: DigitsClassifier, data: ImageData) -> float:
    """Accuracy on the test digits."""
    images, labels = data.batch(range(len(data.test_images)), train=False)
    return float((model(images)[1].argmax(1) == labels).float().mean())


def load_classifier(path: Path | None = None) -> DigitsClassifier:
    """Read the classifier from a file or the user's cache; train it if the cache has none.

    Parameters
    ----------
    path : Path, optional
        A .safetensors file with its ``state_dict``; only read. Without it, the trained classifier goes to the cache if
        that is writable.

    Raises
    ------
    ValueError
        The file is not of this classifier.
    """
    model = DigitsClassifier()
    if path is not None:
        try:
            model.load_state_dict(load_file(path))
        except (SafetensorError, RuntimeError, OSError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise ValueError(f"{path} cannot be read as the weights of the digits classifier: {reason}") from error
        return model.eval().requires_grad_(False)
    path = cache_folder() / FILE
    # A truncated or modified cache file is no reason to fail
    with contextlib.suppress(SealError, RuntimeError, OSError):
        model.load_state_dict(unseal(path, KEPT)[0])
        return model.eval().requires_grad_(False)
    model = train_classifier()
    with contextlib.suppress(CheckpointError):
        write_atomically(path, seal(model.state_dict(), {}, KEPT))
    return model


def digest(model: nn.Module) -> str:
    """Name of a model's weights: equal weights, equal names."""
    content = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        content.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return content.hexdigest()[:16]
