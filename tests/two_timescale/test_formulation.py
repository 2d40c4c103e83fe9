"""The Pyomo formulation says of every solution what the checker says of it."""

from __future__ import annotations

import pyomo.environ as pyo
import pytest

import aigc_opt
from aigc_opt.problems.two_timescale.model import build_model, set_point
from tests.two_timescale.test_methods import NAMES
from tests.two_timescale.tiny import tiny


def worst_violation(model: pyo.ConcreteModel) -> tuple[float, str]:
    """By how much a point breaks a row or a bound, relative to its side, and which."""
    worst = (0.0, "")
    for row in model.component_data_objects(pyo.Constraint, active=True):
        body = pyo.value(row.body)
        for side, sign in ((row.lower, -1), (row.upper, 1)):
            if side is not None:
                limit = pyo.value(side)
                worst = max(worst, (sign * (body - limit) / max(1.0, abs(limit)), row.name))
    for variable in model.component_data_objects(pyo.Var):
        for side, sign in ((variable.lb, -1), (variable.ub, 1)):
            if side is not None:
                worst = max(worst, (sign * (variable.value - side) / max(1.0, abs(side)), variable.name))
    return worst


@pytest.mark.parametrize("method", ["decomposition", "random", "cloud-only"])
@pytest.mark.parametrize("what", [*NAMES, *range(12)])
def test_points_keep_the_model_and_cost_what_the_checker_says(examples, what, method):
    instance = tiny(what) if isinstance(what, int) else aigc_opt.load(examples / f"two-timescale-{what}.json")
    result = aigc_opt.solve(instance, method=method, gap=1e-6, bound=False)
    model = build_model(instance)
    set_point(model, instance, result.solution)
    amount, where = worst_violation(model)
    assert amount <= 1e-7, where
    assert pyo.value(model.cost) == pytest.approx(result.objective, rel=1e-9, abs=1e-9)


def test_a_broken_point_breaks_the_model(examples):
    """What the test above would find: one step too many, one share too many, a model too many."""
    instance = aigc_opt.load(examples / "two-timescale-small.json")
    result = aigc_opt.solve(instance)
    for name, change in (("steps", 1000.0), ("uplink_share", 0.9), ("cached", 1)):
        arrays = {key: getattr(result.solution, key).copy() for key in result.solution.to_dict()}
        place = (0, 0) if name == "cached" else (0, 0, 0)
        arrays[name][place] = change if arrays[name][place] == 0 or name != "cached" else 0
        model = build_model(instance)
        set_point(model, instance, type(result.solution)(**arrays))
        assert worst_violation(model)[0] > 1e-3, name


def test_latex_comes_from_the_model(tmp_path, examples):
    path = tmp_path / "model.tex"
    aigc_opt.export(examples / "two-timescale-smooth.json", path)
    text = path.read_text()
    model = build_model(aigc_opt.load(examples / "two-timescale-smooth.json"))
    # One line a family of constraints, each with its sets.
    assert text.count(r"\forall") == len(list(model.component_objects(pyo.Constraint)))
    for variable in model.component_objects(pyo.Var):
        assert variable.local_name.replace("_", r"\_") in text, variable.local_name
    assert r"\log" in text and "[1,1,1]" not in text
    with pytest.raises(aigc_opt.InputError, match="not a linear program"):
        aigc_opt.export(examples / "two-timescale-smooth.json", tmp_path / "model.lp")
