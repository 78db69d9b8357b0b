"""Layers of which other code reads more than outputs: a pair of layers could not stand in for them."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType

from torch import nn

PAIR = frozenset(dir(nn.Sequential()))
"""Attributes that a pair of layers has, too."""
LOADS = ("LOAD_ATTR", "LOAD_METHOD")


def read_layers(model: nn.Module) -> set[int]:
    """Modules of which the forward of a module that contains them reads an attribute, as in ``self.proj.weight.dtype``.

    Parameters
    ----------
    model : nn.Module
        Any.

    Returns
    -------
    set of int
        Their ids. What is reached through a list or a local variable is not seen.

    Notes
    -----
    The bytecode of ``forward`` and of the methods that it calls is read, and nothing is run.
    """
    codes: dict[type, list[CodeType]] = {}
    found: set[int] = set()
    for module in model.modules():
        kind = type(module)
        if kind not in codes:
            codes[kind] = _codes(kind)
        for code in codes[kind]:
            found.update(_read(module, code))
    return found


def _codes(kind: type) -> list[CodeType]:
    """Code that a forward of a class may run: its own, that of methods named in it, and of functions inside."""
    waiting, found = _methods(kind, "forward"), []
    while waiting:
        code = waiting.pop()
        if code not in found:
            found.append(code)
            waiting += [const for const in code.co_consts if isinstance(const, CodeType)]
            waiting += [own for name in code.co_names if name not in PAIR for own in _methods(kind, name)]
    return found


def _methods(kind: type, name: str) -> list[CodeType]:
    """Code of a method of a class, and of those that it calls by ``super()``."""
    found: list[CodeType] = []
    for link in kind.__mro__:
        own = inspect.unwrap(held) if callable(held := vars(link).get(name)) else None
        if link not in nn.Module.__mro__ and isinstance(own, FunctionType):
            found.append(own.__code__)
            if "super" not in own.__code__.co_names:
                break
    return found


def _read(module: nn.Module, code: CodeType) -> Iterator[int]:
    """Follow attributes from child to child; the last child of each chain is read."""
    at: nn.Module | None = None
    for step in dis.get_instructions(code):
        own = (module if at is None else at)._modules.get(step.argval) if step.opname in LOADS else None
        if own is None and at is not None and step.opname in LOADS and step.argval not in PAIR:
            yield id(at)
        at = own
