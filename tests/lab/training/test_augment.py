from __future__ import annotations

import sys

import pytest
import torch

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab.training.augment import Augmentation
from sttp_riemann.lab.training.recipe import Recipe

IMAGES = torch.arange(8 * 16.0).view(8, 1, 4, 4)
LABELS = torch.arange(8) % 3


def augmentation(**fields) -> Augmentation:
    return Augmentation(Recipe().changed(**fields), classes=3, example=IMAGES[0])


def test_nothing_asked_for_changes_nothing():
    images, labels = augmentation()(IMAGES, LABELS)
    assert images is IMAGES
    assert labels is LABELS


def test_each_image_is_transformed_by_itself():
    pytest.importorskip("torchvision")
    torch.manual_seed(0)
    images, labels = augmentation(augment={"RandomHorizontalFlip": {}})(IMAGES, LABELS)
    flipped = [torch.equal(new, old.flip(-1)) for new, old in zip(images, IMAGES, strict=True)]
    same = [torch.equal(new, old) for new, old in zip(images, IMAGES, strict=True)]
    assert any(flipped)
    assert any(same)
    assert all(a or b for a, b in zip(flipped, same, strict=True))
    assert labels is LABELS


def test_transforms_take_their_options_in_order():
    pytest.importorskip("torchvision")
    images, _ = augmentation(augment={"Pad": {"padding": 1}, "CenterCrop": {"size": 4}})(IMAGES, LABELS)
    assert torch.equal(images, IMAGES)


def test_mixup_mixes_images_and_labels_in_the_same_shares():
    pytest.importorskip("torchvision")
    torch.manual_seed(0)
    images, labels = augmentation(mixup=1.0)(IMAGES, LABELS)
    assert labels.shape == (8, 3)
    assert labels.sum(1).tolist() == pytest.approx([1] * 8)
    share = labels[1, 1].item()
    assert torch.allclose(images[1], share * IMAGES[1] + (1 - share) * IMAGES[0])


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ({"RandomFlop": {}}, "torchvision.transforms.v2 has no transform 'RandomFlop'"),
        ({"functional": {}}, "torchvision.transforms.v2 has no transform 'functional'"),
        ({"RandomCrop": {"sise": 3}}, "RandomCrop does not take {'sise': 3}"),
        ({"RandomCrop": {"size": 9}}, "augment does not work on images of 1x4x4"),
        ({"RandomCrop": {"size": 2}}, "augment makes images of 1x2x2 from 1x4x4: keep their shape"),
    ],
)
def test_transforms_that_cannot_be_used_are_refused_by_name(augment, message):
    pytest.importorskip("torchvision")
    with pytest.raises(RecipeError) as error:
        augmentation(augment=augment)
    assert message in str(error.value)


def test_a_missing_torchvision_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    with pytest.raises(RecipeError, match=r"need torchvision: pip install 'sttp-riemann\[vision\]'"):
        augmentation(mixup=0.2)
