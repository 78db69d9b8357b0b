import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from sttp_riemann.lab.networks.sngan_blocks import DownBlock, Norm, UpBlock


def silence(conv):
    torch.nn.init.zeros_(conv.weight)
    torch.nn.init.zeros_(conv.bias)


def test_plain_block_of_equal_channels_passes_its_input_on():
    block, maps = DownBlock(4, 4, down=False), torch.randn(2, 4, 6, 6)
    silence(block.conv2)
    torch.testing.assert_close(block(maps), maps)


@pytest.mark.parametrize(("out_channels", "down"), [(4, True), (8, True), (8, False)])
def test_shortcut_is_a_convolution_where_channels_or_size_change(out_channels, down):
    block, maps = DownBlock(4, out_channels, down), torch.randn(2, 4, 6, 6)
    silence(block.conv2)
    expected = block.shortcut(maps)
    torch.testing.assert_close(block(maps), avg_pool2d(expected, 2) if down else expected)


def test_inner_maps_of_a_down_block_have_the_inputs_channels():
    assert DownBlock(4, 8, down=True).conv1.out_channels == 4


def test_first_block_sees_negative_pixels():
    block = DownBlock(3, 4, down=True, first=True)
    silence(block.shortcut)
    torch.nn.init.constant_(block.conv1.weight, -1.0)
    black = -torch.ones(1, 3, 4, 4)
    assert not torch.allclose(block(black), block(torch.zeros(1, 3, 4, 4)))


def test_up_block_interpolates_its_shortcut_bilinearly():
    block, maps = UpBlock(4, 2, None), torch.randn(2, 4, 5, 5)
    silence(block.conv2)
    twice = interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(block(maps, None), block.shortcut(twice))


def test_conditional_norm_starts_as_the_ordinary_one():
    maps, labels = torch.randn(4, 3, 5, 5), torch.tensor([0, 1, 1, 0])
    torch.testing.assert_close(Norm(3, num_classes=2)(maps, labels), Norm(3)(maps, None))


def test_conditional_norm_scales_and_shifts_by_class():
    norm, maps, labels = Norm(3, num_classes=2), torch.randn(4, 3, 5, 5), torch.tensor([0, 1, 1, 0])
    with torch.no_grad():
        norm.gain.weight[1], norm.shift.weight[1] = 2.0, 5.0
    plain = Norm(3)(maps, None)
    torch.testing.assert_close(norm(maps, labels)[1:3], 2 * plain[1:3] + 5)
    torch.testing.assert_close(norm(maps, labels)[0], plain[0])
