"""The loops of decomposition on functions whose answers are known."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from aigc_opt.control import Control
from aigc_opt.decomposition.alternating import alternate
from aigc_opt.decomposition.benders import Answered, Master, Rows, solve_benders
from aigc_opt.decomposition.lagrangian import SmoothDual, average_points, smooth_ascent
from aigc_opt.errors import SolverError
from aigc_opt.program import INF, ProgramBuilder


def test_alternation_descends_block_by_block():
    """Minimise (x - y)^2 + (x - 3)^2 / 10 by x alone and y alone."""
    blocks = {
        "x": lambda p: ((p[1] + 0.3) / 1.1, p[1]),
        "y": lambda p: (p[0], p[0]),
    }
    end = alternate((0.0, 0.0), lambda p: (p[0] - p[1]) ** 2 + (p[0] - 3) ** 2 / 10, blocks, Control(), rounds=500)
    assert end.point == pytest.approx((3, 3), abs=1e-3)
    costs = [cost for _, cost in end.trace]
    assert costs == sorted(costs, reverse=True)
    assert [name for name, _ in end.trace[:3]] == ["start", "x", "y"]


def test_alternation_keeps_no_block_that_is_worse_or_nothing():
    end = alternate(1.0, lambda p: p, {"worse": lambda p: p + 1, "nothing": lambda p: None}, Control())
    assert (end.point, end.cost, end.rounds) == (1.0, 1.0, 1)


def test_alternation_stops_when_told():
    control = Control()
    control.interrupted = True
    assert alternate(1.0, lambda p: p, {"better": lambda p: p / 2}, control).point == 1.0


def dual(mu: np.ndarray, temperature: float) -> SmoothDual:
    """Of min x - 2 y, x + y >= 1 priced at mu over 0 <= x, y <= 3: a soft minimum over the corners."""
    corners = np.array([[0, 0], [0, 3], [3, 0], [3, 3]], float)
    slack = 1 - corners.sum(axis=1)
    costs = corners @ np.array([1.0, 2.0]) + mu[0] * slack
    weight = np.exp(-(costs - costs.min()) / temperature)
    value = float(costs.min())
    smooth = value - temperature * float(np.log(weight.sum()))
    return SmoothDual(value, smooth, np.array([float(weight @ slack / weight.sum())]))


def test_ascent_finds_the_best_multiplier():
    best = smooth_ascent(dual, np.array([0.01]), Control(), (0.3, 0.03, 0.003))
    assert dual(best, 1e-3).value == pytest.approx(1.0, abs=1e-2)  # the optimum: x = 1, y = 0


def test_ascent_stops_when_told_and_returns_its_start():
    control = Control()
    control.interrupted = True
    assert smooth_ascent(dual, np.array([0.5]), control, (0.1,)).tolist() == [0.5]


def test_part_of_a_control_ends_by_share_or_by_seconds():
    assert Control().part().time_limit is None
    assert Control().part(0.5, most_s=3.0).time_limit == 3.0
    assert Control(10.0).part(0.5).time_limit == pytest.approx(5.0, abs=0.1)
    assert Control(10.0).part(0.5, most_s=1.0).time_limit == 1.0


def facility(opening: np.ndarray, ways: np.ndarray):
    """Of opening sites and sending each customer the cheapest way: master and oracle of the least cost of both.

    For site set y a customer's cost is at least ``way_k - sum_j max(0, way_k - way_j) y_j`` for every k: with k the
    cheapest open site's way it is exact.
    """
    customers, sites = ways.shape
    far = ways.max() * 2
    build = ProgramBuilder()
    opened = build.variable("open", opening, lambda: [(j,) for j in range(sites)], integer=True)
    cost = build.variable("cost", np.ones(customers), lambda: [(i,) for i in range(customers)], upper=INF)
    build.constraint(
        "some", [(np.zeros(sites, int), opened, 1.0)], np.array([float(sites)]), lambda: [()], np.array([1.0])
    )

    def ask(x: np.ndarray, control: Control) -> Answered:
        y = x[opened] > 0.5
        least = np.where(y[None], ways, far).min(axis=1)
        save = np.maximum(0.0, least[:, None] - ways)
        matrix = np.zeros((customers, sites + customers))
        matrix[:, opened], matrix[np.arange(customers), cost] = save, 1.0
        point = np.concatenate([y.astype(float), least])
        return Answered(
            Rows(sp.csr_array(matrix), least, np.full(customers, INF)), float(opening @ y + least.sum()), point
        )

    return build.build(), ask


def every_opening(opening: np.ndarray, ways: np.ndarray) -> float:
    sets = [np.array(y, bool) for y in itertools.product((0, 1), repeat=len(opening)) if any(y)]
    return min(float(opening @ y + ways[:, y].min(axis=1).sum()) for y in sets)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("cuts_at_most", [0, 10_000])
def test_benders_is_enumeration(seed, cuts_at_most):
    """A bound too high by one part in ten thousand would be above the optimum; nothing kept idle changes nothing."""
    rng = np.random.default_rng(seed)
    opening, ways = rng.uniform(1, 6, 7), rng.uniform(0, 10, (9, 7))
    program, ask = facility(opening, ways)
    start = np.r_[np.ones(7), np.zeros(9)]
    least = every_opening(opening, ways)
    master = Master(program, cuts_at_most=cuts_at_most)
    end = solve_benders(master, ask, start, lambda upper: 1e-7 * upper, Control())
    assert end.upper == pytest.approx(least, rel=1e-9)
    assert least * (1 - 1e-6) <= end.lower <= least * (1 + 1e-9)
    uppers, lowers = zip(*end.trace, strict=True)
    assert list(uppers) == sorted(uppers, reverse=True) and list(lowers) == sorted(lowers)
    linear = solve_benders(Master(program, relaxed=True), ask, start, lambda upper: 1e-7, Control(), rounds=30)
    assert linear.lower <= least * (1 + 1e-9)


def test_benders_stops_when_told_and_says_what_it_has():
    program, ask = facility(np.array([1.0, 2.0]), np.array([[1.0, 3.0]]))
    control = Control()
    control.interrupted = True
    end = solve_benders(Master(program), ask, np.array([1.0, 1.0, 0.0]), lambda upper: 0.0, control)
    assert end.upper == 4.0 and end.lower == -INF


def test_benders_ends_where_cuts_stay_violated_within_the_solver_s_tolerance():
    """A solver that is content with points 1e-7 below their rows gives the same one for ever."""
    rng = np.random.default_rng(3)
    opening, ways = rng.uniform(1, 6, 5), rng.uniform(1, 10, (9, 5))
    program, ask = facility(opening, ways)

    class Loose(Master):
        def solve(self, gap, control, start=None):
            x, bound = super().solve(gap, control, start)
            return x - np.r_[np.zeros(5), np.full(9, 1e-7)], bound - 9e-7

    control = Control(20.0)
    end = solve_benders(Loose(program), ask, np.r_[np.ones(5), np.zeros(9)], lambda upper: 0.0, control)
    assert control.stop is None
    assert end.upper == pytest.approx(every_opening(opening, ways))
    assert end.upper - 1e-5 <= end.lower < end.upper


def test_benders_refuses_a_cut_that_is_wrong():
    """Cuts raised by one part in ten thousand put the bound above a point that the oracle gave."""
    rng = np.random.default_rng(3)
    opening, ways = rng.uniform(1, 6, 5), rng.uniform(1, 10, (9, 5))
    program, ask = facility(opening, ways)

    def boasting(x: np.ndarray, control: Control) -> Answered:
        honest = ask(x, control)
        return dataclasses.replace(honest, cuts=dataclasses.replace(honest.cuts, lower=honest.cuts.lower * 1.0001))

    with pytest.raises(SolverError, match="a cut is wrong"):
        solve_benders(Master(program), boasting, np.r_[np.ones(5), np.zeros(9)], lambda upper: 0.0, Control())


@pytest.mark.parametrize("seed", range(4))
def test_averages_of_minimisers_close_a_smooth_dual(seed):
    """Half the squared violation of A x <= b, least over a simplex: its best multipliers are the violations."""
    random = np.random.default_rng(seed)
    rows, side, every = random.normal(0, 1, (3, 4, 5)), random.normal(-1, 0.3, (3, 4)), np.arange(5)

    def best_multipliers(of, points):
        return np.maximum(np.einsum("akm,am->ak", rows[of], points) - side[of], 0.0)

    def dual(of, multipliers):
        costs = np.einsum("akm,ak->am", rows[of], multipliers)
        constant = (multipliers * side[of]).sum(axis=1) + 0.5 * (multipliers**2).sum(axis=1)
        return (every == costs.argmin(axis=1)[:, None]).astype(float), costs.min(axis=1) - constant

    def cost(points):
        return 0.5 * (best_multipliers(np.arange(3), points) ** 2).sum(axis=1)

    start = np.full((3, 5), 0.2)
    found = average_points(best_multipliers, dual, start, 400, Control())
    assert (found.lower <= cost(found.average)).all()
    assert (cost(found.average) - found.lower < 1e-2 * (1 + found.lower)).all()
    assert found.lower == pytest.approx(dual(np.arange(3), found.multipliers)[1])
    others = random.dirichlet(np.ones(5), (200, 3))
    assert all((found.lower <= cost(points) + 1e-12).all() for points in others)
    assert len(average_points(best_multipliers, dual, start, 400, Control(), found.lower - 0.1).met) < 200
