"""How much a step of a network may lengthen a difference of its inputs: one rule a kind of module or function."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sttp_riemann.batch.cached import begin, end
from sttp_riemann.layers import SpectralLayer, row_for
from sttp_riemann.layers.bilinear import SpectralBilinear
from sttp_riemann.layers.embedding import SpectralEmbedding
from sttp_riemann.layers.embedding_bag import SpectralEmbeddingBag
from sttp_riemann.layers.registered import Registered
from sttp_riemann.model.operators import layer_norm

NO_MAPS = (SpectralBilinear, SpectralEmbedding, SpectralEmbeddingBag, Registered)
"""Layers that are no linear map of one tensor, or apply their weight in a way of their own."""


@dataclass(frozen=True)
class Step:
    """One call inside a network.

    Attributes
    ----------
    inputs : tuple of Tensor
        That depend on the network's input.
    bounds : tuple of float
        Of the Lipschitz constants of the maps from the network's input to them.
    others : tuple
        The other arguments, in order, constant tensors among them.
    options : dict
        Arguments by name.
    leads : bool
        Whether the first argument depends on the network's input.
    output : Tensor
        What it returns.
    """

    inputs: tuple[Tensor, ...]
    bounds: tuple[float, ...]
    others: tuple[Any, ...]
    options: dict[str, Any]
    leads: bool
    output: Tensor

    @property
    def ratio(self) -> float:
        """Elements of the first input by those of the output."""
        return self.inputs[0].numel() / self.output.numel()


class NoBoundError(ValueError):
    """There is no bound; the message continues after the name of what has none."""


Rule = Callable[[Step], float]


def _only(step: Step, factor: float = 1.0) -> float:
    """Rearranges, or is Lipschitz with this factor in every element."""
    if any(isinstance(other, torch.dtype) for other in (*step.others, *step.options.values())):
        raise NoBoundError("reads numbers as those of another type")
    if len(step.bounds) != 1:
        raise NoBoundError("takes several tensors that depend on the input")
    return step.bounds[0] * factor


def _sum(step: Step) -> float:
    """Elementwise sum or difference; what is spread out counts as often as it is repeated."""
    if step.options.get("alpha", 1) != 1:
        raise NoBoundError("scales one of its terms")
    sizes = (math.sqrt(step.output.numel() / x.numel()) for x in step.inputs)
    return sum(bound * size for bound, size in zip(step.bounds, sizes, strict=True))


def _product(step: Step) -> float:
    """Product with a constant."""
    return _only(step) and _sum(step) * _largest(step.others[0])


def _quotient(step: Step) -> float:
    if not step.leads:
        raise NoBoundError("divides by what depends on the input")
    return _only(step) and _sum(step) * _largest(1 / torch.as_tensor(step.others[0]))


def _largest(value: Any) -> float:
    return float(torch.as_tensor(value).detach().abs().max())


def _joined(step: Step) -> float:
    return math.sqrt(sum(bound**2 for bound in step.bounds))


def _total(step: Step) -> float:
    """Sum over some dimensions."""
    return _only(step, math.sqrt(step.ratio))


def _mean(step: Step) -> float:
    return _only(step, 1 / math.sqrt(step.ratio))


def _part(step: Step) -> float:
    """Part of a tensor, by whole numbers and slices."""
    index = step.others[0] if isinstance(step.others[0], tuple) else step.others
    if not all(i is None or i is Ellipsis or isinstance(i, (int, slice)) for i in index):
        raise NoBoundError("picks elements by a tensor or list, which may repeat them")
    return _only(step)


def _leaky(step: Step) -> float:
    slope = step.options.get("negative_slope", step.others[0] if step.others else 0.01)
    return _only(step, max(1.0, abs(slope)))


def _average_pool(space: int) -> Rule:
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    return lambda step: _only(step, _pooled(space, dict(zip(names, step.others, strict=False)) | step.options, True))


def _pooled(space: int, options: Mapping[str, Any], mean: bool) -> float:
    """An element is in at most ceil(kernel / stride) windows a dimension; a mean of K has the norm 1/sqrt(K)."""
    sides = _sides(options["kernel_size"], space)
    strides = _sides(options.get("stride") or sides, space)
    steps = _sides(options.get("dilation", 1), space)
    padded = max(_sides(options.get("padding", 0), space)) > 0 and not options.get("count_include_pad", True)
    if mean and (padded or options.get("ceil_mode") or options.get("divisor_override")):
        raise NoBoundError("divides by other numbers than the size of its windows")
    rows = zip(sides, strides, steps, strict=True)
    windows = math.prod(math.ceil(side * math.gcd(stride, step) / stride) for side, stride, step in rows)
    return math.sqrt(windows / (math.prod(sides) if mean else 1))


def _sides(value: Any, space: int) -> Sequence[int]:
    return [value] * space if isinstance(value, int) else list(value)


def _adaptive(step: Step) -> float:
    """Means of windows that do not overlap."""
    rows = zip(step.inputs[0].shape, step.output.shape, strict=True)
    if any(before % after for before, after in rows):
        raise NoBoundError("averages windows that overlap; choose an output whose size divides that of the maps")
    return _mean(step)


def _dropout(step: Step) -> float:
    if step.options.get("training", step.others[1] if len(step.others) > 1 else True):
        raise NoBoundError("is random in training; call model.eval() first")
    return _only(step)


FUNCTIONS: dict[str, Rule] = {
    **dict.fromkeys(("relu", "relu_", "tanh", "abs", "neg", "clamp", "clip", "relu6", "hardtanh"), _only),
    **dict.fromkeys(
        ("flatten", "reshape", "view", "permute", "transpose", "contiguous", "squeeze", "unsqueeze"), _only
    ),
    **dict.fromkeys(("movedim", "detach", "clone", "float", "double"), _only),
    **dict.fromkeys(("add", "sub", "iadd", "isub"), _sum),
    **dict.fromkeys(("mul", "imul"), _product),
    **dict.fromkeys(("truediv", "itruediv", "div"), _quotient),
    "cat": _joined,
    "sum": _total,
    "mean": _mean,
    "getitem": _part,
    "sigmoid": lambda step: _only(step, 0.25),
    "leaky_relu": _leaky,
    **{f"avg_pool{space}d": _average_pool(space) for space in (1, 2, 3)},
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"), _adaptive),
    "dropout": _dropout,
}
"""Rules for functions and methods, by their names in torch."""
OPTIONS = frozenset(
    (
        *("alpha", "dim", "keepdim", "dim0", "dim1", "start_dim", "end_dim", "source", "destination", "min", "max"),
        *("min_val", "max_val", "negative_slope", "inplace", "p", "training", "output_size", "memory_format"),
        *("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    )
)
"""Arguments by name that these rules know, or that change no norm."""

ModuleRule = Callable[[Any, Step], float]


def _plain(factor: float = 1.0) -> ModuleRule:
    return lambda module, step: _only(step, factor)


def _norm(module: Any, step: Step) -> float:
    """Batch normalization in evaluation multiplies each channel by a constant."""
    if module.running_var is None:
        raise NoBoundError("depends on the batch, as it keeps no running statistics")
    scale = torch.rsqrt(module.running_var.double() + module.eps)
    gain = 1.0 if module.weight is None else module.weight.detach().double()
    return _only(step, _largest(scale * gain))


def _pool(space: int, mean: bool) -> ModuleRule:
    return lambda module, step: _only(step, _pooled(space, vars(module), mean))


MODULES: dict[type[nn.Module], ModuleRule] = {
    **dict.fromkeys((nn.Identity, nn.Flatten, nn.Unflatten, nn.ReLU, nn.ReLU6, nn.Tanh, nn.Hardtanh), _plain()),
    nn.Sigmoid: _plain(0.25),
    # Largest slopes: 1.0999 and 1.1290
    nn.SiLU: _plain(1.1),
    nn.GELU: _plain(1.13),
    nn.LeakyReLU: lambda module, step: _only(step, max(1.0, abs(module.negative_slope))),
    nn.ELU: lambda module, step: _only(step, max(1.0, abs(module.alpha))),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _norm),
    **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d), _plain()),
    **{kind: _pool(d, True) for d, kind in enumerate((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), start=1)},
    **{kind: _pool(d, False) for d, kind in enumerate((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), start=1)},
    **dict.fromkeys(
        (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), lambda module, step: _adaptive(step)
    ),
}
"""Rules for modules of torch that are no layers with a weight; a subclass has none of these."""


def module_rule(module: Any) -> Rule | None:
    """The rule for a module.

    Parameters
    ----------
    module : nn.Module
        Any.

    Returns
    -------
    callable or None
        None if there is none for its class, or hooks or a forward of its own may change what it returns.
    """
    own = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    everywhere = torch.nn.modules.module._global_forward_pre_hooks or torch.nn.modules.module._global_forward_hooks
    if everywhere or "forward" in vars(module) or any(hook not in (begin, end) for hook in own):
        return None
    kind = parametrize.type_before_parametrizations(module)
    row = kind if isinstance(module, SpectralLayer) else row_for(kind)
    if row is not None:
        return None if issubclass(row, NO_MAPS) else lambda step: _only(step, _layer(module, step))
    rule = MODULES.get(kind)
    return None if rule is None else lambda step: rule(module, step)


def _layer(layer: Any, step: Step) -> float:
    size = step.inputs[0].shape[-len(layer.kernel_size) :] if hasattr(layer, "kernel_size") else None
    return layer_norm(layer, size=None if size is None or layer.transposed else tuple(size))
