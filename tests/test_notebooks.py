"""Every notebook runs from top to bottom, with what it asserts of its own numbers."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    pyplot.close("all")  # what other tests left open is not the notebook's
    began, names = time.time(), dict[str, object]()
    for number, cell in enumerate(cells):
        exec(compile("".join(cell["source"]), f"{path.name}[{number}]", "exec"), names)
    saved = [png for png in (path.parent / "pictures").glob("*.png") if png.stat().st_mtime >= began - 1]
    assert len(saved) >= len(pyplot.get_fignums()) >= 1  # each picture is kept
    pyplot.close("all")


def test_there_are_notebooks():
    parts = {"deployment", "offloading", "two_timescale", "validating_a_policy", "trade_offs", "your_own_model"}
    assert {path.stem for path in NOTEBOOKS} == parts
