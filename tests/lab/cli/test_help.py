"""What --help and --version say."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from sttp_riemann.lab.cli import main as cli

VERBS = ("compare", "train", "ablate", "compress", "inspect", "export", "report", "bench", "recipes")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments])
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("verb", VERBS)
def test_no_default_is_null(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "null" not in said(capsys, verb, "--help")


def test_a_field_tells_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "train", "--help")
    assert "default: 64)" in text
    assert "learning rate (type: float above 0 and at most 1e+30, default: 0.001)" in text


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--version") == f"sttp-riemann {version('sttp-riemann')}"
