import numpy as np
import pytest
import torch
from torchvision.datasets import STL10

from sttp_riemann.lab.data import load_dataset


@pytest.fixture
def folder(tmp_path, write_stl10, publish_stl10):
    folder = write_stl10(tmp_path)
    publish_stl10(folder)
    return folder


def test_stored_columns_become_rows(folder):
    data = load_dataset("stl10", folder.parent)
    stored = np.fromfile(folder / "train_X.bin", dtype=np.uint8).reshape(5, 3, 96, 96)
    assert torch.equal(data.train_images, torch.from_numpy(stored.transpose(0, 1, 3, 2).copy()))
    assert (data.num_classes, data.channels, data.image_size) == (10, 3, 96)


def test_labels_count_from_zero(folder):
    data = load_dataset("stl10", folder.parent)
    assert data.train_labels.tolist() == [0, 9, 1, 8, 2]
    assert data.test_labels.tolist() == [3, 4, 5]
    assert data.train_labels.dtype == torch.int64


def test_the_unlabeled_part_has_no_classes(folder):
    data = load_dataset("stl10-unlabeled", folder.parent)
    assert len(data.train_images) == 6
    assert data.num_classes == 0
    assert {*data.train_labels.tolist(), *data.test_labels.tolist()} == {-1}


def test_images_are_shrunk_once(folder):
    data = load_dataset("stl10", folder.parent, image_size=48)
    assert data.train_images.shape == (5, 3, 48, 48)
    assert data.batch([0])[0].shape == (1, 3, 48, 48)


def test_missing_files_are_named_with_their_folder_and_the_remedy(folder):
    (folder / "unlabeled_X.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"unlabeled_X.bin.*--download true") as error:
        load_dataset("stl10", folder.parent)
    assert str(folder) in str(error.value)


def test_a_file_that_is_not_the_published_one_is_refused(folder):
    (folder / "test_y.bin").write_bytes(b"\1\2\4")
    with pytest.raises(ValueError, match=r"a file of stl10 in .* differs from the published one"):
        load_dataset("stl10", folder.parent)


def test_nothing_is_downloaded_unless_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(STL10, "download", lambda self: pytest.fail("downloaded"))
    with pytest.raises(FileNotFoundError):
        load_dataset("stl10", tmp_path)
