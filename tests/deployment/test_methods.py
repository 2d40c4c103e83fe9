"""Every method against enumeration, against each other, and against what must not change."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aigc_opt
from aigc_opt.control import Control
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.instance.generate import DEPLOYMENT_FAMILIES, generate_deployment
from aigc_opt.problems.deployment import PROBLEM, lagrangian, methods
from aigc_opt.problems.deployment.arrays import DeploymentProgram
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.methods import instant_bound
from aigc_opt.problems.deployment.routing import best_routing, priced_routing
from aigc_opt.problems.deployment.solution import DeploymentSolution
from aigc_opt.solvers import Highs
from tests.conftest import changed
from tests.deployment.tiny import optimum, routed, tiny

HEURISTICS = PROBLEM.baselines


@pytest.mark.parametrize("name", ["deployment-small", "deployment-medium", "deployment-initial"])
def test_examples_have_their_known_optima(examples, optima, name):
    result = aigc_opt.solve(examples / f"{name}.json", gap=1e-9)
    assert result.status == "optimal"
    assert result.objective == pytest.approx(optima[name], rel=1e-9)
    assert result.lower_bound == pytest.approx(optima[name], rel=1e-6)
    assert aigc_opt.check(examples / f"{name}.json", result).feasible


@pytest.mark.parametrize("seed", range(12))
def test_exact_is_enumeration(seed):
    shape = (2, 2, 2) if seed % 3 else (3, 1, 2)
    instance = tiny(seed, *shape, limits=None if seed % 2 else shape[1] == 1)
    least = optimum(instance)
    result = aigc_opt.solve(instance, gap=1e-9)
    assert result.status == "optimal"
    assert result.objective == pytest.approx(least, rel=1e-7, abs=1e-7)
    # A bound that were too high by one part in ten thousand would be above the optimum found by enumeration.
    assert result.lower_bound <= least + 1e-7 * max(1, abs(least))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 300))
def test_exact_is_enumeration_on_many(seed):
    instance = tiny(seed, *[(2, 2, 2), (3, 1, 2), (1, 3, 2), (2, 1, 3)][seed % 4])
    assert aigc_opt.solve(instance, gap=1e-9).objective == pytest.approx(optimum(instance), rel=1e-7, abs=1e-7)


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.sampled_from(HEURISTICS))
def test_bound_is_below_optimum_is_below_heuristic(seed, method):
    instance = tiny(seed, 3, 2, 3)
    best = aigc_opt.solve(instance, gap=1e-9)
    result = aigc_opt.solve(instance, method=method, seed=seed)
    scale = max(1.0, abs(best.objective))
    assert best.status == "optimal"
    assert result.lower_bound <= best.objective + 1e-7 * scale
    assert result.objective >= best.objective - 1e-7 * scale
    assert result.proof == "dual"
    assert aigc_opt.solve(instance, method=method, seed=seed, bound=False).lower_bound is None


def test_relaxation_bound_is_the_relaxation_optimum_and_no_more():
    """With room for everything the relaxation is integral: a bound inflated by 1e-4 would pass the optimum."""
    instance = generate_deployment(2, 3, 4, family="metro", seed=3)
    data = instance.to_dict()
    for server in data["servers"]:
        server["storage_gb"] = server["gpu_memory_gb"] = 1e4
    instance = DeploymentInstance.from_dict(data)
    result = aigc_opt.solve(instance, gap=1e-9)
    bound = aigc_opt.bound(instance)
    assert result.status == "optimal"
    assert bound.status == "bound_only" and bound.proof == "dual"
    assert bound.lower_bound <= result.objective
    assert bound.lower_bound == pytest.approx(result.objective, rel=1e-6)


@pytest.mark.parametrize("family", DEPLOYMENT_FAMILIES)
def test_bounds_of_all_kinds_are_in_order(family):
    instance = generate_deployment(2, 4, 4, family=family, seed=5)
    program = DeploymentProgram(instance).program
    relaxation = Highs(program.relaxed()).solve()
    dual = program.dual_bound(relaxation.row_duals)
    best = aigc_opt.solve(instance, gap=1e-9)
    assert instant_bound(instance, Costs.of(instance)) <= dual
    assert dual <= relaxation.objective <= best.objective * (1 + 1e-9)
    assert dual == pytest.approx(relaxation.objective, rel=1e-9)


@given(st.integers(0, 10**6))
def test_routing_is_best_for_a_placement(seed):
    instance = tiny(seed, 2, 3, 2, limits=bool(seed % 2))
    loaded = (np.random.default_rng(seed).random(instance.shape) < 0.6).astype(np.int8)
    ours, theirs = best_routing(instance, Costs.of(instance), loaded), routed(instance, loaded)
    assert (ours is None) == (theirs is None)
    if ours is not None:
        delay = Costs.of(instance).serve
        cost = [
            float(
                (instance.arrivals[..., None] * np.where(r > 0, r * np.where(np.isfinite(delay), delay, 1e9), 0)).sum()
            )
            for r in (ours, theirs)
        ]
        weight = instance.weights.delay or 1.0
        assert cost[0] == pytest.approx(cost[1], rel=1e-6, abs=1e-6 * weight)


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.sampled_from(["storage_gb", "gpu_memory_gb"]))
def test_more_room_never_costs_more(seed, field):
    """With holding costs per gigabyte the same; here the shares of capacity are not weighed, so the claim is exact."""
    data = tiny(seed, 2, 2, 3).to_dict()
    data["weights"] |= {"storage": 0, "gpu_memory": 0}
    before = aigc_opt.solve(DeploymentInstance.from_dict(data), gap=1e-9).objective
    for server in data["servers"]:
        server[field] += 2.5
    after = aigc_opt.solve(DeploymentInstance.from_dict(data), gap=1e-9).objective
    assert after <= before + 1e-7 * max(1, abs(before))


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_order_and_names_change_nothing(seed, random):
    instance = tiny(seed, 2, 3, 3)
    servers, models = random.sample(range(3), 3), random.sample(range(3), 3)
    data = instance.to_dict()
    data["servers"] = [data["servers"][j] | {"name": f"x{j}"} for j in servers]
    data["models"] = [data["models"][m] | {"name": f"y{m}"} for m in models]
    data["cloud_delay_s"] = [data["cloud_delay_s"][m] for m in models]
    data["arrivals"] = instance.arrivals[:, servers][:, :, models].tolist()
    if data["peer_delay_s"]:
        data["peer_delay_s"] = [[data["peer_delay_s"][i][j] for j in servers] for i in servers]
    if data["initial"]:
        data["initial"] = {key: np.array(value)[servers][:, models].tolist() for key, value in data["initial"].items()}
    other = DeploymentInstance.from_dict(data)
    first, second = (aigc_opt.solve(item, gap=1e-9).objective for item in (instance, other))
    assert second == pytest.approx(first, rel=1e-8, abs=1e-8)


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_scaling_the_weights_scales_the_value(seed, factor):
    instance = tiny(seed, 2, 2, 3)
    weights = {name: factor * value for name, value in instance.to_dict()["weights"].items()}
    scaled = aigc_opt.solve(changed(instance, weights=weights), gap=1e-9)
    plain = aigc_opt.solve(instance, gap=1e-9)
    assert scaled.objective == pytest.approx(factor * plain.objective, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("method", PROBLEM.methods)
def test_same_seed_same_answer(method):
    instance = generate_deployment(2, 5, 4, seed=2)
    first, second = (aigc_opt.solve(instance, method=method, seed=11) for _ in range(2))
    assert first.objective == second.objective and first.lower_bound == second.lower_bound
    assert first.solution.to_dict() == second.solution.to_dict()


def test_cloud_only_costs_the_cloud(examples):
    instance = aigc_opt.load(examples / "deployment-small.json")
    result = aigc_opt.solve(instance, method="cloud-only")
    assert result.objective == pytest.approx(float((instance.arrivals * instance.cloud_delay_s).sum()))
    assert result.terms["switching"] == 0


@pytest.mark.parametrize("family", DEPLOYMENT_FAMILIES)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 6))])
def test_feature_aware_beats_the_other_heuristics(family, seed):
    """On every generated family the paper's algorithm is at least as good as every baseline."""
    instance = generate_deployment(3, 5, 4, family=family, seed=seed)
    values = {m: aigc_opt.solve(instance, method=m, bound=False).objective for m in HEURISTICS}
    assert values["feature-aware"] <= min(values.values()) * (1 + 1e-9), values


@pytest.mark.parametrize("stopped", [False, True])
@given(st.integers(0, 10**6))
def test_routing_without_a_program_keeps_every_limit(stopped, seed):
    """Where the time is over the quick routing is feasible, whatever the guide, and never below the exact one."""
    random = np.random.default_rng(seed)
    instance = tiny(seed, 2, 3, 3, limits=True)
    costs = Costs.of(instance)
    loaded = (random.random(instance.shape) < 0.6).astype(np.int8)
    control = Control(1e-9 if stopped else None)
    guide = tuple(random.uniform(0, 3, (2, *instance.shape[:2])))
    quick, best = priced_routing(instance, costs, loaded, control, guide), best_routing(instance, costs, loaded)
    assert (quick is None) == (best is None)
    if quick is not None:
        cost, least = (
            float((instance.arrivals[..., None] * np.where(r > 0, r * np.where(r > 0, costs.serve, 0), 0)).sum())
            for r in (quick[0], best)
        )
        assert cost >= least - 1e-7 * max(1.0, least)
        assert cost == pytest.approx(least) or stopped
        found = aigc_opt.check(instance, DeploymentSolution(np.maximum(loaded, 0), loaded, quick[0]))
        assert {v.constraint for v in found.violations} <= {"storage", "gpu_memory"}


def test_a_large_program_is_never_built(monkeypatch):
    """Beyond what a linear program is made for, bound and point come from prices, and the limit is kept."""
    instance = generate_deployment(10, 60, 24, seed=1)

    def refuse(*_):
        raise AssertionError("built")

    monkeypatch.setattr(lagrangian, "PARTS", 0)
    monkeypatch.setattr(lagrangian, "DeploymentProgram", refuse)
    monkeypatch.setattr(methods, "DeploymentProgram", refuse)
    result = aigc_opt.solve(instance, time_limit=4)
    assert result.limit == "time" and result.runtime_s < 4 + 2
    assert result.gap < 0.2 and aigc_opt.check(instance, result).feasible


def test_a_wrong_point_does_not_leave_the_house(examples, monkeypatch):
    instance = aigc_opt.load(examples / "deployment-small.json")
    honest = PROBLEM.methods["cloud-only"]

    def cheating(task):
        found = honest(task)
        routing = found.solution.routing.copy()
        routing[0, 0, 0] = 0.0
        return dataclasses.replace(found, solution=dataclasses.replace(found.solution, routing=routing))

    monkeypatch.setitem(PROBLEM.methods, "cloud-only", cheating)
    with pytest.raises(aigc_opt.SolverError, match="checker refuses"):
        aigc_opt.solve(instance, method="cloud-only")
