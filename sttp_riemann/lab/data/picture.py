"""One image file as three channels of bytes, whatever kind of pixels it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sttp_riemann.lab.data.vision import require_torchvision

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Of the files that are images."""
_LARGEST = 2**16 - 1


def read_picture(path: Path, size: int | None = None) -> Tensor:
    """Read an image of 8 or 16 bits: grey, colour or with a palette.

    Parameters
    ----------
    path : Path
        The file.
    size : int, optional
        Side of the square that is cut from its centre, once its shorter side has been scaled to it.

    Returns
    -------
    Tensor
        uint8 (3, H, W). 16 bits become the nearest of 8, so that images keep their contrast and stay comparable; what
        is transparent shows a white page.

    Raises
    ------
    ValueError
        It cannot be read as an image, or its pixels have no range that is known.
    """
    functional = require_torchvision("reading images").transforms.functional
    try:
        image = _decode(path)
        if size is not None:
            image = functional.center_crop(functional.resize(image, size), [size, size])
        pixels: Tensor = functional.pil_to_tensor(image)
    except Exception as error:
        # Decoders raise of their own many kinds
        raise ValueError(f"cannot read {path} as an image: {error or type(error).__name__}") from error
    return pixels


def _decode(path: Path) -> Any:
    from PIL import Image

    with path.open("rb") as file, Image.open(file) as image:
        image.load()
        if image.mode.startswith("I"):
            return Image.fromarray(_bytes_of(image).numpy()).convert("RGB")
        if image.mode == "F":
            raise ValueError("its pixels are floating-point numbers, whose range is not known")
        if image.has_transparency_data:
            # A palette has its own kind of transparency, and grey images have another
            shown = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
        return image.convert("RGB")


def _bytes_of(image: Any) -> Tensor:
    import numpy as np

    pixels = torch.from_numpy(np.asarray(image).astype(np.int64))
    if int(pixels.min()) < 0 or int(pixels.max()) > _LARGEST:
        raise ValueError(f"its pixels go from {int(pixels.min())} to {int(pixels.max())}, beyond 16 bits")
    return ((pixels * 255 + _LARGEST // 2) // _LARGEST).to(torch.uint8)
