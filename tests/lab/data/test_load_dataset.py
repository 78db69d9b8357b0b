import sys

import pytest

from sttp_riemann.lab.data import load_dataset


def test_misspelt_data_set_gets_a_suggestion():
    with pytest.raises(ValueError, match="unknown data set 'digit'; did you mean 'digits'"):
        load_dataset("digit")


def test_only_folders_take_a_path():
    with pytest.raises(ValueError, match="unknown data set 'digits:here'"):
        load_dataset("digits:here")


@pytest.mark.parametrize("field", ["image_size", "channels"])
def test_number_below_one_is_refused(field):
    with pytest.raises(ValueError, match=f"{field} must be at least 1, got 0"):
        load_dataset("digits", **{field: 0})


def test_size_and_channels_are_as_asked_for():
    data = load_dataset("digits", image_size=32, channels=3)
    assert (data.image_size, data.channels) == (32, 3)
    assert data.batch([0, 1])[0].shape == (2, 3, 32, 32)


def test_the_folder_of_downloaded_data_is_data_unless_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        load_dataset("cifar10")
    assert str(tmp_path / "data") in str(error.value)


@pytest.mark.parametrize("name", ["cifar10", "stl10", "stl10-unlabeled", "folder:."])
def test_missing_torchvision_is_one_clear_line(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=r"needs torchvision: pip install 'sttp-riemann\[vision\]'"):
        load_dataset(name)
