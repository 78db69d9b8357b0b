from __future__ import annotations

import pytest
import torch

from sttp_riemann.lab.bench import frames
from sttp_riemann.lab.bench.cores import by_steps
from sttp_riemann.lab.bench.frames import PEERS
from sttp_riemann.lab.bench.settings import Settings
from sttp_riemann.trains.contraction import contract
from sttp_riemann.trains.shape import layer_shape


def make(name, start):
    """Frames and their parameters, by a peer that is installed."""
    maker, module, _ = PEERS[name]
    pytest.importorskip(module)
    return maker(start)


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("shape", [(3, 12, 4), (2, 6, 6)])
def test_every_peer_makes_orthonormal_frames_and_has_gradients(name, shape):
    start = torch.linalg.qr(torch.randn(*shape, generator=torch.Generator().manual_seed(0)))[0]
    forward, parameters = make(name, start)
    made = forward()
    assert made.shape == shape
    torch.testing.assert_close(made.mT @ made, torch.eye(shape[-1]).expand(shape[0], -1, -1), atol=1e-5, rtol=0)
    (made * torch.randn(*shape)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in parameters)


@pytest.mark.parametrize("name", ["torch-householder", "torch.linalg.householder_product"])
def test_peers_on_the_same_reflectors_make_the_same_frames(name):
    start = torch.linalg.qr(torch.randn(2, 20, 5, generator=torch.Generator().manual_seed(1)))[0]
    ours, theirs = (make(n, start)[0]() for n in ("compact WY (ours)", name))
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)


def test_what_is_not_installed_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(frames, "installed", lambda module: module == "torch")
    (contest, _) = frames.frames(Settings(quick=True))
    missing = {c.name: c.missing for c in contest.contestants if c.missing}
    assert list(missing) == ["torch-householder", "geotorch (orthogonal)"]
    assert set(missing.values()) == {"not installed: pip install 'sttp-riemann[bench]'"}


def test_only_torch_is_always_there():
    assert frames.installed("torch")
    assert not frames.installed("no_such_package_anywhere")


def test_only_the_slow_peers_on_tall_frames_are_tried_apart():
    guarded = {(c.case, p.name) for c in frames.frames(Settings()) for p in c.contestants if p.guarded}
    assert {case for case, _ in guarded} == {"(8, 1152, 64)", "(8, 5760, 64)", "(4, 1280, 256)"}
    assert {name for _, name in guarded} == {name for name, (_, _, slow) in PEERS.items() if slow}


@pytest.mark.parametrize(("d_out", "d_in"), [(24, (12, 3, 3)), (7, (5,)), (1, (16,)), (16, (2,))])
def test_core_by_core_gives_the_weight_of_the_batched_contraction(d_out, d_in):
    shape = layer_shape(d_out, d_in, 5)
    left, right = (
        [torch.randn(core.rows, core.inner, dtype=torch.float64) for core in train.cores]
        for train in (shape.left, shape.right)
    )
    values = torch.rand(shape.rank, dtype=torch.float64)
    u = contract(shape.left, [core.unsqueeze(0) for core in left], values)[0]
    v = contract(shape.right, [core.unsqueeze(0) for core in right], values)[0]
    torch.testing.assert_close(by_steps(shape, left, values, right), u * values @ v.mT)
