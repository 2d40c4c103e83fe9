"""Whole servers: every state and path as by enumeration, the dual below the optimum, and a tree that closes on it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import aigc_opt
from aigc_opt.control import Control
from aigc_opt.instance.generate import generate_deployment
from aigc_opt.problems.deployment import methods, servers
from aigc_opt.problems.deployment.arrays import DeploymentProgram
from aigc_opt.problems.deployment.branch_and_price import ascend, branch, root
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.cuts import tightened
from aigc_opt.problems.deployment.servers import Servers, states_of
from aigc_opt.solvers import Highs
from tests.deployment.tiny import optimum, tiny


def whole(instance) -> Servers:
    return Servers(
        instance, costs := Costs.of(instance), [states_of(instance, costs, j) for j in range(instance.shape[1])]
    )


def random_prices(instance, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Prices of demands up to somewhat above what the cloud costs, and of joules, of which some are 0."""
    random, dual = np.random.default_rng(seed), whole(instance)
    price = dual.cloud * random.uniform(0, 1.2, dual.cloud.shape)
    joules = random.uniform(0, 0.3, instance.shape[:2]) * (random.random(instance.shape[:2]) < 0.5)
    return price, np.where(np.isfinite(Costs.of(instance).energy_j), joules, 0.0)


def relaxed_prices(instance) -> tuple[np.ndarray, np.ndarray]:
    """Prices of the plain relaxation, to begin from."""
    built = DeploymentProgram(instance)
    return built.prices(Highs(built.program.relaxed()).solve().row_duals)


def earned(instance, t: int, j: int, state: tuple[int, ...], price: np.ndarray, joules: float) -> float:
    """Most that what is loaded earns in a slot, by `scipy.optimize.linprog` from the problem's statement."""
    worth, seconds = [], []
    asked = np.argwhere(instance.arrivals > 0)
    for (slot, i, m), p in zip(asked, price, strict=True):
        model = instance.models[m]
        if slot == t and state[m] == 2 and instance.shares[i, j]:
            work = model.latency.base_s + model.latency.per_step_s * model.nominal_steps
            spent = model.energy.base_j + model.energy.per_step_j * model.nominal_steps
            peer = 0.0 if instance.peer_delay_s is None else instance.peer_delay_s[i, j]
            amount = instance.arrivals[t, i, m]
            worth.append(amount * (p - instance.weights.delay * (work + peer) - joules * spent))
            seconds.append(amount * work)
    if not worth:
        return 0.0
    limit = instance.servers[j].gpu_s
    rows = {} if limit is None else {"A_ub": [seconds], "b_ub": [limit]}
    return -linprog(-np.array(worth), bounds=(0, 1), **rows).fun


def paths_of(instance, j: int, price: np.ndarray, joules: np.ndarray) -> dict[tuple[tuple[int, ...], ...], float]:
    """The cost of every path of one server at these prices."""
    server, models, slots = instance.servers[j], instance.models, instance.shape[0]
    states = [
        state
        for state in itertools.product((0, 1, 2), repeat=len(models))
        if sum(m.storage_gb for m, s in zip(models, state, strict=True) if s >= 1) <= server.storage_gb
        and sum(m.gpu_memory_gb for m, s in zip(models, state, strict=True) if s == 2) <= server.gpu_memory_gb
    ]
    gains = {(t, s): earned(instance, t, j, s, price, joules[t, j]) for t in range(slots) for s in states}
    found, weights = {}, instance.weights
    for path in itertools.product(states, repeat=slots):
        before = tuple((instance.initial_stored + instance.initial_loaded)[j].tolist())
        cost = 0.0
        for t, state in enumerate(path):
            cost -= gains[t, state]
            for model, old, new in zip(models, before, state, strict=True):
                if new >= 1:
                    cost += weights.storage * model.storage_gb / server.storage_gb
                    cost += 0.0 if old >= 1 else weights.switching * 8 * model.storage_gb / server.cloud_gbps
                if new == 2:
                    cost += weights.gpu_memory * model.gpu_memory_gb / server.gpu_memory_gb
                    if old < 2:
                        seconds = model.gpu_memory_gb / server.io_gb_per_s + model.warmup_s
                        cost += weights.switching * seconds + joules[t, j] * model.load_j
            before = state
        found[path] = cost
    return found


@pytest.mark.parametrize("seed", range(12))
def test_dual_is_the_least_of_all_paths(seed):
    """Also the least path through each state; what differs by one part in ten thousand is seen."""
    instance = tiny(seed, 2, 2, 2)
    dual, (price, joules) = whole(instance), random_prices(instance, seed)
    priced = dual.evaluate(price, joules, through=True)
    costs, amount = Costs.of(instance), dual.demands.amount
    powered = np.isfinite(costs.energy_j)
    value = (amount * np.minimum(price, dual.cloud)).sum() - (joules[:, powered] * costs.energy_j[powered]).sum()
    price = np.minimum(price, dual.cloud)
    for j, server in enumerate(dual.servers):
        paths = paths_of(instance, j, price, joules)
        least = min(paths.values())
        value += least
        best = tuple(map(tuple, server.states[priced.paths[j]].tolist()))
        assert paths[best] == pytest.approx(least, abs=1e-9 * max(1, abs(least)))
        for t, (row, state) in itertools.product(range(2), enumerate(map(tuple, server.states.tolist()))):
            through = min(cost for path, cost in paths.items() if path[t] == state)
            assert priced.through[j][t, row] == pytest.approx(through - least, abs=1e-8 * max(1, abs(through)))
    assert priced.value == pytest.approx(value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 3, 7, 8, 10, 11])
def test_bounds_of_prices_and_of_the_tree_hold_the_optimum(seed):
    """With a cutoff out of reach the tree may rule out nothing that is better, and has to end at the optimum."""
    instance = tiny(seed, 2, 2, 2, limits=bool(seed % 3))
    dual, least = whole(instance), optimum(instance)
    slack = 1e-9 * max(1.0, abs(least))
    assert dual.evaluate(*random_prices(instance, seed)).value <= least + slack
    columns, node = root(dual, *relaxed_prices(instance))
    node = ascend(columns, node, Control())
    relaxed = Highs(DeploymentProgram(instance).program.relaxed()).solve().objective
    assert relaxed - 1e-4 * max(1.0, abs(relaxed)) <= node.bound <= least + slack
    cutoff = 1.1 * least + 1.0
    found = branch(columns, node, Control(), lambda: cutoff, lambda node, paths: None)
    assert least - 1e-4 * max(1.0, abs(least)) <= found <= least + slack


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_ruled_out_states_only_raise_the_dual(seed):
    instance = tiny(seed, 2, 2, 3)
    dual, random = whole(instance), np.random.default_rng(seed)
    price, joules = random_prices(instance, seed)
    allowed = [random.random((2, len(server.states))) < 0.7 for server in dual.servers]
    free, ruled = dual.evaluate(price, joules), dual.evaluate(price, joules, allowed, through=True)
    assert ruled.value >= free.value
    if ruled.value < np.inf:
        for j, path in enumerate(ruled.paths):
            assert allowed[j][np.arange(2), path].all()
            assert np.isinf(ruled.through[j][~allowed[j]]).all()


def test_too_many_states_are_left_alone(monkeypatch):
    instance = generate_deployment(3, 6, 4, seed=1)
    assert Servers.of(instance, Costs.of(instance)) is not None
    monkeypatch.setattr(servers, "MOST_STATES", 20)
    assert Servers.of(instance, Costs.of(instance)) is None


def test_whole_servers_prove_more_than_inequalities():
    """One part in ten thousand more than there is would be above the optimum, which HiGHS finds."""
    instance = generate_deployment(3, 6, 6, seed=2)
    built, duals = DeploymentProgram(instance), []
    _, bound = tightened(built, Control(), lambda program, x, row_duals: duals.append(row_duals))
    columns, node = root(whole(instance), *built.prices(duals[-1]))
    node = ascend(columns, node, Control())
    best = Highs(built.program).solve(gap=1e-9).objective
    assert bound <= node.bound * (1 + 2e-5)
    assert node.bound <= best * (1 + 1e-9)
    found = branch(columns, node, Control(), lambda: best * (1 - 1e-5), lambda node, paths: None)
    assert found == best * (1 - 1e-5)


def test_exact_closes_by_branch_and_price(monkeypatch):
    monkeypatch.setattr(methods, "WORTH_PARTS", 50)
    instance = generate_deployment(3, 6, 6, seed=2)
    result = aigc_opt.solve(instance, gap=1e-5)
    best = Highs(DeploymentProgram(instance).program).solve(gap=1e-9).objective
    assert result.status == "optimal" and result.proof in ("enumeration", "dual")
    assert result.lower_bound <= best * (1 + 1e-9) and result.objective == pytest.approx(best, rel=1e-5)
    assert result.lower_bound >= result.objective * (1 - 1e-5)
