"""What importing the library costs, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

UNWANTED = ("accelerate", "matplotlib", "jsonargparse", "tensorboard", "pandas", "yaml", "pytest", "sttp_riemann.lab")


def _run(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, check=True)


@pytest.mark.parametrize("module", ["sttp_riemann", "sttp_riemann.testing"])
def test_the_library_imports_nothing_of_the_laboratory_or_for_it(module: str) -> None:
    names = _run(f"import sys, {module}; print(*sys.modules)").stdout.split()
    found = [name for name in UNWANTED if name in names]
    assert "sttp_riemann.model.reparameterize" in names
    assert not found


def test_the_library_imports_no_checks() -> None:
    assert "sttp_riemann.testing" not in _run("import sys, sttp_riemann; print(*sys.modules)").stdout.split()


def test_beyond_torch_and_geoopt_the_library_is_small() -> None:
    """Counted in modules, as a time depends on the machine: `python -X importtime` is under 0.2 s with these."""
    code = (
        "import torch, geoopt, sys; before = set(sys.modules); import sttp_riemann; print(*(set(sys.modules) - before))"
    )
    others = [name for name in _run(code).stdout.split() if not name.startswith("sttp_riemann")]
    assert len(others) < 40, sorted(others)
