import pickle

import pytest
import torch
from torchvision.datasets import CIFAR10

from sttp_riemann.lab.data import load_dataset


def test_images_and_labels_are_those_of_the_files(tmp_path, write_cifar10, publish_cifar10):
    folder = write_cifar10(tmp_path)
    publish_cifar10(folder)
    data = load_dataset("cifar10", tmp_path)
    second = pickle.loads((folder / "data_batch_2").read_bytes())
    assert data.train_images.shape == (20, 3, 32, 32)
    assert data.test_images.shape == (4, 3, 32, 32)
    assert (data.num_classes, data.channels, data.image_size) == (10, 3, 32)
    assert torch.equal(data.train_images[4:8].flatten(1), torch.from_numpy(second["data"]))
    assert data.train_labels[4:8].tolist() == second["labels"]
    assert data.train_labels.dtype == torch.int64


def test_missing_files_are_named_with_their_folder_and_the_remedy(tmp_path, write_cifar10):
    (write_cifar10(tmp_path) / "data_batch_3").unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_3.*--download true") as error:
        load_dataset("cifar10", tmp_path)
    assert str(tmp_path / "cifar-10-batches-py") in str(error.value)


def test_a_file_that_is_not_the_published_one_is_refused_before_it_is_unpickled(tmp_path, write_cifar10):
    folder, trap = write_cifar10(tmp_path), tmp_path / "sprung"
    (folder / "data_batch_1").write_bytes(pickle.dumps(_Trap(trap)))
    with pytest.raises(ValueError, match=r"a file of cifar10 in .* differs from the published one"):
        load_dataset("cifar10", tmp_path)
    assert not trap.exists()


def test_nothing_is_downloaded_unless_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(CIFAR10, "download", lambda self: pytest.fail("downloaded"))
    with pytest.raises(FileNotFoundError):
        load_dataset("cifar10", tmp_path)


def test_missing_files_are_downloaded_when_asked(tmp_path, monkeypatch, write_cifar10, publish_cifar10):
    monkeypatch.setattr(CIFAR10, "download", lambda self: publish_cifar10(write_cifar10(tmp_path)))
    assert len(load_dataset("cifar10", tmp_path, download=True).train_images) == 20


class _Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (type(self.path).touch, (self.path,))
