import pytest
import torch

from sttp_riemann.lab.networks import build_model


@pytest.mark.parametrize(("depth", "count"), [(20, 269_722), (32, 464_154), (56, 853_018)])
def test_cifar_resnet_has_the_published_number_of_parameters(depth, count):
    assert sum(p.numel() for p in build_model("cifar_resnet", depth=depth).parameters()) == count


def test_wide_resnet_has_as_many_numbers_as_the_papers():
    with torch.device("meta"):
        model = build_model("wide_resnet")
    floats = [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]
    assert sum(t.numel() for t in floats) == 36_507_242


def test_cifar_resnet_depth_counts_convolutions_and_the_linear_layer():
    model = build_model("cifar_resnet", depth=32)
    assert sum(isinstance(m, torch.nn.Conv2d | torch.nn.Linear) for m in model.modules()) == 32


def test_wide_resnet_depth_counts_convolutions_and_shortcuts():
    model = build_model("wide_resnet", depth=16, widen_factor=2)
    assert sum(isinstance(m, torch.nn.Conv2d) for m in model.modules()) == 16


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("digits_resnet", {"width": 8, "depth": 2}),
        ("cifar_resnet", {"depth": 8, "width": 4}),
        ("wide_resnet", {"depth": 10, "widen_factor": 1}),
    ],
)
def test_classifier_scores_classes_for_images_of_any_size_and_channels(name, options):
    model = build_model(name, num_classes=7, in_channels=2, **options)
    assert model(torch.randn(3, 2, 8, 8)).shape == (3, 7)
    assert model(torch.randn(3, 2, 17, 17)).shape == (3, 7)


def test_cifar_resnet_shortcut_keeps_every_second_pixel_and_fills_with_zeros():
    block = build_model("cifar_resnet", depth=8, width=4).blocks[1]
    torch.nn.init.zeros_(block.norm2.weight)
    maps = torch.rand(2, 4, 6, 6)
    out = block(maps)
    torch.testing.assert_close(out[:, :4], maps[..., ::2, ::2])
    assert not out[:, 4:].any()


@pytest.mark.parametrize(("name", "depth"), [("cifar_resnet", 21), ("wide_resnet", 27)])
def test_depth_without_whole_stages_is_refused(name, depth):
    with pytest.raises(ValueError, match="depth must be 6n"):
        build_model(name, depth=depth)


def test_the_digits_network_has_many_layers_of_one_shape():
    model = build_model("digits_resnet", in_channels=1)
    shapes = [tuple(m.weight.shape) for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert shapes.count((64, 64, 3, 3)) == len(shapes) - 1 == 8
