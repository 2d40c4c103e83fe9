"""Sphinx: one command builds the site, `sphinx-build -W -b html docs docs/_build`; pages open offline."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

sys.path.insert(0, str(Path(__file__).parent))

import generated  # beside this file

project = "aigc_opt"
author = "The aigc_opt developers"
copyright = author
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "aigc_opt"
html_math_renderer = "mathml"
html_copy_source = False
html_static_path = ["_static"]
exclude_patterns = ["_build"]
napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
default_role = "code"
suppress_warnings = ["myst.header", "ref.python"]
nitpicky = False


def _mathml(latex: str, display: str) -> str:
    return convert(latex, display=display)


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{_mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def _links(app: Any, page: str, source: list[str]) -> None:
    """Links to files of the repository that are not pages of the site become plain words; pictures stay."""
    source[0] = re.sub(r"(?<!!)\[([^\]]*)\]\(\.\./[^)]*\)", r"\1", source[0])


def setup(app: Any) -> None:
    """Write the generated pages, and register mathematics that every browser renders by itself."""
    generated.write(Path(app.srcdir))
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("source-read", _links)
    app.add_css_file("site.css")
