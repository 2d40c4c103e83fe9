"""Shares and prices: optimality conditions, and prices against differences of the objective."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aigc_opt
from aigc_opt.errors import MissingSolverError
from aigc_opt.instance.generate_offloading import generate_offloading
from aigc_opt.instance.offloading import OffloadingInstance
from aigc_opt.problems.offloading import sensitivity
from aigc_opt.problems.offloading.check import check
from aigc_opt.problems.offloading.fixed import find_ipopt, solve_fixed
from aigc_opt.problems.offloading.heuristics import Points, solution_of_point
from aigc_opt.problems.offloading.sensitivity import _indices
from aigc_opt.problems.offloading.shares import batch_costs, divide, set_cost
from aigc_opt.problems.offloading.tables import build_tables
from tests.offloading.tiny import _divide


@given(st.integers(0, 10**6), st.integers(1, 8), st.floats(0.2, 5))
def test_shares_keep_the_optimality_conditions(seed, tasks, room):
    """Stationarity, complementary slackness, feasibility: which for a convex program is optimality."""
    rng = np.random.Generator(np.random.PCG64(seed))
    sigma = rng.exponential(1.0, tasks) * (rng.random(tasks) < 0.9)
    least = rng.exponential(1.0, tasks) + 1e-3
    capacity = float(least.sum() * (1 + room * rng.random()))
    share, price = divide(np.zeros(tasks, int), sigma, least, np.array([capacity]))
    assert (share >= least * (1 - 1e-12)).all() and share.sum() <= capacity * (1 + 1e-12)
    mu = price[0]
    free = share > least * (1 + 1e-9)
    assert sigma[free] ** 2 / share[free] ** 2 == pytest.approx(np.full(free.sum(), mu), rel=1e-8)
    assert (sigma**2 / share**2 <= mu * (1 + 1e-9)).all()
    assert mu == 0 or share.sum() == pytest.approx(capacity, rel=1e-9)
    by_bisection = _divide(tuple(zip((sigma**2).tolist(), least.tolist(), strict=True)), capacity)
    assert set_cost(sigma, least, capacity) == pytest.approx(by_bisection, rel=1e-9, abs=1e-12)


def test_what_does_not_fit_costs_infinity():
    sigma, least = np.array([[1.0, 1.0], [1.0, 0.0]]), np.array([[2.0, 2.0], [2.0, 0.0]])
    assert batch_costs(sigma, least, 3.0).tolist() == [np.inf, pytest.approx(1 / 3)]


def solved(seed: int) -> tuple[OffloadingInstance, object]:
    family = ("deadline-tight", "battery-tight", "compute-tight")[seed % 3]
    instance = generate_offloading(24, 3, family=family, seed=seed)
    return instance, aigc_opt.solve(instance, method="alternating", seed=seed, bound=False).solution


def value(instance: OffloadingInstance, solution, **change) -> float | None:
    """Objective of the solution's places and steps with best times, after adding to some fields."""
    data = instance.to_dict()
    for path, amount in change.items():
        kind, index, *keys = path.split("__")
        item = data[kind][int(index)]
        for key in keys[:-1]:
            item = item[key]
        item[keys[-1]] += amount
    other = OffloadingInstance.from_dict(data)
    tables = build_tables(other, prune=False)
    place, step = _indices(tables, solution)
    point = Points(tables).settle(place, step)
    return None if point is None else check(other, solution_of_point(tables, point)).objective


@pytest.mark.parametrize("seed", range(6))
def test_prices_are_what_one_more_is_worth(seed):
    instance, solution = solved(seed)
    prices, h = sensitivity(instance, solution), 1e-5
    now = value(instance, solution)
    cases = [(prices.server_ghz[i], f"servers__{i}__ghz") for i in range(len(instance.servers))]
    for n, task in enumerate(solution.tasks):
        if task.place == "rejected":
            continue
        cases.append((prices.deadline_s[n], f"users__{n}__max_delay_s"))
        cases.append((prices.battery_j[n], f"users__{n}__battery_j"))
        if task.place == "local":
            cases.append((prices.device_ghz[n], f"users__{n}__device__max_ghz"))
    for price, path in cases:
        up, down = value(instance, solution, **{path: h}), value(instance, solution, **{path: -h})
        slopes = [(now - up) / h] + ([] if down is None else [(down - up) / (2 * h)])
        assert min(abs(slope - price) for slope in slopes) <= 1e-3 * max(price, 1e-3), (path, price, slopes)


def test_prices_of_every_kind_occur_and_fill_a_table():
    seen = set()
    for seed in range(6):
        frame = sensitivity(*solved(seed)).to_frame()
        assert list(frame.columns) == ["resource", "name", "price", "unit"] and (frame["price"] >= 0).all()
        seen |= set(frame.loc[frame["price"] > 0, "resource"])
    assert seen == {"server speed", "deadline", "battery", "device speed"}


def test_interior_point_solver_finds_the_same_times_and_prices():
    try:
        find_ipopt()
    except MissingSolverError:
        pytest.skip("no Ipopt-compatible solver is installed")
    for seed in range(3):
        instance, solution = solved(seed)
        outcome = solve_fixed(instance, solution)
        ours = check(instance, solution).objective
        assert check(instance, outcome.solution).objective == pytest.approx(ours, rel=1e-6)
        prices = sensitivity(instance, solution)
        for i, server in enumerate(instance.servers):
            assert outcome.ghz_price.get(server.name, 0.0) == pytest.approx(prices.server_ghz[i], rel=1e-3, abs=1e-5)


def test_a_missing_interior_point_solver_says_how_to_get_one(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *args, **kwargs: None)
    with pytest.raises(MissingSolverError, match="pip install"):
        find_ipopt()
