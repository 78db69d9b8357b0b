import pytest
import torch
from PIL import Image

from sttp_riemann.lab.data import load_dataset


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
    with pytest.raises(FileNotFoundError, match="give folder:PATH with one folder per class"):
        load_dataset(f"folder{path}")


def test_the_same_files_give_the_same_batch(two_classes):
    first, second = (load_dataset(f"folder:{two_classes}", image_size=8).batch(range(8)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize("flat_test", [False, True])
def test_imagenets_layout_is_tested_on_val(tmp_path, flat_test):
    for k, name in enumerate(["bee", "cat"]):
        paint(tmp_path / "train" / name / f"{k}.png", k)
        paint(tmp_path / "val" / name / f"{k}.png", 10 + k)
    if flat_test:
        paint(tmp_path / "test" / "0.png", 20)
    data = load_dataset(f"folder:{tmp_path}")
    assert data.num_classes == 2
    assert (red(data.train_images), data.train_labels.tolist()) == ([0, 1], [0, 1])
    assert (red(data.test_images), data.test_labels.tolist()) == ([10, 11], [0, 1])


def test_a_test_folder_with_classes_is_what_is_tested_on(tmp_path):
    for k, part in enumerate(["train", "val", "test"]):
        paint(tmp_path / part / "bee" / "0.png", k)
    assert red(load_dataset(f"folder:{tmp_path}").test_images) == [2]


def test_a_class_may_be_called_train(tmp_path):
    for k in range(5):
        paint(tmp_path / "train" / f"{k}.png", k)
        paint(tmp_path / "plane" / f"{k}.png", k)
    assert load_dataset(f"folder:{tmp_path}").num_classes == 2


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_part_without_the_other_is_refused(tmp_path, part):
    paint(tmp_path / part / "bee" / "0.png", 0)
    with pytest.raises(ValueError, match=f"has the classes of {part} alone: both train and val"):
        load_dataset(f"folder:{tmp_path}")


def test_a_class_of_val_that_train_has_not_is_named_though_test_is_used(tmp_path):
    for part in ("train", "val", "test"):
        paint(tmp_path / part / "bee" / "0.png", 0)
    paint(tmp_path / "val" / "wasp" / "0.png", 0)
    with pytest.raises(ValueError, match="val must have the same classes, but only one of them has wasp"):
        load_dataset(f"folder:{tmp_path}")


def test_of_many_odd_classes_a_few_are_named(tmp_path):
    paint(tmp_path / "train" / "bee" / "0.png", 0)
    for k in range(50):
        paint(tmp_path / "val" / f"n{k:08d}" / "0.png", 0)
    with pytest.raises(ValueError, match="n00000003 and 46 others") as error:
        load_dataset(f"folder:{tmp_path}")
    assert len(str(error.value)) < 300


def test_a_class_without_images_is_named(two_classes):
    (two_classes / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"class 'empty' of .* has no image files"):
        load_dataset(f"folder:{two_classes}")


def test_a_folder_without_folders_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no folders: give folder:PATH with one folder per class"):
        load_dataset(f"folder:{tmp_path}")


def test_the_root_of_a_file_system_is_refused_before_it_is_searched():
    with pytest.raises((FileNotFoundError, PermissionError)):
        load_dataset("folder:/", image_size=8)


def test_hidden_folders_are_no_classes(two_classes):
    (two_classes / ".cache").mkdir()
    assert load_dataset(f"folder:{two_classes}").num_classes == 2


def test_images_in_folders_of_a_class_belong_to_it(two_classes):
    paint(two_classes / "cat" / "images" / "deep.png", 30)
    assert 30 in red(load_dataset(f"folder:{two_classes}").train_images)
