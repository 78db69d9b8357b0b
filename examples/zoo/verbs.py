"""Every verb on a model of the zoo, and what it has to keep: one function a row of `VERBS`."""

from __future__ import annotations

import copy
import io
import pickle
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from case import RANK, TOLERANCE, Case, distance, need
from torch import Tensor, nn

import sttp_riemann as sr
from sttp_riemann.layers import LAYERS, kind_of, row_for

SMALL = 300_000
"""Numbers up to which all weights are decomposed at full rank."""
OTHER = {"riemannian": "householder", "householder": "riemannian"}


class LeftOut(Exception):  # noqa: N818 - it is no error
    """The verb has no use for this model."""


def reparameterize(case: Case) -> None:
    """Outputs of the dense shapes; `sr.compression` counts all numbers, and frames are orthonormal."""
    dense, before = case.outputs(case.dense), case.outputs(case.before)
    need([t.shape for t in dense] == [t.shape for t in before], "outputs of another shape")
    need(sr.orthogonality_error(case.before) < 1e-5, "frames are not orthonormal")
    table = sr.compression(case.before)
    need(table.dense + table.other == numbers(case.dense), "compression does not count all numbers")


def step(case: Case) -> None:
    """One training step lowers the loss and keeps frames orthonormal; all weights move that move in the dense model."""
    first, last = case.losses
    need(last < first, f"the loss rose from {first:.3g} to {last:.3g}")
    need(sr.orthogonality_error(case.model) < 1e-5, "frames are not orthonormal")
    model = copy.deepcopy(case.before).train()
    case.loss(model).backward()
    twin = sr.decompress(case.before).train()
    case.loss(twin).backward()
    for name, layer in spectral(model).items():
        weight = getattr(twin.get_submodule(name), "weight", None) if has(twin, name) else None
        if weight is not None and weight.grad is not None and weight.grad.any():
            own = [p.grad for p in layer.factor_parameters()]
            need(all(g is not None for g in own), f"{name} has no gradient")


def gradients(case: Case) -> None:
    """Those of everything but cores, and those of weights, are the gradients of a dense model with the same weights."""
    model, twin = copy.deepcopy(case.model), sr.decompress(case.model)
    for one in (model, twin):
        one.zero_grad()
    case.loss(model).backward()
    case.loss(twin).backward()
    own = dict(model.named_parameters())
    dense = {name: p.grad for name, p in twin.named_parameters() if p.grad is not None and name in own}
    alike({name: own[name].grad for name in dense}, dense, "parameters that are not reparameterized")
    with sr.weight_gradients(model) as found:
        case.loss(model).backward()
    wanted = {}
    for name in found:
        layer = twin.get_submodule(name) if has(twin, name) else None
        if layer is not None and row_for(kind_of(layer)) is not None and layer.weight.grad is not None:
            wanted[name] = LAYERS[kind_of(layer)].to_matrix(layer.weight.grad)
    alike(found, wanted, "weights")


def gauge_fix(case: Case) -> None:
    """The same outputs, with an optimizer whose momentum moves along."""
    model = copy.deepcopy(case.model)
    optimizer = type(case.optimizer)([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    optimizer.load_state_dict(case.optimizer.state_dict())
    case.same(sr.gauge_fix(model, optimizer))


def convert_frames(case: Case) -> None:
    """The same outputs on the other path, and back on the own one."""
    model = sr.convert_frames(copy.deepcopy(case.model), OTHER[case.frames])
    case.same(model)
    case.same(sr.convert_frames(model, case.frames))


def canonicalize(case: Case) -> None:
    """The same outputs."""
    case.same(sr.canonicalize(copy.deepcopy(case.model)))


def project(case: Case) -> None:
    """Frames that were put off their manifold come back, and the outputs with them."""
    model = copy.deepcopy(case.model)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for layer in spectral(model).values():
            for side in (layer.left, layer.right):
                for core in side.parameters() if side.direct else ():
                    core.mul_(1 + 1e-3)
        sr.project(model)
    need(sr.orthogonality_error(model) < 1e-5, "frames are not orthonormal")
    case.same(model)


def set_weight(case: Case) -> None:
    """A weight that the layer can represent is what it then has: the first, the middle and the last layer."""
    model = copy.deepcopy(case.model)
    for layer in some(model).values():
        weight = layer.weight.detach().clone()
        for wanted in (-weight, weight):
            sr.set_weight(layer, wanted)
            need(bool((layer.weight - wanted).norm() <= TOLERANCE * wanted.norm()), "the layer has another weight")
    case.same(model)


def measures(case: Case) -> None:
    """Singular values are those of W; norms of operators without groups are no smaller; other measures are numbers."""
    found, norms = sr.singular_values(case.model), sr.operator_norms(case.model)
    for name, layer in spectral(case.model).items():
        matrix = type(layer).to_matrix(layer.weight.detach()).double()
        largest = float(torch.linalg.matrix_norm(matrix @ matrix.mT, 2)) ** 0.5 if len(matrix) <= 256 else None
        told = float(found[name].max())
        need(largest is None or abs(told - largest) <= 1e-3 * largest, f"{name}: {told} is not its norm {largest}")
        # Each group of a convolution reads other channels, so W is no part of the operator
        whole = getattr(layer, "groups", 1) == 1 and name in norms
        need(not whole or norms[name] >= 0.999 * told, f"{name}: the norm of the operator is too small")
    need(bool(sr.spectral_penalty(case.model).isfinite()), "the penalty is not finite")
    need(0 <= sr.chart_margin(case.model) <= 1, "no chart margin")


def averaged(case: Case) -> None:
    """An average of equal models is that model."""
    average = sr.averaged(case.model, decay=0.5)
    average.update(case.model)
    average.update(case.model)
    case.same(average.module.eval())


def cached(case: Case) -> None:
    """Weights that are built once give the same outputs, bit for bit; so do those of `frozen`, until a change."""
    with sr.cached(case.model):
        case.same(case.model, exact=True)
        case.same(case.model, exact=True)
    model = copy.deepcopy(case.model)
    with sr.frozen(model):
        case.same(model, exact=True)
        case.same(model, exact=True)
    case.same(model, exact=True)


def ranks(case: Case) -> None:
    """Growing keeps the outputs; the model trains on, and shrinks again: the first, the middle and the last layer."""
    model = copy.deepcopy(case.model)
    with sr.weight_gradients(model) as found:
        case.loss(model).backward()
    names = [name for name in some(model) if name in found]
    optimizer = type(case.optimizer)([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    sr.grow_ranks(model, {name: found[name] for name in names}, optimizer, factor=1.5)
    case.same(model)
    optimizer.zero_grad()
    case.loss(model).backward()
    optimizer.step()
    sr.shrink_ranks(model, optimizer, rank=dict.fromkeys(names, RANK // 2))
    case.outputs(model)
    need(all(model.get_submodule(name).rank <= RANK // 2 for name in names), "ranks did not shrink")


def state_dict(case: Case) -> None:
    """Through `torch.save` into a model with other weights; bit for bit."""
    file = io.BytesIO()
    torch.save(case.model.state_dict(), file)
    file.seek(0)
    fresh = copy.deepcopy(case.other)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    # LeViT, dense or not, keeps what it has computed of its biases until it trains
    fresh.train(not fresh.training).train(not fresh.training)
    case.same(fresh, exact=True)


def save(case: Case) -> None:
    """`sr.save`, and `sr.load` into a dense model; bit for bit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        sr.save(case.model, path)
        case.same(sr.load(path, case.row.fresh()), exact=True)


def save_pretrained(case: Case) -> None:
    """transformers' own, and `sr.from_pretrained`; bit for bit."""
    if case.row.package != "transformers":
        raise LeftOut
    with tempfile.TemporaryDirectory() as folder:
        case.model.save_pretrained(folder)
        case.same(sr.from_pretrained(type(case.dense), folder).eval(), exact=True)


def deepcopy(case: Case) -> None:
    """An independent model; bit for bit."""
    other = copy.deepcopy(case.model)
    case.same(other, exact=True)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    case.same(case.model, exact=True)


def pickled(case: Case) -> None:
    """The whole model, bit for bit, if torch pickles the dense one."""
    try:
        pickle.dumps(case.dense)
    except RuntimeError:  # torch does not pickle parametrized modules
        return
    case.same(pickle.loads(pickle.dumps(case.model)), exact=True)


def decompress(case: Case) -> None:
    """An ordinary model, and its state in the dense model from the beginning, have the same outputs."""
    plain = sr.decompress(case.model)
    case.same(plain)
    need(plain.state_dict().keys() == case.dense.state_dict().keys(), "other names than those of the dense model")
    need(not any(type(m).__module__.startswith("sttp_riemann") for m in plain.modules()), "a module is not ordinary")
    dense = copy.deepcopy(case.dense)
    dense.load_state_dict(plain.state_dict())
    case.same(dense)


def factored(case: Case) -> None:
    """Pairs of thin layers have the same outputs."""
    case.same(sr.decompress(case.model, factored=True))


def kept(case: Case) -> None:
    """With ``init="dense"`` at full rank, the outputs are those of the dense model; for small models only."""
    if numbers(case.dense) > SMALL:
        raise LeftOut
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        case.same(case.spectral(rank=1.0, init="dense", spectral_bound=None), wanted=case.outputs(case.dense))


def adapt(case: Case) -> None:
    """Adapters begin at the dense model, train, and are folded in and taken out again."""
    wanted = case.outputs(case.dense)
    model = sr.adapt(copy.deepcopy(case.dense), rank=2, method=case.method, frames=case.frames)
    case.same(model, wanted=wanted)
    model, *_ = case.trained(model)
    trained = case.outputs(model)
    case.same(sr.merge(model), wanted=trained)
    case.same(sr.unmerge(model), exact=True, wanted=trained)


VERBS: dict[str, Callable[[Case], None]] = {
    "reparameterize": reparameterize,
    "step": step,
    "gradients": gradients,
    "gauge_fix": gauge_fix,
    "convert_frames": convert_frames,
    "canonicalize": canonicalize,
    "project": project,
    "set_weight": set_weight,
    "measures": measures,
    "averaged": averaged,
    "cached, frozen": cached,
    "ranks": ranks,
    "state_dict": state_dict,
    "save, load": save,
    "save_pretrained": save_pretrained,
    "deepcopy": deepcopy,
    "pickle": pickled,
    "decompress": decompress,
    "decompress, factored": factored,
    "init dense": kept,
    "adapt, merge": adapt,
}
BOTH = ("reparameterize", "step", "gradients", "gauge_fix", "convert_frames", "save, load", "decompress")
"""What both variants run; the others are run on one."""


def spectral(model: nn.Module) -> dict[str, nn.Module]:
    """Reparameterized layers by name."""
    return {name: model.get_submodule(name) for name in sr.singular_values(model)}


def numbers(model: nn.Module) -> int:
    """All different parameters and buffers of floating point, counted."""
    held = {id(t): t for t in [*model.parameters(), *model.buffers()] if t.is_floating_point()}
    return sum(t.numel() for t in held.values())


def has(model: nn.Module, name: str) -> bool:
    """Whether a model has a module of this name: matrices inside of modules have none when they are dense."""
    return name in dict(model.named_modules(remove_duplicate=False))


def some(model: nn.Module) -> dict[str, nn.Module]:
    """The first, the middle and the last reparameterized layer by name."""
    layers = spectral(model)
    names = list(layers)
    return {name: layers[name] for name in (names[0], names[len(names) // 2], names[-1])}


def alike(found: dict[str, Tensor], wanted: dict[str, Tensor], what: str) -> None:
    """Check that the gradients of all names in `wanted` are equal up to rounding."""
    missing = [name for name in wanted if found.get(name) is None]
    need(not missing, f"{what}: {missing[:1]} has no gradient")
    pairs = [[own[name] for name in wanted] for own in (found, wanted)]
    unit = distance(pairs[1], [torch.zeros_like(t) for t in pairs[1]]) if wanted else 0
    need(not wanted or distance(*pairs) <= TOLERANCE * unit, f"gradients of {what} differ")
