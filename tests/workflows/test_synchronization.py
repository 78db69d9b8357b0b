"""On an accelerator, reading a number back makes the processor wait: a training step never does."""

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
from sttp_riemann.optim import adam, stepping

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
    own = {name: options.pop(name) for name in ("moment", "fused", "amsgrad", "lr") if name in options}
    device = options.pop("device", "cpu")
    model = sr.reparameterize(_network().to(device), 8, **options)
    kind = sr.RiemannianAdam if options["frames"] == "riemannian" else torch.optim.Adam
    optimizer = kind(model.parameters(), **own)
    x = torch.randn(4, 3, 8, 8, device=device)
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


@pytest.fixture
def _as_if_reading_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (stepping, adam):
        monkeypatch.setattr(module, "waits", lambda device: True)


@pytest.mark.usefixtures("_as_if_reading_waited")
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("method", ["svdp", "sttp"])
@pytest.mark.parametrize("moment", ["matrix", "polar", "cores"])
def test_a_whole_step_reads_nothing_back(moment: str, method: str, amsgrad: bool) -> None:
    model, optimizer, x = _trained(frames="riemannian", method=method, moment=moment, amsgrad=amsgrad, fused=True)
    with _Watch(refuse=True):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()


def _readings(moment: str, **options: Any) -> tuple[int, int]:
    """What a step reads back, and how many shapes of frames it steps."""
    model, optimizer, x = _trained(frames="riemannian", moment=moment, **options)
    frames = [p for p in model.parameters() if isinstance(p, geoopt.ManifoldParameter)]
    # Which index of a core is the outer one is part of its shape to "cores"
    shapes = {(p.shape, *((p.manifold.outer, p.manifold.outer_first) if moment == "cores" else ())) for p in frames}
    model(x).square().sum().backward()
    counts = [state["step"].data_ptr() for state in optimizer.state.values() if isinstance(state["step"], torch.Tensor)]
    with _Watch(False, counts) as watch:
        optimizer.step()
    return sum(watch.found.values()), len(shapes)


@pytest.mark.parametrize("moment", ["matrix", "polar", "cores"])
def test_on_the_processor_a_step_reads_one_number_for_all_gradients_and_one_for_each_shape(moment: str) -> None:
    """The first refuses what is not finite; the others choose how many iterations retract to rounding."""
    read, shapes = _readings(moment)
    assert 0 < read <= 1 + shapes


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["svdp", "sttp"])
@pytest.mark.parametrize("moment", ["matrix", "polar", "cores"])
def test_cuda_sees_no_waiting_in_a_whole_step(moment: str, method: str) -> None:
    own = {"moment": moment, "fused": True, "device": "cuda"}
    model, optimizer, x = _trained(frames="riemannian", method=method, **own)
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sr.orthogonality_error(model) < 1e-5


@pytest.mark.gpu
def test_a_step_refused_on_a_gpu_is_told_by_the_next() -> None:
    model, optimizer, x = _trained(frames="riemannian", fused=True, device="cuda")
    before = [p.detach().clone() for p in model.parameters()]
    model(x * float("nan")).square().sum().backward()
    optimizer.step()
    with pytest.raises(ValueError, match="in the step before"):
        optimizer.step()
    assert all(map(torch.equal, before, model.parameters()))


@pytest.mark.usefixtures("_as_if_reading_waited")
@pytest.mark.parametrize("moment", ["matrix", "polar", "cores"])
def test_steps_that_may_be_long_are_looked_at(moment: str) -> None:
    assert _readings(moment, fused=True, lr=3.0)[0] > 0


def test_the_watch_sees_what_reads_back() -> None:
    x = torch.randn(3)
    for read in (lambda: float(x.sum()), lambda: x[x > 0], lambda: x.sum().item(), lambda: bool((x > 0).any())):
        with pytest.raises(SynchronizedError), _Watch(refuse=True):
            read()
