"""What of a model is reparameterized, what is left as it is, and why."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sttp_riemann.batch.owner import Owner
from sttp_riemann.errors import one_line
from sttp_riemann.frames import Frames
from sttp_riemann.layers import LAYERS, Adapted, SpectralLayer, kind_of, row_for, split_for
from sttp_riemann.layers.adapted import FROZEN
from sttp_riemann.model.measures import spectral_layers
from sttp_riemann.model.weights import distinct

REASONS = {
    "excluded": "excluded, or added since",
    "frozen": "frozen; requires_grad_(True) before reparameterize lets it reach them",
    "zero": "all zero: excluded, or without singular vectors that init='dense' could keep",
    "parametrized": "parametrized by something else",
    "subclass": "layers of own classes; sr.register_layer makes a class known",
    "unknown": "of no kind that is known",
    "adapted": "frozen, with an adapter that changes what they do",
    "vectors": "biases, other vectors and buffers",
}
"""Why numbers are left as they are, in words."""
WARNED = {"parametrized": 0.0, "subclass": 0.0, "unknown": 0.05, "frozen": 0.5}
"""Reasons that may surprise, and the share of the numbers from which they are told unasked."""
SHOWN = 3
"""Number of names that a line gives as examples."""


@dataclass(frozen=True)
class Left:
    """Numbers of one module that are left as they are.

    Attributes
    ----------
    name : str
        The module; its parameter too, where that is not a weight.
    kind : str
        Class of the module.
    numbers : int
        How many. Shared ones count where they come first.
    reason : str
        A key of `REASONS`.
    """

    name: str
    kind: str
    numbers: int
    reason: str


@torch.no_grad()
def left_numbers(model: nn.Module) -> tuple[Left, ...]:
    """Everything in a model but cores and spectra, in the order of the model; of an adapter, its frozen weight.

    Parameters
    ----------
    model : nn.Module
        Dense or reparameterized.

    Returns
    -------
    tuple of Left
        For each module, one row for each parameter with more than one long dimension, and one for its vectors and
        floating-point buffers.
    """
    rows, seen = [], set()
    whole = not any(p.requires_grad for p in model.parameters())
    for name, module in model.named_modules():
        if isinstance(module, Frames):
            continue
        vectors = 0
        for own, tensor, learnable in _tensors(module):
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            if isinstance(module, Adapted) and own in FROZEN:
                if own == "base":
                    rows.append(Left(name, type(module).__name__, tensor.numel(), "adapted"))
                continue
            thin = sum(size > 1 for size in tensor.shape) < 2 and (own != "weight" or tensor.dim() < 2)
            if not learnable or thin:
                vectors += tensor.numel()
                continue
            where = name if own == "weight" else f"{name}.{own}".lstrip(".")
            rows.append(Left(where, type(module).__name__, tensor.numel(), _reason(module, own, tensor, whole)))
        if vectors:
            rows.append(Left(name, type(module).__name__, vectors, "vectors"))
    return tuple(rows)


def is_subclass(layer: nn.Module) -> bool:
    """Whether a layer's class derives from one that has a row, and has none itself.

    Parameters
    ----------
    layer : nn.Module
        Any.

    Returns
    -------
    bool
    """
    kind = kind_of(layer)
    return isinstance(layer, tuple(LAYERS)) and not isinstance(layer, SpectralLayer) and row_for(kind) is None


def warn_of_left(model: nn.Module, remedy: str, reasons: Collection[str] = tuple(WARNED)) -> None:
    """Warn, in one line a reason, of what was left without the user's word.

    Parameters
    ----------
    model : nn.Module
        Just changed.
    remedy : str
        End of the line.
    reasons : collection of str
        Keys of `WARNED`.
    """
    rows = left_numbers(model)
    layers = [layer for layer in distinct(spectral_layers(model)).values() if not isinstance(layer, Adapted)]
    total = sum(row.numbers for row in rows) + sum(layer.shape.d_out * layer.shape.d_in for layer in layers)
    for reason, text in REASONS.items():
        own = [row for row in rows if row.reason == reason]
        share = sum(row.numbers for row in own) / total
        if own and reason in reasons and share >= WARNED[reason]:
            line = f"{100 * share:.3g} % of the numbers are left as they are, {text}: {examples(own)}"
            warnings.warn(one_line(f"{line}; {remedy}"), stacklevel=3)


def told(rows: tuple[Left, ...], total: int) -> list[str]:
    """Lines that say what is left and why, the largest shares first.

    Parameters
    ----------
    rows : tuple of Left
        Result of `left_numbers`.
    total : int
        All numbers of the dense model.

    Returns
    -------
    list of str
        One line a reason.
    """
    lines = []
    for reason, text in REASONS.items():
        own = sorted((row for row in rows if row.reason == reason), key=lambda row: -row.numbers)
        share = 100 * sum(row.numbers for row in own) / total if total else 0.0
        names = "" if reason == "vectors" else f": {examples(own)}"
        lines += [(share, f"{share:8.2f} %  {text}{names}")] if own else []
    return [line for _, line in sorted(lines, key=lambda pair: -pair[0])]


def examples(rows: list[Left]) -> str:
    """Names of rows with their classes, the first few."""
    names = [f"{row.name or 'the model'} ({row.kind})" for row in rows[:SHOWN]]
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return ", ".join(names) + more


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor, bool]]:
    spectrum = module.spectrum if isinstance(module, Owner) else None
    for name, parameter in module._parameters.items():
        if parameter is not None and parameter is not spectrum:
            yield name, parameter, True
    for name, buffer in module._buffers.items():
        if buffer is not None and buffer.is_floating_point():
            yield name, buffer, False


def _reason(module: nn.Module, own: str, tensor: Tensor, whole: bool) -> str:
    if isinstance(module, parametrize.ParametrizationList):
        return "parametrized"
    if own == "weight" and is_subclass(module):
        return "subclass"
    split = split_for(module)
    pieces = ("weight",) if split is None else split.pieces_of(module)
    if own not in pieces or (split is None and row_for(kind_of(module)) is None):
        return "unknown"
    if not tensor.requires_grad and not whole:
        return "frozen"
    return "excluded" if tensor.is_meta or tensor.any() else "zero"
