from __future__ import annotations

import pytest

from sttp_riemann.errors import RecipeError
from sttp_riemann.lab import recipes


@pytest.fixture
def write(tmp_path):
    def make(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    return make


def test_a_recipe_takes_from_another_what_it_does_not_set(write):
    digits = recipes.read("digits")
    optimizer = {**digits["optimizer"], "lr": "5e-4"}
    mine = write("mine.yaml", "extends: digits\noptimizer: {lr: 5e-4}\n")
    assert recipes.read(mine) == {**digits, "optimizer": optimizer}


def test_a_recipe_may_extend_a_file_named_from_its_own_folder(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("base/first.yaml", "extends: digits\nseed: 3\n")
    write("base/second.yaml", "extends: first.yaml\nnetwork: {rank: 5}\n")
    found = recipes.read(write("mine.yaml", "extends: base/second.yaml\nnetwork: {options: {width: 8}}\n"))
    wanted = {**recipes.read("digits")["network"], "rank": 5, "options": {"width": 8}}
    assert (found["seed"], found["network"]) == (3, wanted)


@pytest.mark.parametrize("base", ["digitz", "[digits]", "7", "gone.yaml", "{digits: 1}"])
def test_an_unknown_base_is_refused_by_name(base, write):
    with pytest.raises(RecipeError, match="name a shipped one") as error:
        recipes.read(write("mine.yaml", f"extends: {base}\n"))
    assert "mine.yaml' extends " in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("last", ["first.yaml", "second.yaml", "third.yaml", "../third/third.yaml"])
def test_a_circle_is_refused(last, write):
    write("third/first.yaml", "extends: second.yaml\n")
    write("third/second.yaml", "extends: third.yaml\n")
    write("third/third.yaml", f"extends: {last}\n")
    with pytest.raises(RecipeError, match=r"third/\w+.yaml' extends itself: leave one extends out"):
        recipes.read(write("third/mine.yaml", "extends: first.yaml\n"))
