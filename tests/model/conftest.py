from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a file to save a model in."""
    return tmp_path / "model.safetensors"
