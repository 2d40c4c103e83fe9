"""The default method: prices, a point from them, local search, then exact programs on what is left.

Every number of the interval stands on one of two legs: a point's cost is exact arithmetic on its choice, and the
bound is a Lagrangian one that is evaluated here (`dual`), or a solver's on a relaxation of the problem (`solver`).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from aigc_opt.control import Control
from aigc_opt.instance.offloading import OffloadingInstance
from aigc_opt.problems.offloading.arrays import Tangents, compact_program
from aigc_opt.problems.offloading.choices import OUTSIDE
from aigc_opt.problems.offloading.closing import FACTORS, close, surviving
from aigc_opt.problems.offloading.infeasible import unservable
from aigc_opt.problems.offloading.interval import Interval
from aigc_opt.problems.offloading.local_search import descend
from aigc_opt.problems.offloading.neighbourhoods import search_neighbourhoods
from aigc_opt.problems.offloading.prices import evaluate, first_prices, raise_prices
from aigc_opt.problems.offloading.relaxation import Relaxation, relax
from aigc_opt.problems.offloading.rounding import crowded, packing, repair, round_off
from aigc_opt.problems.offloading.sets import improve
from aigc_opt.problems.offloading.tables import Tables, build_tables, everybody_alone
from aigc_opt.problems.problem import Found, Task
from aigc_opt.program import LinearProgram
from aigc_opt.result import Limit, Proof
from aigc_opt.solvers import Answer

TABLES_SHARE = 0.3
"""Share of the time for making tables: as much goes by until they are put together, and prices first evaluated."""

FEW_TASKS = 8
"""Up to so many tasks a server, sets of tasks bound and choose better than the whole program."""

MANY_COLUMNS = 400
"""With no more columns than this left the whole program is solved at once."""

ENTRIES_PER_SECOND = 20_000
"""A program of more entries for each second left is not tried: HiGHS would spend the time in presolve."""

DRAWS, DRAWS_LARGE = 8, 2
"""Random roundings, and how many where there are more than `LARGE` columns."""

LARGE = 50_000


def infeasible(lines: tuple[str, ...], proof: Proof) -> Found:
    """Return the result of a method that proved that there is no point."""
    return Found(None, None, proof, None, lines)


def begin(task: Task, prune: bool = True) -> tuple[Interval, Found | None]:
    """Return an interval about which nothing is known yet, and what a method gives where that is all there is.

    Where the tables were not done in their share of the time that is the point with everybody outside the servers, if
    there is one, and each user's cheapest way with the fastest server and the best channel to themselves.
    """
    tables = build_tables(task.instance, task.control.part(TABLES_SHARE), prune)
    interval = Interval(tables, task.control, task.gap)
    if tables.stopped is not None:
        interval.offer("outside options", np.full(tables.users, OUTSIDE))
        interval.offer("everybody alone", bound=everybody_alone(tables))
        return interval, interval.found(tables.stopped)
    stuck = unservable(tables)
    return interval, infeasible(stuck, Proof.ENUMERATION) if stuck else None


def prices(tables: Tables, interval: Interval, tolerance: float) -> Relaxation:
    """Best prices, by ascent and then by the linear program; their bound is offered to the interval."""
    control = interval.control
    if not len(tables.user):  # nobody gains from a server: prices are 0
        nothing, value = np.zeros(0, int), evaluate(tables, np.zeros(tables.servers)).value
        interval.offer("outside options", bound=value)
        return Relaxation(np.zeros(tables.servers), value, nothing, np.zeros(0), 0)
    part = control.part(0.15, most_s=9.0)
    mu, value = raise_prices(tables, first_prices(tables, part), part)
    interval.offer("prices", bound=value)
    relaxed = relax(tables, mu, control.part(0.4, most_s=120.0), tolerance)
    interval.offer("linear relaxation", bound=relaxed.value)
    return relaxed


def first_point(tables: Tables, interval: Interval, relaxed: Relaxation, rng: np.random.Generator) -> Found | None:
    """Offer points that are rounded from the relaxation and improved; return a proof if there is no point."""
    control = interval.control
    start = repair(tables, round_off(tables, relaxed.columns, relaxed.fraction))
    if start is None:
        answer, start = packing(tables, control)
        if answer is Answer.INFEASIBLE:
            return infeasible(crowded(tables, control.part(most_s=30.0)), Proof.SOLVER)
        if start is None:
            return None
    interval.offer("rounding", start)
    interval.offer("local search", descend(tables, start, control))
    for _ in range(DRAWS if len(tables.user) < LARGE else DRAWS_LARGE):
        if interval.finished:
            break
        start = repair(tables, round_off(tables, relaxed.columns, relaxed.fraction, rng))
        if start is not None:
            interval.offer("random rounding, local search", descend(tables, start, control))
    return None


def decompose(task: Task) -> Found:
    """Price decomposition, closed by branching.

    Prices of servers' speed separate the users, whose best places and steps are closed form; any prices prove a bound.
    The relaxation that the best prices solve has few users who mix places, so rounding and local search with exact
    shares come close. What is left is closed by sets of tasks where servers hold few, and otherwise by the compact
    program over the columns that reduced costs leave.
    """
    interval, over = begin(task)
    if over is not None:
        return over
    control, tables, rng = task.control, interval.tables, np.random.Generator(np.random.PCG64(task.seed))
    if not len(tables.user):
        # Nobody gains from a server: each user's best option outside is the optimum.
        interval.offer("outside options", np.full(tables.users, OUTSIDE))
        interval.offer("outside options", bound=interval.upper, proof=Proof.ENUMERATION)
        return interval.found()
    relaxed = prices(tables, interval, min(1e-6, 0.1 * task.gap))
    if (proved := first_point(tables, interval, relaxed, rng)) is not None:
        return proved
    if interval.choice is not None and not interval.finished:
        _narrow(task, tables, interval, relaxed, rng)
    limit = None
    if interval.choice is not None and not interval.finished:
        if _fits(tables, relaxed, interval):
            _close(task, tables, interval, relaxed)
        else:
            limit = Limit.TIME
    return interval.found(None if interval.closed else control.stop or limit)


def _narrow(task: Task, tables: Tables, interval: Interval, relaxed: Relaxation, rng: np.random.Generator) -> None:
    """Better points, and where servers hold few tasks a better bound, before the whole program is tried."""
    control = interval.control
    assert interval.choice is not None
    if surviving(tables, relaxed.mu, interval.upper) <= MANY_COLUMNS:
        return
    tasks_a_server = (interval.choice >= 0).sum() / tables.servers
    if tasks_a_server <= FEW_TASKS and tables.servers > 3:
        improve(
            tables, relaxed.mu, interval.bound, interval.choice, control.part(0.85, most_s=300.0), task.gap,
            task.seed, seen=lambda choice, bound: interval.offer("sets of tasks", choice, bound),
        )  # fmt: skip
        return
    closed = close(
        tables, relaxed.mu, relaxed.value, interval.choice, control.part(0.1, most_s=10.0), task.gap, task.seed,
        most_columns=max(600, 2 * tables.users), mip_seconds=5.0,
        seen=lambda choice, bound: interval.offer("few columns", choice),
    )  # fmt: skip
    interval.offer("few columns", closed.choice)
    if interval.finished:
        return
    share = 0.15 if _fits(tables, relaxed, interval, 0.3) else 1.0
    search_neighbourhoods(
        tables, relaxed.mu, interval.bound, interval.choice, control.part(share, most_s=300.0), task.gap, rng,
        size=8 if tables.servers > 12 else 3,
        seen=lambda choice: interval.offer("neighbourhood", choice),
    )  # fmt: skip


def _fits(tables: Tables, relaxed: Relaxation, interval: Interval, part: float = 1.0) -> bool:
    """Whether HiGHS can digest the program over the columns that are left in (a part of) the time that is left."""
    left = interval.control.remaining_s
    entries = surviving(tables, relaxed.mu, interval.upper) * (len(FACTORS) + 3)
    return math.isinf(left) or entries <= part * ENTRIES_PER_SECOND * left


def _close(task: Task, tables: Tables, interval: Interval, relaxed: Relaxation) -> None:
    """Close the interval by the compact program over what reduced costs leave."""
    assert interval.choice is not None
    close(
        tables, relaxed.mu, interval.bound, interval.choice, interval.control, task.gap, task.seed,
        seen=lambda choice, bound: interval.offer("compact program", choice, bound, Proof.SOLVER),
    )  # fmt: skip


def outer_approximation(task: Task) -> Found:
    """Outer approximation by HiGHS alone, over all columns, with tangents added until the interval closes.

    It starts from tangents around one common price and from packed minimum shares, and uses neither the decomposition's
    prices nor its fixing: what it proves, it proves by itself.
    """
    interval, over = begin(task)
    if over is not None:
        return over
    control, tables = task.control, interval.tables
    mu = first_prices(tables, control)
    interval.offer("one common price", bound=evaluate(tables, mu).value)
    answer, start = packing(tables, control)
    if answer is Answer.INFEASIBLE:
        return infeasible(crowded(tables, control.part(most_s=30.0)), Proof.SOLVER)
    if start is None:
        return interval.found(control.stop)
    interval.offer("packing, local search", descend(tables, start, control))
    if interval.choice is not None and not interval.finished:
        close(
            tables, mu, interval.bound, interval.choice, control, task.gap, task.seed, fixing=False,
            seen=lambda choice, bound: interval.offer("outer approximation", choice, bound, Proof.SOLVER),
        )  # fmt: skip
    return interval.found(None if interval.closed else control.stop)


def bound(task: Task) -> Found:
    """Only a lower bound: D at the best prices."""
    interval, over = begin(task)
    if over is not None:
        return replace(over, solution=None)
    prices(interval.tables, interval, 1e-9)
    return interval.found(task.control.stop)


def relaxed_program(instance: OffloadingInstance) -> LinearProgram:
    """Return the compact program over all columns with tangents around the best prices, for export.

    Its optimum is a lower bound; the formulation itself, with its cones, is the Pyomo model.
    """
    tables = build_tables(instance)
    relaxed = prices(tables, Interval(tables, Control(), 0.0), 1e-6)
    tangents = Tangents().add_around(relaxed.mu, FACTORS, 1e-3)
    program = compact_program(tables, np.arange(len(tables.user)), tangents)
    return replace(program, cost=program.cost * tables.unit, offset=program.offset * tables.unit)
