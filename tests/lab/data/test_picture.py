"""Pixels of every kind become bytes of three channels."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sttp_riemann.lab.data.picture import read_picture

RAMP = np.arange(16).reshape(4, 4)


def write_png(path: Path, pixels: np.ndarray, colour: int) -> None:
    """Write a PNG of 16 bits; PIL writes only grey ones."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)), (b"IDAT", zlib.compress(rows))]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in [*parts, (b"IEND", b"")]:
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "image.png"


def test_16_bit_grey_keeps_its_contrast(file):
    write_png(file, RAMP * 4369, colour=0)
    assert read_picture(file).tolist() == [(RAMP * 17).tolist()] * 3


def test_dark_and_bright_16_bit_images_stay_comparable(file):
    write_png(file, np.full((4, 4), 2570), colour=0)
    assert read_picture(file).unique().tolist() == [10]


@pytest.mark.parametrize("size", [None, 4])
def test_16_bit_grey_is_the_same_after_scaling(file, size):
    write_png(file, np.full((8, 8), 25700), colour=0)
    assert read_picture(file, size).unique().tolist() == [100]


def test_16_bit_colour_keeps_its_contrast(file):
    pixels = np.stack([RAMP, RAMP[::-1], RAMP.T], -1) * 4369
    write_png(file, pixels, colour=2)
    assert np.array_equal(read_picture(file).numpy(), pixels.transpose(2, 0, 1) // 257)


def test_8_bit_grey_is_three_equal_channels(file):
    Image.fromarray((RAMP * 17).astype(np.uint8)).save(file)
    assert read_picture(file).tolist() == [(RAMP * 17).tolist()] * 3


def test_one_bit_is_black_and_white(file):
    Image.fromarray(RAMP % 2 == 1).save(file)
    assert read_picture(file).tolist() == [(RAMP % 2 * 255).tolist()] * 3


def test_a_palette_gives_its_colours(file):
    image = Image.fromarray((RAMP % 2).astype(np.uint8), mode="P")
    image.putpalette([1, 2, 3, 40, 50, 60])
    image.save(file)
    assert read_picture(file)[:, 0, :2].tolist() == [[1, 40], [2, 50], [3, 60]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_shows_a_white_page(file, mode):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 2, 4))
    image.convert(mode).save(file)
    assert read_picture(file)[:, 0].tolist() == [[0, 0, 255, 255]] * 3


def test_what_is_opaque_keeps_its_colour_under_alpha(file):
    Image.new("RGBA", (4, 4), (10, 20, 30, 255)).save(file)
    assert read_picture(file)[:, 0, 0].tolist() == [10, 20, 30]


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(RAMP.astype(np.float32)).save(tmp_path / "image.tif")
    with pytest.raises(ValueError, match=r"image\.tif as an image: its pixels are floating-point"):
        read_picture(tmp_path / "image.tif")


def test_pixels_of_more_than_16_bits_are_refused(tmp_path):
    Image.fromarray((RAMP * 10**6).astype(np.int32)).save(tmp_path / "image.tif")
    with pytest.raises(ValueError, match=r"its pixels go from 0 to 15000000, beyond 16 bits"):
        read_picture(tmp_path / "image.tif")


@pytest.mark.parametrize("kept", [0, 8, 20, 40, 60])
def test_a_truncated_file_is_named(file, kept):
    write_png(file, RAMP * 4369, colour=2)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"cannot read .*image\.png as an image"):
        read_picture(file)


def test_a_folder_that_is_called_like_an_image_is_named(file):
    file.mkdir()
    with pytest.raises(ValueError, match=r"cannot read .*image\.png as an image"):
        read_picture(file)
