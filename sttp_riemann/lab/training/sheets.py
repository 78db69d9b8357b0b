"""Sheets of many small images, and paths between points of latent space."""

from __future__ import annotations

import io
import math

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

GAP = 2
"""White pixels between images."""
SIDE = 32
"""Images smaller than this are drawn in larger pixels."""


def png(images: Tensor, columns: int | None = None) -> bytes:
    """Draw images side by side.

    Parameters
    ----------
    images : Tensor
        uint8 (N, C, H, W) with C = 1 or 3.
    columns : int, optional
        Images per row; by default, so that the sheet is about square.

    Returns
    -------
    bytes
        A PNG file.
    """
    columns = columns or math.ceil(math.sqrt(len(images)))
    scale = max(1, SIDE // images.shape[-1])
    large = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    large = pad(large, (0, GAP, 0, GAP), value=255).permute(0, 2, 3, 1)
    missing = -len(large) % columns
    large = torch.cat([large, large.new_full((missing, *large.shape[1:]), 255)])
    width, channels = large.shape[2:]
    sheet = large.unflatten(0, (-1, columns)).transpose(1, 2).reshape(-1, columns * width, channels)[:-GAP, :-GAP]
    buffer = io.BytesIO()
    Image.fromarray(sheet.expand(-1, -1, 3).contiguous().numpy()).save(buffer, format="png")
    return buffer.getvalue()


def slerp_path(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Spherical interpolation, which preserves the length of Gaussian noise.

    Parameters
    ----------
    start, end : Tensor
        (N, D), no two of them opposite.
    steps : int
        Points of each path, both ends included.

    Returns
    -------
    Tensor
        (N, steps, D).

    Notes
    -----
    White 2016, "Sampling Generative Networks" (arXiv 1609.04468).
    """
    cosine = torch.nn.functional.cosine_similarity(start, end).clamp(-1, 1)
    angle = cosine.acos().view(-1, 1, 1)
    share = torch.linspace(0, 1, steps).view(1, -1, 1)
    # Between nearly equal ends the path is a straight line
    straight = angle < 1e-4
    sine = torch.where(straight, 1.0, angle.sin())
    left = torch.where(straight, 1 - share, ((1 - share) * angle).sin() / sine)
    right = torch.where(straight, share, (share * angle).sin() / sine)
    return left * start.unsqueeze(1) + right * end.unsqueeze(1)
