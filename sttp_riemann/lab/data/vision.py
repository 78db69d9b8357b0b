"""Import torchvision only where it is needed."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def require_torchvision(user: str) -> ModuleType:
    """Import torchvision.

    Parameters
    ----------
    user : str
        The feature that needs it, for the message.

    Raises
    ------
    ImportError
        It is missing; the message says how to get it.
    """
    try:
        return import_module("torchvision")
    except ImportError as error:
        raise ImportError(f"{user} needs torchvision: pip install 'sttp-riemann[vision]'") from error
