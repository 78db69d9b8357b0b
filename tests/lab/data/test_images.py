import pytest
import torch
from torch.nn.functional import interpolate

from sttp_riemann.lab.data import ImageData, images


def image_data(stored, channels, image_size):
    labels = torch.arange(len(stored))
    return ImageData(stored, labels, stored[:2] // 2, labels[:2] + 5, len(stored), channels, image_size)


@pytest.fixture
def noise():
    return torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_bytes_become_numbers_from_minus_one_to_one():
    stored = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    batch, _ = image_data(stored, channels=1, image_size=1).batch([0, 1, 2])
    torch.testing.assert_close(batch.flatten(), torch.tensor([-1.0, -0.6, 1.0]))


def test_a_batch_is_in_the_order_of_its_indices(noise):
    data = image_data(noise, channels=3, image_size=8)
    batch, labels = data.batch(torch.tensor([4, 1, 4]))
    torch.testing.assert_close(batch, noise[[4, 1, 4]].float() / 127.5 - 1)
    assert labels.tolist() == [4, 1, 4]


def test_test_images_come_with_their_own_labels(noise):
    batch, labels = image_data(noise, channels=3, image_size=8).batch([1], train=False)
    torch.testing.assert_close(batch, (noise[[1]] // 2).float() / 127.5 - 1)
    assert labels.tolist() == [6]


@pytest.mark.parametrize(("channels", "size"), [(3, 8), (3, 13), (3, 5), (1, 8), (1, 13)])
def test_large_data_give_the_batches_that_small_data_give(noise, monkeypatch, channels, size):
    small = image_data(noise, channels, size)
    monkeypatch.setattr(images, "SMALL", 0)
    large = image_data(noise, channels, size)
    assert small._ready
    assert not large._ready
    torch.testing.assert_close(large.batch([5, 2])[0], small.batch([5, 2])[0])


def test_enlarging_interpolates_and_keeps_the_bytes(noise):
    data = image_data(noise, channels=3, image_size=16)
    expected = interpolate(noise.float() / 127.5 - 1, size=(16, 16), mode="bilinear")
    torch.testing.assert_close(data.batch(range(6))[0], expected)
    assert data.train_images.shape[-1] == 8


def test_shrinking_averages_before_it_leaves_pixels_out():
    # White where plain interpolation by a factor of 4 does not look.
    stripes = torch.tensor([255, 0, 0, 255], dtype=torch.uint8).repeat(16, 4)[None, None]
    shrunk = image_data(stripes, channels=1, image_size=4).train_images
    assert shrunk.shape[-1] == 4
    assert ((shrunk > 100) & (shrunk < 155)).all()


def test_one_channel_is_repeated(noise):
    data = image_data(noise[:, :1], channels=3, image_size=8)
    batch, _ = data.batch([0])
    assert batch.shape == (1, 3, 8, 8)
    assert torch.equal(batch[:, 0], batch[:, 1])
    assert torch.equal(batch[:, 0], batch[:, 2])


def test_three_channels_become_their_luminance():
    green = torch.tensor([0, 255, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    grey, _ = image_data(green, channels=1, image_size=1).batch([0])
    assert grey.item() == pytest.approx(2 * 0.587 - 1)


def test_other_channels_are_refused(noise):
    with pytest.raises(ValueError, match="images of 3 channels cannot become 2"):
        image_data(noise, channels=2, image_size=8)
