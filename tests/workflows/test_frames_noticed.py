"""Frames that are no frames any more are kept, brought back, or named in a warning; no false number is told of them."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable

import geoopt
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import sttp_riemann as sr
from sttp_riemann.lab.inspection import inspect
from tests.workflows.common import (
    PATHS,
    Net,
    assert_told_is_true,
    frames_of,
    inputs,
    layers_of,
    moved,
    optimizer_for,
    spectral,
    train,
    trained,
    weights_of,
)

OFF = pytest.warns(UserWarning, match=r"(?s)(?=.*(backbone|head))(?=.*sr\.project)")


def assert_on_the_manifold(model: nn.Module) -> None:
    assert sr.orthogonality_error(model) < 1e-5
    assert all(isinstance(frame, geoopt.ManifoldParameter) for frame in frames_of(model))


def assert_trains_on_the_manifold(model: nn.Module) -> None:
    assert_on_the_manifold(model)
    before = weights_of(model)
    losses = train(model, sr.RiemannianAdam(model.parameters(), lr=1e-2), 20)
    assert math.isfinite(losses[-1])
    assert moved(before, weights_of(model)) == set(layers_of(model))
    assert_on_the_manifold(model)
    assert_told_is_true(model)


def on_meta(frames: str) -> nn.Module:
    """A model whose numbers are yet to come, reparameterized as such."""
    with torch.device("meta"):
        return spectral(Net(), frames)


def made_on_meta(frames: str) -> nn.Module:
    """A model that is built as a whole on the meta device."""
    with torch.device("meta"):
        model = Net()
    return spectral(model, frames)


def assign(target: nn.Module, source: nn.Module) -> None:
    target.load_state_dict(source.state_dict(), assign=True)


def to_empty(target: nn.Module, source: nn.Module) -> None:
    target.to_empty(device="cpu").load_state_dict(source.state_dict())


def of_another_seed(frames: str) -> nn.Module:
    return spectral(Net(), frames, seed=1)


@pytest.mark.parametrize(
    ("make", "load"),
    [
        (of_another_seed, assign),
        (on_meta, assign),
        (on_meta, to_empty),
        (made_on_meta, assign),
        (made_on_meta, to_empty),
    ],
)
@PATHS
def test_loading_keeps_frames_what_they_are(
    make: Callable[[str], nn.Module], load: Callable[[nn.Module, nn.Module], None], frames: str
) -> None:
    source = trained(spectral(Net(), frames), frames)
    target = make(frames)
    load(target, source)
    assert torch.equal(target(inputs()), source(inputs()))
    losses = [train(m, optimizer_for(frames, m.parameters()), 10) for m in (copy.deepcopy(source), target)]
    assert losses[0] == losses[1]
    assert_told_is_true(target)
    if frames == "riemannian":
        assert_trains_on_the_manifold(target)


@PATHS
def test_a_model_on_meta_stays_there(frames: str) -> None:
    model = made_on_meta(frames)
    assert {tensor.device.type for tensor in model.state_dict().values() if tensor.is_floating_point()} == {"meta"}
    assert model(torch.empty(3, 24, device="meta")).shape == (3, 10)


def moved_by_a_euclidean_optimizer() -> nn.Module:
    model = spectral(Net(), "riemannian")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        train(model, torch.optim.Adam(model.parameters(), lr=2e-2), 20)
    return copy.deepcopy(model)


def averaged_by_torch() -> nn.Module:
    model = spectral(Net(), "riemannian")
    average = AveragedModel(model)
    for _ in range(5):
        trained(model, "riemannian", 10)
        average.update_parameters(model)
    return average.module


def averaged_exponentially() -> nn.Module:
    model = spectral(Net(), "riemannian")
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for _ in range(5):
        trained(model, "riemannian", 10)
        average.update_parameters(model)
    return average.module


def a_soup() -> nn.Module:
    models = [trained(spectral(Net(), "riemannian"), "riemannian", steps) for steps in (1, 20)]
    states = [model.state_dict() for model in models]
    mixed = {n: (t + states[1][n]) / 2 if t.is_floating_point() else t for n, t in states[0].items()}
    model = spectral(Net(), "riemannian")
    model.load_state_dict(mixed)
    return model


def from_a_checkpoint_in_bfloat16() -> nn.Module:
    model = trained(spectral(Net(), "riemannian"), "riemannian")
    state = {n: t.bfloat16() if t.is_floating_point() else t for n, t in model.state_dict().items()}
    loaded = spectral(Net(), "riemannian")
    loaded.load_state_dict(state)
    return loaded


MOVED = pytest.mark.parametrize(
    "make",
    [
        moved_by_a_euclidean_optimizer,
        averaged_by_torch,
        averaged_exponentially,
        a_soup,
        from_a_checkpoint_in_bfloat16,
    ],
)


@pytest.mark.parametrize("training", [True, False])
@MOVED
def test_a_model_whose_frames_are_off_says_so_when_it_is_used(make: Callable[[], nn.Module], training: bool) -> None:
    model = make().train(training)
    with torch.set_grad_enabled(training), OFF:
        model(inputs())


@MOVED
def test_no_false_singular_value_is_told_of_frames_that_are_off(make: Callable[[], nn.Module]) -> None:
    model = make()
    assert sr.orthogonality_error(model) > 1e-3
    assert_told_is_true(model)


@MOVED
def test_inspect_tells_of_frames_that_are_off_what_is_true(make: Callable[[], nn.Module]) -> None:
    model = make()
    for report in inspect(model).layers:
        true = torch.linalg.svdvals(model.get_submodule(report.name).weight.detach().double())
        assert report.largest == pytest.approx(true[0].item(), rel=1e-3)
        assert report.smallest == pytest.approx(true[report.rank - 1].item(), rel=1e-2)
        assert report.orthogonality_error > 1e-3


@MOVED
def test_projecting_brings_frames_back(make: Callable[[], nn.Module]) -> None:
    """To the nearest ones: the polar factors of what was there."""
    model = make()
    expected = [
        u @ vh
        for layer in layers_of(model).values()
        for side in (layer.left, layer.right)
        for u, _, vh in (torch.linalg.svd(p.detach().double(), full_matrices=False) for p in side.parameters())
    ]
    assert sr.project(model) is model
    assert_on_the_manifold(model)
    frames = [p for la in layers_of(model).values() for side in (la.left, la.right) for p in side.parameters()]
    for frame, nearest in zip(frames, expected, strict=True):
        torch.testing.assert_close(frame.detach().double(), nearest, rtol=0, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(inputs())
    assert_trains_on_the_manifold(model)


@PATHS
def test_projecting_what_is_on_the_manifold_leaves_the_weights(frames: str) -> None:
    model = trained(spectral(Net(), frames), frames)
    before = weights_of(model)
    sr.project(model)
    for name, weight in weights_of(model).items():
        torch.testing.assert_close(weight, before[name], rtol=1e-5, atol=1e-6)


def test_plain_parameters_in_the_place_of_frames_are_named_and_brought_back() -> None:
    """What FSDP, pruning and other wrappers that set a parameter anew leave behind."""
    model = spectral(Net(), "riemannian")
    for layer in layers_of(model).values():
        for side in (layer.left, layer.right):
            for name, frame in list(side.named_parameters()):
                side.register_parameter(name, nn.Parameter(frame.detach().clone()))
    with OFF:
        model(inputs()).sum().backward()
    sr.project(model)
    assert_trains_on_the_manifold(model)


@PATHS
def test_a_healthy_model_is_never_warned_of(frames: str) -> None:
    model = spectral(Net(), frames)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, optimizer_for(frames, model.parameters()), 80)
        copy.deepcopy(model)(inputs())
        with torch.inference_mode():
            model.eval()(inputs())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@PATHS
def test_a_cast_leaves_frames_on_their_manifold(frames: str, dtype: torch.dtype) -> None:
    model = trained(spectral(Net(), frames), frames)
    before = weights_of(model)
    model.to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model(inputs().to(dtype)).dtype == dtype
    assert sr.orthogonality_error(model) < 1e-5
    back = model.float()
    for name, weight in weights_of(back).items():
        torch.testing.assert_close(weight, before[name], rtol=1e-4, atol=1e-5)


def test_householder_frames_are_frames_whoever_trains_or_averages_them() -> None:
    model = spectral(Net(), "householder")
    average = AveragedModel(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(5):
            train(model, torch.optim.Adam(model.parameters(), lr=2e-2), 5)
            average.update_parameters(model)
        average(inputs())
    assert sr.orthogonality_error(average.module) < 1e-5
    assert_told_is_true(average.module)


def swap_in(model: nn.Module, average: nn.Module) -> None:
    """As trainers do for an evaluation."""
    for own, other in zip(
        (*model.parameters(), *model.buffers()), (*average.parameters(), *average.buffers()), strict=True
    ):
        own.data.copy_(other.data)


@pytest.mark.parametrize("steps", [20, 50])
def test_an_average_that_is_swapped_in_for_an_evaluation_is_noticed(steps: int) -> None:
    model = spectral(Net(), "riemannian")
    average = AveragedModel(model)
    for _ in range(5):
        trained(model, "riemannian", steps // 5)
        average.update_parameters(model)
    swap_in(model, average.module)
    with torch.no_grad(), OFF:
        model.eval()(inputs())


def test_frames_of_every_dtype_are_looked_at() -> None:
    model = Net()
    model.backbone[0].double()
    spectral(model, "riemannian")
    x, dense = inputs(), model.backbone[0]
    dense.register_forward_pre_hook(lambda module, args: (args[0].double(),))
    dense.register_forward_hook(lambda module, args, out: out.float())
    for _ in range(3):
        model(x)
    with torch.no_grad():
        dense.left[0].mul_(1.1)
    with pytest.warns(UserWarning, match=r"backbone\.0.*sr\.project"):
        model(x)


@pytest.mark.parametrize("decay", [0.9, 0.95])
def test_rows_that_torch_has_averaged_are_refused(decay: float) -> None:
    model = spectral(Net(), "householder")
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    for _ in range(5):
        trained(model, "householder", 1)
        average.update_parameters(model)
    with pytest.raises(RuntimeError, match=r"(?s)(?=.*(backbone|head))(?=.*sr\.averaged)(?=.*use_buffers=False)"):
        average(inputs())
    for _ in range(20):
        model(inputs())
    swap_in(model, average.module)
    with pytest.raises(RuntimeError, match="rows"):
        model.eval()(inputs())


def test_without_buffers_torch_averages_householder_frames() -> None:
    model = spectral(Net(), "householder")
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for _ in range(5):
        trained(model, "householder", 4)
        average.update_parameters(model)
    average(inputs())
    assert sr.orthogonality_error(average.module) < 1e-5
