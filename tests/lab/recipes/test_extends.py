from __future__ import annotations

import pytest

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab import recipes


def test_a_recipe_takes_from_another_what_it_does_not_set(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: digits\nlr: 5e-4\n")
    assert recipes.read(str(path)) == {**recipes.read("digits"), "lr": "5e-4"}


@pytest.mark.parametrize("base", ["digitz", "[digits]", "7"])
def test_an_unknown_base_is_refused_by_name(base, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"extends: {base}\n")
    with pytest.raises(RecipeError, match="name another shipped recipe"):
        recipes.read(str(path))
