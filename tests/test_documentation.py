"""The site builds without a warning and needs no network; its examples and those of docstrings run."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys

import pytest

import aigc_opt
from tests.conftest import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))
EXAMPLES = {page.stem: re.findall(r"```python\n(.*?)```", page.read_text(), re.S) for page in PAGES}
"""What stands on each page, in its order: later blocks go on from earlier ones."""


@pytest.mark.parametrize("page", [page for page, blocks in EXAMPLES.items() if blocks])
def test_examples_of_pages_run(page, monkeypatch, tmp_path):
    (tmp_path / "instances").symlink_to(ROOT / "instances")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in EXAMPLES[page]:
        exec(compile(block, f"{page}.md", "exec"), names)


def test_examples_of_docstrings_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    done = doctest.testmod(aigc_opt)
    assert done.attempted >= 4 and not done.failed


@pytest.mark.long
def test_site_builds_and_is_whole_offline(tmp_path):
    pytest.importorskip("sphinx")
    words = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(ROOT / "docs"), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for page in ("index", "latex", "command-line", "api", "contributing"):
        text = (tmp_path / f"{page}.html").read_text()
        assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"https?://", text)
    assert "<math" in (tmp_path / "latex.html").read_text()
    assert "--time-limit" in (tmp_path / "command-line.html").read_text()


def test_every_page_is_in_the_contents():
    listed = (ROOT / "docs" / "index.md").read_text().partition("{toctree}")[2].split()
    assert {page.stem for page in PAGES} - {"index"} <= set(listed)
