from __future__ import annotations

import pytest

from sttp_riemann.lab.studies.variant import Variant, title
from sttp_riemann.lab.training.recipe import Recipe


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("dense", "dense"),
        ("sn", "SN"),
        ("sttp-riemannian", "STTP riemannian"),
        ("sttp-riemannian-rank8", "STTP riemannian r=8"),
        ("svdp-c-householder", "SVDP-C householder"),
        ("sttp-other-riemannian-rank0.25", "STTP-OTHER riemannian r=0.25"),
    ],
)
def test_a_title_is_for_readers(label, name):
    assert title(label) == name


@pytest.mark.parametrize(
    ("label", "name"),
    [("sn", "SN"), ("sttp-r-householder", "STTP-R"), ("svdp-c-riemannian-rank32", "SVDP-C r=32")],
)
def test_a_variant_has_the_papers_name(label, name):
    assert Variant.of(label).paper_name == name


@pytest.mark.parametrize("label", ["sttp-r-riemannian-rank8", "sttp-r-riemannian-rank1e-05", "sttp-r-riemannian"])
def test_a_curve_is_the_label_without_the_rank(label):
    assert Variant.of(label).curve == "sttp-r-riemannian"


@pytest.mark.parametrize("task", ["classify", "gan"])
def test_a_recipes_label_can_be_taken_apart(task):
    recipe = Recipe().changed(task=task, ranks={"sttp": [4]}).for_run("sttp", "householder", 0, rank=4)
    letter = "l" if task == "gan" else ""
    assert Variant.of(recipe.label) == Variant("sttp", letter, "householder", "4")
