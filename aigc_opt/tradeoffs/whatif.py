"""What if: the best different decisions near the optimum, and what more of each capacity is worth."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from aigc_opt.api import solve
from aigc_opt.control import Control
from aigc_opt.errors import InputError, SolverError
from aigc_opt.instance.base import Instance
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.instance.files import loaded
from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.problems.problem import problem_of
from aigc_opt.program import LinearProgram
from aigc_opt.result import Solution
from aigc_opt.tradeoffs.paths import Varied, number_at, parse_path

if TYPE_CHECKING:
    import pandas as pd

ENTRIES_AT_MOST = 20_000
"""Pairs of frame and cache near the optimum that are solved exactly, at most."""


@dataclass(frozen=True)
class Alternative:
    """A decision near the optimum: its value, a bound, and how far it is from the best one.

    Attributes
    ----------
    objective : float
        Value of `solution`, as the checker has it.
    lower_bound : float
        No decision that differs from all those before it in the list costs less.
    changes : int
        Entries of the placement, or of the caches, that differ from the first one's.

    """

    objective: float
    lower_bound: float
    changes: int
    solution: Solution


def alternatives(
    instance: Instance | str | os.PathLike[str],
    number: int = 5,
    within: float = 0.05,
    gap: float = 1e-4,
    time_limit: float | None = None,
) -> list[Alternative]:
    """Find the best different placements (deployment) or sequences of caches (two timescales) near the optimum.

    Parameters
    ----------
    instance : Instance or path
    number : int
        How many, at most.
    within : float
        Relative distance from the best one's objective beyond which an alternative is of no interest.
    gap : float
        Relative gap to which each one is solved.
    time_limit : float, optional
        Wall seconds for all; what is found by then is returned.

    Returns
    -------
    list of Alternative
        The best first, each different from those before; `Alternative.lower_bound` of the last one tells how much
        better one that is not listed could be.

    Raises
    ------
    InputError
        If the problem is offloading, whose tasks have no placement, an argument is out of range, or the episode has too
        many caches to list.

    Notes
    -----
    Deployment: a row ``sum over chosen (1 - x) + sum over others x >= 1`` excludes exactly one placement (a no-good
    cut), so that each program's bound holds for all placements not yet listed. Two timescales: every cache of every
    frame has a lower bound, and those on no sequence within the limit are dropped by it; of the others the exact
    values are known, and dynamic programming that keeps the best few sequences at every cache lists them in order.

    """
    instance = loaded(instance)
    problem_of(instance)
    faults = []
    if instance.problem not in _LISTS:
        faults.append(f"alternatives are listed for {' and '.join(_LISTS)}, not for {instance.problem}")
    if type(number) is not int or number < 1:
        faults.append(f"number must be an integer >= 1, got {number!r}")
    if not 0 <= within < np.inf:
        faults.append(f"within must be a finite number >= 0, got {within!r}")
    if faults:
        raise InputError("alternatives", faults)
    control = Control(time_limit)
    found: list[Alternative] = []
    first: np.ndarray | None = None
    with control.catching_interrupts():
        for decided, solution, lower in _LISTS[instance.problem](instance, number, within, gap, control):
            checked = problem_of(instance).check(instance, solution)
            if not checked.feasible or checked.objective is None:
                raise SolverError("the checker refuses an alternative")
            if found and checked.objective > found[0].objective + within * abs(found[0].objective):
                break
            first = decided if first is None else first
            changes = int((decided != first).sum())
            found.append(Alternative(checked.objective, min(lower, checked.objective), changes, solution))
            if len(found) == number or control.stop is not None:
                break
    return found


def _placements(
    instance: DeploymentInstance, number: int, within: float, gap: float, control: Control
) -> Iterator[tuple[np.ndarray, Solution, float]]:
    """Yield placements of deployment, the best first, each with a bound of all that were not listed before."""
    from aigc_opt.problems.deployment.arrays import DeploymentProgram
    from aigc_opt.problems.deployment.costs import Costs
    from aigc_opt.problems.deployment.routing import complete
    from aigc_opt.problems.deployment.solution import DeploymentSolution
    from aigc_opt.solvers import Highs

    best = solve(instance, gap=gap, time_limit=None if control.time_limit is None else control.remaining_s)
    point = best.solution
    if not isinstance(point, DeploymentSolution) or best.lower_bound is None:
        return
    built, costs = DeploymentProgram(instance), Costs.of(instance)
    program, placed = built.program, np.concatenate([point.stored.ravel(), point.loaded.ravel()])
    columns = built.placement_columns(point)[0]
    yield placed, point, best.lower_bound
    if not program.within_range():
        return
    while control.stop is None:
        program = _without(program, columns, placed)
        outcome = Highs(program).solve(gap, control)
        if outcome.x is None or outcome.bound is None:
            return
        stored, loaded = built.placement(outcome.x)
        solution = complete(instance, costs, stored, loaded)
        if solution is None:
            return
        placed = np.concatenate([stored.ravel(), loaded.ravel()])
        yield placed, solution, outcome.bound


def _without(program: LinearProgram, columns: np.ndarray, placed: np.ndarray) -> LinearProgram:
    """Return the program with a no-good cut: some entry of `columns` differs from `placed` (0 or 1 each)."""
    row = sp.csc_array(
        (np.where(placed > 0, -1.0, 1.0), (np.zeros(len(columns), int), columns)), shape=(1, program.cost.size)
    )
    return replace(
        program,
        matrix=sp.csc_array(sp.vstack([program.matrix, row])),
        row_lower=np.append(program.row_lower, 1.0 - placed.sum()),
        row_upper=np.append(program.row_upper, np.inf),
        rows=(),
    )


def _caches(
    instance: TwoTimescaleInstance, number: int, within: float, gap: float, control: Control
) -> Iterator[tuple[np.ndarray, Solution, float]]:
    """Yield sequences of caches of an episode, the best first, as far as all of them can be listed."""
    from aigc_opt.problems.problem import Task
    from aigc_opt.problems.two_timescale.check import check
    from aigc_opt.problems.two_timescale.enumeration import Paths, feasible_caches, slot_bounds
    from aigc_opt.problems.two_timescale.frames import switching_cost
    from aigc_opt.problems.two_timescale.methods import ENUMERATED_CACHES, Work

    task = Task(instance, control, gap, 0, "highs", True, check=lambda solution: check(instance, solution))
    work = Work(task)
    e = work.episode
    caches = feasible_caches(e, ENUMERATED_CACHES)
    if caches is None:
        raise InputError(instance.name, [f"has more than {ENUMERATED_CACHES} caches that fit: they are not listed"])
    lower = slot_bounds(work.frames, caches, control)
    if lower is None:
        return
    paths = Paths(e, caches)
    through, path, _ = paths.through(lower)
    every = np.arange(e.frames)
    value, _ = work.frames.exact(every, caches[path], 0.1 * gap, control)
    upper = float(value.sum()) + switching_cost(e, caches[path])
    limit = upper + within * abs(upper + work.transfers.cost)
    at = np.nonzero(through <= limit)
    if len(at[0]) > ENTRIES_AT_MOST:
        words = f"{len(at[0])} pairs of frame and cache lie within {100 * within:g}%, more than {ENTRIES_AT_MOST}"
        raise InputError(instance.name, [f"{words}: ask for less"])
    exact, below = np.full(lower.shape, np.inf), np.full(lower.shape, np.inf)
    exact[at], below[at] = work.frames.exact(at[0], caches[at[1]], 0.1 * gap, control)
    if control.stop is not None:
        return
    known = np.isfinite(exact)
    slack = float(np.subtract(exact, below, out=np.zeros(exact.shape), where=known).max(axis=1).sum())
    for total, chosen in paths.best(exact, number):
        if not np.isfinite(total):
            return
        bound = work.bound_of(total - slack)
        assert bound is not None  # the total is finite
        yield caches[chosen].ravel(), work.solution(caches[chosen]), bound


_LISTS: dict[str, Callable[..., Iterator[tuple[np.ndarray, Solution, float]]]] = {
    "deployment": _placements,
    "two_timescale": _caches,
}


# ------------------------------------------------------------------------------------------------ what more is worth


CAPACITIES = {
    "deployment": ("servers[*].storage_gb", "servers[*].gpu_memory_gb", "servers[*].gpu_s", "servers[*].energy_j"),
    "offloading": ("servers[*].ghz",),
    "two_timescale": (
        "edge.storage_gb", "edge.steps_per_slot", "edge.uplink_mhz", "edge.downlink_mhz", "edge.backhaul_mbps",
    ),
}  # fmt: skip
"""Paths of what is limited; ``[*]`` = each of the list."""


def capacity_paths(instance: Instance) -> list[str]:
    """Return the paths of an instance's capacities, without those that have no limit or are 0."""
    data, paths = instance.to_dict(), []
    for pattern in CAPACITIES[instance.problem]:
        head, star, tail = pattern.partition("[*]")
        several = [f"{head}[{k}]{tail}" for k in range(len(data[head]))] if star else [pattern]
        paths += [path for path in several if number_at(data, parse_path(path))]
    return paths


def value_of_capacity(
    instance: Instance | str | os.PathLike[str],
    paths: Iterable[str] | None = None,
    more: float = 0.1,
    gap: float = 1e-4,
    time_limit: float | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> pd.DataFrame:
    """Solve again with a part more of each capacity: how much the optimum falls, as a proven interval.

    With optima in [L, U] before and [L', U'] after, the fall is in [L - U', U - L'], whatever the number stands for.

    Parameters
    ----------
    instance : Instance or path
    paths : iterable of str, optional
        Numbers of the file; by default all capacities of the problem that are limited.
    more : float
        Relative increase, > 0.
    gap, time_limit
        As for `solve`, for each.
    progress : callable, optional
        Called with solves done, solves in all, and seconds so far.

    Returns
    -------
    DataFrame
        One row a path: ``capacity``, ``more``, ``fall_at_least``, ``fall_at_most``, and the latter two for one unit.
        On Ctrl-C the rows that are done.

    Raises
    ------
    InputError
        If a path leads to no number > 0, `more` is not > 0, or the instance has no interval.

    """
    import pandas as pd

    instance = loaded(instance)
    problem_of(instance)
    if not 0 < more < np.inf:
        raise InputError("more", [f"must be a finite number > 0, got {more!r}"])
    paths = capacity_paths(instance) if paths is None else list(paths)
    data = instance.to_dict()
    now = {path: number_at(data, parse_path(path)) or 0.0 for path in paths}
    wrong = [path for path, value in now.items() if value <= 0]
    if wrong:
        raise InputError("paths", [f"{path} must lead to a number > 0" for path in wrong])
    control = Control()

    def interval(of: Instance, start: Solution | None) -> tuple[float, float, Solution | None]:
        usable = problem_of(of).default_method in problem_of(of).starts
        result = solve(of, gap=gap, time_limit=time_limit, start=start if usable else None)
        if result.objective is None or result.lower_bound is None:
            raise InputError(of.name, ["has no interval: infeasible, or stopped too early"])
        return result.lower_bound, result.objective, result.solution

    rows = []
    with control.catching_interrupts():
        lower, upper, start = interval(instance, None)
        for done, path in enumerate(paths):
            if control.interrupted:
                break
            if progress is not None:
                progress(done + 1, len(paths) + 1, control.elapsed_s)
            raised = now[path] * (1 + more)
            new_lower, new_upper, _ = interval(Varied(instance, {path: (raised,)}).at((raised,)), start)
            least, most = lower - new_upper, upper - new_lower
            added = raised - now[path]
            rows.append((path, now[path], added, least, most, least / added, most / added))
    columns = ["path", "capacity", "more", "fall_at_least", "fall_at_most", "per_unit_at_least", "per_unit_at_most"]
    return pd.DataFrame(rows, columns=columns).set_index("path")
