"""Kernel inception distance with its standard error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch_fidelity.metric_kid import KEY_METRIC_KID_STD, kid_features_to_metric

KID_ERROR = "kernel_inception_distance_error"


def kid_figures(ours: Tensor, real: Tensor, settings: Mapping[str, Any]) -> dict[str, float]:
    """Torch-fidelity's mean and standard deviation over random subsets, and the standard error of the mean.

    Parameters
    ----------
    ours, real : Tensor
        Features (N, D) and (M, D).
    settings : mapping
        Torch-fidelity's ``kid_subsets`` and ``kid_subset_size`` among them.

    Returns
    -------
    dict[str, float]
        By torch-fidelity's names, and `KID_ERROR`, which is missing where it cannot be known: for a single subset, or
        subsets as large as the smaller set.

    Notes
    -----
    Subsets overlap, so their deviation over the root of their number would fall to zero with more of them, however few
    the images. The delete-d jackknife (Shao and Wu 1989) scales the variance over subsets of s out of n images by
    s / (n - s); the few subsets that are drawn add their own. With sets of two sizes n is the smaller, which errs
    upwards. The error is that of other images from the same generator, not of another training.
    """
    found: dict[str, float] = dict(kid_features_to_metric(ours, real, **settings))
    count, size = settings["kid_subsets"], settings["kid_subset_size"]
    rest = min(len(ours), len(real)) - size
    if count > 1 and rest > 0:
        variance = found[KEY_METRIC_KID_STD] ** 2 * count / (count - 1)
        found[KID_ERROR] = math.sqrt(variance * (size / rest + 1 / count))
    return found
