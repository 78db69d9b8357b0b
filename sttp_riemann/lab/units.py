"""Units of figures: raw values in files for programs; accuracy and KID times 100 for people."""

from __future__ import annotations

from collections.abc import Mapping

PERCENT = ("test_accuracy", "validation_accuracy", "train_accuracy", "accuracy")
"""Fractions in JSON, CSV and tensorboard, and percent in all that is printed, drawn or reported."""
HUNDREDTHS = ("kid", "kid_std", "kid_error")
"""As they are in JSON, CSV and tensorboard, and times 100, as papers have them, in all that people read."""


def told(name: str, value: float) -> str:
    """A figure, formatted for people.

    Parameters
    ----------
    name : str
        As files name it.
    value : float
        As files hold it.

    Returns
    -------
    str
        The name in words, the value and its unit.

    Examples
    --------
    >>> from sttp_riemann.lab.units import told
    >>> told("test_accuracy", 0.9734), told("kid", 0.0125), told("test_loss", 0.125)
    ('test accuracy 97.34 %', 'kid x100 1.25', 'test loss 0.125')
    """
    return f"{words(name)} {amount(name, value)}"


def words(name: str) -> str:
    """Name of a figure in words, with the factor that it is shown times."""
    found = name.replace("_", " ").replace("r2", "R²").replace("rmse", "RMSE")
    return f"{found} x100" if name in HUNDREDTHS else found


def amount(name: str, value: float) -> str:
    """Value of a figure for people, with its unit."""
    if name in PERCENT:
        return f"{100 * value:.2f} %"
    return f"{100 * value if name in HUNDREDTHS else value:.4g}"


def told_all(figures: Mapping[str, float | None]) -> str:
    """Several figures, separated by commas, without those that are None.

    Parameters
    ----------
    figures : mapping
        Values by name, as files have them.

    Returns
    -------
    str
    """
    return ", ".join(told(name, value) for name, value in figures.items() if value is not None)
