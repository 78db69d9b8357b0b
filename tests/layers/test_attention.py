"""torch's attention has a train each for queries, keys and values; outputs are those of the dense one with this W."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.model.measures import spectral_layers
from tests.workflows.common import PATHS

KINDS = {
    "self": {},
    "batch first": {"batch_first": True},
    "widths of their own": {"kdim": 8, "vdim": 6},
    "without bias": {"bias": False},
    "bias of keys": {"add_bias_kv": True, "add_zero_attn": True},
}
CASES = pytest.mark.parametrize("case", KINDS)


def made(case: str = "self") -> Any:
    return nn.MultiheadAttention(12, 2, **KINDS[case])


def inputs(case: str, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    options = KINDS[case]
    widths = (12, options.get("kdim", 12), options.get("vdim", 12))
    if len(set(widths)) == 1:
        x = torch.randn(3, 5, 12, generator=generator)
        return x, x, x
    return tuple(torch.randn(3, 5, width, generator=generator) for width in widths)  # type: ignore[return-value]


@PATHS
@CASES
def test_every_verb_keeps_the_outputs(case: str, frames: str) -> None:
    model, x = sr.reparameterize(nn.ModuleList([made(case)]), 4, frames=frames, spectrum="free"), inputs(case)
    assert list(spectral_layers(model)) == ["0.q_proj", "0.k_proj", "0.v_proj", "0.out_proj"]
    wanted = model[0](*x)[0]
    dense = sr.decompress(model)
    assert type(dense[0]) is nn.MultiheadAttention
    assert dense.state_dict().keys() == nn.ModuleList([made(case)]).state_dict().keys()
    dense.load_state_dict(dense.state_dict())
    for other in (dense, sr.decompress(model, factored=True), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other[0](*x)[0], wanted, rtol=1e-5, atol=1e-6)
    sr.convert_frames(sr.gauge_fix(model), "householder" if frames == "riemannian" else "riemannian")
    torch.testing.assert_close(model[0](*x)[0], wanted, rtol=1e-4, atol=1e-5)
    again = sr.reparameterize(nn.ModuleList([made(case)]), 4, frames=frames, spectrum="free", seed=1)
    sr.convert_frames(again, "householder" if frames == "riemannian" else "riemannian")
    again.load_state_dict(model.state_dict())
    assert torch.equal(again[0](*x)[0], model[0](*x)[0])


@CASES
def test_at_full_rank_the_dense_weights_are_kept(case: str) -> None:
    dense, x = made(case), inputs(case)
    model = sr.reparameterize(copy.deepcopy(dense), 1.0, init="dense", spectrum="free")
    torch.testing.assert_close(model(*x)[0], dense(*x)[0], rtol=1e-4, atol=1e-5)
    for name in ("in_proj_weight", "q_proj_weight"):
        if getattr(dense, name) is not None:
            torch.testing.assert_close(getattr(model, name).detach(), getattr(dense, name).detach(), atol=1e-5, rtol=0)


@CASES
def test_cores_get_the_gradients_of_the_dense_weight(case: str) -> None:
    model, x = sr.reparameterize(made(case), 4, spectrum="free").double(), [one.double() for one in inputs(case)]
    dense = sr.decompress(model)
    for own in (model, dense):
        own(*x)[0].square().sum().backward()
    wanted = dense.in_proj_weight.grad.chunk(3) if case != "widths of their own" else [dense.q_proj_weight.grad]
    for name, grad in zip(("q_proj", "k_proj", "v_proj"), wanted, strict=False):
        layer = model.get_submodule(name)
        (own,) = torch.autograd.grad((layer.weight * grad).sum(), layer.right[0])
        torch.testing.assert_close(layer.right[0].grad, own)


def encoder(norm_first: bool = False) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(12, 2, 16, batch_first=True, norm_first=norm_first, dropout=0.1)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first)


@pytest.mark.parametrize("exclude", [(), ("*.linear1", "*.linear2", "*.out_proj"), ("*.self_attn.*",)], ids=str)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_an_encoder_in_evaluation_takes_no_fast_path_past_the_cores(
    norm_first: bool, padded: bool, exclude: tuple[str, ...]
) -> None:
    model = sr.reparameterize(encoder(norm_first), 4, exclude=exclude).eval()
    dense, x = sr.decompress(model), torch.randn(3, 5, 12)
    mask = torch.arange(5).expand(3, 5) >= torch.tensor([[5], [3], [2]]) if padded else None
    keep = slice(None) if mask is None else ~mask
    torch.backends.mha.set_fastpath_enabled(False)
    wanted = dense(x, src_key_padding_mask=mask)
    torch.backends.mha.set_fastpath_enabled(True)
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            out = model(x, src_key_padding_mask=mask)
        torch.testing.assert_close(out[keep], wanted[keep], rtol=1e-4, atol=1e-5)


def test_an_encoder_of_thin_layers_works_in_evaluation() -> None:
    model, x = sr.reparameterize(encoder(), 2).eval(), torch.randn(3, 5, 12)
    for mode in (torch.enable_grad, torch.no_grad):
        with mode():
            torch.testing.assert_close(sr.decompress(model, factored=True)(x), model(x), rtol=1e-4, atol=1e-5)


def test_an_encoder_learns_in_evaluation_and_in_training() -> None:
    model = sr.reparameterize(encoder(), 4)
    optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2)
    x, goal = torch.randn(3, 5, 12), torch.randn(3, 5, 12)
    losses = []
    for step in range(12):
        model.train(step % 2 == 0)
        optimizer.zero_grad()
        loss = (model(x) - goal).square().mean()
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[1]


def test_a_whole_transformer_is_reached_nearly_whole() -> None:
    model = nn.Transformer(16, 2, 1, 1, 32, batch_first=True).eval()
    x, y = torch.randn(2, 5, 16), torch.randn(2, 3, 16)
    wanted = model(x, y)
    sr.reparameterize(model, 1.0, init="dense")
    assert sr.compression(model).reached > 90
    torch.testing.assert_close(model(x, y), wanted, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(model(x, y), wanted, rtol=1e-4, atol=1e-5)


def test_parts_are_excluded_frozen_and_ranked_by_their_names() -> None:
    model = nn.ModuleDict({"a": made(), "b": made(), "c": made()})
    model["c"].in_proj_weight.requires_grad_(False)
    before = model["a"].in_proj_weight.detach().clone(), model["c"].in_proj_weight.detach().clone()
    sr.reparameterize(model, {"a.v_proj": 2, "*": 4}, exclude=["a.k_proj", "*.out_proj", "b"])
    assert {name: layer.rank for name, layer in spectral_layers(model).items()} == {"a.q_proj": 4, "a.v_proj": 2}
    assert torch.equal(model["a"].k_proj.weight, before[0].chunk(3)[1])
    assert torch.equal(model["c"].in_proj_weight, before[1])
    assert [type(own) is nn.MultiheadAttention for own in model.values()] == [False, True, True]
    reasons = {row.name: row.reason for row in sr.compression(model).left if row.reason != "vectors"}
    assert reasons["b.in_proj_weight"] == "excluded"
    assert reasons["c.in_proj_weight"] == "frozen"
    for own in model.values():
        own(*inputs("self"))
    sr.reparameterize(model, 3, exclude="b")
    assert spectral_layers(model)["a.k_proj"].rank == 3


def test_an_error_leaves_attention_as_it_was() -> None:
    model = nn.ModuleList([made(), nn.Linear(4, 4)])
    model[1].weight.data[0, 0] = float("nan")
    before = {name: p.clone() for name, p in model.named_parameters()}
    with pytest.raises(ValueError, match="layer '1'"):
        sr.reparameterize(model, 2, init="dense")
    assert type(model[0]) is nn.MultiheadAttention
    assert all(torch.equal(p, before[name]) for name, p in model[0].named_parameters("0"))


def test_writing_into_the_joined_weight_is_refused_and_assigning_it_works() -> None:
    model = sr.reparameterize(made(), 1.0, spectrum="free")
    with pytest.raises(RuntimeError, match=r"sr\.set_weight"):
        nn.init.zeros_(model.in_proj_weight)
    with pytest.raises(RuntimeError, match=r"sr\.set_weight"):
        model._reset_parameters()
    new = torch.randn(36, 12)
    model.in_proj_weight = nn.Parameter(new)
    torch.testing.assert_close(model.in_proj_weight.detach(), new, rtol=1e-4, atol=1e-5)
    model.k_proj_weight = torch.ones(12, 12)
    torch.testing.assert_close(model.in_proj_weight[12:24].detach(), torch.ones(12, 12), rtol=1e-4, atol=1e-5)
    assert "in_proj_weight" not in dict(model.named_parameters())


def test_freezing_the_joined_weight_freezes_its_cores() -> None:
    model = sr.reparameterize(made(), 4)
    model.in_proj_weight.requires_grad_(False)
    assert not any(p.requires_grad for name, p in model.named_parameters() if name.startswith(("q_", "k_", "v_")))
    assert not model.in_proj_weight.requires_grad
    assert not sr.decompress(model).in_proj_weight.requires_grad


def test_what_replaces_a_projection_and_would_not_be_called_is_refused() -> None:
    model = sr.reparameterize(made(), 4)
    model.q_proj = nn.Sequential(model.q_proj)
    with pytest.raises(RuntimeError, match="q_proj of a MultiheadAttention is now a Sequential"):
        model(*inputs("self"))


def test_a_gradient_after_a_part_without_one_is_not_lost() -> None:
    class Peeks(nn.MultiheadAttention):
        pass

    model = sr.reparameterize(made(), 4)

    def peek(module: Any, args: Any) -> None:
        with torch.no_grad():
            assert module.in_proj_weight.grad_fn is None

    model.register_forward_pre_hook(peek)
    model(*inputs("self"))[0].sum().backward()
    assert model.q_proj.left[0].grad is not None


def test_a_weight_that_two_modules_hold_is_refused_and_can_be_excluded() -> None:
    model = nn.ModuleList([made(), made()])
    model[1].in_proj_weight = model[0].in_proj_weight
    with pytest.raises(ValueError, match=r"in_proj_weight of '0' is shared with another module.*exclude '0\.\*'"):
        sr.reparameterize(model, 4)
    sr.reparameterize(model, 4, exclude=["0.?_proj", "1.?_proj"])
    assert list(spectral_layers(model)) == ["0.out_proj", "1.out_proj"]
    assert model[1].in_proj_weight is model[0].in_proj_weight


def test_a_vision_transformer_of_torchvision_keeps_its_outputs() -> None:
    import torchvision

    model = torchvision.models.VisionTransformer(16, 8, 2, 2, 16, 32, num_classes=4).eval()
    x = torch.randn(2, 3, 16, 16)
    nn.init.normal_(model.heads.head.weight)
    wanted = model(x)
    sr.reparameterize(model, 1.0, init="dense")
    torch.testing.assert_close(model(x), wanted, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(model(x), wanted, rtol=1e-4, atol=1e-4)
    assert sr.compression(model).reached > 90


def test_it_compiles_to_one_graph() -> None:
    model = sr.reparameterize(encoder(), 4)
    x = torch.randn(3, 5, 12)
    for own in (model.train(), model.eval()):
        own.apply(lambda m: setattr(m, "p", 0.0) if isinstance(m, nn.Dropout) else None)
        for layer in own.layers:
            layer.self_attn.dropout = 0.0
        compiled = torch.compile(own, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), own(x), rtol=1e-4, atol=1e-5)
