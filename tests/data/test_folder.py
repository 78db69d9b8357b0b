import pytest
import torch
from PIL import Image

from sttp_riemann.data import load_dataset


def paint(path, value, size=(4, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 0)).save(path)


@pytest.fixture
def two_classes(tmp_path):
    """Ten images whose red is their place in the order of class and name."""
    for k in range(10):
        paint(tmp_path / ("bee" if k < 6 else "cat") / f"{k}.png", k)
    return tmp_path


def red(images):
    return images[:, 0, 0, 0].tolist()


def test_every_fifth_file_is_for_testing(two_classes):
    data = load_dataset(f"folder:{two_classes}")
    assert red(data.test_images) == [4, 9]
    assert red(data.train_images) == [0, 1, 2, 3, 5, 6, 7, 8]


def test_classes_are_numbered_in_the_order_of_their_names(two_classes):
    data = load_dataset(f"folder:{two_classes}")
    assert data.num_classes == 2
    assert data.train_labels.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


def test_train_and_test_folders_are_the_split_where_they_exist(tmp_path):
    for k, part in enumerate(["train", "train", "test"]):
        paint(tmp_path / part / "bee" / f"{k}.png", k)
    data = load_dataset(f"folder:{tmp_path}")
    assert red(data.train_images) == [0, 1]
    assert red(data.test_images) == [2]


def test_images_of_any_shape_are_cut_to_the_size_asked_for(two_classes):
    paint(two_classes / "bee" / "wide.png", 20, size=(9, 5))
    data = load_dataset(f"folder:{two_classes}", image_size=6)
    assert data.train_images.shape == (9, 3, 6, 6)


def test_a_grey_channel_can_be_asked_for(two_classes):
    assert load_dataset(f"folder:{two_classes}", channels=1).batch([0, 1])[0].shape == (2, 1, 4, 4)


def test_images_of_several_sizes_need_a_size(two_classes):
    paint(two_classes / "bee" / "large.png", 20, size=(8, 8))
    with pytest.raises(ValueError, match="differ in size: set image_size"):
        load_dataset(f"folder:{two_classes}")


def test_images_that_are_not_square_need_a_size(tmp_path):
    for k in range(5):
        paint(tmp_path / "bee" / f"{k}.png", k, size=(6, 4))
    with pytest.raises(ValueError, match="6x4, not square: set image_size"):
        load_dataset(f"folder:{tmp_path}")


def test_parts_of_different_sizes_need_a_size(tmp_path):
    paint(tmp_path / "train" / "bee" / "0.png", 0)
    paint(tmp_path / "test" / "bee" / "0.png", 0, size=(8, 8))
    with pytest.raises(ValueError, match="differ in size: set image_size"):
        load_dataset(f"folder:{tmp_path}")


def test_parts_with_different_classes_are_refused(tmp_path):
    paint(tmp_path / "train" / "bee" / "0.png", 0)
    paint(tmp_path / "test" / "wasp" / "0.png", 0)
    with pytest.raises(ValueError, match="only one of them has bee, wasp"):
        load_dataset(f"folder:{tmp_path}")


def test_too_few_images_to_split_are_refused(tmp_path):
    paint(tmp_path / "bee" / "0.png", 0)
    with pytest.raises(ValueError, match="five are the fewest"):
        load_dataset(f"folder:{tmp_path}")


def test_a_damaged_image_is_named(two_classes):
    damaged = two_classes / "cat" / "damaged.png"
    damaged.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"cannot read .*damaged\.png"):
        load_dataset(f"folder:{two_classes}")


@pytest.mark.parametrize("path", ["", ":nowhere/at/all"])
def test_a_missing_folder_is_named_with_the_remedy(path):
    with pytest.raises(FileNotFoundError, match="give folder:PATH with one folder a class"):
        load_dataset(f"folder{path}")


def test_the_same_files_give_the_same_batch(two_classes):
    first, second = (load_dataset(f"folder:{two_classes}", image_size=8).batch(range(8)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
