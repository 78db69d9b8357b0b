"""Small classifiers of grey images, whose features metrics use: trained once on a data set, and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
from sttp_riemann.lab.progress import progress

FEATURES = 64
SEED = 0
LR = 1e-2
# Training shifts images by up to a pixel, as generated ones need not be centred
SHIFT = 1


@dataclass(frozen=True)
class Kind:
    """A classifier.

    Attributes
    ----------
    data : str
        What it is trained on, a key of `DATASETS`.
    side : int
        Pixels of the images that it sees.
    halvings : int
        How often its maps are pooled to half their size, 1 or 2.
    epochs, batch : int
        Of its training.
    file : str
        In the cache. Change it with anything that changes the weights.
    """

    data: str
    side: int
    halvings: int
    epochs: int
    batch: int
    file: str


KINDS = {
    "digits": Kind("digits", 8, 1, 30, 64, "digits-classifier-1.safetensors"),
    "fashion_mnist": Kind("fashion_mnist", 28, 2, 3, 128, "fashion-classifier-1.safetensors"),
}


class Classifier(nn.Module):
    """Three convolutions, average pooling, a linear layer.

    The pooled maps, scaled to a mean square of 1, are the features that metrics use. KID takes their third power.

    Parameters
    ----------
    kind : Kind
        Which one.
    """

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        early = [nn.MaxPool2d(2)] if kind.halvings == 2 else []
        self.maps = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            *early,
            nn.Conv2d(32, FEATURES, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(FEATURES, FEATURES, 3, padding=1),
            nn.ReLU(),
        )
        self.linear = nn.Linear(FEATURES, 10)

    @override
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 64) and logits (N, 10) of grey images (N, 1, side, side) in [-1, 1]."""
        features = FEATURES**0.5 * normalize(self.maps(images).mean((2, 3)))
        return features, self.linear(features)

    def of_gray(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of RGB images (N, 3, H, W) with values 0 .. 255 without colors.

        Raises
        ------
        MetricError
            They have colors.
        """
        if not torch.equal(images, images[:, :1].expand_as(images)):
            raise MetricError(
                f"the classifier of {self.kind.data} sees gray images, and these have colors: set channels to 1, or "
                "extractor to 'stacked_digits' for data 'stacked_digits'"
            )
        found: tuple[Tensor, Tensor] = self(self._scaled(images[:, :1]))
        return found

    def of_channels(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 3, 64) and logits (N, 3, 10) of RGB images (N, 3, H, W), each channel an image of its own."""
        features, logits = self(self._scaled(images.flatten(0, 1).unsqueeze(1)))
        return features.unflatten(0, (-1, 3)), logits.unflatten(0, (-1, 3))

    def _scaled(self, gray: Tensor) -> Tensor:
        gray, side = gray.float() / 127.5 - 1, self.kind.side
        return interpolate(gray, size=(side, side), mode="area" if gray.shape[-1] >= side else "bilinear")


def train_classifier(kind: Kind, root: str | Path | None = None, download: bool = False) -> Classifier:
    """Train a classifier; the same weights every time on the same machine.

    Parameters
    ----------
    kind : Kind
        Which one.
    root, download : str or Path, and bool
        Where its data are, as `load_dataset` takes it.

    Returns
    -------
    Classifier
    """
    data = load_dataset(kind.data, root, download)
    steps = len(data.train_images) // kind.batch
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), progress(kind.epochs, kind.data, "epoch") as bar:
        torch.manual_seed(SEED)
        model = Classifier(kind)
        optimizer = torch.optim.Adam(model.parameters(), lr=LR)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, epochs=kind.epochs, steps_per_epoch=steps)
        for _ in range(kind.epochs):
            for batch in torch.randperm(len(data.train_images)).split(kind.batch)[:steps]:
                images, labels = data.batch(batch)
                shift = torch.randint(-SHIFT, SHIFT + 1, (2,)).tolist()
                loss = cross_entropy(model(images.roll(shift, (2, 3)))[1], labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            bar.update()
    return model


def load_classifier(
    name: str = "digits", path: str | Path | None = None, root: str | Path | None = None, download: bool = False
) -> Classifier:
    """Read a classifier from a file or the user's cache; train it if the cache has none.

    Parameters
    ----------
    name : str
        A key of `KINDS`.
    path : str or Path, optional
        A .safetensors file with its ``state_dict``; only read. Without it, the trained classifier goes to the cache if
        that is writable.
    root, download : str or Path, and bool
        Where its data are, as `load_dataset` takes it; needed where the cache has none.

    Raises
    ------
    ValueError
        The file is not of this classifier.
    MetricError
        The cache has none, and its data are missing or damaged.
    """
    model, kind = Classifier(KINDS[name]), KINDS[name]
    if path is None:
        model.load_state_dict(kept(kind.file, _trained(kind, root, download)))
        return model.eval().requires_grad_(False)
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, OSError) as error:
        why = str(error).splitlines()[-1].strip()
        raise ValueError(f"{path} cannot be read as the weights of the classifier of {name}: {why}") from error
    return model.eval().requires_grad_(False)


def _trained(kind: Kind, root: str | Path | None, download: bool) -> Callable[[], dict[str, Tensor]]:
    def compute() -> dict[str, Tensor]:
        try:
            return train_classifier(kind, root, download).state_dict()
        except (FileNotFoundError, ImportError, ValueError) as error:
            raise MetricError(f"extractor {kind.data!r} is trained on data that cannot be read: {error}") from error

    return compute
