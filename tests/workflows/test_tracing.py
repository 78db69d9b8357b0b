"""Whoever traces, compiles, exports, transforms or recomputes a model gets what it computes."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, jvp, stack_module_state, vmap
from torch.utils.checkpoint import checkpoint, checkpoint_sequential
from torchvision.models.feature_extraction import create_feature_extractor

import sttp_riemann as sr
from tests.workflows.common import PATHS, Net, inputs, meant, optimizer_for, spectral, stack, train


class Images(nn.Module):
    """Convolutions of every application, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.grouped = nn.Conv2d(6, 10, 3, stride=2, groups=2)
        self.up = nn.ConvTranspose2d(10, 6, 3)
        self.head = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.grouped(self.stem(x).relu()).relu()).relu()
        return self.head(x.mean((2, 3)))


IMAGES = torch.randn(2, 3, 8, 8)


@PATHS
def test_features_are_extracted_at_any_layer(frames: str) -> None:
    model = spectral(Images(), frames, rank=4).eval()
    features = create_feature_extractor(model, ["grouped", "head"])(IMAGES)
    torch.testing.assert_close(features["grouped"], model.grouped(model.stem(IMAGES).relu()), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features["head"], model(IMAGES), rtol=1e-5, atol=1e-5)


@PATHS
def test_an_extractor_of_features_trains_its_model(frames: str) -> None:
    model = spectral(Images(), frames, rank=4)
    extractor = create_feature_extractor(model, ["grouped"])
    extractor(IMAGES)["grouped"].square().mean().backward()
    wanted = copy.deepcopy(model)
    wanted.zero_grad()
    wanted.grouped(wanted.stem(IMAGES).relu()).square().mean().backward()
    found = dict(extractor.named_parameters())
    for name, p in wanted.named_parameters():
        if name.startswith(("stem.", "grouped.")):
            torch.testing.assert_close(found[name].grad, p.grad, rtol=1e-4, atol=1e-6)


@PATHS
def test_symbolic_tracing_keeps_layers_whole(frames: str) -> None:
    model = spectral(Net(), frames)
    traced = torch.fx.symbolic_trace(model)
    torch.testing.assert_close(traced(inputs()), model(inputs()), rtol=1e-5, atol=1e-5)
    train(traced, optimizer_for(frames, traced.parameters()), 2)
    torch.testing.assert_close(traced(inputs()).detach(), meant(traced), rtol=1e-5, atol=1e-5)


@PATHS
def test_a_jit_trace_computes_the_same_or_is_refused_in_one_line(frames: str) -> None:
    model = spectral(Net(), frames).eval()
    try:
        traced = torch.jit.trace(model, inputs())
    except RuntimeError as error:
        line = str(error)
        assert "\n" not in line
        assert "decompress" in line
    else:
        torch.testing.assert_close(traced(inputs(3)), model(inputs(3)), rtol=1e-5, atol=1e-5)


def test_onnx_computes_the_same_from_riemannian_frames() -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    model, file = spectral(Images(), "riemannian", rank=4).eval(), io.BytesIO()
    torch.onnx.export(model, (IMAGES,), dynamo=True, verbose=False).save(file)
    session = runtime.InferenceSession(file.getvalue())
    (found,) = session.run(None, {session.get_inputs()[0].name: IMAGES.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model(IMAGES).detach(), rtol=1e-4, atol=1e-5)


@PATHS
def test_the_old_exporter_of_onnx_is_refused_in_one_line(frames: str) -> None:
    model = spectral(Images(), frames, rank=4).eval()
    with pytest.raises(RuntimeError, match=r"^the TorchScript exporter of ONNX lacks .*: call sr\.decompress.*$"):
        torch.onnx.export(model, (IMAGES,), io.BytesIO(), dynamo=False)


@PATHS
def test_dynamic_quantization_leaves_spectral_layers_as_they_are(frames: str) -> None:
    model = spectral(Net(), frames).eval()
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    torch.testing.assert_close(quantized(inputs()), model(inputs()), rtol=0, atol=0)


def twins() -> nn.Sequential:
    """Two layers of one shape, after another."""
    return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 10), nn.Tanh(), nn.Linear(10, 10))


SIZES = {twins: [(8, 6), (3, 6), (200, 6)], Images: [(2, 3, 8, 8), (5, 3, 12, 10)]}


@pytest.mark.parametrize("make", SIZES)
@PATHS
def test_one_compiled_graph_serves_every_size(frames: str, make: Callable[[], nn.Module]) -> None:
    torch._dynamo.reset()
    model = spectral(make(), frames, rank=4).eval()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    for shape in SIZES[make]:
        x = torch.randn(shape)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
        gradients = []
        for m in (compiled, model):
            model.zero_grad()
            m(x).square().mean().backward()
            gradients.append([p.grad for p in model.parameters()])
        torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("make", "x"), [(Net, inputs()), (Images, IMAGES)], ids=["rows", "images"])
@PATHS
def test_the_model_itself_is_exported_for_every_batch_size(
    frames: str, make: Callable[[], nn.Module], x: Tensor
) -> None:
    model = spectral(make(), frames, rank=4).eval()
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},))
    for batch in (x, torch.cat([x, -x, x])):
        torch.testing.assert_close(exported.module()(batch), model(batch), rtol=1e-4, atol=1e-5)


def sum_of_squares(model: nn.Module, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
    return functional_call(model, parameters, (x,)).square().sum()


@PATHS
def test_gradients_per_sample_add_up_to_the_gradient(frames: str) -> None:
    model = spectral(Net(), frames)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    each = vmap(grad(partial(sum_of_squares, model)), (None, 0))(parameters, inputs().unsqueeze(1))
    model(inputs()).square().sum().backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(each[name].sum(0), p.grad, rtol=1e-3, atol=1e-3)


@PATHS
def test_a_functional_call_uses_the_tensors_that_it_is_given(frames: str) -> None:
    model = spectral(Net(), frames)
    model(inputs())
    other = train_copy(model, frames)
    with sr.cached(model):
        model(inputs())
        out = functional_call(model, {n: p.detach() for n, p in other.named_parameters()}, (inputs(),))
    torch.testing.assert_close(out, other(inputs()), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(out, model(inputs()), atol=1e-4)


def train_copy(model: nn.Module, frames: str) -> nn.Module:
    other = copy.deepcopy(model)
    train(other, optimizer_for(frames, other.parameters()), 3)
    return other


@PATHS
def test_jacobians_of_both_modes_are_those_of_the_dense_model(frames: str) -> None:
    model = spectral(Net(), frames).double()
    dense = sr.decompress(model)
    x = inputs(2).double()
    torch.testing.assert_close(jacrev(model)(x), jacrev(dense)(x))
    torch.testing.assert_close(jvp(model, (x,), (x.flip(0),)), jvp(dense, (x,), (x.flip(0),)))


@PATHS
def test_an_ensemble_runs_as_one_stacked_model(frames: str) -> None:
    models = [train_copy(spectral(Net(), frames), frames) for _ in range(3)]
    parameters, buffers = stack_module_state(models)
    skeleton = copy.deepcopy(models[0])
    x = inputs()
    outputs = vmap(lambda p, b: functional_call(skeleton, (p, b), (x,)))(parameters, buffers)
    torch.testing.assert_close(outputs, torch.stack([m(x) for m in models]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("how", ["whole", "layer by layer", "in segments", "inside cached"])
@PATHS
def test_a_checkpointed_model_has_the_same_gradients(frames: str, how: str, reentrant: bool) -> None:
    model, x = spectral(stack(), frames), inputs()

    def forward(how: str) -> Tensor:
        leaf = x.clone().requires_grad_()
        if how == "plain":
            return model(leaf)
        if how == "whole":
            return checkpoint(model, leaf, use_reentrant=reentrant)
        if how == "in segments":
            return checkpoint_sequential(model, 3, leaf, use_reentrant=reentrant)
        for module in model:
            leaf = checkpoint(module, leaf, use_reentrant=reentrant)
        return leaf

    gradients = []
    for mode in ("plain", how):
        model.zero_grad()
        if mode == "inside cached":
            with sr.cached(model):
                forward(mode).square().sum().backward()
        else:
            forward(mode).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("application", ["weight", "factored", "train"])
@PATHS
def test_second_derivatives_are_right(frames: str, application: str) -> None:
    # A learned spectrum shares the gradient of its largest value among ties, which is no derivative
    layers = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
    model = spectral(layers, frames, rank=3, spectrum="free").double()
    for index in (0, 2):
        model[index].application = application
    names, values = zip(*model.named_parameters(), strict=True)
    leaves = [value.detach().clone().requires_grad_() for value in values]

    def out(x: Tensor, *given: Tensor) -> Tensor:
        return functional_call(model, dict(zip(names, given, strict=True)), (x,))

    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(out, (x, *leaves))


@PATHS
def test_a_penalty_on_gradients_reaches_parameters_as_in_a_dense_model(frames: str) -> None:
    """As in WGAN-GP: the gradient of the penalty with respect to what the layers do not change is the dense one's."""
    model = spectral(Net(), frames).double()
    found = []
    for m in (model, sr.decompress(model)):
        x = inputs().double().requires_grad_()
        with sr.cached(m) if m is model else torch.enable_grad():
            (slope,) = torch.autograd.grad(m(x).square().sum(), x, create_graph=True)
            penalty = (slope.norm(dim=1) - 1).square().mean()
            penalty.backward()
        found.append((penalty.detach(), x.grad, m.backbone[0].bias.grad, m.head.bias.grad))
    torch.testing.assert_close(*found)


@PATHS
def test_a_backward_called_within_autocast_computes_frames_in_full_precision(frames: str) -> None:
    within = spectral(Net(), frames)
    outside = copy.deepcopy(within)
    with torch.autocast("cpu", torch.bfloat16):
        within(inputs()).float().square().mean().backward()
        loss = outside(inputs()).float().square().mean()
    loss.backward()
    for own, other in zip(within.parameters(), outside.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-2, atol=1e-4)


@PATHS
def test_autocast_in_and_out_of_gradients(frames: str) -> None:
    model = spectral(Net(), frames)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            model(inputs())
        model(inputs()).float().square().mean().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
    full = model(inputs())
    assert full.dtype == torch.float32
    torch.testing.assert_close(full.detach(), meant(model))
