from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from sttp_riemann.lab.training.sheets import png, slerp_path


def pixels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)))


def test_a_sheet_shows_images_row_by_row():
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 1, 32, 32)
    sheet = pixels(png(images, columns=3))
    assert sheet.shape == (66, 100, 3)
    assert sheet[::34, ::34, 0].tolist() == [[0, 1, 2], [3, 4, 255]]
    assert (sheet[32:34] == 255).all()


def test_small_images_are_drawn_in_larger_pixels():
    images = torch.randint(0, 255, (4, 3, 8, 8), dtype=torch.uint8)
    sheet = pixels(png(images))
    assert sheet.shape == (66, 66, 3)
    assert (sheet[:32:4, :32:4] == images[0].permute(1, 2, 0).numpy()).all()


def test_a_path_leads_from_one_end_to_the_other_at_even_angles():
    torch.manual_seed(0)
    start, end = torch.nn.functional.normalize(torch.randn(2, 4, 7, dtype=torch.float64), dim=2)
    path = slerp_path(start, end, 5)
    torch.testing.assert_close(path[:, 0], start)
    torch.testing.assert_close(path[:, -1], end)
    torch.testing.assert_close(path.norm(dim=2), torch.ones(4, 5, dtype=torch.float64))
    angles = (path[:, 1:] * path[:, :-1]).sum(2).acos()
    torch.testing.assert_close(angles, angles[:, :1].expand_as(angles), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 1 + 1e-7])
def test_ends_that_are_the_same_give_a_straight_path(factor):
    start = torch.ones(1, 3)
    assert slerp_path(start, factor * start, 4).isfinite().all()
