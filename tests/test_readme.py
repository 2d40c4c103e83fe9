"""What the README promises: its Python runs, its two command lines are what CI runs, its files exist."""

from __future__ import annotations

import re

from tests.conftest import ROOT

TEXT = (ROOT / "README.md").read_text()


def test_python_example_runs(monkeypatch, tmp_path):
    code = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    assert code
    (tmp_path / "instances").symlink_to(ROOT / "instances")
    monkeypatch.chdir(tmp_path)
    for block in code:
        exec(compile(block, "README.md", "exec"), {})


def test_second_command_is_the_one_that_tests():
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.S)
    assert "aigc-opt solve instances/deployment/melbourne" in blocks[0]
    assert blocks[1].rstrip().endswith("-m pytest -n 2") and ".[test]" in blocks[1]


def test_links_lead_somewhere():
    for link in re.findall(r"\]\((?!http)([^)#]+)", TEXT):
        assert (ROOT / link).exists(), link


def test_no_place_is_left_to_fill():
    assert not re.findall(r"^(OUTPUT|TODO)", TEXT, re.M)
