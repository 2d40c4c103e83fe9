"""The Lagrangian dual: below the optimum at any prices, up to the relaxation at the best, with its gradient right."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aigc_opt
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.instance.generate import generate_deployment
from aigc_opt.problems.deployment.arrays import DeploymentProgram
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.neighbourhoods import choose_part
from aigc_opt.problems.deployment.prices import Relaxation
from aigc_opt.solvers import Highs
from tests.deployment.tiny import optimum, tiny


@pytest.mark.parametrize("seed", range(12))
def test_interval_holds_the_optimum_found_by_enumeration(seed):
    shape = (2, 2, 2) if seed % 3 else (3, 1, 2)
    instance = tiny(seed, *shape, limits=None if seed % 2 else shape[1] == 1)
    least = optimum(instance)
    result = aigc_opt.solve(instance, method="lagrangian", gap=1e-9)
    scale = max(1.0, abs(least))
    assert result.proof == "dual"
    assert result.lower_bound <= least + 1e-9 * scale
    assert result.objective >= least - 1e-7 * scale


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.floats(0.0, 3.0))
def test_any_prices_are_below_the_relaxation(seed, size):
    instance = tiny(seed, 3, 2, 3)
    relaxation = Relaxation(instance, Costs.of(instance))
    random = np.random.default_rng(seed)
    start = relaxation.vector(relaxation.first_prices())
    priced = relaxation.evaluate(relaxation.prices(start * random.uniform(0, size, start.shape)), 0.1)
    relaxed = Highs(DeploymentProgram(instance).program.relaxed()).solve().objective
    assert priced.value <= relaxed + 1e-9 * max(1.0, abs(relaxed))


@pytest.mark.parametrize("dearness", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("limits", ["gpu_s", "energy_j"])
def test_limits_that_are_not_there_have_no_price(dearness, limits):
    """Nothing pays for such a price, and with many requests it would raise the bound far above the optimum."""
    data = generate_deployment(3, 4, 6, seed=0).to_dict()
    data["arrivals"] = (1e5 * np.array(data["arrivals"])).tolist()
    for server in data["servers"]:
        server |= {"gpu_s": None, "energy_j": None, "storage_gb": 1000, "gpu_memory_gb": 500}
        server |= {} if limits == "gpu_s" else {"gpu_s": 1e9}
    instance = DeploymentInstance.from_dict(data)
    relaxation = Relaxation(instance, Costs.of(instance))
    relaxed = Highs(DeploymentProgram(instance).program.relaxed()).solve().objective
    assert relaxation.evaluate(relaxation.first_prices(dearness), 1.0).value <= relaxed * (1 + 1e-9)
    dear = dataclasses.replace(relaxation.first_prices(dearness), **{limits: np.full(instance.shape[:2], 1e3)})
    assert relaxation.evaluate(dear, 1.0).value <= relaxed * (1 + 1e-9)
    assert aigc_opt.solve(instance, method="lagrangian", time_limit=0.01).lower_bound <= relaxed * (1 + 1e-9)


def test_prices_reach_the_relaxation_and_no_more():
    """A bound too high by one part in ten thousand would be above the relaxation."""
    instance = generate_deployment(3, 5, 6, seed=1)
    relaxed = Highs(DeploymentProgram(instance).program.relaxed()).solve().objective
    bound = aigc_opt.solve(instance, method="lagrangian").lower_bound
    assert relaxed * (1 - 1e-3) <= bound <= relaxed * (1 + 1e-9)


@pytest.mark.parametrize("family", ["balanced", "metro"])
def test_the_slope_is_the_gradient_of_the_smooth_copy(family):
    instance = generate_deployment(3, 5, 6, family=family, seed=2)
    relaxation = Relaxation(instance, Costs.of(instance))
    start = relaxation.vector(relaxation.first_prices())
    along = start * np.random.default_rng(0).random(start.shape)
    temperature, step = 0.3 * relaxation.unit, 1e-5

    def smooth(vector: np.ndarray) -> float:
        return relaxation.evaluate(relaxation.prices(vector), temperature).smooth

    slope = relaxation.vector(relaxation.evaluate(relaxation.prices(start), temperature).slope)
    difference = (smooth(start + step * along) - smooth(start - step * along)) / (2 * step)
    assert slope @ along == pytest.approx(difference, rel=1e-5)


@given(st.integers(0, 10**6), st.sampled_from([0, 1, 2]), st.integers(1, 60))
def test_parts_are_of_the_places_that_differ(seed, axis, size):
    random = np.random.default_rng(seed)
    differs = random.random((6, 4, 5)) < random.random()
    part = choose_part(differs, axis, size, random)
    assert not (part & ~differs).any()
    assert part.sum() <= max(1.5 * size, differs.shape[0]) or part.sum() == differs.sum()


@given(st.integers(0, 10**6))
def test_a_part_of_a_program_is_that_part(seed):
    """A restriction around a point: the point stays in it at its cost, and its optimum is one of the whole's points."""
    random = np.random.default_rng(seed)
    instance = tiny(seed, 3, 2, 3)
    built = DeploymentProgram(instance)
    best = aigc_opt.solve(instance, method="feature-aware", bound=False)
    point, part = built.point(best.solution), random.random(instance.shape) < 0.4
    free = built.free_around(best.solution, part)
    found = Highs(built.program.around(point, free)).solve(start=point[free])
    assert found.objective <= best.objective + 1e-7 * max(1.0, abs(best.objective))
    point[free] = found.x
    columns = built.program.matrix @ point
    assert (columns <= built.program.row_upper + 1e-5).all() and (columns >= built.program.row_lower - 1e-5).all()
    assert float(built.program.cost @ point) == pytest.approx(found.objective, rel=1e-9, abs=1e-9)
