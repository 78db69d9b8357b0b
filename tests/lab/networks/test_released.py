"""The networks of the code released with the paper: each against a forward pass written from the facts about it."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate, relu

from sttp_riemann.lab.networks import build_model

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def released_scores(model, images):
    """SNGAN's discriminator as its code runs: every ReLU overwrites its input, before a shortcut reads it."""
    first, *others = model.blocks
    maps = avg_pool2d(first.conv2(relu(first.conv1(images), inplace=True)), 2) + first.shortcut(avg_pool2d(images, 2))
    for block in others:
        inner = block.conv2(relu(block.conv1(relu(maps, inplace=True)), inplace=True))
        shortcut = maps if block.shortcut is None else block.shortcut(maps)
        maps = avg_pool2d(inner, 2) + avg_pool2d(shortcut, 2) if block.down else inner + shortcut
    return model.linear(relu(maps, inplace=True).sum((2, 3))).squeeze(1)


@pytest.mark.parametrize("size", [32, 48, 64, 128])
def test_the_shortcuts_of_a_released_discriminator_see_what_its_relu_leaves(size):
    model = build_model(f"sngan{size}_discriminator", width=16, variant="released").double()
    images = 3 * torch.randn(2, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(images), released_scores(model, images), **EXACT)


@pytest.mark.parametrize("size", [32, 48])
def test_the_original_discriminator_is_another_function(size):
    model = build_model(f"sngan{size}_discriminator", width=16)
    images = 3 * torch.randn(2, 3, size, size)
    with torch.no_grad():
        assert not torch.allclose(model(images), released_scores(model, images), rtol=1e-2)


@pytest.mark.parametrize(("variant", "last"), [("original", 4), ("released", 2)])
def test_only_the_released_discriminator_for_64_pixels_halves_in_its_last_block(variant, last):
    model = build_model("sngan64_discriminator", width=16, variant=variant)
    assert model.blocks(torch.zeros(1, 3, 64, 64)).shape[-1] == last


@pytest.mark.parametrize("part", ["generator", "discriminator"])
@pytest.mark.parametrize("size", [32, 48, 64, 128])
def test_a_released_network_has_the_numbers_of_the_original_and_takes_its_weights(part, size):
    ours, theirs = (build_model(f"sngan{size}_{part}", width=16, variant=v) for v in ("original", "released"))
    theirs.load_state_dict(ours.state_dict())
    # All biases of the original start at zero, those of the released one as torch draws them
    biases = [name for name, _ in theirs.named_parameters() if name.endswith("bias") and "norm" not in name]
    fresh = build_model(f"sngan{size}_{part}", width=16, variant="released").state_dict()
    assert biases
    assert all(fresh[name].any() and not ours.state_dict()[name].any() for name in biases)


def test_a_released_generator_is_the_original_function():
    ours, theirs = (build_model("sngan32_generator", width=16, variant=v).eval() for v in ("original", "released"))
    theirs.load_state_dict(ours.state_dict())
    noise = torch.randn(2, 128)
    assert torch.equal(ours(noise), theirs(noise))


def normalized(norm, maps):
    mean, var, gain, shift = (t.view(-1, 1, 1) for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias))
    return (maps - mean) / (var + 1e-5).sqrt() * gain + shift


def released_images(model, noise):
    """SNGAN's generator: each block normalizes, doubles its maps bilinearly, and adds its doubled input, projected."""
    bottom = model.bottom
    maps = (noise @ model.linear.weight.T + model.linear.bias).view(len(noise), -1, bottom, bottom)
    for block in model.blocks:
        both = [
            interpolate(m, scale_factor=2, mode="bilinear", align_corners=False)
            for m in (relu(normalized(block.norm1.norm, maps)), maps)
        ]
        inner = block.conv2(relu(normalized(block.norm2.norm, block.conv1(both[0]))))
        maps = inner + block.shortcut(both[1])
    return torch.tanh(model.to_image(relu(normalized(model.norm.norm, maps))))


@pytest.mark.parametrize("size", [32, 48, 64, 128])
def test_a_released_generator_computes_what_its_facts_say(size):
    model = build_model(f"sngan{size}_generator", width=16, variant="released").double().eval()
    with torch.no_grad():
        for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            norm.weight.normal_()
        noise = torch.randn(2, 128, dtype=torch.float64)
        torch.testing.assert_close(model(noise), released_images(model, noise), **EXACT)


def released_classes(model, images):
    maps = model.conv1(images)
    for block in model.blocks:
        inner = block.conv2(relu(block.norm2(block.conv1(relu(block.norm1(maps))))))
        maps = inner + (maps if block.shortcut is None else block.shortcut(maps))
    return model.linear(relu(model.norm(maps)).mean((2, 3)))


def test_released_wide_resnet_strides_late_and_projects_its_raw_input():
    model = build_model("wide_resnet", depth=16, widen_factor=2, variant="released").double()
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(model(images), released_classes(model, images), **EXACT)
    strides = [(b.conv1.stride[0], b.conv2.stride[0], b.shortcut and b.shortcut.stride[0]) for b in model.blocks]
    assert strides == [(1, 1, 1), (1, 1, None), (1, 2, 2), (1, 1, None), (1, 2, 2), (1, 1, None)]


def test_the_original_wide_resnet_is_another_function():
    model = build_model("wide_resnet", depth=10, widen_factor=2)
    images = torch.randn(4, 3, 16, 16)
    assert not torch.allclose(model(images), released_classes(model, images), rtol=1e-2)


@pytest.mark.parametrize(("variant", "last"), [("original", 0.1), ("released", 0.9)])
def test_only_the_last_batch_normalization_of_the_released_wide_resnet_forgets_fast(variant, last):
    model = build_model("wide_resnet", depth=10, widen_factor=1, variant=variant)
    norms = [m.momentum for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms == [0.1] * (len(norms) - 1) + [last]


@pytest.mark.parametrize("variant", ["original", "released"])
def test_either_wide_resnet_has_as_many_numbers_as_the_papers(variant):
    with torch.device("meta"):
        model = build_model("wide_resnet", variant=variant)
    floats = [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]
    assert sum(t.numel() for t in floats) == 36_507_242


@pytest.mark.parametrize("name", ["wide_resnet", "sngan32_discriminator", "sngan32_generator"])
@pytest.mark.parametrize("variant", ["release", "", 1, None, ["released"], "x" * 1000])
def test_an_unknown_variant_is_refused_by_name(name, variant):
    with pytest.raises(ValueError, match="variant must be 'original' or 'released', got ") as error:
        build_model(name, variant=variant)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("part", ["generator", "discriminator"])
def test_there_is_no_released_network_for_8_pixels(part):
    with pytest.raises(ValueError, match="no released network for 8 pixels: leave variant at 'original'"):
        build_model(f"sngan8_{part}", variant="released")


@pytest.mark.parametrize("variant", ["original", "released"])
@pytest.mark.parametrize(
    ("size", "bottom", "ups", "downs"),
    [
        (32, 4, [(256, 256)] * 3, [(3, 128), (128, 128), (128, 128), (128, 128)]),
        (48, 6, [(512, 256), (256, 128), (128, 64)], [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]),
    ],
)
def test_the_papers_gans_have_its_channels(size, bottom, ups, downs, variant):
    with torch.device("meta"):
        generator, discriminator = (
            build_model(f"sngan{size}_{part}", variant=variant) for part in ("generator", "discriminator")
        )
    assert (generator.latent_dim, generator.linear.out_features) == (128, bottom**2 * ups[0][0])
    assert [(block.conv1.in_channels, block.conv2.out_channels) for block in generator.blocks] == ups
    assert [(block.conv1.in_channels, block.conv2.out_channels) for block in discriminator.blocks] == downs
    plain = 2 if size == 32 else 1
    assert [block.down for block in discriminator.blocks] == [True] * (len(downs) - plain) + [False] * plain
    assert discriminator.linear.bias is None
    convolutions = [m for net in (generator, discriminator) for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(m.bias is not None for m in convolutions)
    # A 1x1 convolution where channels or size change, and nothing elsewhere
    for block in discriminator.blocks:
        changes = block.down or block.conv1.in_channels != block.conv2.out_channels
        assert (block.shortcut is not None) == changes
