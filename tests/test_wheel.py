"""What an installed package and a source distribution hold."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from sttp_riemann.lab import recipes as shipped

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sttp_riemann"
BUILD = "from setuptools import build_meta as b; b.build_wheel('dist'); b.build_sdist('dist')"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a wheel and a source distribution, built from a copy of the repository."""
    copy = tmp_path_factory.mktemp("repository")
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so", "*.pyd")
    for path in ("sttp_riemann", "tests", "examples", "docs"):
        shutil.copytree(ROOT / path, copy / path, ignore=unwanted)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
    (copy / "dist").mkdir()
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return copy / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    """The wheel."""
    return zipfile.ZipFile(next(built.glob("*.whl")))


def _own_files() -> set[str]:
    """Files of the package as a wheel names them."""
    kinds = (".py", ".yaml", ".j2", ".gz", ".typed")
    return {
        str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*") if path.suffix in kinds or path.name == "py.typed"
    }


def test_a_wheel_holds_every_module_recipe_and_the_digits_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == _own_files()
    recipes = {path.name for path in (PACKAGE / "lab" / "recipes").glob("*.yaml")}
    assert "paper.yaml" in recipes
    assert {f"sttp_riemann/lab/recipes/{name}" for name in recipes} < names
    assert {"sttp_riemann/py.typed", "sttp_riemann/lab/data/digits.csv.gz"} < names
    assert (
        wheel.read("sttp_riemann/lab/data/digits.csv.gz") == (PACKAGE / "lab" / "data" / "digits.csv.gz").read_bytes()
    )


def test_one_wheel_serves_every_platform(built: Path) -> None:
    assert next(built.glob("*.whl")).name.endswith("-py3-none-any.whl")


def test_a_wheel_tells_its_licence_version_command_and_text(wheel: zipfile.ZipFile) -> None:
    info = {name.partition(".dist-info/")[2]: name for name in wheel.namelist() if ".dist-info/" in name}
    assert "licenses/LICENSE" in info
    assert b"sttp-riemann = sttp_riemann.lab.cli.main:main" in wheel.read(info["entry_points.txt"])
    metadata = message_from_bytes(wheel.read(info["METADATA"]))
    assert metadata["Author"] == "The sttp_riemann authors"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    assert (
        metadata.get_payload(decode=True).decode().strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
    )


def test_a_source_distribution_builds_the_same_package_and_has_no_tests(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert _own_files() <= names
    assert {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "pyproject.toml"} <= names
    assert not [name for name in names if name.startswith(("tests", "examples", "docs", ".ci"))]


def test_an_unpacked_wheel_runs_in_an_empty_folder(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    place, empty = tmp_path / "installed", tmp_path / "empty"
    wheel.extractall(place)
    empty.mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(place)!r})\n"
        "import sttp_riemann, sttp_riemann.lab.cli.main\n"
        "from sttp_riemann.lab.data import load_dataset\n"
        "print(sttp_riemann.__file__, len(load_dataset('digits').train_labels))\n"
        "sttp_riemann.lab.cli.main.main(['recipes'])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=empty, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, *listed = done.stdout.splitlines()
    assert first == f"{place / 'sttp_riemann' / '__init__.py'} 1437"
    assert {line.split()[0] for line in listed} == set(shipped.names())
