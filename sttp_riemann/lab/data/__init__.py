"""Images to learn from: the digits that the package ships, published data sets, folders."""

from sttp_riemann.lab.data.images import ImageData
from sttp_riemann.lab.data.registry import DATASETS, load_dataset

__all__ = ["DATASETS", "ImageData", "load_dataset"]
