"""1,797 handwritten digits of 8x8 pixels, shipped with the package.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49, licensed CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/); its test part, as
scikit-learn carries it. Added here: a column that marks the test digits, a fifth of every class.

``digits.csv.gz`` has one line per digit after its header: 1 for a test digit or 0, the label, 64 values of 0 .. 16 row
by row.
"""

from __future__ import annotations

import gzip
from importlib.resources import files

import numpy as np
import torch

from sttp_riemann.lab.data.source import Request, Source


def digits(request: Request) -> Source:
    """Load 1,437 training and 360 test digits, uint8 (N, 1, 8, 8); the values 0 .. 16 become 0 .. 255.

    Parameters
    ----------
    request : Request
        Ignored.

    Returns
    -------
    Source
        Labels are the digits.

    Notes
    -----
    Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository (CC BY 4.0),
    as scikit-learn carries it.
    """
    packed = files(__package__).joinpath("digits.csv.gz").read_bytes()
    lines = gzip.decompress(packed).decode("ascii").splitlines()
    table = torch.from_numpy(np.loadtxt(lines, dtype=np.int64, delimiter=",", skiprows=1))
    test, labels = table[:, 0] == 1, table[:, 1]
    images = ((table[:, 2:] * 255 + 8) // 16).to(torch.uint8).reshape(-1, 1, 8, 8)
    return Source(images[~test], labels[~test], images[test], labels[test], num_classes=10)
