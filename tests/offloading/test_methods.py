"""Every method against enumeration, against each other, and against what must not change."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aigc_opt
from aigc_opt.control import Control
from aigc_opt.instance.generate_offloading import OFFLOADING_FAMILIES, generate_offloading
from aigc_opt.instance.offloading import OffloadingInstance
from aigc_opt.problems.offloading import PROBLEM
from aigc_opt.problems.offloading.alternation import alternate_from
from aigc_opt.problems.offloading.choices import OUTSIDE, total_cost
from aigc_opt.problems.offloading.heuristics import Points, fixed_steps
from aigc_opt.problems.offloading.interval import Interval
from aigc_opt.problems.offloading.local_search import _best_of_each
from aigc_opt.problems.offloading.prices import START_PRICE, evaluate, first_prices
from aigc_opt.problems.offloading.relaxation import relax
from aigc_opt.problems.offloading.rounding import packing, repair
from aigc_opt.problems.offloading.sets import improve
from aigc_opt.problems.offloading.tables import _beaten, build_tables, everybody_alone
from tests.conftest import changed
from tests.offloading.tiny import FAMILIES, optimum, tiny

CERTIFIED = ("decomposition", "outer-approximation")
HEURISTICS = [name for name in PROBLEM.methods if name not in (*CERTIFIED, "exact")]
needs_scip = pytest.mark.skipif(importlib.util.find_spec("pyscipopt") is None, reason="PySCIPOpt is not installed")


def known(seed: int) -> tuple[OffloadingInstance, float]:
    """A tiny instance that has a point, and its optimum."""
    while (best := optimum(tiny(seed))) is None:
        seed += 1
    return tiny(seed), best


@pytest.mark.parametrize("name", ["offloading-small", "offloading-medium"])
@pytest.mark.parametrize("method", CERTIFIED)
def test_examples_have_their_known_optima(examples, optima, name, method):
    result = aigc_opt.solve(examples / f"{name}.json", method=method, gap=1e-7)
    assert result.status == "optimal"
    assert result.objective == pytest.approx(optima[name], rel=1e-9)
    assert result.lower_bound == pytest.approx(optima[name], rel=1e-7)
    assert aigc_opt.check(examples / f"{name}.json", result).feasible


@needs_scip
def test_scip_solves_the_small_example(examples, optima):
    result = aigc_opt.solve(examples / "offloading-small.json", solver="scip", gap=1e-7)
    assert result.status == "optimal" and result.method == "exact" and result.proof == "solver"
    assert result.objective == pytest.approx(optima["offloading-small"], rel=1e-9)


@needs_scip
@pytest.mark.long
def test_scip_solves_the_medium_example(examples, optima):
    result = aigc_opt.solve(examples / "offloading-medium.json", solver="scip", gap=1e-7)
    assert result.status == "optimal"
    assert result.objective == pytest.approx(optima["offloading-medium"], rel=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_certified_methods_are_enumeration(seed):
    instance = tiny(seed)
    best = optimum(instance)
    for method in CERTIFIED:
        result = aigc_opt.solve(instance, method=method, gap=1e-7)
        if best is None:
            assert result.status == "infeasible" and result.reasons
            continue
        assert result.status == "optimal"
        assert result.objective == pytest.approx(best, rel=2e-7, abs=2e-7)
        # A bound that were too high by one part in ten thousand would be above the optimum found by enumeration.
        assert result.lower_bound <= best + 1e-8 * max(1, abs(best))


@needs_scip
@pytest.mark.parametrize("seed", [1, 4])
def test_scip_is_enumeration(seed):
    instance = tiny(seed, 3, 2)
    best = optimum(instance)
    result = aigc_opt.solve(instance, solver="scip", gap=1e-6)
    if best is None:
        assert result.status == "infeasible"
    else:
        assert result.status == "optimal"
        assert result.objective == pytest.approx(best, rel=2e-6)
        assert result.lower_bound <= best * (1 + 1e-6)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 400))
def test_certified_methods_are_enumeration_on_many(seed):
    test_certified_methods_are_enumeration(seed)


@needs_scip
@pytest.mark.long
@pytest.mark.parametrize("seed", range(20, 60))
def test_scip_is_enumeration_on_many(seed):
    test_scip_is_enumeration(seed)


@given(st.integers(0, 10**5), st.sampled_from(HEURISTICS))
@settings(max_examples=24)
def test_bound_is_below_optimum_is_below_heuristic(seed, method):
    instance, best = known(seed)
    result = aigc_opt.solve(instance, method=method, seed=seed)
    scale = max(1.0, abs(best))
    assert result.lower_bound <= best + 1e-9 * scale
    if result.objective is not None:
        assert result.objective >= best - 1e-9 * scale
        assert result.proof == "dual"
    assert aigc_opt.solve(instance, method=method, seed=seed, bound=False).lower_bound is None


@given(st.integers(0, 10**5), st.booleans())
@settings(max_examples=24)
def test_any_prices_prove_a_bound(seed, prune):
    instance, best = known(seed)
    tables = build_tables(instance, prune=prune)
    rng = np.random.Generator(np.random.PCG64(seed))
    for _ in range(10):
        mu = rng.exponential(10.0 ** rng.uniform(-2, 1), tables.servers) * (rng.random(tables.servers) < 0.9)
        assert evaluate(tables, mu).value <= best * tables.users + 1e-9


@given(st.integers(0, 10**5), st.sampled_from([20, 100]))
@settings(max_examples=25)
def test_bound_by_sets_of_tasks_is_below_the_optimum(seed, cells):
    instance, best = known(seed)
    tables, control = build_tables(instance), Control()
    if not len(tables.user):
        return
    relaxed = relax(tables, first_prices(tables, control), control, 1e-6)
    _, choice = packing(tables, control)
    bound, _ = improve(tables, relaxed.mu, relaxed.value, choice, control, 0.0, seed, cells=cells, rounds=25)
    assert relaxed.value - 1e-9 <= bound <= best * tables.users + 1e-9 * max(1, abs(best * tables.users))


def test_dual_bound_is_the_relaxation_optimum_and_no_more():
    """One user alone with a server: no mixing helps, so a bound inflated by 1e-4 would pass the optimum."""
    for seed in range(20):
        data = generate_offloading(1, 1, seed=seed).to_dict()
        data["users"][0].update(uplink_mbps=[20.0], downlink_mbps=[20.0], rejection_penalty=50.0, device=None)
        data["servers"][0].update(ghz=9.0, hosts=None)
        instance = OffloadingInstance.from_dict(data)
        best, bound = optimum(instance), aigc_opt.bound(instance)
        assert bound.status == "bound_only" and bound.proof == "dual"
        assert bound.lower_bound <= best * (1 + 1e-12)
        assert bound.lower_bound == pytest.approx(best, rel=1e-6)


@given(st.integers(0, 10**5), st.sampled_from(["ghz", "max_delay_s", "battery_j"]))
@settings(max_examples=24)
def test_more_never_costs_more(seed, field):
    instance, best = known(seed)
    data = instance.to_dict()
    for item in data["servers" if field == "ghz" else "users"]:
        item[field] *= 1.3
    result = aigc_opt.solve(OffloadingInstance.from_dict(data), gap=1e-8)
    assert result.objective <= best + 1e-7 * max(1, abs(best))


@given(st.integers(0, 10**5), st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_order_and_names_change_nothing(seed, random):
    instance, best = known(seed)
    data = instance.to_dict()
    users, servers = list(range(len(data["users"]))), list(range(len(data["servers"])))
    random.shuffle(users)
    random.shuffle(servers)
    data["servers"] = [data["servers"][i] | {"name": f"x[{i}], y"} for i in servers]
    data["users"] = [data["users"][n] | {"name": f"local {n}\n"} for n in users]
    for user in data["users"]:
        for key in ("uplink_mbps", "downlink_mbps"):
            user[key] = [user[key][i] for i in servers]
    assert aigc_opt.solve(OffloadingInstance.from_dict(data), gap=1e-8).objective == pytest.approx(best, rel=1e-7)


@given(st.integers(0, 10**5), st.sampled_from([1e-12, 1e-6, 0.01, 100.0, 2e8, 1e12]), st.sampled_from(CERTIFIED))
@settings(max_examples=30)
def test_scaling_all_costs_scales_the_value(seed, factor, method):
    instance, best = known(seed)
    data = instance.to_dict()
    data["weights"] = {name: factor * value for name, value in data["weights"].items()}
    for user in data["users"]:
        if user["rejection_penalty"] is not None:
            user["rejection_penalty"] *= factor
    result = aigc_opt.solve(OffloadingInstance.from_dict(data), method=method, gap=1e-7)
    assert result.status == "optimal"
    assert result.objective == pytest.approx(factor * best, rel=3e-7)
    assert result.lower_bound <= factor * best * (1 + 1e-9)


@pytest.mark.parametrize("method", HEURISTICS)
@pytest.mark.parametrize("seconds", [(0.1, 0.2, 0.3), (0.7, 0.1, 0.3), (0.3, 0.6, 0.9)])
def test_tasks_that_fill_a_server_exactly_fit(method, seconds):
    """Least shares of 1 / seconds that sum to the capacity only up to rounding, and nowhere else to go."""
    model = {"name": "m", "workload": {"base_gcycles": 1.0, "per_step_gcycles": 0.0},
             "quality": {"kind": "piecewise_linear", "points": [[1, 1.0]]}}  # fmt: skip
    users = [
        {"name": f"u{n}", "model": "m", "input_mbit": 0, "output_mbit": 0, "max_delay_s": 1.0 / share, "battery_j": 1,
         "transmit_power_w": 1, "uplink_mbps": [1], "downlink_mbps": [1], "device": None, "rejection_penalty": None}
        for n, share in enumerate(seconds)
    ]  # fmt: skip
    for first in range(3):  # in every order of taking away from what is left
        instance = OffloadingInstance.from_dict(
            {"format": "aigc-opt/instance", "version": 1, "problem": "offloading", "name": "full", "models": [model],
             "users": users[first:] + users[:first], "steps": {"min": 1, "max": 1, "stride": 1},
             "servers": [{"name": "s", "ghz": sum(sorted(seconds))}]}
        )  # fmt: skip
        assert aigc_opt.solve(instance, method=method).solution is not None


def test_prices_of_users_without_any_option_are_infinite(recwarn):
    tables = build_tables(known(3)[0])
    nothing = tables.restricted(np.arange(tables.users), np.zeros(0, int))
    nothing = dataclasses.replace(nothing, outside_cost=np.full(tables.users, np.inf))
    assert evaluate(nothing, np.ones(tables.servers)).value == np.inf and not recwarn.list


curves = st.one_of(
    st.lists(st.tuples(st.floats(0, 60), st.floats(0, 1)), min_size=1, max_size=5, unique_by=lambda p: p[0]).map(
        lambda points: {
            "kind": "piecewise_linear",
            "points": [
                [s, q] for (s, _), q in zip(sorted(points), sorted((q for _, q in points), reverse=True), strict=True)
            ],
        }
    ),
    st.tuples(st.floats(-1, 1), st.floats(0, 2), st.floats(0.1, 100)).map(
        lambda v: {"kind": "exponential", "floor": v[0], "ceiling": v[0] + v[1], "scale": v[2]}
    ),
    st.tuples(st.floats(-1, 1), st.floats(0.1, 5), st.floats(0.1, 3)).map(
        lambda v: {"kind": "power", "floor": v[0], "coefficient": v[1], "exponent": v[2]}
    ),
)


@given(st.integers(0, 50), st.lists(curves, min_size=5, max_size=5), st.integers(1, 100), st.sampled_from([1, 7, 100]))
def test_any_curve_and_any_grid(seed, kinds, last, stride):
    """Curves of all kinds, of one point too; grids of one step, strides beyond the range, a last step off the grid."""
    data = tiny(seed, 3, 1).to_dict()
    for model, curve in zip(data["models"], kinds, strict=True):
        model["quality"] = curve
    data["steps"] = {"min": 1, "max": min(last, 20), "stride": stride}
    instance = OffloadingInstance.from_dict(data)
    best = optimum(instance)
    result = aigc_opt.solve(instance, gap=1e-7)
    if best is None:
        assert result.status == "infeasible"
    else:
        assert result.objective == pytest.approx(best, rel=2e-7, abs=2e-7)
        assert result.lower_bound <= best + 1e-8


@pytest.mark.parametrize("method", [name for name in PROBLEM.methods])
def test_same_seed_same_answer(method):
    instance = generate_offloading(12, 3, seed=2)
    first, second = (aigc_opt.solve(instance, method=method, seed=11, gap=1e-3) for _ in range(2))
    assert first.objective == second.objective and first.lower_bound == second.lower_bound
    assert first.solution == second.solution


@pytest.mark.parametrize("family", OFFLOADING_FAMILIES)
def test_alternation_is_no_worse_than_any_baseline(family):
    """It starts from all of them."""
    instance = generate_offloading(40, 5, family=family, seed=3)
    values = {m: aigc_opt.solve(instance, method=m, bound=False).objective for m in HEURISTICS if m != "random"}
    assert values["alternating"] <= min(values.values())


@pytest.mark.parametrize("family", OFFLOADING_FAMILIES)
def test_mid_sizes_are_certified(family):
    instance = generate_offloading(60, 4, family=family, seed=1)
    result = aigc_opt.solve(instance, gap=2e-3, time_limit=30)
    assert result.status == "optimal"
    assert aigc_opt.check(instance, result).feasible
    trace = [row.objective for row in result.trace if row.objective is not None]
    assert trace == sorted(trace, reverse=True)


def test_sets_of_tasks_close_a_city():
    """Few tasks a server: the chain goes through whole sets."""
    instance = generate_offloading(60, 16, family="city", seed=1)
    result = aigc_opt.solve(instance, gap=1e-3, time_limit=8)
    assert result.gap <= 2e-2
    assert any(row.event == "sets of tasks" for row in result.trace)


@needs_scip
def test_scip_is_ended_at_the_limit_and_its_interval_kept():
    instance = generate_offloading(40, 4, seed=1)
    result = aigc_opt.solve(instance, solver="scip", time_limit=4, gap=1e-9)
    assert result.runtime_s < 4 + 4
    assert result.limit == "time" and result.status in ("feasible", "bound_only", "unknown")
    if result.objective is not None:
        assert aigc_opt.check(instance, result).feasible


def test_no_servers_at_all():
    instance = generate_offloading(6, 0, seed=1)
    for method in PROBLEM.methods:
        result = aigc_opt.solve(instance, method=method)
        if method in (*CERTIFIED, "exact", "greedy-deadline"):
            assert result.objective == pytest.approx(optimum(instance))
        assert result.lower_bound == pytest.approx(optimum(instance))
    assert aigc_opt.solve(instance).proof == "enumeration"


@pytest.mark.parametrize("method", [*CERTIFIED, *HEURISTICS])
def test_objective_zero(method):
    """Every weight 0 and nothing to pay for rejection: 0 is the optimum, and the gap is 0."""
    data = generate_offloading(6, 2, seed=1).to_dict()
    data["weights"] = {"quality": 0, "delay": 0, "energy": 0}
    for user in data["users"]:
        user["rejection_penalty"] = 0
    result = aigc_opt.solve(OffloadingInstance.from_dict(data), method=method)
    assert (result.objective, result.lower_bound, result.gap, result.status) == (0, 0, 0, "optimal")


def test_every_weight_0():
    for seed in range(6):
        instance = changed(tiny(seed), weights={"quality": 0, "delay": 0, "energy": 0})
        best = optimum(instance)
        result = aigc_opt.solve(instance)
        assert result.status == ("infeasible" if best is None else "optimal")
        assert best is None or result.objective == pytest.approx(best, abs=1e-9)


def test_a_starting_point_that_presolve_improves_does_not_stay():
    # HiGHS 1.16.0 said optimal of the better point and gave the starting point back.
    instance = generate_offloading(users=7, servers=2, family="deadline-tight", seed=154)
    result = aigc_opt.solve(instance, gap=1e-7, seed=154)
    assert result.status == "optimal"
    assert result.objective == pytest.approx(aigc_opt.solve(instance, "exact", gap=1e-7).objective, rel=3e-7)


@pytest.mark.parametrize("family", ["compute-tight", "deadline-tight", "battery-tight"])
def test_assignments_by_a_program_take_the_alternation_further(family):
    """From the same starts, regret alone stops where no single task fits anywhere else."""
    instance = generate_offloading(30, 4, family=family, seed=1)
    points = Points(build_tables(instance, prune=False))
    start = fixed_steps(points, Control(), 0)
    regret = alternate_from(points, start, Control())
    further = alternate_from(points, regret.point, Control(), exact=True)
    costs = [cost for _, cost in further.trace]
    assert costs == sorted(costs, reverse=True)
    assert further.cost < regret.cost * (1 - 1e-3)
    best = aigc_opt.solve(instance, method="alternating", bound=False)
    assert best.objective >= aigc_opt.solve(instance).lower_bound
    assert any("the end of" in row.event for row in best.trace)


def agreeing(seed: int) -> None:
    """SCIP, outer approximation and decomposition find one optimum, and no bound is above it."""
    instance = generate_offloading(4 + seed % 9, 1 + seed % 3, family=FAMILIES[seed % 4], stride=20, seed=seed)
    results = [
        aigc_opt.solve(instance, method=method, gap=1e-7, time_limit=60) for method in ("decomposition", CERTIFIED[1])
    ]
    results.append(aigc_opt.solve(instance, solver="scip", gap=1e-7, time_limit=60))
    assert [result.status for result in results] == ["optimal"] * 3
    best = min(result.objective for result in results)
    for result in results:
        assert result.objective == pytest.approx(best, rel=3e-7)
        assert result.lower_bound <= best * (1 + 1e-7)
        assert aigc_opt.check(instance, result).feasible


@needs_scip
@pytest.mark.parametrize("seed", [3, 6])
def test_scip_is_outer_approximation_is_decomposition(seed):
    agreeing(seed)


@needs_scip
@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 300))
def test_scip_is_outer_approximation_is_decomposition_on_200(seed):
    agreeing(seed)


@given(st.integers(0, 10**6))
def test_beaten_step_counts_are_those_that_another_one_beats_or_equals(seed):
    random = np.random.default_rng(seed)
    work, loss = random.integers(0, 4, (2, random.integers(1, 4), random.integers(1, 9))).astype(float)
    expected = np.zeros(work.shape, bool)
    for m, s in np.ndindex(*work.shape):
        as_good = (work[m] <= work[m, s]) & (loss[m] <= loss[m, s])
        strictly = (work[m] < work[m, s]) | (loss[m] < loss[m, s]) | (np.arange(work.shape[1]) < s)
        expected[m, s] = (as_good & strictly).any()
    assert (_beaten(work, loss) == expected).all()


def test_first_prices_look_at_the_clock():
    control = Control()
    tables = build_tables(generate_offloading(20, 3, seed=1))
    prices = first_prices(tables, control)
    control.interrupted = True
    assert (first_prices(tables, control) == START_PRICE).all() and (prices != START_PRICE).all()


def test_a_fine_grid_of_steps_keeps_a_short_limit():
    """Which steps are beaten is known without comparing all pairs."""
    data = generate_offloading(20, 2, family="city", seed=1).to_dict()
    data["steps"] = {"min": 1, "max": 20_000, "stride": 1}
    instance = OffloadingInstance.from_dict(data)
    took = []
    for _ in range(2):  # the first one imports
        began = time.process_time()
        result = aigc_opt.solve(instance, time_limit=0.5, gap=1e-9)
        took.append(time.process_time() - began)
    assert min(took) < 2.0 and result.objective is not None and result.lower_bound <= result.objective


def test_repair_counts_room_in_parts_of_a_ghz(examples):
    """From nobody inside, two tasks of 0.7 GHz that must be served do not fit into 1 GHz together."""
    data = json.loads((examples / "offloading-small.json").read_text())
    user = next(user for user in data["users"] if max(user["uplink_mbps"]) > 0)
    up, down = max(user["uplink_mbps"]), max(user["downlink_mbps"])
    user |= {"uplink_mbps": [up], "downlink_mbps": [down], "device": None, "rejection_penalty": None, "battery_j": 1e6}
    user |= {"weight": 1, "input_mbit": 0, "output_mbit": 0}
    data["steps"]["max"] = data["steps"]["min"]
    work = next(m["workload"] for m in data["models"] if m["name"] == user["model"])
    user["max_delay_s"] = (work["base_gcycles"] + work["per_step_gcycles"] * data["steps"]["min"]) / 0.7
    data["users"] = [user | {"name": name} for name in ("a", "b")]
    data["servers"] = [{"name": "edge", "ghz": 1.0}]
    tables = build_tables(OffloadingInstance.from_dict(data))
    assert repair(tables, np.full(2, OUTSIDE)) is None
    data["servers"][0]["ghz"] = 1.4001
    tables = build_tables(OffloadingInstance.from_dict(data))
    assert total_cost(tables, repair(tables, np.full(2, OUTSIDE))) < math.inf


def test_an_interval_without_a_point_is_not_closed():
    """Infinite is not within any part of infinite."""
    interval = Interval(build_tables(tiny(0)), Control(), 1e-4)
    interval.offer("a bound", bound=1.0)
    assert not interval.closed and not interval.finished


@pytest.mark.parametrize("prune", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_tables_are_the_same_in_blocks_of_any_size(seed, prune, monkeypatch):
    instance = tiny(seed)
    whole = build_tables(instance, prune=prune)
    monkeypatch.setattr("aigc_opt.problems.offloading.tables.BLOCK", 1)
    rows = build_tables(instance, prune=prune)
    for field in dataclasses.fields(whole):
        np.testing.assert_equal(getattr(rows, field.name), getattr(whole, field.name))


class _StopsAfter:
    """A clock that says stop from its so-manieth question on."""

    def __init__(self, questions: int):
        self.questions = questions

    @property
    def stop(self):
        self.questions -= 1
        return "time" if self.questions < 0 else None


def test_tables_stop_with_what_is_outside_the_servers(monkeypatch, examples):
    monkeypatch.setattr("aigc_opt.problems.offloading.tables.BLOCK", 1)
    instance = aigc_opt.load(examples / "offloading-small.json")
    whole = build_tables(instance)
    assert whole.stopped is None and len(whole.user)
    cut = build_tables(instance, _StopsAfter(2))
    assert cut.stopped == "time" and not len(cut.user) and not cut.start.any()
    np.testing.assert_array_equal(cut.outside_cost * cut.unit, whole.outside_cost * whole.unit)


def test_what_tables_without_columns_prove_is_below_the_optimum():
    """With one user and one server it often is the optimum, so that 1e-4 more would be above it."""
    met = 0
    for seed in range(60):
        instance = tiny(seed, 1, 1) if seed % 2 else tiny(seed)
        least, tables = optimum(instance), build_tables(instance, _StopsAfter(0))
        if least is None or math.isinf(least):
            continue
        bound = tables.unit * everybody_alone(tables) / tables.users
        assert bound <= least + 1e-9 * max(1.0, abs(least))
        met += bound >= least - 1e-9 * max(1.0, abs(least))
    assert met >= 10


@pytest.mark.parametrize("method", ["decomposition", "outer-approximation", "alternating", "greedy-deadline"])
def test_a_limit_within_the_tables_gives_a_point_and_no_false_bound(method, examples, optima):
    result = aigc_opt.solve(examples / "offloading-small.json", method, time_limit=1e-9)
    assert result.limit == "time" and result.lower_bound is not None
    assert result.lower_bound <= optima["offloading-small"] * (1 + 1e-9)
    assert result.objective is None or result.objective >= optima["offloading-small"] * (1 - 1e-9)


@pytest.mark.parametrize("sizes", [(1, 7), (3, 1000)])
def test_candidates_are_the_same_however_many_are_sorted_at_once(sizes, monkeypatch):
    random = np.random.default_rng(0)
    key, change = random.integers(0, 4, 500), random.integers(0, 50, 500) / 7  # with ties
    candidates = np.flatnonzero(change > 1)
    found = []
    for size in sizes:
        monkeypatch.setattr("aigc_opt.problems.offloading.local_search.SORTED", size)
        found.append(_best_of_each(key, change, candidates, 6, Control()))
    order = candidates[np.argsort(change[candidates], kind="stable")]
    for s in range(4):
        np.testing.assert_array_equal(found[0][key[found[0]] == s], order[key[order] == s][:6])
    np.testing.assert_array_equal(*found)
    assert not len(_best_of_each(key, change, candidates, 6, _StopsAfter(0)))
