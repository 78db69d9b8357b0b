"""Read one image file of any pixel type as three channels of bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sttp_riemann.lab.data.vision import require_torchvision

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""File names that count as images."""
_LARGEST = 2**16 - 1


def read_picture(path: Path, size: int | None = None) -> Tensor:
    """Read an image of 8 or 16 bits: grey, colour or with a palette.

    Parameters
    ----------
    path : Path
        The file.
    size : int, optional
        Scale the shorter side to this size, and crop the centre to a square.

    Returns
    -------
    Tensor
        uint8 (3, H, W). 16 bits are rounded to 8, so that images keep their contrast and stay comparable; transparent
        pixels show a white page.

    Raises
    ------
    ValueError
        It cannot be read as an image, or the range of its pixels is unknown.
    """
    functional = require_torchvision("reading images").transforms.functional
    try:
        image = _decode(path)
        if size is not None:
            image = functional.center_crop(functional.resize(image, size), [size, size])
        pixels: Tensor = functional.pil_to_tensor(image)
    except Exception as error:
        # Decoders raise many kinds of errors
        raise ValueError(f"cannot read {path} as an image: {error or type(error).__name__}") from error
    return pixels


def _decode(path: Path) -> Any:
    from PIL import Image

    with path.open("rb") as file, Image.open(file) as image:
        image.load()
        if image.mode.startswith("I"):
            pixels = np.asarray(image).astype(np.int64)
            if pixels.min() < 0 or pixels.max() > _LARGEST:
                raise ValueError(f"its pixels go from {pixels.min()} to {pixels.max()}, beyond 16 bits")
            return Image.fromarray(((pixels * 255 + _LARGEST // 2) // _LARGEST).astype(np.uint8)).convert("RGB")
        if image.mode == "F":
            raise ValueError("its pixels are floating-point numbers, whose range is not known")
        if image.has_transparency_data:
            # Palettes and grey images encode transparency differently
            shown = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
        return image.convert("RGB")
