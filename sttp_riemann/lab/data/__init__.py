"""Data to learn from: the digits that the package ships, published data sets, folders, arrays of the user's own."""

from sttp_riemann.lab.data.array_data import ArrayData
from sttp_riemann.lab.data.images import ImageData
from sttp_riemann.lab.data.registry import DATASETS, load_dataset

__all__ = ["DATASETS", "ArrayData", "ImageData", "load_dataset"]
