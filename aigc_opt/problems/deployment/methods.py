"""Methods of the deployment problem: exact by branch and bound, heuristics with a bound beside them, bounds alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from aigc_opt.control import Control
from aigc_opt.errors import SolverError
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.problems.deployment import heuristics
from aigc_opt.problems.deployment.arrays import DeploymentProgram
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.cuts import tightened
from aigc_opt.problems.deployment.feature_aware import CLEARINGS, select
from aigc_opt.problems.deployment.routing import best_routing
from aigc_opt.problems.deployment.solution import DeploymentSolution
from aigc_opt.problems.problem import Found, Task
from aigc_opt.program import LinearProgram
from aigc_opt.result import Proof, gap_of
from aigc_opt.solvers import Answer, Highs

FIRST_SHARE = 0.65
"""Share of the time limit that the exact method spends at most on its starting point and, beside it, its relaxation."""

NEIGHBOURHOOD_SHARE = 0.75
"""Share of the time that is left then, which it spends on neighbourhoods of its best point at most."""

WORTH_PARTS = 400
"""Slots x servers x models from which on the relaxation is tightened and parts are solved first; smaller programs close
sooner as they are."""

PART_S = 8.0
"""Seconds for one neighbourhood at most."""

Place = Callable[[DeploymentInstance, Costs, Control, int], tuple[np.ndarray, np.ndarray]]


def complete(
    instance: DeploymentInstance,
    costs: Costs,
    stored: np.ndarray,
    loaded: np.ndarray,
    control: Control | None = None,
) -> DeploymentSolution | None:
    """Return a placement with its best routing, or None where its loads take more energy than there is."""
    routing = best_routing(instance, costs, loaded, control)
    return None if routing is None else DeploymentSolution(stored, loaded, routing)


def instant_bound(instance: DeploymentInstance, costs: Costs) -> float:
    """Every request its cheapest way, as if all models were loaded everywhere for nothing.

    A lower bound because all other costs are >= 0 and routing under constraints cannot be cheaper. It is the dual
    bound of the multipliers that price each demand at its cheapest way and nothing else; one part in 10^12 is taken off
    for rounding.
    """
    cheapest = float((instance.arrivals.sum(axis=0) * costs.serve.min(axis=2)).sum())
    return cheapest * (1 - 1e-12)


def relaxation_bound(instance: DeploymentInstance, costs: Costs, control: Control) -> float:
    """Bound of the tightened linear relaxation, evaluated from its multipliers (`LinearProgram.dual_bound`)."""
    best = instant_bound(instance, costs)
    control.report("bound: cheapest ways", lower_bound=best)
    if control.stop is None:
        built = DeploymentProgram(instance)
        built.program.warn_of_magnitudes()
        best = max(best, tightened(built, control)[1])
    return best


def bound(task: Task) -> Found:
    """Only a lower bound: the tightened linear relaxation's, as a dual bound."""
    costs = Costs.of(task.instance)
    return Found(None, relaxation_bound(task.instance, costs, task.control), Proof.DUAL, task.control.stop)


def heuristic(place: Place) -> Callable[[Task], Found]:
    """Make a method of a function that places models: route exactly, then bound unless told not to."""

    def method(task: Task) -> Found:
        costs = Costs.of(task.instance)
        placed = place(task.instance, costs, task.control, task.seed)
        solution = complete(task.instance, costs, *placed, task.control)
        limit = task.control.stop
        if solution is not None:
            task.control.report("placement found", objective=task.check(solution).objective)
        if not task.bound:
            return Found(solution, limit=limit)
        best = relaxation_bound(task.instance, costs, task.control)
        return Found(solution, best, Proof.DUAL, limit or task.control.stop)

    method.__doc__ = place.__doc__
    return method


def exact(task: Task) -> Found:
    """Tightened relaxation, then branch and bound by HiGHS on it, started from the feature-aware selection.

    The lower bound is the best of the dual bounds evaluated on the way and HiGHS's; the certificate says which. The
    point is a placement of HiGHS, rounded, with its routing solved again exactly, or the starting one if better.
    """
    instance, control = task.instance, task.control
    costs = Costs.of(instance)
    least = instant_bound(instance, costs)
    control.report("bound: cheapest ways", lower_bound=least)
    best: tuple[float, DeploymentSolution] | None = None

    def offer(stored: np.ndarray, loaded: np.ndarray, event: str) -> bool:
        nonlocal best
        solution = complete(instance, costs, stored, loaded)
        checked = None if solution is None else task.check(solution)
        if checked is None or not checked.feasible or checked.objective is None:
            return False
        if best is not None and checked.objective >= best[0] - 1e-9 * abs(best[0]):
            return False
        best = checked.objective, solution
        control.report(event, objective=checked.objective)
        return True

    offer(*heuristics.cloud_only(instance, costs, control, task.seed), "cloud only")
    started = False
    if task.start is not None and np.shape(task.start.stored) == np.shape(task.start.loaded) == instance.shape:
        started = offer(task.start.stored, task.start.loaded, "starting point")
    size = int(np.prod(instance.shape))
    clearings = min(CLEARINGS, size // (5 if size >= WORTH_PARTS else 20))
    built = DeploymentProgram(instance)
    built.program.warn_of_magnitudes()
    control.report(f"program: {built.program.cost.size} columns, {built.program.row_upper.size} rows")
    # Point and bound do not need each other yet, and HiGHS computes without Python's lock: they share the time.
    first = control.part(FIRST_SHARE)
    with ThreadPoolExecutor(1) as beside:
        tightening = beside.submit(tightened, built, first) if size >= WORTH_PARTS else None
        if not started:  # a placement that was optimal nearby beats what a selection begins with
            offer(*select(instance, costs, first, task.seed, clearings), "feature-aware selection")
        program, dual = tightening.result() if tightening else (built.program, least)
    least = max(least, dual)
    if best is None:
        return Found(None, least, Proof.DUAL, control.stop)
    gap = gap_of(best[0], least)
    if control.stop is not None or (gap is not None and gap <= task.gap):
        return Found(best[1], least, Proof.DUAL, control.stop)

    _search_neighbourhoods(built, program, lambda: best[1], offer, control.part(NEIGHBOURHOOD_SHARE), task)
    gap = gap_of(best[0], least)
    if control.stop is not None or (gap is not None and gap <= task.gap):
        return Found(best[1], least, Proof.DUAL, control.stop)

    outcome = Highs(program).solve(
        task.gap,
        control,
        task.seed,
        start=built.point(best[1]),
        on_point=lambda x: offer(*built.placement(x), "branch and bound: better point"),
        report_bounds=True,
    )
    if outcome.answer not in (Answer.OPTIMAL, Answer.STOPPED):
        raise SolverError(f"HiGHS says {outcome.answer} of a program that has a feasible point")
    if outcome.x is not None:
        offer(*built.placement(outcome.x), "branch and bound: better point")
    proof = Proof.DUAL
    if outcome.bound is not None and outcome.bound > least:
        least, proof = outcome.bound, Proof.SOLVER
        control.report("branch and bound", lower_bound=least)
    limit = None if outcome.answer is Answer.OPTIMAL else (outcome.limit or control.stop)
    return Found(best[1], least, proof, limit)


def _search_neighbourhoods(
    built: DeploymentProgram,
    program: LinearProgram,
    incumbent: Callable[[], DeploymentSolution],
    offer: Callable[[np.ndarray, np.ndarray, str], bool],
    control: Control,
    task: Task,
) -> None:
    """Solve the program with all but a part of the placement fixed to the best point's, part after part.

    Parts are pairs of servers over all slots, and windows of slots at all servers. It ends when no part has helped
    since the last improvement, or with `control`.
    """
    slots, servers, _ = task.instance.shape
    parts: list[tuple[slice | list[int], slice | list[int]]] = [
        (slice(None), [i, j]) for i in range(servers) for j in range(i + 1, servers)
    ]
    width = max(2, slots // 3)
    if slots > width:
        parts += [(slice(start, start + width), slice(None)) for start in range(0, slots - 1, max(1, width // 2))]
    if servers <= 2 or int(np.prod(task.instance.shape)) < WORTH_PARTS:
        return
    order = np.random.default_rng(task.seed).permutation(len(parts))
    solver, idle = Highs(program), 0
    for turn in itertools.count():
        if idle >= len(parts) or control.stop is not None:
            return
        best = incumbent()
        free = np.zeros(task.instance.shape, dtype=bool)
        when, where = parts[order[turn % len(parts)]]
        free[when, where] = True
        columns, values = built.placement_columns(best)
        fixed = ~np.concatenate([free.ravel(), free.ravel()])
        solver.set_column_bounds(columns, np.where(fixed, values, 0.0), np.where(fixed, values, 1.0))
        outcome = solver.solve(max(task.gap, 1e-4), control.part(1.0, PART_S), task.seed, start=built.point(best))
        better = outcome.x is not None and offer(*built.placement(outcome.x), "neighbourhood: better point")
        idle = 0 if better else idle + 1


METHODS: dict[str, Callable[[Task], Found]] = {
    "exact": exact,
    "feature-aware": heuristic(select),
    "popularity": heuristic(heuristics.popularity),
    "static": heuristic(heuristics.static),
    "random": heuristic(heuristics.random),
    "lru": heuristic(heuristics.lru),
    "genetic": heuristic(heuristics.genetic),
    "cloud-only": heuristic(heuristics.cloud_only),
}
