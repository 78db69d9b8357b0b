"""On an accelerator, reading a number back makes the processor wait: forward and backward never do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import geoopt
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import sttp_riemann as sr

ATEN = torch.ops.aten
READING = {ATEN._local_scalar_dense.default, ATEN.nonzero.default, ATEN.equal.default, ATEN.is_nonzero.default}
READING |= {ATEN.masked_select.default, ATEN.unique_dim.default, ATEN._unique2.default}


class SynchronizedError(AssertionError):
    """A number was read back."""


class _Watch(TorchDispatchMode):
    """Counts what reads a number back, or refuses it, without counts of steps, which lie on the CPU anyway."""

    def __init__(self, refuse: bool, counts: Collection[int] = ()) -> None:
        super().__init__()
        self.refuse, self.counts, self.found = refuse, counts, Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_flags = func is ATEN.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1])
        if (func in READING or by_flags) and args[0].data_ptr() not in self.counts:
            if self.refuse:
                raise SynchronizedError(str(func))
            self.found[str(func)] += 1
        return func(*args, **(kwargs or {}))


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.Flatten(), nn.Linear(16 * 16, 16), nn.Linear(16, 10)
    )


def _trained(**options: Any) -> tuple[nn.Module, Any, torch.Tensor]:
    """A network after five steps: past what is looked at only in the first ones."""
    moment = options.pop("moment", None)
    model = sr.reparameterize(_network(), 8, **options)
    riemannian = options["frames"] == "riemannian"
    optimizer = (
        sr.RiemannianAdam(model.parameters(), moment=moment) if riemannian else torch.optim.Adam(model.parameters())
    )
    x = torch.randn(4, 3, 8, 8)
    for _ in range(5):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    return model, optimizer, x


@pytest.mark.parametrize("spectrum", ["learned", "identity", "free"])
@pytest.mark.parametrize("method", ["svdp", "sttp"])
@pytest.mark.parametrize("frames", ["riemannian", "householder"])
def test_forward_and_backward_read_nothing_back(frames: str, method: str, spectrum: str) -> None:
    model, _, x = _trained(frames=frames, method=method, spectrum=spectrum)
    with _Watch(refuse=True):
        model(x).square().sum().backward()


@pytest.mark.parametrize("kind", ["d_optimal", "divergence"])
def test_a_penalty_reads_nothing_back(kind: str) -> None:
    model, _, _ = _trained(frames="riemannian")
    with _Watch(refuse=True):
        sr.spectral_penalty(model, kind).backward()


@pytest.mark.parametrize("moment", ["matrix", "polar", "cores"])
def test_a_step_reads_one_number_for_all_gradients_and_one_for_each_shape_of_frames(moment: str) -> None:
    """The first refuses what is not finite; the others choose how many iterations retract to rounding."""
    model, optimizer, x = _trained(frames="riemannian", moment=moment)
    frames = [p for p in model.parameters() if isinstance(p, geoopt.ManifoldParameter)]
    # Which index of a core is the outer one is part of its shape to "cores"
    shapes = {(p.shape, *((p.manifold.outer, p.manifold.outer_first) if moment == "cores" else ())) for p in frames}
    model(x).square().sum().backward()
    counts = [state["step"].data_ptr() for state in optimizer.state.values() if isinstance(state["step"], torch.Tensor)]
    with _Watch(False, counts) as watch:
        optimizer.step()
    assert sum(watch.found.values()) <= 1 + len(shapes)


def test_the_watch_sees_what_reads_back() -> None:
    x = torch.randn(3)
    for read in (lambda: float(x.sum()), lambda: x[x > 0], lambda: x.sum().item(), lambda: bool((x > 0).any())):
        with pytest.raises(SynchronizedError), _Watch(refuse=True):
            read()
