"""Methods of the deployment problem: exact by branch and bound, heuristics with a bound beside them, bounds alone."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from aigc_opt.control import Control
from aigc_opt.errors import SolverError
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.problems.deployment import heuristics
from aigc_opt.problems.deployment.arrays import DeploymentProgram
from aigc_opt.problems.deployment.benders import benders
from aigc_opt.problems.deployment.branch_and_price import Columns, Node, ascend, branch, root
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.cuts import tightened
from aigc_opt.problems.deployment.feature_aware import CLEARINGS, select
from aigc_opt.problems.deployment.lagrangian import lagrangian
from aigc_opt.problems.deployment.monolith import monolith
from aigc_opt.problems.deployment.neighbourhoods import PART_S, improve, replanned
from aigc_opt.problems.deployment.routing import complete
from aigc_opt.problems.deployment.servers import Servers
from aigc_opt.problems.deployment.solution import DeploymentSolution
from aigc_opt.problems.problem import Found, Incumbent, Task
from aigc_opt.program import LinearProgram
from aigc_opt.result import Proof, contradicts
from aigc_opt.solvers import Answer, Highs

FIRST_SHARE = 0.65
"""Share of the time limit that the exact method spends at most on tightening its relaxation."""

SELECTION_SHARE = 0.2
"""Share of the time limit that it spends on its starting point at most, beside the relaxation."""

NEIGHBOURHOOD_SHARE = 0.75
"""Share of the time that is left then, which it spends on neighbourhoods of its best point at most."""

WORTH_PARTS = 400
"""Slots x servers x models from which on the relaxation is tightened and parts are solved first; smaller programs close
sooner as they are."""

TOO_LARGE = 2000
"""Slots x servers x models from which on all the time goes to the relaxation and to parts of the program: branch and
bound of the whole does not raise the bound there."""

TREE_SEARCH_SHARE = 0.2
TREE_SEARCH_S = 4 * PART_S
"""The same, and seconds at most, where a tree follows, whose nodes show other neighbourhoods."""

PRICINGS = 60
"""Evaluations of whole servers' dual that there has to be time for, before they are priced."""

NODES_A_SEARCH = 10
"""Nodes of the tree from one search of a part around the best point to the next."""

BEYOND_LINEAR = 8000
"""Slots x servers x models from which on the bound comes from prices (`lagrangian`), not from a linear program."""

Place = Callable[[DeploymentInstance, Costs, Control, int], tuple[np.ndarray, np.ndarray]]


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
    """Tightened relaxation, then branch and price over whole servers, or branch and bound by HiGHS on the relaxation.

    Beyond `BEYOND_LINEAR` the same interval comes from `lagrangian` sooner. Whole servers are priced where the gap is
    still wide and what fits on each of them can be listed (`Servers.of`).

    The lower bound is the best of the dual bounds evaluated on the way, and the tree's or HiGHS's; the certificate says
    which. The point is a placement found in parts of the program, at prices, or by HiGHS, rounded, with its routing
    solved again exactly, or the starting one if better.
    """
    instance, control = task.instance, task.control
    size = int(np.prod(instance.shape))
    if size >= BEYOND_LINEAR:
        return lagrangian(task)
    costs = Costs.of(instance)
    least = instant_bound(instance, costs)
    control.report("bound: cheapest ways", lower_bound=least)
    best = Incumbent(task)

    def offer(stored: np.ndarray, loaded: np.ndarray, event: str) -> bool:
        return best.offer(complete(instance, costs, stored, loaded), event)

    offer(*heuristics.cloud_only(instance, costs, control, task.seed), "cloud only")
    assert best.solution is not None  # the cloud may serve everything
    started = False
    start = task.start
    if isinstance(start, DeploymentSolution) and np.shape(start.stored) == np.shape(start.loaded) == instance.shape:
        started = offer(start.stored, start.loaded, "starting point")
    clearings = min(CLEARINGS, size // (5 if size >= WORTH_PARTS else 20))
    built = DeploymentProgram(instance)
    believed = built.program.within_range()
    control.report(f"program: {built.program.cost.size} columns, {built.program.row_upper.size} rows")
    relaxations: list[tuple[LinearProgram, np.ndarray]] = []
    multipliers: list[np.ndarray] = []
    trees: list[tuple[Columns, Node]] = []
    known = threading.Event()  # there is a relaxation, or there will be none
    priced = threading.Event()  # whole servers have their best prices: a search beside that has to end

    def relaxed() -> tuple[LinearProgram, np.ndarray] | None:
        return relaxations[-1] if relaxations and not priced.is_set() else None

    def keep(program: LinearProgram, x: np.ndarray, row_duals: np.ndarray) -> None:
        relaxations.append((program, built.placement_values(x)))
        multipliers.append(row_duals)
        known.set()

    def cutoff() -> float:
        """Bound from which on the gap is closed, a little above it for rounding."""
        return best.objective - 0.999 * task.gap * abs(best.objective)

    def bounding(within: Control) -> tuple[LinearProgram, float]:
        """Price whole servers from the relaxation's prices on; where they are too large, tighten the relaxation."""
        servers = Servers.of(instance, costs)
        if servers is None:
            return tightened(built, within, keep)
        program, dual = tightened(built, within, keep, 0)
        if not multipliers or within.stop is not None:
            return program, dual
        began = control.elapsed_s
        columns, node = root(servers, *built.prices(multipliers[-1]))
        control.report("bound: whole servers", lower_bound=node.bound)
        if PRICINGS * (control.elapsed_s - began) > within.remaining_s:
            program, dual = tightened(built, within, keep)
            return program, max(dual, node.bound)
        begun = node.bound

        def show(node: Node) -> None:
            if node.bound > begun:  # before that the master has too few columns to show anything
                relaxations.append((program, node.values))
            control.report("bound: whole servers, prices", lower_bound=node.bound)

        node = ascend(columns, node, within, on_node=show)
        trees.append((columns, node))
        priced.set()
        return program, max(dual, node.bound)

    def search(within: Control, seed: int = task.seed) -> None:
        improve(built, relaxed, lambda: best.solution, offer, within, seed, max(task.gap, 1e-4))

    # Point and bound do not need each other at first, and HiGHS computes without Python's lock: they share the time.
    # Branch and bound of a large program would not raise the bound further in any time that is left.
    first = control.part(FIRST_SHARE if size < TOO_LARGE else 1.0)
    program, dual = built.program, least

    def selection(within: Control) -> None:
        if not started:  # a placement that was optimal nearby beats what a selection begins with
            offer(*select(instance, costs, within, task.seed, clearings), "feature-aware selection")

    if size < WORTH_PARTS:
        selection(first)
    else:
        with ThreadPoolExecutor(1) as beside:
            tightening = beside.submit(bounding, first)
            tightening.add_done_callback(lambda _: known.set())
            selection(control.part(SELECTION_SHARE))
            for solution in replanned(instance, costs, best.solution, first, task.seed):
                best.offer(solution, "servers planned anew")
            while control.stop is None and not known.wait(0.1):
                pass
            search(first)
            program, dual = tightening.result()
            priced.clear()
    least = max(least, dual)
    gap = best.gap(least)
    if control.stop is None and (gap is None or gap > task.gap) and size >= WORTH_PARTS:
        search(control.part(TREE_SEARCH_SHARE, TREE_SEARCH_S) if trees else control.part(NEIGHBOURHOOD_SHARE))
        gap = best.gap(least)
    if control.stop is not None or (gap is not None and gap <= task.gap):
        return Found(best.solution, least, Proof.DUAL, control.stop)
    if trees:
        columns, node = trees[-1]
        nodes = 0

        def visit(node: Node, paths: list[np.ndarray]) -> None:
            nonlocal nodes
            nodes += 1
            offer(*columns.servers.placement(paths), "branch and price: better point")
            stored, loaded = np.round(node.values).astype(np.int8)
            offer(stored, loaded, "branch and price: better point")
            relaxations.append((program, node.values))
            if nodes % NODES_A_SEARCH == 0:
                search(control.part(1.0, PART_S), task.seed + nodes)

        found = branch(columns, node, control, cutoff, visit)
        proof = Proof.ENUMERATION if found > least else Proof.DUAL
        return Found(best.solution, max(least, found), proof, control.stop)

    try:
        outcome = Highs(program).solve(
            task.gap,
            control,
            task.seed,
            start=built.point(best.solution),
            on_point=lambda x: offer(*built.placement(x), "branch and bound: better point"),
            report_bounds=believed,
        )
        if outcome.answer not in (Answer.OPTIMAL, Answer.STOPPED):
            raise SolverError(f"HiGHS says {outcome.answer} of a program that has a feasible point")
    except SolverError as error:  # numbers of extreme magnitude
        warnings.warn(f"branch and bound is left out: {error}", stacklevel=2)
        return Found(best.solution, least, Proof.DUAL, control.stop)
    if outcome.x is not None:
        offer(*built.placement(outcome.x), "branch and bound: better point")
    proof = Proof.DUAL
    word = outcome.bound if believed else None
    if word is not None and contradicts(word, best.objective):
        warnings.warn(f"HiGHS's bound of {word} is above a checked point and left out", stacklevel=2)
    elif word is not None and word > least:
        least, proof = word, Proof.SOLVER
        control.report("branch and bound", lower_bound=least)
    limit = None if outcome.answer is Answer.OPTIMAL else (outcome.limit or control.stop)
    return Found(best.solution, least, proof, limit)


METHODS: dict[str, Callable[[Task], Found]] = {
    "exact": exact,
    "lagrangian": lagrangian,
    "benders": benders,
    "monolith": monolith,
    "feature-aware": heuristic(select),
    "popularity": heuristic(heuristics.popularity),
    "static": heuristic(heuristics.static),
    "random": heuristic(heuristics.random),
    "lru": heuristic(heuristics.lru),
    "genetic": heuristic(heuristics.genetic),
    "cloud-only": heuristic(heuristics.cloud_only),
}
