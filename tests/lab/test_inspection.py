"""What is told of layers, against its definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import sttp_riemann as sr
from sttp_riemann.lab.cli import main as cli
from sttp_riemann.lab.inspection import inspect
from sttp_riemann.lab.networks.sngan import SNGANDiscriminator
from sttp_riemann.lab.training.loop import Trainer
from sttp_riemann.lab.training.saved import load_saved
from tests.strategies import LAYER_KINDS, small_network


def operator_norm(layer: nn.Module, size: tuple[int, ...]) -> float:
    jacobian = torch.autograd.functional.jacobian(layer, torch.zeros(size))
    return float(torch.linalg.svdvals(jacobian.reshape(-1, math.prod(size)))[0])


@pytest.mark.parametrize("represented", [True, False])
@pytest.mark.parametrize("kind", [*LAYER_KINDS])
def test_the_operator_bound_holds_and_is_not_far_off(kind, represented):
    make, size = LAYER_KINDS[kind]
    layer = sr.reparameterize(make(), 4, init="orthogonal") if represented else make()
    (row,) = inspect(layer).layers
    norm = operator_norm(layer, size)
    assert norm <= row.operator_bound
    assert norm >= row.operator_bound / (5 if "reflect" in kind else 1.7)


def test_a_residual_network_has_a_certified_bound_and_what_has_none_is_named():
    torch.manual_seed(0)
    network = SNGANDiscriminator(8, in_channels=1, width=8).eval()
    sr.reparameterize(network, 4, bound_of="operator")
    report = inspect(network, torch.zeros(1, 1, 8, 8))
    assert f"certified Lipschitz bound of the network: {report.certified:.4g}" in str(report)
    assert (
        operator_norm(network, (1, 1, 8, 8)) <= report.certified == sr.lipschitz_bound(network, torch.zeros(1, 1, 8, 8))
    )
    report = inspect(nn.Sequential(nn.Linear(4, 4), nn.Softmax(1)).eval(), torch.zeros(1, 4))
    assert report.certified is None
    assert "the model has no Lipschitz bound: '1' (Softmax) has no rule" in str(report)


def test_spectra_are_those_of_the_weights():
    model = sr.reparameterize(small_network(), 4, init="dense", spectrum="free")
    for row in inspect(model).layers:
        layer = model.get_submodule(row.name)
        values = torch.linalg.svdvals(layer.to_matrix(layer.weight.detach()).double())[: row.rank]
        assert (row.largest, row.smallest) == pytest.approx((float(values[0]), float(values[-1])), rel=1e-4)
        assert row.stable_rank == pytest.approx(float(values.square().sum() / values[0] ** 2), rel=1e-4)
        assert row.median == pytest.approx(float(values.median()), rel=1e-4)


def test_sizes_are_those_of_compression_and_errors_of_orthogonality_error():
    model = sr.reparameterize(small_network(), 4, init="orthogonal")
    report, sizes = inspect(model), sr.compression(model)
    assert [(r.name, *r.shape, r.dof) for r in report.layers] == [
        (s.name, s.d_out, s.d_in, s.dof) for s in sizes.layers
    ]
    assert report.ratio == sizes.ratio
    assert max(row.orthogonality_error for row in report.layers) == sr.orthogonality_error(model)
    assert report.layers[0].ranks == model[0].shape.ranks


def test_layers_that_stay_dense_are_told_of_and_count_once():
    model = small_network()
    total = sum(t.numel() for t in (*model.parameters(), *model.buffers()) if t.is_floating_point())
    dense = inspect(model)
    assert (dense.ratio, dense.dof + dense.other) == (100, total)
    sr.reparameterize(model, 4, exclude=("11",))
    report = inspect(model)
    assert [row.ranks is None for row in report.layers] == [False] * 6 + [True]
    assert report.other + sum(math.prod(row.shape) for row in report.layers) == total


def test_the_product_bounds_a_network_of_lipschitz_functions():
    model = sr.reparameterize(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)), 8, spectral_bound=0.5)
    report = inspect(model)
    assert report.lipschitz == pytest.approx(0.25, rel=1e-5)
    assert report.operator_lipschitz == pytest.approx(0.25, rel=1e-4)
    assert operator_norm(model, (1, 8)) <= report.lipschitz


def test_a_model_without_layers_is_refused():
    with pytest.raises(ValueError, match="no linear layer, convolution or embedding to inspect"):
        inspect(nn.ReLU())


def test_the_command_line_tells_of_every_layer(tiny, tmp_path, capsys):
    Trainer(tiny(), tmp_path / "run").run()
    assert cli.main(["inspect", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("classifier\nlayer")
    assert "blocks.0.conv1  8 x 72  1-2-4-4-4-4-4-1 " in out
    assert "Of a convolution it bounds the map from one patch" in out
    (tmp_path / "empty").mkdir()
    assert cli.main(["inspect", str(tmp_path / "empty")]) == 2
    assert "has no checkpoint of a run: name a file" in capsys.readouterr().err


def test_a_study_is_one_table_with_a_row_a_network(tiny, tmp_path, capsys):
    for method in ("dense", "sttp"):
        Trainer(tiny(method=method), tmp_path / method / "seed0").run()
    assert cli.main(["inspect", str(tmp_path)]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["network", "layers", "dof", "Z"]
    assert [row.split()[0] for row in rows] == ["dense/seed0", "sttp/seed0"]
    report = inspect(load_saved(tmp_path / "sttp" / "seed0").network)
    assert f"{report.dof:,} {report.ratio:.2f} %" in " ".join(rows[1].split())


def test_tied_weights_count_once_as_in_compression():
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False), nn.Linear(8, 4))
    model[1].weight = model[0].weight
    assert inspect(model).dof + inspect(model).other == 8 * 8 + 8 * 4 + 4
    report = inspect(sr.reparameterize(model, 2))
    assert report.ratio == sr.compression(model).ratio
    assert [row.name for row in report.layers] == ["0", "2"]
