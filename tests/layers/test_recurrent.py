"""torch's recurrent layers and cells compute what the dense ones do with the same W."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.model.measures import spectral_layers
from tests.workflows.common import PATHS

KINDS: dict[str, Callable[[], Any]] = {
    "RNN": lambda: nn.RNN(6, 8, nonlinearity="relu"),
    "LSTM": lambda: nn.LSTM(6, 8, batch_first=True),
    "LSTM, two ways, two layers": lambda: nn.LSTM(6, 8, 2, bidirectional=True),
    "LSTM with projections": lambda: nn.LSTM(6, 8, proj_size=5),
    "GRU without bias": lambda: nn.GRU(6, 8, bias=False),
    "RNNCell": lambda: nn.RNNCell(6, 8),
    "LSTMCell": lambda: nn.LSTMCell(6, 8),
    "GRUCell": lambda: nn.GRUCell(6, 8),
}
CASES = pytest.mark.parametrize("case", KINDS)


def output(model: Any, x: Tensor) -> Tensor:
    """What a layer or a cell gives; a tuple's first."""
    found = model(x[0] if isinstance(model, nn.RNNCellBase) else x)
    return found[0] if isinstance(found, tuple) else found


def inputs() -> Tensor:
    return torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(1))


@PATHS
@CASES
def test_every_verb_keeps_the_outputs(case: str, frames: str) -> None:
    model, x = sr.reparameterize(nn.ModuleList([KINDS[case]()]), 4, frames=frames, spectrum="free"), inputs()
    matrices = [name for name, p in KINDS[case]().named_parameters() if p.dim() == 2]
    assert set(spectral_layers(model)) == {f"0.{name.removeprefix('weight_')}" for name in matrices}
    wanted = output(model[0], x)
    dense = sr.decompress(model, factored=True)
    assert type(dense[0]) is type(KINDS[case]())
    assert list(dense[0].state_dict()) == list(KINDS[case]().state_dict())
    twin = KINDS[case]()
    twin.load_state_dict(dense[0].state_dict())
    for other in (dense[0], twin, copy.deepcopy(model)[0], pickle.loads(pickle.dumps(model))[0]):
        torch.testing.assert_close(output(other, x), wanted, rtol=1e-4, atol=1e-5)
    sr.convert_frames(sr.gauge_fix(model), "householder" if frames == "riemannian" else "riemannian")
    torch.testing.assert_close(output(model[0], x), wanted, rtol=1e-4, atol=1e-5)
    doubled = copy.deepcopy(model).double()
    torch.testing.assert_close(output(doubled[0], x.double()).float(), wanted, rtol=1e-4, atol=1e-5)


@CASES
def test_cores_get_the_gradients_of_the_dense_weights(case: str) -> None:
    model, x = sr.reparameterize(KINDS[case](), 4, spectrum="free").double(), inputs().double()
    dense = sr.decompress(model)
    for own in (model, dense):
        output(own, x).square().sum().backward()
    for name, parameter in dense.named_parameters():
        if parameter.dim() == 2:
            layer = model.get_submodule(name.removeprefix("weight_"))
            (own,) = torch.autograd.grad((layer.weight * parameter.grad).sum(), layer.right[0])
            torch.testing.assert_close(layer.right[0].grad, own)


@CASES
def test_at_full_rank_the_dense_weights_are_kept(case: str) -> None:
    dense, x = KINDS[case](), inputs()
    model = sr.reparameterize(copy.deepcopy(dense), 1.0, init="dense")
    torch.testing.assert_close(output(model, x), output(dense, x), rtol=1e-4, atol=1e-5)


@CASES
def test_steps_change_the_outputs(case: str) -> None:
    """Nothing keeps a weight from before: torch's own layers keep a list of theirs."""
    model, x = sr.reparameterize(KINDS[case](), 4), inputs()
    optimizer = sr.RiemannianAdam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = (output(model, x) - 0.5).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)


@CASES
def test_drawing_anew_keeps_frames_on_their_manifold(case: str) -> None:
    model = sr.reparameterize(KINDS[case](), 4)
    before = output(model, inputs())
    model.reset_parameters()
    assert sr.orthogonality_error(model) < 1e-6
    assert not torch.equal(output(model, inputs()), before)


def test_packed_sequences_pass() -> None:
    model = sr.reparameterize(nn.LSTM(6, 8), 4)
    packed = nn.utils.rnn.pack_padded_sequence(inputs(), torch.tensor([4, 2, 1]))
    torch.testing.assert_close(model(packed)[0].data, sr.decompress(model)(packed)[0].data)


def test_weights_are_assigned_by_their_names_and_biases_too() -> None:
    model = sr.reparameterize(nn.GRU(6, 8), 1.0, spectrum="free")
    new = torch.randn(24, 6)
    model.weight_ih_l0 = nn.Parameter(new)
    model.bias_ih_l0 = nn.Parameter(torch.ones(24))
    torch.testing.assert_close(model.weight_ih_l0.detach(), new, rtol=1e-4, atol=1e-5)
    dense = sr.decompress(model)
    torch.testing.assert_close(dense.weight_ih_l0.detach(), new, rtol=1e-4, atol=1e-5)
    assert torch.equal(dense.bias_ih_l0, torch.ones(24))
    torch.testing.assert_close(dense(inputs())[0], model(inputs())[0])


def test_excluded_matrices_stay_dense_and_learn() -> None:
    model = sr.reparameterize(nn.LSTM(6, 8), 4, exclude="hh_l0")
    output(model, inputs()).sum().backward()
    assert list(spectral_layers(model)) == ["ih_l0"]
    assert model.hh_l0.weight.grad.any()


@pytest.mark.parametrize("case", ["LSTM", "GRUCell"])
def test_compilers_and_functional_calls_use_the_cores(case: str) -> None:
    model, x = sr.reparameterize(KINDS[case](), 4), inputs()
    x = x[0] if isinstance(model, nn.RNNCellBase) else x
    wanted = output(model, inputs())
    # torch breaks the graph at its own recurrent layers, too
    compiled = torch.compile(model, backend="eager", fullgraph=case == "GRUCell")(x)
    torch.testing.assert_close(compiled[0] if isinstance(compiled, tuple) else compiled, wanted)
    other = sr.reparameterize(KINDS[case](), 4, seed=1)
    found = torch.func.functional_call(other, dict(model.named_parameters()), (x,))
    torch.testing.assert_close(found[0] if isinstance(found, tuple) else found, wanted)
