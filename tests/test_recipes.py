from __future__ import annotations

import pytest

from sttp_riemann import recipes
from sttp_riemann.training.errors import RecipeError
from sttp_riemann.training.recipe import Recipe


@pytest.mark.parametrize("name", recipes.names())
def test_every_shipped_recipe_is_valid_and_says_what_it_is(name):
    fields = recipes.read(name)
    assert Recipe.from_dict(fields).name == name
    assert fields["summary"]


def test_a_recipe_may_be_a_file(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text("rank: 3\nlr: 1e-3\n")
    assert Recipe.from_dict(recipes.read(str(path))).lr == 1e-3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank: [", "is not valid YAML at line 1"),
        ("- rank", "must be a mapping of field: value"),
        ("!!python/object/apply:os.system ['true']", "is not valid YAML"),
        ("\x00", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_by_name(text, message, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as error:
        recipes.read(str(path))
    assert message in str(error.value)
    assert str(path) in str(error.value)
