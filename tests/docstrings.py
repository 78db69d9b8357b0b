"""The package's modules and what is public in them, for tests of docstrings."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

import sttp_riemann

OPTIONAL = {"geotorch", "onnx", "onnxscript", "sklearn", "torch_fidelity", "torch_householder", "torchvision"}
FOLDER = Path(sttp_riemann.__file__).parent


def _name(path: Path) -> str:
    parts = ("sttp_riemann", *path.relative_to(FOLDER).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path.read_text(encoding="utf-8") for path in sorted(FOLDER.rglob("*.py"))}
"""Module name to source."""


def load(name: str) -> ModuleType:
    """Import a module; skip the test where a peer that the module needs is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"{name} needs {error.name}")
