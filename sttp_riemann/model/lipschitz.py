"""The Lipschitz constant of a whole network, certified from above."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from typing_extensions import override

from sttp_riemann.checks import check_kind, check_tensor
from sttp_riemann.layers import SpectralLayer
from sttp_riemann.model.rules import FUNCTIONS, NoBoundError, Rule, Step, module_rule

TORCH = ("torch", "_operator", "builtins")
"""Where a function must come from to be the one of that name."""


def lipschitz_bound(model: nn.Module, example: Tensor) -> float:
    """Certified upper bound of the Lipschitz constant of a network in the Euclidean norm.

    Parameters
    ----------
    model : nn.Module
        Any network whose steps have rules: linear layers and convolutions, batch normalization in evaluation, ReLU and
        other activations, pooling, sums, means, residual sums and concatenations. Not changed.
    example : Tensor
        An input, of which the size matters and not the values. Other arguments of ``forward`` keep their defaults.

    Returns
    -------
    float
        The distance of two outputs is at most this times that of the inputs, for all inputs of this size.

    Raises
    ------
    TypeError
        The model is not a module, or the example not a tensor.
    ValueError
        The network cannot be traced or called, or a step has no bound; the message names it.

    Notes
    -----
    The bound of a step's output is that of its input times the norm of the step; those of the terms of a sum add up. A
    layer counts with its norm as an operator, `operator_norms`. The bound is certain, and the deeper the network, the
    farther above the constant it is (Szegedy et al. 2014, Section 4.3). Values count in exact arithmetic: rounding
    inside the network is not part of it.

    Examples
    --------
    >>> import torch, sttp_riemann as sr
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten())
    >>> model = sr.reparameterize(model, 4, bound_of="operator").eval()
    >>> 0.8 < sr.lipschitz_bound(model, torch.zeros(1, 3, 8, 8)) <= 1
    True
    """
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    check_tensor("example", example)
    if any(module.training for module in model.modules()):
        raise ValueError("the model is in training, where its steps depend on the batch: call model.eval() first")
    graph, results = _run(model, example)
    bounds: dict[fx.Node, float] = {}
    for node in graph.nodes:
        if node.op == "output":
            (last,) = node.args
            if not isinstance(last, fx.Node) or not isinstance(results.get(last), Tensor):
                raise ValueError("the model has no Lipschitz bound: it does not return one tensor")
            return bounds[last]
        bounds[node] = _bound(node, model, bounds, results)
    raise AssertionError("a graph ends with its output")


class _Tracer(fx.Tracer):
    @override
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SpectralLayer) or super().is_leaf_module(m, module_qualified_name)


class _Recorder(fx.Interpreter):
    """Keeps the result of every node."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, garbage_collect_values=False, graph=graph)


def _run(model: nn.Module, example: Tensor) -> tuple[fx.Graph, dict[fx.Node, Any]]:
    """The steps of a network, and what each returns; a network that is one module is one step."""
    whole = nn.Sequential(model) if module_rule(model) is not None else model
    try:
        names = [*inspect.signature(model.forward).parameters.values()][1:]
        defaults = {p.name: p.default for p in names if p.default is not p.empty}
        graph = _Tracer().trace(whole, None if whole is not model else defaults)
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"the model has no Lipschitz bound: torch.fx cannot trace it ({reason})") from error
    recorder = _Recorder(whole, graph)
    try:
        with torch.no_grad():
            recorder.run(example)
    except Exception as error:
        raise ValueError(
            f"the model cannot be called with the example: {' '.join(str(error).split())[:160]}"
        ) from error
    return graph, recorder.env


def _bound(node: fx.Node, model: nn.Module, bounds: dict[fx.Node, float], results: dict[fx.Node, Any]) -> float:
    """Bound of the map from the input to the result of a node; 0 for what is the same for all inputs of this size."""
    if node.op in ("placeholder", "get_attr"):
        return float(node.op == "placeholder" and node.prev.op == "root")
    inputs: list[fx.Node] = []
    others: list[Any] = []
    for value in _flat(node.args):
        depends = isinstance(value, fx.Node) and bounds[value] > 0
        (inputs if depends else others).append(value if depends else _known(value, results))
    named = {name: _known(value, results) for name, value in node.kwargs.items()}
    if any(isinstance(value, fx.Node) and bounds[value] > 0 for value in _flat(node.kwargs.values())):
        raise _refusal(node, model, "takes what depends on the input by name")
    if not inputs or _is_size(node):
        return 0.0
    output = results[node]
    if not isinstance(output, Tensor):
        raise _refusal(node, model, "does not return one tensor")
    rule = _rule(node, model, results)
    if rule is None:
        raise _refusal(node, model, "has no rule")
    tensors, before = tuple(results[n] for n in inputs), tuple(bounds[n] for n in inputs)
    try:
        found = rule(Step(tensors, before, tuple(others), named, node.args[0] is inputs[0], output))
    except NoBoundError as error:
        raise _refusal(node, model, str(error)) from error
    in_place = getattr(_module(node, model), "inplace", False) if node.op == "call_module" else named.get("inplace")
    if in_place and found > before[0]:
        raise _refusal(node, model, "may lengthen its input in place")
    return found


def _rule(node: fx.Node, model: nn.Module, results: dict[fx.Node, Any]) -> Rule | None:
    if node.op == "call_module":
        return module_rule(_module(node, model))
    name = node.target if isinstance(node.target, str) else node.target.__name__
    if node.op == "call_function":
        source = getattr(node.target, "__module__", None) or "torch"
        if source.split(".")[0] not in TORCH:
            return None
    if name == "iadd" and not _is_fresh(node, results):
        return None
    return FUNCTIONS.get(name)


def _is_fresh(node: fx.Node, results: dict[fx.Node, Any]) -> bool:
    """Whether nothing else sees what a node writes into its first argument."""
    first = node.args[0]
    if not isinstance(first, fx.Node) or len(first.users) > 1:
        return False
    memory, other = results[first].untyped_storage().data_ptr(), node.prev
    while other.op != "root":
        seen = results.get(other)
        if other is not first and isinstance(seen, Tensor) and seen.untyped_storage().data_ptr() == memory:
            return False
        other = other.prev
    return True


def _is_size(node: fx.Node) -> bool:
    """Whether a node asks for a size, which is the same for all inputs."""
    if node.op == "call_method":
        return node.target in ("size", "dim", "numel")
    return node.target is getattr and node.args[1] in ("shape", "ndim")


def _known(value: Any, results: dict[fx.Node, Any]) -> Any:
    return results[value] if isinstance(value, fx.Node) else value


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        nested = isinstance(value, (list, tuple)) and any(isinstance(v, fx.Node) for v in value)
        yield from _flat(value) if nested else (value,)


def _module(node: fx.Node, model: nn.Module) -> nn.Module:
    assert isinstance(node.target, str)
    return model if module_rule(model) is not None else model.get_submodule(node.target)


def _refusal(node: fx.Node, model: nn.Module, reason: str) -> ValueError:
    if node.op == "call_module":
        name = f"{node.target!r} ({type(_module(node, model)).__name__})"
    else:
        name = f"{node.target if isinstance(node.target, str) else node.target.__name__} (step {node.name!r})"
    return ValueError(f"the model has no Lipschitz bound: {name} {reason}")
