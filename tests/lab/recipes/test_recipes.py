from __future__ import annotations

import textwrap

import pytest

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab import recipes
from sttp_riemann.lab.training.recipe import Recipe
from tests.lab.cli.test_bad_input import BOMB


@pytest.mark.parametrize("name", recipes.names())
def test_every_shipped_recipe_is_valid_and_says_what_it_is(name):
    fields = recipes.read(name)
    assert Recipe.from_dict(fields).name == name
    assert fields["summary"]


@pytest.mark.parametrize("name", recipes.names())
def test_only_the_papers_recipes_start_near_the_identity(name):
    papers = name.startswith(("table", "figure"))
    recipe = Recipe.from_dict(recipes.read(name))
    assert recipe.network.init == recipe.of_generator().network.init == ("noisy_identity" if papers else "orthogonal")


def test_a_recipe_may_be_a_file(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text("network: {rank: 3}\noptimizer: {lr: 1e-3}\n")
    assert Recipe.from_dict(recipes.read(str(path))).optimizer.lr == 1e-3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank: [", "is not valid YAML at line 1"),
        ("- rank", "must be a mapping of section: fields"),
        ("!!python/object/apply:os.system ['true']", "is not valid YAML"),
        ("\x00", "is not valid YAML"),
        ("lr: !!float x", "is not valid YAML: could not convert string to float: 'x'"),
        ("lr: !!int ''", "is not valid YAML"),
        ("lr: !!bool x", "is not valid YAML"),
        ("lr: !!timestamp x", "is not valid YAML"),
        ("lr: " + "9" * 5000, "is not valid YAML: Exceeds the limit"),
        ("rank: " + "[" * 1500, "is nested too deeply"),
        ("lr: 1\nlr: 2", "is not valid YAML at line 2: 'lr' occurs twice"),
        ("a: " + "x" * 2**20, "has more than 1048576 bytes"),
        (bytes([0xFF]), "is not UTF-8 text (byte 1)"),
        (f"a: &a {{{', '.join(f'k{k}: 1' for k in range(10_001))}}}\nb: {{<<: *a}}", "merges too many keys"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_by_name(text, message, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RecipeError) as error:
        recipes.read(str(path))
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 300


def test_anchors_that_make_millions_of_values_are_refused_in_a_short_message(tmp_path):
    path = tmp_path / "bomb.yaml"
    path.write_text(f"study:\n  paper:\n{textwrap.indent(BOMB, '    ')}")
    with pytest.raises(RecipeError, match="paper holds more than 10000 values") as error:
        Recipe.from_dict(recipes.read(str(path)))
    assert len(str(error.value)) < 300


def test_a_recipe_may_name_a_part_and_use_it_again(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("network: {options: &o {width: 8}}\ngenerator: {options: {<<: *o, latent_dim: 4}}\n")
    assert recipes.read(str(path))["generator"]["options"] == {"width": 8, "latent_dim": 4}
