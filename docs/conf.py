"""Sphinx configuration: ``sphinx-build -W docs site``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generate

import sttp_riemann
from sttp_riemann.lab.training.machine import code_version

project = sttp_riemann.__name__
author = "The sttp_riemann authors"
project_copyright = f"2026, {author}"
version = release = code_version()

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx-mathjax-offline", "numpydoc"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
# Reports are written for any viewer of Markdown, whose headings may skip a level
suppress_warnings = ["myst.header"]
exclude_patterns = ["_generated"]

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's sections tell the types
numpydoc_show_class_members = False
add_module_names = False

html_theme = "furo"
html_title = "sttp_riemann"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_show_sphinx = False

generate.write(Path(__file__).parent / "_generated")
