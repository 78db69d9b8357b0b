"""Check the structure of values from JSON files before use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Form = Any
"""A type; a list with the form of its items; a mapping with the forms of its required entries; or `Each`."""
WORDS = {int: "a whole number", float: "a number", str: "text", dict: "a mapping"}


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
    if isinstance(form, list):
        if not isinstance(value, list):
            raise ValueError(f"{where} is not a list")
        for item in value:
            check_form(item, form[0], f"an item of {where}")
    elif isinstance(form, Mapping | Each):
        if not isinstance(value, dict):
            raise ValueError(f"{where} is not a mapping")
        forms = dict.fromkeys(value, form.form) if isinstance(form, Each) else form
        for name, inner in forms.items():
            if name not in value:
                raise ValueError(f"{where} has no {name}")
            check_form(value[name], inner, name)
    elif not _is(value, form):
        raise ValueError(f"{where} is not {WORDS[form]}")


def _is(value: Any, kind: type) -> bool:
    # Python counts bool as int
    return isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
