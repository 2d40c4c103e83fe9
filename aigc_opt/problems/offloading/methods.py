"""Methods of the offloading problem: certified ones, the paper's alternation and baselines with a bound beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.offloading import heuristics
from aigc_opt.problems.offloading.alternation import alternating
from aigc_opt.problems.offloading.choices import ON_DEVICE, TURNED_AWAY
from aigc_opt.problems.offloading.decomposition import begin, decompose, infeasible, outer_approximation, prices
from aigc_opt.problems.offloading.heuristics import Point, Points, solution_of_point
from aigc_opt.problems.offloading.rounding import crowded, packing
from aigc_opt.problems.offloading.solution import LOCAL
from aigc_opt.problems.problem import Found, Task
from aigc_opt.result import Proof
from aigc_opt.scip import ScipOutcome, Values, require_scip, solve_with_scip
from aigc_opt.solvers import Answer

BOUND_TOLERANCE = 1e-6
"""Relative accuracy of the dual bound beside a heuristic."""


def heuristic(make: Callable[[Points, Control, int], Point | None]) -> Callable[[Task], Found]:
    """Make a method of a function that makes a point: then bound unless told not to."""

    def method(task: Task) -> Found:
        # Unpruned: a policy may well choose what no optimum does.
        interval, over = begin(task, prune=False)
        if over is not None:
            return over
        tables = interval.tables
        point = make(Points(tables), task.control, task.seed)
        solution = None if point is None else solution_of_point(tables, point)
        if point is not None:
            task.control.report("point found", objective=point.cost)
        limit = task.control.stop
        if point is None and packing(tables, task.control)[0] is Answer.INFEASIBLE:
            return infeasible(crowded(tables, task.control.part(most_s=30.0)), Proof.SOLVER)
        if not task.bound:
            return Found(solution, limit=limit)
        interval, over = begin(task)
        if over is not None:
            return replace(over, solution=solution)
        prices(interval.tables, interval, BOUND_TOLERANCE)
        return replace(interval.found(limit or task.control.stop), solution=solution)

    method.__doc__ = make.__doc__
    return method


def exact(task: Task) -> Found:
    """Solve the formulation as a whole by one solver: SCIP on the Pyomo model, or HiGHS by outer approximation.

    Of SCIP's point only places and steps are taken; shares and times are computed again, exactly.
    """
    if task.solver == "highs":
        return outer_approximation(task)
    require_scip()
    control = task.control
    interval, over = begin(task, prune=False)
    if over is not None:
        return over
    tables = interval.tables

    def news(outcome: ScipOutcome) -> None:
        control.report("SCIP", lower_bound=outcome.bound)

    outcome = solve_with_scip(task.instance, 0.5 * task.gap, control, task.seed, news)
    if outcome.answer is Answer.INFEASIBLE:
        return infeasible(crowded(tables, control.part(most_s=30.0)), Proof.SOLVER)
    point = None if outcome.values is None else _point_of(Points(tables), outcome.values)
    solution = None if point is None else solution_of_point(tables, point)
    return Found(solution, outcome.bound, Proof.NONE if outcome.bound is None else Proof.SOLVER, outcome.limit)


def _point_of(points: Points, values: Values) -> Point | None:
    """Places and steps of a point of the Pyomo model, with exact shares and times."""
    tables = points.tables
    users = {user.name: n for n, user in enumerate(tables.instance.users)}
    places = {LOCAL: ON_DEVICE, **{server.name: i for i, server in enumerate(tables.instance.servers)}}
    steps = {count: s for s, count in enumerate(tables.grid.tolist())}
    place, step = np.full(tables.users, TURNED_AWAY), np.zeros(tables.users, int)
    for (name, index), value in values.items():
        if name == "runs" and value > 0.5:
            user, where, count = index
            place[users[user]], step[users[user]] = places[where], steps[count]
    return points.settle(place, step)


METHODS: dict[str, Callable[[Task], Found]] = {
    "decomposition": decompose,
    "outer-approximation": outer_approximation,
    "exact": exact,
    "alternating": heuristic(alternating),
    "all-local": heuristic(heuristics.all_local),
    "all-best-server": heuristic(heuristics.all_best_server),
    "random": heuristic(heuristics.random),
    "fixed-steps": heuristic(heuristics.fixed_steps),
    "greedy-deadline": heuristic(heuristics.greedy_deadline),
}
