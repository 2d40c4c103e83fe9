"""Every method against enumeration, against each other, and against what must not change."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aigc_opt
from aigc_opt.control import Control
from aigc_opt.instance.generate import TWO_TIMESCALE_FAMILIES, generate_two_timescale
from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.problems.problem import Task
from aigc_opt.problems.two_timescale import PROBLEM, frames, listing, methods, switching
from aigc_opt.problems.two_timescale.check import check
from aigc_opt.problems.two_timescale.episode import Episode
from aigc_opt.problems.two_timescale.frames import Frames
from aigc_opt.problems.two_timescale.shares import Transfers
from tests.conftest import changed
from tests.two_timescale.tiny import optimum, tiny

EXACT = ("decomposition", "benders")
NAMES = ("small", "switching", "smooth")


@pytest.fixture
def large(monkeypatch):
    """Make every episode too large to enumerate."""
    monkeypatch.setattr(methods, "ENUMERATED_CACHES", 0)


@pytest.fixture
def unlisted(monkeypatch, large):
    """Make every episode too large to list, too: branch and bound remains."""
    monkeypatch.setattr(listing, "LISTED_AT_MOST", 0)


def episode(seed: int = 0, **sizes) -> TwoTimescaleInstance:
    family = sizes.pop("family", "paper")
    return aigc_opt.sample(generate_two_timescale(family=family, seed=seed, **sizes), seed)


def tolerance(value: float) -> float:
    return 1e-8 * max(1.0, abs(value))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", EXACT)
def test_examples_have_their_known_optima(examples, optima, name, method):
    path, known = examples / f"two-timescale-{name}.json", optima[f"two-timescale-{name}"]
    result = aigc_opt.solve(path, method=method, gap=1e-6)
    assert result.status == "optimal"
    assert result.objective == pytest.approx(known, rel=1e-9)
    assert known * (1 - 1e-6) <= result.lower_bound <= known * (1 + 1e-12)
    # The bound before any master is the optimum of the small example to the last digits, and then stays the proof.
    assert result.proof in (("enumeration",) if method == "decomposition" else ("solver", "dual"))
    assert aigc_opt.check(path, result).feasible


@pytest.mark.parametrize("name", NAMES)
def test_examples_without_enumeration(examples, optima, name, large):
    known = optima[f"two-timescale-{name}"]
    result = aigc_opt.solve(examples / f"two-timescale-{name}.json", gap=1e-6)
    assert result.lower_bound <= known * (1 + 1e-12) and result.proof == "dual"
    assert result.objective == pytest.approx(known, rel=1e-9) and result.status == "optimal"


@pytest.mark.parametrize("seed", range(25))
def test_exact_is_brute_force(seed):
    instance = tiny(seed)
    least = optimum(instance)
    result = aigc_opt.solve(instance, gap=1e-7)
    assert result.status == "optimal"
    assert result.objective == pytest.approx(least, rel=1e-7, abs=1e-7)
    # A bound that were too high by one part in ten thousand would be above the optimum found by brute force.
    assert result.lower_bound <= least + tolerance(least)
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["status"] == "optimal"


@pytest.mark.parametrize("seed", range(25, 30))
@pytest.mark.parametrize("method", [name for name in PROBLEM.methods if name != "decomposition"])
def test_bounds_are_below_the_optimum_and_points_above(seed, method):
    instance = tiny(seed)
    least = optimum(instance)
    result = aigc_opt.solve(instance, method=method, gap=1e-6, seed=seed)
    assert result.lower_bound <= least + tolerance(least)
    assert result.objective >= least - tolerance(least)
    if method == "benders":
        assert result.status == "optimal"
    assert aigc_opt.bound(instance).lower_bound <= least + tolerance(least)


@pytest.mark.parametrize("seed", range(40, 52))
def test_large_episodes_methods_are_brute_force_too(seed, large):
    instance = tiny(seed)
    least = optimum(instance)
    result = aigc_opt.solve(instance, gap=1e-7)
    assert result.lower_bound <= least + tolerance(least)
    assert result.objective >= least - tolerance(least)
    if instance.weights.switching == 0:
        assert result.status == "optimal"


@pytest.mark.parametrize("seed", range(60, 72))
def test_branch_and_bound_is_brute_force_too(seed, unlisted):
    instance = tiny(seed, weights={"switching": 0})
    least = optimum(instance)
    result = aigc_opt.solve(instance, gap=1e-7)
    assert result.status == "optimal"
    assert result.lower_bound <= least + tolerance(least)
    assert result.objective == pytest.approx(least, rel=1e-7, abs=1e-7)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1000, 1200))
def test_exact_is_brute_force_on_many(seed):
    instance = tiny(seed)
    least = optimum(instance)
    for method in EXACT:
        result = aigc_opt.solve(instance, method=method, gap=1e-7)
        assert result.objective == pytest.approx(least, rel=1e-7, abs=1e-7)
        assert result.lower_bound <= least + tolerance(least)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("family", TWO_TIMESCALE_FAMILIES)
def test_all_ways_agree_on_middling_episodes(seed, family, monkeypatch):
    instance = episode(seed, users=5, models=7, frames=3, slots=4, family=family)
    best = aigc_opt.solve(instance, gap=1e-6)
    assert best.status == "optimal"
    monkeypatch.setattr(methods, "ENUMERATED_CACHES", 0)
    listed = aigc_opt.solve(instance, gap=1e-6)
    results = [listed, *(aigc_opt.solve(instance, method=m) for m in ("lagrangian", "alternating", "popular"))]
    for result in results:
        assert result.lower_bound <= best.objective * (1 + 1e-9)
        assert result.objective >= best.lower_bound * (1 - 1e-9)
    assert listed.status == "optimal"
    assert all(result.lower_bound > 0.5 * best.objective for result in results)


def test_a_paper_sized_episode_is_proven_optimal(examples):
    instance = aigc_opt.sample(aigc_opt.load(examples / "two-timescale-process.json"), 0)
    result = aigc_opt.solve(instance, gap=1e-6)
    assert result.status == "optimal" and result.proof == "enumeration"
    assert result.objective == pytest.approx(369.0575665514, rel=1e-9)
    alternating = aigc_opt.solve(instance, method="alternating")
    assert alternating.lower_bound <= result.objective <= alternating.objective
    rounds = [row for row in alternating.trace if row.event.startswith("alternating from none: caches")]
    assert rounds and rounds[-1].objective < alternating.trace[0].objective
    events = [row.event for row in result.trace]
    assert any("298 caches" in event for event in events)


CAPACITIES = (
    "storage_gb", "steps_per_slot", "uplink_mhz", "downlink_mhz", "max_steps", "power_w", "backhaul_mbps", "cloud_gbps",
    "io_gb_per_s",
)  # fmt: skip


@pytest.mark.parametrize("field", CAPACITIES)
@settings(max_examples=8)
@given(st.integers(0, 10**6))
def test_more_of_anything_never_costs_more(field, seed):
    """Where all hits must be served a larger cache may force more, but then it need not be used."""
    instance = tiny(seed)
    edge = instance.to_dict()["edge"]
    before = aigc_opt.solve(instance, gap=1e-8).objective
    after = aigc_opt.solve(changed(instance, edge=edge | {field: edge[field] * 1.3 + 1}), gap=1e-8).objective
    assert after <= before + tolerance(before)


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.integers(2, 3))
def test_repeated_frames_cost_the_same_per_frame(seed, times):
    instance = tiny(seed, weights={"switching": 0})
    data = instance.to_dict()
    data["requests"] = {key: values * times for key, values in data["requests"].items()}
    once = aigc_opt.solve(instance, gap=1e-8).objective
    again = aigc_opt.solve(TwoTimescaleInstance.from_dict(data), gap=1e-8).objective
    assert again == pytest.approx(once, rel=1e-7, abs=1e-7)


@settings(max_examples=12)
@given(st.integers(0, 10**6))
def test_a_choice_never_costs_more_than_an_obligation(seed):
    instance = tiny(seed)
    must = aigc_opt.solve(changed(instance, serve_all_hits=True), gap=1e-8).objective
    may = aigc_opt.solve(changed(instance, serve_all_hits=False), gap=1e-8).objective
    assert may <= must + tolerance(must)


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_scaling_the_weights_scales_the_value(seed, factor):
    instance = tiny(seed)
    weights = {name: factor * value for name, value in instance.to_dict()["weights"].items()}
    plain = aigc_opt.solve(instance, gap=1e-8).objective
    scaled = aigc_opt.solve(changed(instance, weights=weights), gap=1e-8).objective
    assert scaled == pytest.approx(factor * plain, rel=1e-7, abs=1e-9)


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_order_and_names_change_nothing(seed, random):
    instance = tiny(seed)
    data = instance.to_dict()
    order = random.sample(range(len(data["models"])), len(data["models"]))
    users = random.sample(range(len(data["user_power_w"])), len(data["user_power_w"]))
    data["models"] = [data["models"][m] | {"name": f"x{m}"} for m in order]
    if data["initial_cache"]:
        data["initial_cache"] = [data["initial_cache"][m] for m in order]
    data["user_power_w"] = [data["user_power_w"][u] for u in users]
    requests = {key: np.array(values, object)[:, :, users] for key, values in data["requests"].items()}
    new = {m: k for k, m in enumerate(order)} | {None: None}
    requests["model"] = np.vectorize(new.get, otypes=[object])(requests["model"])
    data["requests"] = {key: values.tolist() for key, values in requests.items()}
    first = aigc_opt.solve(instance, gap=1e-8).objective
    assert aigc_opt.solve(TwoTimescaleInstance.from_dict(data), gap=1e-8).objective == pytest.approx(first, rel=1e-7)


@pytest.mark.parametrize("method", PROBLEM.methods)
def test_same_seed_same_answer(method):
    instance = episode(2, users=4, models=6, frames=3, slots=3, family="switching")
    first, second = (aigc_opt.solve(instance, method=method, seed=11, time_limit=None) for _ in range(2))
    assert first.objective == second.objective and first.lower_bound == second.lower_bound
    assert first.solution.to_dict() == second.solution.to_dict()


def test_cloud_only_costs_the_cloud(examples):
    instance = aigc_opt.load(examples / "two-timescale-small.json")
    result = aigc_opt.solve(instance, method="cloud-only")
    assert result.solution.cached.sum() == 0 and result.solution.steps.sum() == 0
    assert result.terms["switching"] == 0
    assert aigc_opt.solve(instance, method="cloud-only", bound=False).lower_bound is None


@pytest.mark.parametrize(("family", "most"), [("paper", 0.04), ("switching", 0.04), ("choice", 0.04)])
def test_two_hundred_models_have_an_interval(family, most):
    """More models than caches can be listed of: prices of the relaxation, exact knapsacks, branch and bound."""
    instance = episode(1, users=20, models=200, frames=2, slots=100, family=family)
    began = time.perf_counter()
    result = aigc_opt.solve(instance, gap=most, time_limit=60)
    assert result.status == "optimal" and result.gap <= most and time.perf_counter() - began < 60
    assert aigc_opt.check(instance, result).feasible
    rough = aigc_opt.solve(instance, method="popular", bound=False)
    assert result.lower_bound <= result.objective < rough.objective


@pytest.mark.parametrize("seed", range(3))
def test_prices_of_the_relaxation_bound_every_cache(seed, monkeypatch):
    """The way of many models on few, where the optimum is known."""
    instance = episode(seed, users=5, models=7, frames=3, slots=4)
    best = aigc_opt.solve(instance, gap=1e-7)
    monkeypatch.setattr(methods, "ENUMERATED_CACHES", 0)
    for module in (methods, listing):
        monkeypatch.setattr(module, "MODELS_AT_MOST", 0)
    result = aigc_opt.solve(instance, gap=1e-6)
    assert result.status == "optimal" and result.lower_bound <= best.objective * (1 + 1e-9)
    bound = aigc_opt.solve(instance, method="lagrangian").lower_bound
    assert 0.5 * best.objective < bound <= best.objective * (1 + 1e-9)


def test_a_finished_solve_names_no_limit(monkeypatch):
    """Nothing was cut short, or the interval is as narrow as was asked for all the same."""
    instance = episode(1, users=5, models=7, frames=3, slots=4)
    assert aigc_opt.solve(instance, gap=1e-6, time_limit=60).limit is None
    assert aigc_opt.solve(instance, method="static", time_limit=60).limit is None
    monkeypatch.setattr(methods, "CLOSING_SHARE", 1e-9)  # everything but the first bound and the allocation is cut
    assert aigc_opt.solve(instance, gap=100.0, time_limit=60).limit is None
    assert aigc_opt.solve(instance, gap=1e-9, time_limit=60).limit == "time"
    assert aigc_opt.bound(instance, time_limit=60).limit == "time"


@pytest.mark.parametrize("method", ["decomposition", "benders", "alternating"])
def test_long_episodes_keep_a_short_limit(method):
    """What closing takes grows with the slots, and is set aside; tables and cuts of all slots look at the clock."""
    instance = episode(1, users=20, models=20, frames=50, slots=100, family="choice")
    assert len(instance.sha256) == 64
    began = time.process_time()
    result = aigc_opt.solve(instance, method=method, time_limit=1.0, gap=1e-9)
    assert time.process_time() - began < 3  # of the processor: clocks tell little where others work
    assert result.limit == "time" and 0 < result.lower_bound <= result.objective


def test_when_the_clock_is_over_only_a_point_is_made():
    """Beside it the transfers in full and one check: what is done without time costs no more than these."""
    instance = episode(1, users=20, models=20, frames=200, slots=100, family="choice")
    assert len(instance.sha256) == 64
    took = []
    for _ in range(2):  # the first one imports
        began = time.process_time()
        result = aigc_opt.solve(instance, time_limit=1e-6)
        took.append(time.process_time() - began)
    assert result.limit == "time" and 0 < result.lower_bound <= result.objective
    began = time.process_time()
    Transfers.of(Episode.of(instance))
    aigc_opt.check(instance, result.solution)
    assert min(took) < 1.3 * (time.process_time() - began)


def test_every_frame_has_a_share_of_the_last_seconds(monkeypatch):
    """Frames whose allocation takes long leave the others their turn, and all of them leave the check its time."""
    monkeypatch.setattr(frames, "ROWS_AT_ONCE", 10)
    instance = episode(1, users=5, models=7, frames=4, slots=10)
    work = methods.Work(
        Task(instance, Control(100.0), 1e-4, 0, "highs", True, check=lambda solution: check(instance, solution))
    )
    work.checking_s = 40.0
    given, allocate = [], work.frames.allocate

    def recorded(of, caches, relative, control, roots):
        given.append((control.remaining_s, roots))
        return allocate(of, caches, relative, control, roots=roots)

    monkeypatch.setattr(work.frames, "allocate", recorded)
    work.solution(np.zeros((4, 7), bool))
    assert [roots for _, roots in given] == [True] * 4
    for (seconds, _), most in zip(given, (15.0, 20.0, 30.0, 60.0), strict=True):
        assert 0.8 * most < seconds <= most
    work.checking_s, given[:] = 200.0, []
    work.solution(np.zeros((4, 7), bool))
    assert given == [(0.0, False)] * 4


def test_caches_that_were_met_are_valued_while_there_is_time(monkeypatch):
    instance = episode(1, users=5, models=7, frames=4, slots=10, family="switching")
    within = Frames(Episode.of(instance))
    pool, valued = switching.Pool(within), []
    monkeypatch.setattr(pool, "spread", lambda of, caches: valued.append(of))
    control = Control()
    met = [(np.arange(4), np.zeros((4, 7), bool))] * 3
    pool.meet(met, control)
    assert len(valued) == 4
    control.interrupted = True
    pool.meet(met, control)
    assert len(valued) == 4
