"""The Lipschitz constant of a whole network, certified from above."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from typing_extensions import override

from sttp_riemann.checks import check_kind, check_tensor
from sttp_riemann.layers import SpectralLayer
from sttp_riemann.model.rules import FUNCTIONS, OPTIONS, NoBoundError, Rule, Step, module_rule

TORCH = ("torch", "_operator", "builtins")
"""Where a function must come from to be the one of that name."""
ASSIGNING = ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "imatmul", "iand", "ior", "ixor")
"""Operators such as ``+=``, which write into a tensor."""


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
    inside the network is not part of it. Steps may write into their inputs, as ``ReLU(inplace=True)`` and ``+=`` do,
    unless what they write into is read again by another name.

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
    if not example.numel():
        raise ValueError("the example has no values: give an input of the size that the model takes")
    if any(module.training for module in model.modules()):
        raise ValueError("the model is in training, where its steps depend on the batch: call model.eval() first")
    # As a part, so that its own hooks run
    whole = nn.Sequential(model)
    try:
        graph = _Tracer().trace(whole)
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"the model has no Lipschitz bound: torch.fx cannot trace it ({reason})") from error
    bounding = _Bounding(whole, graph)
    with torch.inference_mode(False), torch.no_grad():
        bounding.run(example.clone())
    (last,) = graph.output_node().args
    if not isinstance(last, fx.Node) or not isinstance(bounding.env[last], Tensor):
        raise ValueError("the model has no Lipschitz bound: it does not return one tensor")
    return bounding.bounds[last]


class _Proxy(fx.Proxy):
    """Records ``+=`` as what it is: torch.fx takes it for ``+``, and so loses what it writes."""


def _assigning(name: str) -> Callable[[_Proxy, Any], Any]:
    def assign(self: _Proxy, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", getattr(operator, name), (self, other), {})

    return assign


for _name in ASSIGNING:
    setattr(_Proxy, f"__{_name}__", _assigning(_name))


class _Tracer(fx.Tracer):
    @override
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SpectralLayer) or super().is_leaf_module(m, module_qualified_name)

    @override
    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)


class _Bounding(fx.Interpreter):
    """Runs a network step by step, and bounds the map from its input to each result.

    Attributes
    ----------
    bounds : dict
        Node to bound; 0 for what is the same for all inputs of this size.
    """

    bounds: dict[fx.Node, float]

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, garbage_collect_values=False, graph=graph)
        self.extra_traceback = False
        self.bounds = {}
        self._places = {node: i for i, node in enumerate(graph.nodes)}

    @override
    def run_node(self, n: fx.Node) -> Any:
        before = {node: _version(self.env[node]) for node in n.all_input_nodes}
        try:
            result = super().run_node(n)
        except Exception as error:
            reason = " ".join(str(error).split())[:160]
            raise ValueError(f"the model cannot be called with the example: {reason}") from error
        # Now, as a later step may write into a constant
        self.bounds[n] = self._bound(n, result)
        for node, version in before.items():
            if _version(self.env[node]) != version:
                self._check_written(n, node)
        return result

    def _bound(self, node: fx.Node, result: Any) -> float:
        if node.op in ("placeholder", "get_attr", "output"):
            return float(node.op == "placeholder")
        inputs: list[fx.Node] = []
        others: list[Any] = []
        for value in _flat(node.args):
            depends = self._depends(value)
            (inputs if depends else others).append(value if depends else self._known(value))
        if any(map(self._depends, _flat(node.kwargs.values()))):
            raise self._refusal(node, "takes what depends on the input by name")
        if not inputs or _is_size(node):
            return 0.0
        if not isinstance(result, Tensor):
            raise self._refusal(node, "does not return one tensor")
        if unknown := [name for name in node.kwargs if name not in OPTIONS]:
            raise self._refusal(node, f"has no rule with {unknown[0]!r}")
        rule = self._rule(node)
        if rule is None:
            raise self._refusal(node, "has no rule")
        tensors, bounds = tuple(self.env[n] for n in inputs), tuple(self.bounds[n] for n in inputs)
        named = {name: self._known(value) for name, value in node.kwargs.items()}
        try:
            return rule(Step(tensors, bounds, tuple(others), named, node.args[0] is inputs[0], result))
        except NoBoundError as error:
            raise self._refusal(node, str(error)) from error
        except LookupError as error:
            raise self._refusal(node, "has no rule with its arguments given by name") from error

    def _rule(self, node: fx.Node) -> Rule | None:
        if node.op == "call_module":
            return module_rule(self._module(node))
        if isinstance(node.target, str):
            return FUNCTIONS.get(node.target)
        source = getattr(node.target, "__module__", None) or "torch"
        return FUNCTIONS.get(node.target.__name__) if source.split(".")[0] in TORCH else None

    def _check_written(self, step: fx.Node, written: fx.Node) -> None:
        """Refuse a write that anything else sees: each result counts as what it was when it was computed."""
        memory, now = _memory(self.env[written]), self._places[step]
        for node, result in self.env.items():
            later = any(self._places[user] > now for user in node.users)
            if later and isinstance(result, Tensor) and _memory(result) == memory:
                raise self._refusal(step, f"writes into what is read again later, as {node.name!r}")

    def _depends(self, value: Any) -> bool:
        return isinstance(value, fx.Node) and self.bounds[value] > 0

    def _known(self, value: Any) -> Any:
        return self.env[value] if isinstance(value, fx.Node) else value

    def _module(self, node: fx.Node) -> nn.Module:
        assert isinstance(node.target, str)
        return self.module.get_submodule(node.target)

    def _refusal(self, node: fx.Node, reason: str) -> ValueError:
        if node.op == "call_module":
            name = f"{str(node.target)[2:]!r} ({type(self._module(node)).__name__})"
        else:
            name = f"{node.target if isinstance(node.target, str) else node.target.__name__} (step {node.name!r})"
        return ValueError(f"the model has no Lipschitz bound: {name} {reason}")


def _version(value: Any) -> int:
    """Counts the writes into a tensor and its views; nothing writes into inference tensors here."""
    return value._version if isinstance(value, Tensor) and not value.is_inference() else 0


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _is_size(node: fx.Node) -> bool:
    """Whether a node asks for a size, which is the same for all inputs."""
    if node.op == "call_method":
        return node.target in ("size", "dim", "numel")
    return node.target is getattr and node.args[1] in ("shape", "ndim")


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        nested = isinstance(value, (list, tuple)) and any(isinstance(v, fx.Node) for v in value)
        yield from _flat(value) if nested else (value,)
