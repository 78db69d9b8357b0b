"""A small classifier of handwritten digits, trained in seconds on those that the package ships."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, normalize
from typing_extensions import override

from sttp_riemann.lab.data import load_dataset
from sttp_riemann.lab.metrics.cache import kept
from sttp_riemann.lab.metrics.errors import MetricError

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
    """Convert RGB images (N, 3, H, W) with values 0 .. 255 for the classifier: gray, 8x8, in [-1, 1].

    Raises
    ------
    MetricError
        They have colors.
    """
    if not torch.equal(images, images[:, :1].expand_as(images)):
        raise MetricError(
            "the digits classifier sees gray images, and these have colors: set channels to 1, or extractor to "
            "'stacked_digits' for data 'stacked_digits'"
        )
    return _scaled(images[:, :1])


def as_three_digits(images: Tensor) -> Tensor:
    """Convert RGB images (N, 3, H, W) with values 0 .. 255, each channel to an image of its own: (3 N, 1, 8, 8)."""
    return _scaled(images.flatten(0, 1).unsqueeze(1))


def _scaled(gray: Tensor) -> Tensor:
    gray = gray.float() / 127.5 - 1
    return interpolate(gray, size=(SIDE, SIDE), mode="area" if gray.shape[-1] >= SIDE else "bilinear")


def train_classifier() -> DigitsClassifier:
    """Train the classifier; the same weights every time on the same machine."""
    data = load_dataset("digits")
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(SEED)
        model = DigitsClassifier()
        optimizer = torch.optim.Adam(model.parameters(), lr=LR)
        steps = len(data.train_images) // BATCH
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, epochs=EPOCHS, steps_per_epoch=steps)
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(data.train_images)).split(BATCH)[:steps]:
                images, labels = data.batch(batch)
                shift = torch.randint(-SHIFT, SHIFT + 1, (2,)).tolist()
                loss = cross_entropy(model(images.roll(shift, (2, 3)))[1], labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return model


def load_classifier(path: str | Path | None = None) -> DigitsClassifier:
    """Read the classifier from a file or the user's cache; train it if the cache has none.

    Parameters
    ----------
    path : str or Path, optional
        A .safetensors file with its ``state_dict``; only read. Without it, the trained classifier goes to the cache if
        that is writable.

    Raises
    ------
    ValueError
        The file is not of this classifier.
    """
    model = DigitsClassifier()
    if path is None:
        model.load_state_dict(kept(FILE, lambda: train_classifier().state_dict()))
    else:
        try:
            model.load_state_dict(load_file(path))
        except (SafetensorError, RuntimeError, OSError) as error:
            why = str(error).splitlines()[-1].strip()
            raise ValueError(f"{path} cannot be read as the weights of the digits classifier: {why}") from error
    return model.eval().requires_grad_(False)
