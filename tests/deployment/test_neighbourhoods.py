"""Servers planned anew: knapsacks and paths are the best ones, and every point on the way is feasible and cheaper."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aigc_opt
from aigc_opt.control import Control
from aigc_opt.instance.generate import DEPLOYMENT_FAMILIES, generate_deployment
from aigc_opt.problems.deployment.check import check
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.neighbourhoods import GRID, _best_packs, _plan, _saving, replanned
from aigc_opt.problems.deployment.routing import complete, placement_cost
from tests.deployment.tiny import tiny


@given(st.integers(0, 10**6), st.integers(1, 7))
def test_packs_are_best_knapsacks(seed, models):
    random = np.random.default_rng(seed)
    values, units = random.normal(size=(5, models)), random.integers(1, GRID, size=models)
    packs = _best_packs(values, units)
    assert (packs @ units <= GRID).all()
    every = np.array(list(itertools.product((0, 1), repeat=models)))
    best = (values @ every[every @ units <= GRID].T).max(axis=1)
    assert (values * packs).sum(axis=1) == pytest.approx(best, abs=1e-9)


@given(st.integers(0, 10**6))
def test_a_plan_is_no_worse_than_the_present_one_where_nothing_is_short(seed):
    """Without limits what a plan saves is exact, and the present plan is one that it may choose."""
    instance = tiny(seed, 4, 2, 3, limits=False)
    costs, random = Costs.of(instance), np.random.default_rng(seed)
    free = np.zeros(instance.shape[:2]), np.zeros(instance.shape[:2])
    nothing = np.zeros(instance.shape, dtype=np.int8)
    loaded = nothing.copy()
    loaded[:, 0] = _plan(instance, costs, nothing, 0, free, random)
    before, after = (complete(instance, costs, state, state) for state in (nothing, loaded))

    def cost(state, solution):
        return placement_cost(instance, costs, state, state, solution.routing)

    assert check(instance, after).feasible
    if not instance.initial_stored[0].any():
        assert cost(loaded, after) <= cost(nothing, before) + 1e-9 * cost(nothing, before) + 1e-9


def test_what_a_model_saves_is_what_the_routing_costs_less():
    instance = generate_deployment(4, 6, 5, seed=3)
    costs = Costs.of(instance)
    unlimited = Costs(**{**vars(costs), "gpu_s": np.full(4, np.inf), "energy_j": np.full(4, np.inf)})
    random = np.random.default_rng(0)
    loaded = (random.random(instance.shape) < 0.3).astype(np.int8)
    loaded[:, 2] = 0
    free = np.zeros(instance.shape[:2]), np.zeros(instance.shape[:2])
    saves = _saving(instance, unlimited, loaded, 2, free)
    new = loaded.copy()
    new[:, 2, 4] = 1

    def delay(state):
        solution = complete(instance, unlimited, state, state)
        return placement_cost(instance, unlimited, np.zeros_like(state), np.zeros_like(state), solution.routing)

    assert delay(loaded) - delay(new) == pytest.approx(saves[:, 4].sum(), rel=1e-9)


@pytest.mark.parametrize("family", DEPLOYMENT_FAMILIES)
def test_every_point_is_feasible_and_cheaper(family):
    instance = generate_deployment(4, 8, 6, family=family, seed=2)
    costs = Costs.of(instance)
    first = aigc_opt.solve(instance, method="popularity", bound=False)
    values = [first.objective]
    for solution in replanned(instance, costs, first.solution, Control(), 0):
        checked = check(instance, solution)
        assert checked.feasible
        values.append(checked.objective)
        state = solution.stored, solution.loaded, solution.routing
        assert placement_cost(instance, costs, *state) == pytest.approx(checked.objective, rel=1e-9)
    assert len(values) > 1 and (np.diff(values) < 0).all()


def test_the_same_seed_gives_the_same_point():
    """Bound and point are computed side by side, but what one takes from the other does not depend on the clock."""
    instance = generate_deployment(3, 6, 4, seed=5)
    first, second = (aigc_opt.solve(instance, method="lagrangian", gap=0.05, seed=7) for _ in range(2))
    assert first.objective == second.objective and first.status == "optimal"
    assert (first.solution.loaded == second.solution.loaded).all()
