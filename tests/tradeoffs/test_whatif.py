"""Alternatives against enumeration, and the value of capacities against what they must be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import aigc_opt
from aigc_opt.errors import InputError
from aigc_opt.instance.generate import generate_two_timescale
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.methods import complete
from aigc_opt.problems.problem import problem_of


def tiny_deployment(examples):
    """One slot, two servers and three models of the small example: few enough placements to try them all."""
    data = aigc_opt.load(examples / "deployment-small.json").to_dict()
    data["models"] = data["models"][:3]
    data["arrivals"] = [[row[:3] for row in slot] for slot in data["arrivals"][:1]]
    data["cloud_delay_s"] = data["cloud_delay_s"][:3]
    data["initial"] = None
    return type(aigc_opt.load(examples / "deployment-small.json")).from_dict(data)


def every_placement(instance):
    """Costs of all feasible placements, with their best routing."""
    costs, shape = Costs.of(instance), instance.shape
    size = int(np.prod(shape))
    states = list(itertools.product((0, 1, 2), repeat=size))  # absent, stored, loaded
    for state in states:
        level = np.array(state).reshape(shape)
        solution = complete(instance, costs, (level > 0).astype(np.int8), (level > 1).astype(np.int8))
        checked = None if solution is None else problem_of(instance).check(instance, solution)
        if checked is not None and checked.feasible:
            yield checked.objective


def test_placements_are_the_best_ones_of_all(examples):
    instance = tiny_deployment(examples)
    best = sorted(every_placement(instance))
    found = aigc_opt.alternatives(instance, number=6, within=1.0, gap=1e-7)
    assert [one.objective for one in found] == pytest.approx(best[:6], rel=1e-6)
    for k, one in enumerate(found):  # the bound holds for the best one that was not listed before
        assert one.lower_bound <= best[k] + 1e-6 * best[k]
    assert found[0].changes == 0 and all(one.changes > 0 for one in found[1:])


@pytest.mark.parametrize("family", ["choice", "switching"])
def test_caches_are_the_best_ones_of_all(family):
    process = generate_two_timescale(users=3, models=4, frames=2, slots=2, family=family, seed=3)
    instance = aigc_opt.sample(process, 1)
    cost = []
    for caches in itertools.product(itertools.product((0, 1), repeat=4), repeat=2):
        value = value_of(instance, np.array(caches))
        if value is not None:
            cost.append(value)
    best = sorted(cost)
    found = aigc_opt.alternatives(instance, number=7, within=10.0, gap=1e-8)
    assert [one.objective for one in found] == pytest.approx(best[:7], rel=1e-6)
    for k, one in enumerate(found):
        assert one.lower_bound <= best[k] * (1 + 1e-7)
    seen = {one.solution.cached.tobytes() for one in found}
    assert len(seen) == 7


def value_of(instance, caches):
    """Optimal cost with fixed caches: solved as an instance whose storage takes just those, frame by frame."""
    from aigc_opt.control import Control
    from aigc_opt.problems.problem import Task
    from aigc_opt.problems.two_timescale.check import check
    from aigc_opt.problems.two_timescale.methods import Work

    sizes = np.array([model.storage_gb for model in instance.models])
    if (caches @ sizes > instance.edge.storage_gb).any():
        return None
    work = Work(Task(instance, Control(), 1e-8, 0, "highs", True, check=None))
    checked = check(instance, work.solution(caches.astype(bool)))
    return checked.objective if checked.feasible else None


def test_only_alternatives_within_reach(examples):
    found = aigc_opt.alternatives(examples / "two-timescale-switching.json", number=50, within=0.005)
    assert 1 <= len(found) < 50
    assert all(one.objective <= 1.005 * found[0].objective for one in found)


def test_alternatives_that_are_not_listed(examples):
    with pytest.raises(InputError, match="not for offloading"):
        aigc_opt.alternatives(examples / "offloading-small.json")
    with pytest.raises(InputError, match="number must be"):
        aigc_opt.alternatives(examples / "deployment-small.json", number=0)


@pytest.mark.parametrize("name", ["deployment-small", "offloading-small", "two-timescale-small"])
def test_value_of_capacity_is_what_solving_again_gives(name, examples):
    instance = aigc_opt.load(examples / f"{name}.json")
    table = aigc_opt.value_of_capacity(instance, more=0.2, gap=1e-6)
    assert len(table) >= 1
    base = aigc_opt.solve(instance, gap=1e-6)
    for path, row in table.iterrows():
        # More of a capacity never costs more, and no resource is worth more than the whole objective.
        assert row["fall_at_most"] >= -1e-12 and row["fall_at_least"] <= row["fall_at_most"]
        assert row["fall_at_least"] <= base.objective
        swept = aigc_opt.sweep(instance, {path: [row["capacity"] + row["more"]]}, gap=1e-6).iloc[0]
        assert row["fall_at_least"] <= base.objective - swept["lower_bound"] + 1e-9
        assert row["fall_at_most"] >= base.lower_bound - swept["objective"] - 1e-9
    assert (table["fall_at_most"] > 1e-6).any()


def test_capacities_that_are_none(examples):
    with pytest.raises(InputError, match="must lead to a number > 0"):
        aigc_opt.value_of_capacity(examples / "two-timescale-small.json", ["weights.switching"])
    with pytest.raises(InputError, match="more"):
        aigc_opt.value_of_capacity(examples / "two-timescale-small.json", more=0)
