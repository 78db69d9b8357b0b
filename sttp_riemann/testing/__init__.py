"""Checks of what you add: a kind of frame, an optimizer, a kind of layer or of module with layers inside, a penalty.

Import this module explicitly. Each check returns None if everything holds, and otherwise raises `AssertionError` with
one line that says what does not.

Examples
--------
>>> import torch, sttp_riemann as sr
>>> import sttp_riemann.testing
>>> sr.testing.check_frame("householder")
>>> sr.testing.check_optimizer(lambda parameters: sr.RiemannianAdam(parameters, lr=1e-2), torch.optim.Adam)
Traceback (most recent call last):
AssertionError: plain parameters do not move as Adam moves them: make both with the same options
"""

from sttp_riemann.testing.frames import check_frame
from sttp_riemann.testing.layers import check_layer
from sttp_riemann.testing.optimizers import check_optimizer
from sttp_riemann.testing.penalties import check_penalty
from sttp_riemann.testing.splits import check_split

__all__ = ["check_frame", "check_layer", "check_optimizer", "check_penalty", "check_split"]
