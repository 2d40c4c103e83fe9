"""The whole formulation by SCIP: against enumeration and the other exact methods, at its limit, and without SCIP."""

from __future__ import annotations

import importlib.util
import itertools
import time

import numpy as np
import pyomo.environ as pyo
import pytest

import aigc_opt
from aigc_opt.problems.two_timescale.model import build_model, set_point
from aigc_opt.problems.two_timescale.monolith import build_global
from tests.conftest import changed
from tests.two_timescale.test_formulation import worst_violation
from tests.two_timescale.test_methods import NAMES, episode, tolerance
from tests.two_timescale.tiny import optimum, tiny

needs_scip = pytest.mark.skipif(importlib.util.find_spec("pyscipopt") is None, reason="PySCIPOpt is not installed")

KINDS = {
    "not convex": {"kind": "piecewise_linear", "points": [[10, 100], [60, 90], [70, 40], [110, 35], [120, 10]]},
    "exponential": {"kind": "exponential", "floor": 5.0, "ceiling": 110.0, "scale": 40.0},
    "power": {"kind": "power", "floor": -10.0, "coefficient": 700.0, "exponent": 0.7},
}


@needs_scip
@pytest.mark.parametrize("name", NAMES)
def test_scip_closes_the_examples(examples, optima, name):
    known = optima[f"two-timescale-{name}"]
    result = aigc_opt.solve(examples / f"two-timescale-{name}.json", solver="scip", gap=1e-6, time_limit=60)
    assert (result.status, result.method, result.proof, result.limit) == ("optimal", "exact", "solver", None)
    assert result.objective == pytest.approx(known, rel=1e-9)
    assert known * (1 - 1e-6) <= result.lower_bound <= known * (1 + 1e-9)
    assert "pyscipopt" in result.versions


def agree(instance) -> None:
    """Enumeration, SCIP, Benders and the default method."""
    least = optimum(instance)
    for options in ({"solver": "scip"}, {"method": "benders"}, {}):
        result = aigc_opt.solve(instance, gap=1e-6, **options)
        assert result.status == "optimal", options
        assert result.objective == pytest.approx(least, rel=1e-6, abs=1e-6), options
        # A bound that were too high by one part in ten thousand would be above the optimum found by brute force.
        assert result.lower_bound <= least * (1 + 1e-6) + tolerance(least), options


@needs_scip
@pytest.mark.parametrize("seed", range(80, 86))
def test_enumeration_is_scip_is_benders_is_the_default(seed):
    agree(tiny(seed))


@needs_scip
@pytest.mark.parametrize(("kind", "must"), [("not convex", False), ("exponential", True), ("power", False)])
def test_every_kind_of_curve(kind, must):
    data = tiny(7).to_dict()
    for model in data["models"]:
        model["quality"] = KINDS[kind]
    edge = data["edge"] | {"min_steps": 10, "max_steps": 120, "steps_per_slot": 150, "storage_gb": 12}
    agree(changed(tiny(7), models=data["models"], edge=edge, serve_all_hits=must))


@needs_scip
@pytest.mark.long
@pytest.mark.parametrize("seed", range(2000, 2040))
def test_enumeration_is_scip_is_benders_is_the_default_on_many(seed):
    agree(tiny(seed))


@pytest.mark.parametrize("what", [*NAMES, *range(6)])
def test_constant_transfers_are_the_same_problem(examples, what):
    """At a solver's point both programs hold and cost the same: what is left out is what the optimal shares cost."""
    instance = tiny(what) if isinstance(what, int) else aigc_opt.load(examples / f"two-timescale-{what}.json")
    result = aigc_opt.solve(instance, gap=1e-6)
    whole, less = build_model(instance), build_global(instance)
    for model in (whole, less):
        set_point(model, instance, result.solution)
        assert worst_violation(model)[0] <= 1e-7
        assert pyo.value(model.cost) == pytest.approx(result.objective, rel=1e-9, abs=1e-9)
    assert less.find_component("uplink_rate") is None and less.find_component("uplink_share") is None


def test_smooth_losses_hold_in_every_place():
    """The rows without products say: at the edge the curve's loss at the steps taken, in the cloud at least 0."""
    data = tiny(7).to_dict()
    for model, kind in zip(data["models"], itertools.cycle(("exponential", "power")), strict=False):
        model["quality"] = KINDS[kind]
    instance = changed(tiny(7), models=data["models"], edge=data["edge"] | {"min_steps": 10, "max_steps": 120})
    model = build_model(instance)
    profiles = {profile.name: profile for profile in instance.models}
    assert len(model.smooth)
    for r in model.smooth:
        found = map(model.find_component, ("exponential_loss", "power_loss"))
        rows = [row[r] for row in found if row is not None and r in row]
        assert len(rows) == 1
        for at_edge, steps, tried in ((1, 30.0, 30.0), (1, 10.0, 10.0), (0, 0.0, 120.0)):
            loss = float(profiles[model.wanted[r]].quality.value(np.array(steps))) if at_edge else 0.0
            for variable, value in ((model.at_edge, at_edge), (model.steps, steps), (model.tried, tried)):
                variable[r].set_value(value)
            for more, holds in ((1e-6, True), (-1e-3, False)):
                model.edge_loss[r].set_value(loss + more)
                assert (pyo.value(rows[0].body) <= pyo.value(rows[0].upper)) == holds
            model.tried[r].set_value(tried + 1)  # more than is taken, and in the cloud more than anybody may
            assert pyo.value(model.tried_steps[r].body) > pyo.value(model.tried_steps[r].upper)


@needs_scip
def test_the_limit_holds_and_a_stopped_run_gives_its_interval():
    instance = episode(1, users=10, models=10, frames=10, slots=10)
    began = time.perf_counter()
    result = aigc_opt.solve(instance, solver="scip", time_limit=10, gap=1e-9)
    assert time.perf_counter() - began < 10 + 4
    assert result.limit == "time" and result.status in ("feasible", "bound_only")
    exact = aigc_opt.solve(instance, gap=1e-7)
    assert 0 < result.lower_bound <= exact.objective
    if result.objective is not None:
        assert aigc_opt.check(instance, result).feasible and result.objective >= exact.lower_bound


@needs_scip
def test_a_limit_too_short_for_anything_holds_too():
    began = time.perf_counter()
    result = aigc_opt.solve(episode(1, users=20, models=20, frames=20, slots=20), solver="scip", time_limit=1)
    assert time.perf_counter() - began < 1 + 4
    assert result.limit == "time"
