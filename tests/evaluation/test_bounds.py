"""Bounds for policies that know only the present, against laws small enough to enumerate every policy."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

import aigc_opt
from aigc_opt.control import Control
from aigc_opt.envs.station import Station
from aigc_opt.evaluation import nonanticipative as module
from aigc_opt.evaluation import relaxation
from aigc_opt.evaluation.nonanticipative import Plan, Sampler, nonanticipative, seed_of, state_chances
from aigc_opt.evaluation.relaxation import relaxed_bound
from aigc_opt.evaluation.statistics import Estimate
from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.problems.two_timescale.frames import Frames
from aigc_opt.problems.two_timescale.shares import Transfers


def discrete(examples, switching=0.0, frames=3, slots=1, models=3, users=2) -> TwoTimescaleInstance:
    """A law whose only chance is in states and models: every frame can be enumerated."""
    data = json.loads((examples / "two-timescale-process.json").read_text())
    data["models"] = data["models"][:models]
    data["user_power_w"] = data["user_power_w"][:users]
    data["edge"] |= {"storage_gb": 5.0, "steps_per_slot": 250}
    data["weights"]["switching"] = switching
    data["process"] |= {
        "frames": frames, "slots": slots, "zipf_exponents": [0.0, 3.0], "transition": [[0.7, 0.3], [0.4, 0.6]],
        "initial_state": 0, "input_mbit": [6, 6], "output_mbit": [7, 7], "distance_m": [100, 100], "fading": "none",
    }  # fmt: skip
    return TwoTimescaleInstance.from_dict(data)


def exact_table(instance) -> tuple[Plan, np.ndarray, float]:
    """Plan, expected costs (J, S) of a frame with each cache, and the cost of a frame's transfers."""
    station = Station(instance)
    caches = Sampler.of(instance, station).caches
    process, users, models = instance.process, station.users, station.models
    value = np.zeros((station.states, len(caches)))
    for wanted in itertools.product(range(models), repeat=users):
        slots = station.slots_of(
            {
                "model": np.array([wanted]), "input_mbit": np.full((1, users), 6.0),
                "output_mbit": np.full((1, users), 7.0), **dict.fromkeys(
                    ("uplink_gain", "downlink_gain"),
                    np.full((1, users), float(f"{10 ** (-(128.1 + 37.6 * np.log10(0.1)) / 10):.6g}")),
                ),
            }
        )  # fmt: skip
        episode = station.episode(slots, 1)
        cost, _ = Frames(episode).exact(np.zeros(len(caches), int), caches, 1e-9, Control())
        transfers = Transfers.of(episode).cost
        for j, exponent in enumerate(process.zipf_exponents):
            weight = (1.0 + np.arange(models)) ** -exponent
            value[j] += np.prod((weight / weight.sum())[list(wanted)]) * cost
    return Plan.of(station, caches), value * station.slots, transfers * station.slots


def brute_force(instance, plan: Plan, value: np.ndarray) -> float:
    """Least expected cost over every policy, by recursion over histories with arithmetic of its own."""
    station, process = Station(instance), instance.process

    def switch(before, after):
        return sum(s for s, b, a in zip(station.template.switch, before, after, strict=True) if a and not b)

    def best(t, state, before):
        if t == process.frames:
            return 0.0
        return min(
            switch(before, cache)
            + value[state, s]
            + sum(process.transition[state, i] * best(t + 1, i, cache) for i in range(len(value)))
            for s, cache in enumerate(plan.caches)
        )

    return best(0, process.initial_state, station.template.initial)


@pytest.mark.parametrize("switching", [0.0, 0.05, 0.6])
def test_dynamic_program_is_the_best_policy(examples, switching):
    instance = discrete(examples, switching)
    plan, value, _ = exact_table(instance)
    least, policy = plan.best(value)
    assert least == pytest.approx(brute_force(instance, plan, value), rel=1e-12)
    assert plan.cost(value, policy) == pytest.approx(least, rel=1e-12)
    assert plan.best(value + 1e-4)[0] > least


def test_cost_of_a_policy_is_what_it_costs(examples):
    """A policy that is not optimal, against its expectation over all paths of states."""
    instance = discrete(examples, 0.3)
    plan, value, _ = exact_table(instance)
    random = np.random.default_rng(0)
    count = len(plan.caches)
    policy = [random.integers(count, size=2), *(random.integers(count, size=(2, count)) for _ in range(2))]
    expected = 0.0
    for path in itertools.product(range(2), repeat=3):
        chance = float(path[0] == 0) * np.prod([plan.transition[a, b] for a, b in itertools.pairwise(path)])
        now = policy[0][path[0]]
        cost = plan.first[now] + value[path[0], now]
        for t in (1, 2):
            after = policy[t][path[t], now]
            cost += plan.go[now, after] + value[path[t], after]
            now = after
        expected += chance * cost
    assert plan.cost(value, policy) == pytest.approx(expected, rel=1e-12)


def test_chances_of_states(examples):
    process = discrete(examples).process
    np.testing.assert_allclose(state_chances(process), [[1, 0], [0.7, 0.3], [0.61, 0.39]])


@pytest.mark.parametrize("switching", [0.0, 0.3])
def test_gap_bounds_the_policys_distance(examples, monkeypatch, switching):
    """The mean gap is at least the true distance of the policy from the best, and small samples only widen it."""
    monkeypatch.setattr(module, "REPLICATIONS", 60)
    monkeypatch.setattr(module, "SLOTS", 60)
    monkeypatch.setattr(module, "TRAINING_SLOTS", 6)  # a poor policy: there is a distance to be seen
    instance = discrete(examples, switching)
    plan, value, _ = exact_table(instance)
    scale = 1.0 / 3
    found = nonanticipative(instance, seed=4)
    distance = scale * (plan.cost(value, found.policy.policy) - plan.best(value)[0])
    low, high = Estimate.of(found.gaps).interval(0.999)
    assert (found.gaps >= -1e-9).all()
    assert high >= distance and low <= distance + 0.02 * scale * plan.best(value)[0]


def test_solved_frames_agree_with_tables(examples, monkeypatch):
    """With too many caches to list single frames are solved; the same seeds give the same bounds to their gap."""
    monkeypatch.setattr(module, "REPLICATIONS", 3)
    instance = discrete(examples, slots=2)
    listed = nonanticipative(instance, seed=1)
    monkeypatch.setattr(module, "MOST_CACHES", 1)
    solved = nonanticipative(instance, seed=1)
    assert "solved" in solved.way and "all" in listed.way
    cost = aigc_opt.solve(aigc_opt.sample(instance, 0)).objective
    np.testing.assert_allclose(solved.gaps, listed.gaps, atol=2e-3 * cost)
    assert nonanticipative(discrete(examples, 0.3), seed=1) is None  # switching and too many caches: out of reach


def test_without_certain_steps_only_the_empty_cache_is_safe(examples):
    instance = discrete(examples)
    data = instance.to_dict()
    data["edge"] |= {"min_steps": 200, "max_steps": 220}
    unsafe = TwoTimescaleInstance.from_dict(data)
    assert not Station(unsafe).safe
    found = nonanticipative(unsafe, seed=0)
    assert not found.policy.caches.any() and abs(found.gaps).max() < 1e-9
    assert "only policies that are feasible whatever is asked for" in found.way


@pytest.mark.parametrize("switching", [0.0, 0.05])
def test_information_relaxation_is_a_bound_and_tightens(examples, switching):
    """Hindsight <= penalised hindsight <= the best that can be reached, the last known exactly."""
    instance = discrete(examples, switching, slots=2)
    plan, value, transfers = exact_table(instance)
    station = Station(instance)
    best = station.template.scale * (plan.best(value)[0] + station.frames * transfers)
    hindsight, relaxed = [], []
    for seed in range(60):
        episode = aigc_opt.sample(instance, seed)
        states = aigc_opt.instance.sample.draw_episodes(instance.process, 2, 3, [seed])[0][0]
        slots = station.slots_in(episode)
        hindsight.append(aigc_opt.solve(episode, gap=1e-6).lower_bound)
        relaxed.append(relaxed_bound(instance, station, slots, states, seed_of(9, seed), longer=40))
    assert Estimate.of(relaxed).interval(0.999)[0] <= best
    assert Estimate.of(np.subtract(relaxed, hindsight)).interval(0.99)[0] > 0


# Exact expectations: every sample that can be drawn, with its probability. No statistics, so 1e-4 cannot hide.


def outcomes(instance, state, number):
    """Every draw of `number` slots of one user and two models in a state, with its probability."""
    exponent = instance.process.zipf_exponents[state]
    weight = np.array([1.0, 2.0**-exponent])
    gain = np.full((1, number, 1), float(f"{10 ** (-(128.1 + 37.6 * np.log10(0.1)) / 10):.6g}"))
    for wanted in itertools.product(range(2), repeat=number):
        drawn = {
            "model": np.array(wanted).reshape(1, number, 1), "input_mbit": np.full((1, number, 1), 6.0),
            "output_mbit": np.full((1, number, 1), 7.0), "uplink_gain": gain, "downlink_gain": gain,
        }  # fmt: skip
        yield np.prod((weight / weight.sum())[list(wanted)]), drawn


@pytest.mark.parametrize("switching", [0.0, 0.05, 0.6])
def test_expected_gap_is_at_least_the_distance_of_every_policy(examples, monkeypatch, switching):
    """E[J(c') - DP(c')] >= J - best for good policies and bad ones, and sampled costs of a policy are unbiased."""
    instance = discrete(examples, switching, models=2, users=1)
    plan, value, _ = exact_table(instance)
    best, policy = plan.best(value)
    sampler = Sampler.of(instance, Station(instance))
    tables = []
    for state in range(2):
        found = []
        for chance, drawn in outcomes(instance, state, 2):
            monkeypatch.setattr(module, "draw_requests_in", lambda *rest, drawn=drawn: drawn)
            found.append((chance, *sampler.table(state, 2, 0)))
        tables.append(found)
    worst = [np.argmax(value, axis=1) if p.ndim == 1 else np.repeat(value.argmax(axis=1)[:, None], p.shape[1], axis=1)
             for p in policy]  # fmt: skip
    for chosen in (policy, worst):
        expected = sampled = 0.0
        for (p, upper, lower), (q, upper2, lower2) in itertools.product(*tables):
            expected += p * q * (plan.cost(np.array([upper, upper2]), chosen) - plan.best(np.array([lower, lower2]))[0])
            sampled += p * q * plan.cost(np.array([upper, upper2]), chosen)
        true = plan.cost(value, chosen)
        assert sampled == pytest.approx(true, rel=2e-5)
        assert expected >= true - best - 1e-9 * best


@pytest.mark.parametrize("switching", [0.0, 0.05])
def test_expected_relaxation_lies_between_hindsight_and_the_best(examples, monkeypatch, switching):
    """Exactly: E[hindsight] <= E[penalised hindsight] <= best, over every path of states and every draw."""
    instance = discrete(examples, switching, frames=2, models=2, users=1)
    plan, value, transfers = exact_table(instance)
    station = Station(instance)
    best = station.template.scale * (plan.best(value)[0] + station.frames * transfers)
    expected = dict.fromkeys((1, 2), 0.0)  # with frames as long as the law's it is hindsight itself
    for longer, last in itertools.product(expected, range(2)):
        path = np.array([0, last])
        for (p, one), (q, two) in itertools.product(outcomes(instance, 0, longer), outcomes(instance, last, longer)):
            both = {key: np.concatenate([one[key], two[key]], axis=1) for key in one}

            def draw(station, state, number, seed, one=one, two=two, both=both):
                return both if number == 2 * longer else (one if state == 0 else two)  # noqa: B023

            monkeypatch.setattr(relaxation, "draw_requests_in", draw)
            slots = station.slots_of({key: array.reshape(2, -1)[:, :1] for key, array in both.items()})
            chance = plan.transition[0, last] * p * q
            expected[longer] += chance * relaxed_bound(instance, station, slots, path, 0, longer=longer)
    assert expected[1] <= expected[2] + 1e-9 * best
    assert expected[2] <= best * (1 + 1e-9)
    assert expected[1] >= 0.5 * best  # not a bound that holds because it is nothing


def test_student_intervals():
    estimate = Estimate.of([1.0, 2.0, 3.0])
    assert estimate.interval(0.95) == pytest.approx([2 - 2.4841377, 2 + 2.4841377], rel=1e-6)
    assert Estimate.of([5.0]).interval(0.95) is None
    both = estimate.plus(Estimate.of([0.0, 1.0]), -1.0)
    assert both.mean == 1.5 and both.variance == pytest.approx(1 / 3 + 0.25)
    assert both.freedom == pytest.approx((1 / 3 + 0.25) ** 2 / ((1 / 3) ** 2 / 2 + 0.25**2))
