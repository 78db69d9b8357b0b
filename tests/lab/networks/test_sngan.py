import pytest
import torch

from sttp_riemann.lab.networks import build_model


def numbers(model):
    floats = [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]
    return sum(t.numel() for t in floats)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("sngan32_discriminator", 1_053_824),
        ("sngan32_generator", 4_280_323),
        ("sngan48_discriminator", 10_141_440),
    ],
)
@pytest.mark.parametrize("variant", ["original", "released"])
def test_network_has_as_many_numbers_as_the_papers(name, count, variant):
    assert numbers(build_model(name, variant=variant)) == count


@pytest.mark.parametrize("size", [32, 48, 64, 128])
@pytest.mark.parametrize("num_classes", [None, 3])
def test_generator_and_discriminator_fit_together(size, num_classes):
    generator = build_model(f"sngan{size}_generator", num_classes, in_channels=1, width=16)
    discriminator = build_model(f"sngan{size}_discriminator", num_classes, in_channels=1, width=16)
    labels = None if num_classes is None else torch.tensor([0, 2])
    images = generator(torch.randn(2, generator.latent_dim), labels)
    assert images.shape == (2, 1, size, size)
    assert images.abs().max() <= 1
    assert discriminator(images, labels).shape == (2,)


@pytest.mark.parametrize(
    ("size", "sides"), [(32, [16, 8, 8, 8]), (48, [24, 12, 6, 3, 3]), (128, [64, 32, 16, 8, 4, 4])]
)
def test_discriminator_halves_the_size_where_the_appendix_does(size, sides):
    discriminator = build_model(f"sngan{size}_discriminator", width=16)
    maps, seen = torch.zeros(1, 3, size, size), []
    for block in discriminator.blocks:
        maps = block(maps)
        seen.append(maps.shape[-1])
    assert seen == sides


def test_width_is_that_of_the_widest_stage():
    discriminator = build_model("sngan48_discriminator", width=64)
    assert [block.conv2.out_channels for block in discriminator.blocks] == [4, 8, 16, 32, 64]


@pytest.mark.parametrize("part", ["generator", "discriminator"])
def test_conditional_network_tells_classes_apart(part):
    model = build_model(f"sngan32_{part}", num_classes=2, width=16).eval()
    if part == "generator":
        torch.nn.init.normal_(model.blocks[0].norm1.shift.weight)
    inputs = torch.randn(1, 128) if part == "generator" else torch.randn(1, 3, 32, 32)
    assert not torch.allclose(model(inputs, torch.tensor([0])), model(inputs, torch.tensor([1])))


def test_discriminator_adds_the_projection_of_the_class():
    model = build_model("sngan32_discriminator", num_classes=2, width=16)
    images, labels = torch.randn(3, 3, 32, 32), torch.tensor([0, 1, 1])
    features = torch.relu(model.blocks(images)).sum((2, 3))
    expected = (features * (model.linear.weight + model.embedding.weight[labels])).sum(1)
    torch.testing.assert_close(model(images, labels), expected)


@pytest.mark.parametrize("part", ["generator", "discriminator"])
def test_missing_labels_are_refused(part):
    inputs = torch.randn(2, 128) if part == "generator" else torch.randn(2, 3, 32, 32)
    with pytest.raises(ValueError, match="call it with labels"):
        build_model(f"sngan32_{part}", num_classes=2, width=16)(inputs)


@pytest.mark.parametrize("part", ["generator", "discriminator"])
def test_labels_for_an_unconditional_network_are_refused(part):
    inputs = torch.randn(2, 128) if part == "generator" else torch.randn(2, 3, 32, 32)
    with pytest.raises(ValueError, match="unconditional"):
        build_model(f"sngan32_{part}", width=16)(inputs, torch.tensor([0, 1]))


def test_width_that_leaves_part_of_a_channel_is_refused():
    with pytest.raises(ValueError, match="multiple of 16"):
        build_model("sngan48_discriminator", width=72)
