"""Argument checks: each kind is checked in one place, and errors name the argument before anything changes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from sttp_riemann.errors import one_line

_LONGEST = 60
LARGEST = 1e30
"""Largest number accepted as a weight: float32 can represent its multiples."""


def shown(value: object) -> str:
    """Describe any value in one short line, for an error message.

    Parameters
    ----------
    value : object
        As given.

    Returns
    -------
    str
        Large values, such as a model, are described by their type.
    """
    if isinstance(value, str | bytes):
        text = repr(value if len(value) <= _LONGEST else value[:_LONGEST])
    elif isinstance(value, type(None) | bool | float | complex | Real):
        text = repr(value) if not isinstance(value, int) or abs(value) < 10**_LONGEST else "a huge whole number"
    elif isinstance(value, list | tuple) and len(value) <= 8:
        parts = [shown(own) if not isinstance(own, list | tuple | dict) else type(own).__name__ for own in value]
        text = f"[{', '.join(parts)}]" if isinstance(value, list) else f"({', '.join(parts)})"
    elif isinstance(value, Tensor | np.ndarray):
        text = f"a {type(value).__name__} of shape {tuple(value.shape)} and {value.dtype}"
    else:
        text = f"a {type(value).__name__}" if not isinstance(value, type) else f"the class {value.__name__}"
    text = one_line(text)
    return text if len(text) <= _LONGEST + 40 else f"{text[:_LONGEST]}..."


def check_kind(name: str, value: Any, kind: Any, wanted: str) -> Any:
    """Refuse a value of the wrong class.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    value : Any
        As given.
    kind : type
        What it has to be an instance of.
    wanted : str
        That in words.

    Returns
    -------
    Any
        The value.

    Raises
    ------
    TypeError
        It is not an instance.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {wanted}, got {shown(value)}")
    return value


def check_optimizer(value: Any, wanted: str = "a torch.optim.Optimizer") -> Optimizer:
    """Refuse what is no optimizer; one that a trainer has wrapped is taken out.

    Parameters
    ----------
    value : Optimizer
        Of torch, or what Lightning or accelerate made of it.
    wanted : str
        What it must be, in words.

    Returns
    -------
    Optimizer
        Of torch.

    Raises
    ------
    TypeError
        It is no optimizer.
    """
    optimizer = getattr(value, "optimizer", value)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be {wanted}, got {shown(value)}")
    return optimizer


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a value that is not among the choices.

    Parameters
    ----------
    name : str
        Of the option, for the message.
    value : object
        As given.
    choices : sequence of str
        What it may be.

    Raises
    ------
    ValueError
        It is not among the choices; the message lists them.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"unknown {name} {shown(value)}; choose one of {', '.join(map(repr, choices))}")


def check_flag(name: str, value: object) -> bool:
    """Refuse anything but True and False; numpy's booleans are accepted.

    Parameters
    ----------
    name : str
        Of the option, for the message.
    value : object
        As given.

    Returns
    -------
    bool
        Python's own.

    Raises
    ------
    ValueError
        It is not a boolean.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def check_whole(name: str, value: object, wanted: str, least: int = 1, most: int = 2**63 - 1) -> int:
    """Refuse anything but a whole number in a range; numpy's integers are accepted.

    Parameters
    ----------
    name : str
        Of the option, for the message.
    value : object
        As given.
    wanted : str
        What it must be, in words.
    least, most : int
        Its range.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        It is not a whole number, or out of range.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= most:
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}")
    return int(value)


def check_number(
    name: str, value: object, wanted: str, least: float = -math.inf, most: float = math.inf, below: float = math.inf
) -> float:
    """Refuse anything but a finite number in a range; numpy's numbers are accepted.

    Parameters
    ----------
    name : str
        Of the option, for the message.
    value : object
        As given.
    wanted : str
        What it must be, in words.
    least, most, below : float
        Its range: at least, at most, and less than these.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        It is not a finite number, or out of range.
    """
    # Compared before conversion: whole numbers may be too large for a float
    if is_number(value) and least <= value <= most and -math.inf < value < below:  # type: ignore[operator]
        try:
            return float(value)  # type: ignore[arg-type]
        except OverflowError:
            pass
    raise ValueError(f"{name} must be {wanted}, got {shown(value)}")


def is_number(value: object) -> bool:
    """Whether a value is a real number of Python or numpy; True and False are not.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    bool
    """
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def is_iterable(value: object) -> bool:
    """Whether a value is a collection to iterate over; a string is a single value.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    bool
    """
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim > 0
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | type)


def check_mapping(name: str, value: object, wanted: str) -> Mapping[str, Any]:
    """Refuse anything but a mapping with strings for keys.

    Parameters
    ----------
    name : str
        Of the option, for the message.
    value : object
        As given.
    wanted : str
        What it must be, in words.

    Returns
    -------
    mapping
        The value.

    Raises
    ------
    ValueError
        It is not such a mapping.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}")
    for key in value:
        if not isinstance(key, str):
            raise ValueError(f"{name} must be {wanted}, and one of its names is {shown(key)}")
    return value


def check_tensor(name: str, value: object, shape: Sequence[int] | None = None) -> Tensor:
    """Refuse anything but a readable tensor of finite real numbers, none beyond `LARGEST`.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    value : object
        As given.
    shape : sequence of int, optional
        The required shape.

    Returns
    -------
    Tensor
        Detached, a plain tensor.

    Raises
    ------
    TypeError
        It is not a tensor.
    ValueError
        It is of another shape, complex, sparse, without data, or holds NaN, infinite or huge values.
    """
    tensor: Tensor = check_kind(name, value, Tensor, "a tensor").detach()
    real = not (tensor.is_complex() or tensor.dtype == torch.bool or tensor.is_quantized)
    if not real or tensor.layout != torch.strided or tensor.device.type == "meta":
        kind = "without data" if tensor.device.type == "meta" else f"{tensor.dtype} and {tensor.layout}"
        raise ValueError(f"{name} must be a tensor of real numbers, not sparse and not quantized; this one is {kind}")
    if shape is not None and tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name} must be of shape {tuple(shape)}, got {tuple(tensor.shape)}")
    # `isfinite` and `abs` do not exist for every integer and narrow dtype
    numbers = tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.double()
    if not torch.isfinite(numbers).all():
        raise ValueError(f"{name} holds NaN or infinite values")
    if numbers.numel() and float(numbers.abs().max()) > LARGEST:
        raise ValueError(f"{name} holds values beyond {LARGEST:g}")
    return tensor.as_subclass(Tensor)
