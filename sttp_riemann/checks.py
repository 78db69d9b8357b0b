"""Checks of arguments: each kind in one place, refused by the argument's name before anything has changed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sttp_riemann.errors import one_line

_LONGEST = 60
LARGEST = 1e30
"""Of numbers that become weights: float32 has room for their multiples."""


def shown(value: object) -> str:
    """A value for a message: short, in one line, and whatever it is.

    Parameters
    ----------
    value : object
        As given.

    Returns
    -------
    str
        What is large, such as a model, is told by its kind.
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
    """Refuse what is of another class.

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
        It is none.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {wanted}, got {shown(value)}")
    return value


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse what is not one of the choices.

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
        It is none of these; the message names them.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"unknown {name} {shown(value)}; choose one of {', '.join(map(repr, choices))}")


def check_flag(name: str, value: object) -> bool:
    """Refuse what is neither True nor False, also of numpy.

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
        It is none.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def check_whole(name: str, value: object, wanted: str, least: int = 1, most: int = 2**63 - 1) -> int:
    """Refuse what is no whole number in a range; those of numpy are.

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
        It is none.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= most:
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}")
    return int(value)


def check_number(
    name: str, value: object, wanted: str, least: float = -math.inf, most: float = math.inf, below: float = math.inf
) -> float:
    """Refuse what is no finite number in a range; those of numpy are.

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
        It is none.
    """
    # Compared as it is: whole numbers may be too large for a float
    if is_number(value) and least <= value <= most and -math.inf < value < below:  # type: ignore[operator]
        try:
            return float(value)  # type: ignore[arg-type]
        except OverflowError:
            pass
    raise ValueError(f"{name} must be {wanted}, got {shown(value)}")


def is_number(value: object) -> bool:
    """Whether a value is a real number of Python or numpy; True and False are none.

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
    """Whether a value holds several, to be read one after the other; texts are one value.

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
    """Refuse what is no mapping from texts.

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
        It is none.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}")
    for key in value:
        if not isinstance(key, str):
            raise ValueError(f"{name} must be {wanted}, and one of its names is {shown(key)}")
    return value


def check_tensor(name: str, value: object, shape: Sequence[int] | None = None) -> Tensor:
    """Refuse what has no real numbers to read, all of them finite and none beyond `LARGEST`.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    value : object
        As given.
    shape : sequence of int, optional
        What it must have.

    Returns
    -------
    Tensor
        Detached, a plain tensor.

    Raises
    ------
    TypeError
        It is no tensor.
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
    # What whole and very narrow numbers are asked for is not there for all of their kinds
    numbers = tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.double()
    if not torch.isfinite(numbers).all():
        raise ValueError(f"{name} holds NaN or infinite values")
    if numbers.numel() and float(numbers.abs().max()) > LARGEST:
        raise ValueError(f"{name} holds values beyond {LARGEST:g}")
    return tensor.as_subclass(Tensor)
