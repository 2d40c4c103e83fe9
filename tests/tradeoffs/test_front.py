"""Fronts: nothing feasible lies below the certified region, and what was found lies on or above it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import aigc_opt
from aigc_opt.errors import InputError
from aigc_opt.problems.problem import problem_of
from aigc_opt.result import Status
from aigc_opt.tradeoffs.front import Front, Solved, front, weighted
from aigc_opt.tradeoffs.limited import epsilon_constraint

CASES = {"deployment-small": "delay", "offloading-small": "quality", "two-timescale-small": "delay"}


@pytest.fixture(scope="module", params=CASES)
def made(request, examples):
    instance = aigc_opt.load(examples / f"{request.param}.json")
    return instance, CASES[request.param], front(instance, CASES[request.param], points=8)


def heuristic_points(instance, term):
    """Criteria of points that other methods find, with weights of their own."""
    problem = problem_of(instance)
    for method, factor in itertools.product(problem.methods, (0.05, 1.0, 20.0)):
        if method in ("exact", "benders", "outer-approximation", "genetic"):
            continue
        other = weighted(instance, dict.fromkeys(problem.terms, 1.0) | {term: factor})
        result = aigc_opt.solve(other, method=method, bound=False, gap=1e-2)
        if result.solution is not None:
            terms = problem.check(instance, result.solution).terms
            yield terms[term], sum(value for name, value in terms.items() if name != term)


def test_no_feasible_point_is_below_the_region(made):
    instance, term, found = made
    points = np.array(list(heuristic_points(instance, term)))
    assert len(points) > 10
    for a, b, bound in found.half_planes:
        assert (points @ [a, b] >= bound - 1e-9 * abs(bound)).all()
    assert (points[:, 1] >= found.lower(points[:, 0]) - 1e-9 * np.abs(points).max()).all()


def test_a_half_plane_moved_by_1e_4_would_be_caught(made):
    """The points found are so close to the boundary that a bound too high by 1e-4 excludes one of them."""
    _, _, found = made
    for a, b, bound in found.half_planes:
        values = found.points @ [a, b]
        assert values.min() >= bound - 1e-9 * abs(bound)
        assert values.min() <= bound * (1 + 1e-4) + 1e-9  # gap asked for


def test_points_are_efficient_and_near_the_region(made):
    _, _, found = made
    points = found.points
    assert (np.diff(points[:, 0]) > 0).all() and (np.diff(points[:, 1]) < 0).all()
    assert len(points) >= 5
    assert (points[:, 1] >= found.lower(points[:, 0]) - 1e-9 * np.abs(points).max()).all()


def test_criteria_are_the_checkers(made):
    instance, term, found = made
    for one in found.solved:
        terms = problem_of(instance).check(instance, one.solution).terms
        assert one.point == pytest.approx((terms[term], sum(terms.values()) - terms[term]), rel=1e-9, abs=1e-9)
        assert np.dot(one.weights, one.point) >= one.lower_bound - 1e-9


def test_hypervolume_is_an_interval(made):
    _, _, found = made
    low, high = found.hypervolume()
    assert 0 < low <= high
    more = found.hypervolume(tuple(found.points.max(axis=0) * 1.5 + 1))
    assert more[0] > low and more[1] > high


def test_a_front_survives_its_file(made, tmp_path):
    _, _, found = made
    found.save(tmp_path / "front.csv")
    again = Front.load(tmp_path / "front.csv")
    assert again.names == found.names
    np.testing.assert_allclose(again.points, found.points)
    np.testing.assert_allclose(again.hypervolume(), found.hypervolume())


def two_points() -> Front:
    """Points (0, 4), (1, 1), (4, 0) of the half-planes x >= 0, y >= 0, x + y >= 2."""
    rows = (((1, 0), 0, (0, 4)), ((0, 1), 0, (4, 0)), ((0.5, 0.5), 1, (1, 1)))
    return Front(("x", "y"), tuple(Solved(weights, bound, point, None) for weights, bound, point in rows), 0.0)


def test_region_knee_and_hypervolume_by_hand():
    found = two_points()
    np.testing.assert_allclose(found.lower([-0.1, 0, 0.5, 1, 2, 3]), [np.inf, 2, 1.5, 1, 0, 0])
    assert found.knee() == 1
    low, high = found.hypervolume()
    assert low == pytest.approx(3 * 3)  # up to (4, 4): only (1, 1) is better than it in both
    assert high == pytest.approx(4 * 4 - 2 * 2 / 2)


def test_front_of_what_there_is_not(examples):
    with pytest.raises(InputError, match="term must be one of"):
        front(examples / "deployment-small.json", "energy")
    with pytest.raises(InputError, match="points must be"):
        front(examples / "deployment-small.json", "delay", points=2)
    with pytest.raises(InputError, match="has no interval"):
        front(examples / "offloading-infeasible.json", "delay")


def test_files_that_are_no_fronts(tmp_path, examples):
    for text in ("", "a,b\n1,2\n", "a,b,weight_first\n1,2,x\n"):
        (tmp_path / "x.csv").write_text(text)
        with pytest.raises(InputError, match="is not the file of a front"):
            Front.load(tmp_path / "x.csv")


def test_epsilon_constraint_agrees_with_the_front(made):
    instance, term, found = made
    others = [name for name in problem_of(instance).terms if name != term]
    middle = found.points[len(found.points) // 2]
    # With one other term limited at what a point of the front has of it, that point keeps the limit.
    one = next(s for s in found.solved if s.point == pytest.approx(tuple(middle)))
    terms = problem_of(instance).check(instance, one.solution).terms
    limited = max(others, key=lambda name: terms[name])
    result = epsilon_constraint(instance, term, {limited: terms[limited] + 1e-9})
    assert result.status in (Status.OPTIMAL, Status.FEASIBLE)
    assert result.terms[limited] <= terms[limited] + 1e-9
    assert result.lower_bound <= terms[term] + 1e-9  # the front's point keeps the limit: no bound may exclude it
    assert result.lower_bound <= result.objective


@pytest.mark.parametrize("name", CASES)
def test_epsilon_constraint_bounds_hold_for_all_points_met(name, examples):
    instance, term = aigc_opt.load(examples / f"{name}.json"), CASES[name]
    problem = problem_of(instance)
    other = next(k for k in problem.terms if k != term)
    best = aigc_opt.solve(instance).terms
    limit = 1.2 * best[other] + 1e-6
    result = epsilon_constraint(instance, term, {other: limit}, gap=1e-4)
    assert result.objective is not None and result.terms[other] <= limit
    for factor in (0.01, 0.1, 0.3, 1, 3, 10, 100):
        varied = weighted(instance, dict.fromkeys(problem.terms, 1.0) | {term: factor})
        point = aigc_opt.solve(varied).solution
        terms = problem.check(instance, point).terms
        if terms[other] <= limit:
            assert terms[term] >= result.lower_bound - 1e-9 * abs(result.lower_bound)


def test_limits_that_cannot_be_kept_are_proved_so(examples):
    instance = aigc_opt.load(examples / "two-timescale-small.json")
    result = epsilon_constraint(instance, "quality", {"delay": 1e-6})
    assert result.status is Status.INFEASIBLE and result.objective is None
    with pytest.raises(InputError, match="limits must name"):
        epsilon_constraint(instance, "quality", {})
    with pytest.raises(InputError, match="must be one of"):
        epsilon_constraint(instance, "quality", {"none": 1.0})
