"""Closing the interval by outer approximation: solve the compact program, add tangents at its choice, again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.offloading.arrays import (
    Tangents,
    choice_of,
    compact_program,
    prices_of,
    program_point,
)
from aigc_opt.problems.offloading.choices import total_cost
from aigc_opt.problems.offloading.local_search import descend
from aigc_opt.problems.offloading.prices import reduced_costs
from aigc_opt.problems.offloading.rounding import FINE
from aigc_opt.problems.offloading.tables import Tables
from aigc_opt.solvers import Answer, Highs

FACTORS = (0.4, 0.55, 0.7, 0.85, 1.0, 1.18, 1.4, 1.8, 2.6)
"""Multiples of the given prices at which tangents stand from the beginning."""

FINE_GAP = 1e-5
"""Below this gap HiGHS's default feasibility tolerances would show."""

Seen = Callable[[np.ndarray | None, float | None], None]
"""Is told of each better choice and of each better bound (total cost)."""


@dataclass(frozen=True)
class Closed:
    """What `close` ended with.

    Attributes
    ----------
    choice : ndarray of int, shape (N,)
    bound : float
        Total cost that no choice is below: the one that was given, or a solver's that is better.

    """

    choice: np.ndarray
    bound: float


def close(
    tables: Tables,
    mu: np.ndarray,
    bound: float,
    choice: np.ndarray,
    control: Control,
    gap: float,
    seed: int = 0,
    most_columns: int | None = None,
    mip_seconds: float = math.inf,
    fixing: bool = True,
    seen: Seen = lambda choice, bound: None,
) -> Closed:
    """Alternate between the mixed-integer program and tangents at its choice's prices until the interval is closed.

    Parameters
    ----------
    tables : Tables
    mu : ndarray, shape (E,)
        Prices around which the first tangents stand, and by which options are left out.
    bound : float
        A bound known already (total cost).
    choice : ndarray of int, shape (N,)
        A feasible choice.
    control : Control
    gap : float
        Relative.
    seed : int
    most_columns : int, optional
        Keep only as many columns, of least reduced cost: then nothing is proved, and only the choice may get better.
    mip_seconds : float
        Most for one program; where one is not solved in it, the loop ends.
    fixing : bool
        Leave out columns, and outside options, whose reduced cost at `mu` exceeds the distance from D(mu) to the cost
        of the choice at hand: no better choice has them, so that the program's bound, cut off at that cost, stays
        valid.
    seen : callable

    Returns
    -------
    Closed

    """
    upper = total_cost(tables, choice)
    fresh = True
    unit = float(np.median(mu[mu > 0])) if (mu > 0).any() else 1e-3
    tangents = Tangents().add_around(mu, FACTORS, unit)
    options = dict(FINE) if gap < FINE_GAP else {}
    while upper - bound > gap * abs(upper) and control.stop is None:
        added = tangents.add_all(*prices_of(tables, choice))
        program_of, columns, partial = _kept(tables, mu, choice, upper, fixing, most_columns)
        program = compact_program(program_of, columns, tangents)
        part = control.part(most_s=mip_seconds)
        outcome = Highs(program).solve(
            max(gap * 0.3, 1e-9), part, seed, program_point(tables, columns, tangents, choice), options=options
        )
        if outcome.answer is Answer.INFEASIBLE:  # cannot be, the choice at hand is in it: never made a bound
            break
        if not partial and outcome.bound is not None and outcome.bound > bound:
            # A choice that was left out costs more than `upper`: the optimum is at least the smaller of the two.
            bound = min(outcome.bound, upper)
        moved = False
        if outcome.x is not None:
            new = choice_of(tables, columns, outcome.x)
            moved = tangents.add_all(*prices_of(tables, new)) > 0
            if math.isfinite(total_cost(tables, new)):
                better = descend(tables, new, control.part(most_s=5.0))
                if total_cost(tables, better) < upper - 1e-12 * abs(upper):
                    choice, upper, moved = better, total_cost(tables, better), True
        seen(choice, None if partial else bound)
        if partial and outcome.answer is Answer.OPTIMAL and not moved:
            break
        if outcome.answer is not Answer.OPTIMAL or not (moved or added or fresh):
            break
        fresh = False
    return Closed(choice, bound)


def _kept(
    tables: Tables, mu: np.ndarray, choice: np.ndarray, upper: float, fixing: bool, most_columns: int | None
) -> tuple[Tables, np.ndarray, bool]:
    """Return tables with the outside options that a better choice may have, its columns, and whether more went."""
    if not fixing:
        return tables, np.arange(len(tables.user)), False
    value, extra, outside_extra = reduced_costs(tables, mu)
    room = max(upper - value, 0.0) * (1 + 1e-9) + 1e-9 * abs(upper)
    keep = extra <= room
    keep[choice[choice >= 0]] = True
    partial = False
    if most_columns is not None and keep.sum() > most_columns:
        partial = True
        keep &= extra <= np.partition(extra, most_columns)[most_columns]
        keep[choice[choice >= 0]] = True
    forced = (outside_extra > room) & ~tables.must & (choice >= 0)
    inside = replace(tables, outside_cost=np.where(forced, np.inf, tables.outside_cost))
    return inside, np.flatnonzero(keep), partial


def surviving(tables: Tables, mu: np.ndarray, upper: float) -> int:
    """Return how many columns `close` would keep for a choice of total cost `upper`."""
    value, extra, _ = reduced_costs(tables, mu)
    return int((extra <= upper - value).sum())
