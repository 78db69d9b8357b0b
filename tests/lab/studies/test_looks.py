from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from sttp_riemann.lab.studies.looks import COLORS, Drawing, legend, looks, panels
from sttp_riemann.lab.studies.variant import Variant

RIEMANNIAN, HOUSEHOLDER = (Variant("sttp", path, "L") for path in ("riemannian", "householder"))


def test_full_circles_are_riemannian_and_hollow_squares_householder():
    found = looks({"a": RIEMANNIAN, "b": HOUSEHOLDER, "c": Variant("dense")})
    assert [(look["marker"], look["linestyle"]) for look in found.values()] == [("o", "-"), ("s", "--"), ("o", "-")]
    assert found["a"]["color"] == found["b"]["color"] == COLORS["sttp"]
    assert found["b"]["markerfacecolor"] != found["a"]["markerfacecolor"] == COLORS["sttp"]


def test_variants_that_would_look_the_same_get_lighter():
    first, second = looks({"a": RIEMANNIAN, "b": Variant("sttp", "riemannian", "L", start="identity")}).values()
    assert int(second["color"][1:], 16) > int(first["color"][1:], 16)


def drawing():
    figure, (axes,) = panels(1)
    drawn = Drawing("one", "a caption", figure)
    (line,) = axes.plot([1, 2], color="#1f2937")
    drawn.tip(line, "<b> & 97 %")
    legend(figure, looks({"a <b>": RIEMANNIAN}))
    return drawn


def test_a_figure_is_the_same_file_each_time():
    assert drawing().png() == drawing().png()
    assert drawing().svg() == drawing().svg()


def test_the_pointer_finds_values_in_the_svg_and_no_markup():
    root = ElementTree.fromstring(drawing().svg())
    assert [e.text for e in root.iter("{http://www.w3.org/2000/svg}title")] == ["<b> & 97 %"]


def test_a_figure_on_a_page_takes_its_colors():
    drawn = drawing()
    text = drawn.element(drawn.svg())
    assert text.startswith('<svg role="img" aria-label="one"')
    assert "currentColor" in text
    assert "#1f2937" not in text
    assert "currentColor" not in drawing().svg()


def test_a_figure_is_on_paper_in_its_file_and_on_the_page_itself_elsewhere():
    drawn = drawing()
    background = '<rect width="100%" height="100%" fill="#ffffff"/>'
    assert background in drawn.svg()
    assert background not in drawn.element(drawn.svg())
