"""Benders' decomposition of deployment: every cut below every placement's cost, tight where it was made."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aigc_opt
from aigc_opt.control import Control
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.instance.generate import generate_deployment
from aigc_opt.problems.deployment.benders import _Slots, cut, demand_prices
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.routing import complete, placement_cost
from tests.deployment.tiny import optimum, tiny


@pytest.mark.parametrize("seed", range(8))
def test_interval_holds_the_optimum_found_by_enumeration(seed):
    shape = (2, 1, 3) if seed % 2 else (3, 1, 2)
    instance = tiny(seed, *shape, limits=seed % 4 < 2)
    least = optimum(instance)
    result = aigc_opt.solve(instance, method="benders", gap=1e-9)
    scale = max(1.0, abs(least))
    assert result.lower_bound <= least + 1e-7 * scale
    assert least - 1e-7 * scale <= result.objective <= least + 1e-6 * scale


@pytest.mark.parametrize("name", ["small", "initial", pytest.param("medium", marks=pytest.mark.long)])
def test_examples_are_solved(name, examples, optima):
    result = aigc_opt.solve(examples / f"deployment-{name}.json", method="benders")
    known = optima[f"deployment-{name}"]
    assert result.status == "optimal"
    assert result.lower_bound <= known * (1 + 1e-9) and known * (1 - 1e-9) <= result.objective <= known * (1 + 1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 2.0), st.booleans())
def test_no_placement_breaks_a_cut_and_each_meets_its_own(seed, size, limits):
    """At any prices a cut is below every placement's cost; one made for a placement is its cost, not 1e-4 more."""
    instance = tiny(seed, 1, 2, 2, limits=limits)
    costs, random = Costs.of(instance), np.random.default_rng(seed)
    oracle = _Slots(instance, costs)
    oracle.core = random.random((1, 2, 2))
    prices = size * random.random(2), size * random.random(2) / 10
    cuts = [
        oracle._rows(
            [(0, *cut(costs, instance.arrivals[0], demand_prices(costs, random.random((2, 2)), *prices), *prices))]
        )
    ]
    points = []
    for chosen in itertools.product((0, 1), repeat=4):
        loaded = np.array(chosen, dtype=np.int8).reshape(1, 2, 2)
        solution = complete(instance, costs, loaded, loaded)
        if solution is None:
            continue
        cost = placement_cost(instance, costs, loaded, loaded, solution.routing)
        answered = oracle.ask(loaded.astype(float), loaded.astype(float), Control())
        assert answered.cost == pytest.approx(cost, rel=1e-6, abs=1e-6)
        slack = answered.cuts.matrix @ answered.x - answered.cuts.lower
        assert slack[0] == pytest.approx(0.0, abs=1e-6 * max(1.0, abs(cost)))
        cuts.append(answered.cuts)
        points.append(answered.x)
    for rows in cuts:
        for x in points:
            assert (rows.matrix @ x - rows.lower)[0] >= -1e-6 * max(1.0, float(oracle.program.cost @ x))


def test_its_bound_is_the_optimum_and_no_more():
    """A bound too high by one part in ten thousand would be above the optimum."""
    instance = generate_deployment(2, 4, 3, seed=1)
    least = aigc_opt.solve(instance, gap=1e-9).objective
    result = aigc_opt.solve(instance, method="benders", gap=1e-6)
    assert least * (1 - 2e-6) <= result.lower_bound <= least * (1 + 1e-7)


def test_it_stops_at_the_limit_with_an_interval():
    result = aigc_opt.solve(generate_deployment(4, 10, 12, seed=0), method="benders", time_limit=1.0)
    assert result.limit == "time" and result.runtime_s < 3.0
    assert 0 < result.lower_bound <= result.objective


@pytest.mark.parametrize("times", [1e-6, 1e8])
def test_costs_in_other_units_have_the_optimum_in_those_units(times):
    """The master's costs stay in the range of HiGHS's tolerances: 1e8 times a cost of 1e2 has no digits below 1e-7."""
    instance = tiny(7, 2, 2, 2)
    data = instance.to_dict()
    data["weights"] = {key: times * weight for key, weight in data["weights"].items()}
    result = aigc_opt.solve(DeploymentInstance.from_dict(data), method="benders", gap=1e-7)
    assert result.objective == pytest.approx(times * optimum(instance), rel=1e-9)
    assert result.lower_bound == pytest.approx(times * optimum(instance), rel=1e-6)
