"""How many modes of stacked digits there are among samples, and how evenly."""

from __future__ import annotations

import torch
from torch import Tensor

from sttp_riemann.lab.data.stacked_digits import MODES


def mode_figures(modes: Tensor) -> dict[str, float]:
    """Count the modes of samples.

    Parameters
    ----------
    modes : Tensor
        (N,), the mode of each sample, 0 .. 999.

    Returns
    -------
    dict[str, float]
        ``modes``, how many there are at all; ``modes_kl``, the divergence KL(p || u) in nats of their shares p among
        the samples from the uniform distribution u over all 1,000. For N samples of u its mean is about 500 / N.

    Notes
    -----
    Metz et al. 2017 (arXiv 1611.02163), who count 25,600 samples.
    """
    shares = torch.bincount(modes.long(), minlength=MODES).double() / len(modes)
    there = shares[shares > 0]
    return {"modes": float(len(there)), "modes_kl": float((there * (MODES * there).log()).sum())}
