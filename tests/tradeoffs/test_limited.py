"""Epsilon-constraint against enumeration: the true minimum at every limit that matters lies in the interval."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import aigc_opt
from aigc_opt.instance.generate import generate_two_timescale
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.methods import complete
from aigc_opt.problems.problem import problem_of
from aigc_opt.result import Status
from aigc_opt.tradeoffs.front import weighted
from aigc_opt.tradeoffs.limited import epsilon_constraint
from tests.tradeoffs.test_whatif import tiny_deployment, value_of

TOLERANCE = 1e-7


def of_deployment(examples):
    """Least delay and the cost of memory of every placement; with the placement the routing of least delay is known."""
    instance = tiny_deployment(examples)
    costs, shape = Costs.of(instance), instance.shape
    pairs = []
    for state in itertools.product((0, 1, 2), repeat=int(np.prod(shape))):
        level = np.array(state).reshape(shape)
        solution = complete(instance, costs, (level > 0).astype(np.int8), (level > 1).astype(np.int8))
        checked = None if solution is None else problem_of(instance).check(instance, solution)
        if checked is not None and checked.feasible:
            pairs.append((checked.terms["delay"], checked.terms["gpu_memory"]))
    return instance, "delay", "gpu_memory", pairs


def of_two_timescale(examples):
    """Least loss and the cost of switching of every sequence of caches."""
    process = generate_two_timescale(users=3, models=3, frames=2, slots=2, family="switching", seed=3)
    instance = aigc_opt.sample(process, 1)
    only = weighted(instance, {"delay": 0.0, "quality": 1.0, "switching": 0.0})
    switch = weighted(instance, {"delay": 0.0, "quality": 0.0, "switching": 1.0})
    pairs = []
    for caches in itertools.product(itertools.product((0, 1), repeat=3), repeat=2):
        value = value_of(only, np.array(caches))
        if value is not None:
            pairs.append((value, value_of(switch, np.array(caches))))
    return instance, "quality", "switching", pairs


def of_offloading(examples):
    """Least delay and penalty of every set of users that are rejected: the others alone, who must be served."""
    data = aigc_opt.load(examples / "offloading-small.json").to_dict()
    kind = type(aigc_opt.load(examples / "offloading-small.json"))
    users = [{**user, "rejection_penalty": 1.0 + k} for k, user in enumerate(list(data["users"])[:4])]
    instance = kind.from_dict({**data, "users": users})
    pairs = []
    for rejected in itertools.product((False, True), repeat=4):
        kept = [{**user, "rejection_penalty": None} for user, out in zip(users, rejected, strict=True) if not out]
        penalty = sum(
            user["weight"] * user["rejection_penalty"] for user, out in zip(users, rejected, strict=True) if out
        )
        delay = 0.0
        if kept:
            weights = {name: value if name == "delay" else 0.0 for name, value in data["weights"].items()}
            result = aigc_opt.solve(kind.from_dict({**data, "users": kept, "weights": weights}), gap=1e-9)
            if result.objective is None:
                continue
            delay = result.objective * len(kept)
        pairs.append((delay / len(users), penalty / len(users)))  # the objective is a mean over users
    return instance, "delay", "rejection", pairs


@pytest.mark.parametrize("made", [of_deployment, of_two_timescale, of_offloading], ids=lambda made: made.__name__[3:])
def test_the_interval_holds_the_true_minimum_at_every_limit(made, examples):
    instance, term, other, pairs = made(examples)
    best, limited = np.array(pairs).T
    tight = 0
    limits = np.unique(np.round(limited, 9))
    assert len(limits) >= 3
    for limit in limits[:: max(1, len(limits) // 8)]:
        true = best[limited <= limit + 1e-8].min()
        found = epsilon_constraint(instance, term, {other: float(limit) + 1e-8}, gap=1e-5)
        scale = TOLERANCE * max(1.0, abs(true))
        assert found.lower_bound is None or found.lower_bound <= true + scale
        if found.objective is not None:
            assert found.objective >= true - scale and found.terms[other] <= limit + 1e-8
        if found.status is Status.OPTIMAL:
            assert found.objective == pytest.approx(true, rel=1e-5, abs=scale)
            tight += true > 1e-6
    assert tight >= 1  # a bound too high by 1e-4 would be above a true minimum there
    below = epsilon_constraint(instance, term, {other: float(limits[0]) - 1e-3})
    assert below.status is Status.INFEASIBLE or limits[0] > 0
