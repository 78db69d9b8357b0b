"""Check the structure of values from JSON files before use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Form = Any
"""A type; a list with the form of its items; a mapping with the forms of its required entries; or `Each`."""
WORDS = {int: "a whole number", float: "a number", str: "text", list: "a list", dict: "a mapping"}


@dataclass(frozen=True)
class Each:
    """A mapping whose values all have one form.

    Attributes
    ----------
    form : Form
        Theirs.
    """

    form: Form


def check_form(value: Any, form: Form, where: str = "it") -> None:
    """Refuse a value of the wrong form.

    Parameters
    ----------
    value : Any
        From JSON.
    form : Form
        The required form.
    where : str
        What the value is, for the message.

    Raises
    ------
    ValueError
        The message names the place: ``it has no recipe``, ``step is not a whole number``.

    Examples
    --------
    >>> from sttp_riemann.lab.forms import check_form
    >>> check_form({"steps": [1, 2.5], "more": None}, {"steps": [float]})
    >>> check_form({"steps": ["1"]}, {"steps": [float]})
    Traceback (most recent call last):
    ValueError: an item of steps is not a number
    """
    kind: Any = list if isinstance(form, list) else dict if isinstance(form, Mapping | Each) else form
    # Python counts bool as int
    right: bool = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
    if not right:
        raise ValueError(f"{where} is not {WORDS[kind]}")
    if isinstance(form, list):
        for item in value:
            check_form(item, form[0], f"an item of {where}")
    elif isinstance(form, Mapping | Each):
        for name, inner in (dict.fromkeys(value, form.form) if isinstance(form, Each) else form).items():
            if name not in value:
                raise ValueError(f"{where} has no {name}")
            check_form(value[name], inner, name)
