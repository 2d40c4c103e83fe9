"""Valid inequalities for what fits together on a disk and in GPU memory: they tighten the linear relaxation.

A capacity row lets the relaxation keep parts of models that together fit, where no whole ones do. The sets of whole
models that fit (packs) are few; the inequality ``sum_m a_m y_m <= b`` with ``b`` the most that any pack reaches is met
by every placement, and the strongest one at a point of the relaxation is found by a small linear program over the packs
(separation over the polar of the knapsack polytope). The coefficients are rounded to whole numbers before `b` is
computed from the packs, so that an inequality holds exactly, whatever the linear program's tolerance.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import scipy.sparse as sp

from aigc_opt.control import Control
from aigc_opt.errors import SolverError
from aigc_opt.problems.deployment.arrays import DeploymentProgram
from aigc_opt.program import INF, Block, LinearProgram, ProgramBuilder
from aigc_opt.solvers import Answer, Highs

MOST_PACKS = 4000
"""Servers with more maximal packs than this get no inequalities: the separation would take too long."""

MOST_MODELS = 200
MOST_VISITS = 400_000
"""The same for more models than this, or a longer search for packs."""

INTERIOR = 1000
"""Columns from which on the relaxation is solved by interior points."""

ROUNDS = 20
LEAST_GAIN = 2e-5
"""A round that raises the relaxation by less than this part of its value is the last one."""

GRID = 840
"""Coefficients are multiples of 1/840 before they are made whole, so that small fractions are exact."""


def maximal_packs(sizes: np.ndarray, capacity: float) -> np.ndarray | None:
    """Return the sets that fit and cannot be enlarged, as rows of 0 and 1; None if they are more than `MOST_PACKS`.

    What the checker's tolerance would accept counts as fitting, so that no accepted point is cut off.
    """
    capacity = capacity + max(1e-6, 1e-6 * capacity)
    if sizes.sum() <= capacity:
        return np.ones((1, len(sizes)))
    if len(sizes) > MOST_MODELS:
        return None
    visits = 0
    order = np.argsort(-sizes, kind="stable")
    ordered = sizes[order]
    found: list[list[int]] = []

    def grow(start: int, chosen: list[int], left: float, smallest_refused: float) -> bool:
        # `smallest_refused`: least size left out so far although it fitted; it must not fit at the end.
        nonlocal visits
        visits += 1
        if start == len(ordered):
            if smallest_refused > left:
                found.append(chosen)
            return len(found) <= MOST_PACKS and visits <= MOST_VISITS
        size = float(ordered[start])
        if size <= left and not grow(start + 1, [*chosen, int(order[start])], left - size, smallest_refused):
            return False
        refused = min(smallest_refused, size)
        # If all that is still to come were taken and the refused one fitted beside it, the set is not maximal.
        return refused <= left - float(ordered[start + 1 :].sum()) or grow(start + 1, chosen, left, refused)

    if not grow(0, [], capacity, INF):
        return None
    packs = np.zeros((len(found), len(sizes)))
    for row, chosen in enumerate(found):
        packs[row, chosen] = 1.0
    return packs


Row = tuple[np.ndarray, np.ndarray, float]
"""Columns, weights and right side of an inequality ``weights @ x[columns] <= limit``."""


class _Pool:
    """Packs of one server's disk or memory, and the inequalities found for it."""

    def __init__(self, columns: np.ndarray, packs: np.ndarray):
        self.columns = columns  # [T, M]
        self.packs = packs
        self.known: list[tuple[np.ndarray, float]] = []
        build = ProgramBuilder()
        weight = build.variable("weight", np.zeros(packs.shape[1]), list)
        rows, models = np.nonzero(packs)
        build.constraint("pack", [(rows, weight[models], 1.0)], np.ones(len(packs)), list)
        self._separation = Highs(build.build())

    def separate(self, values: np.ndarray) -> list[tuple[np.ndarray, float]]:
        """New inequalities ``a @ y <= b`` that the point `values` [T, M] of the relaxation breaks in some slot."""
        found: list[tuple[np.ndarray, float]] = []
        for point in np.unique(np.round(values, 6), axis=0):
            if np.all((point < 1e-6) | (point > 1 - 1e-6)):
                continue
            # A little weight on models that the point does not use makes the inequality cover them as well.
            self._separation.set_costs(-np.maximum(point, 1e-3))
            outcome = self._separation.solve()
            if outcome.answer is not Answer.OPTIMAL or outcome.x is None:
                continue
            whole = np.round(outcome.x * GRID)
            most = float((self.packs @ whole).max())  # sums of whole numbers: exact
            if whole @ point > most + 1e-4 * GRID:
                found.append((whole, most))
        return found

    def rows(self, x: np.ndarray) -> list[Row]:
        """Rows that the point `x` of the relaxation breaks, from old and new inequalities.

        The capacity is the same in all slots, so an inequality found for one slot is tried in all.
        """
        values = x[self.columns]
        self.known += self.separate(values)
        return [
            (self.columns[t], weights, limit)
            for weights, limit in self.known
            for t in np.flatnonzero(values @ weights > limit + 1e-4 * GRID)
        ]


def tightened(
    built: DeploymentProgram,
    control: Control,
    on_point: Callable[[LinearProgram, np.ndarray, np.ndarray], None] | None = None,
    rounds: int = ROUNDS,
) -> tuple[LinearProgram, float]:
    """Add inequalities to an instance's program until its relaxation rises no more.

    Every row that is added holds for every placement, so every bound of the result is one of the instance.

    Parameters
    ----------
    on_point : callable, optional
        Called with each program whose relaxation was solved, that relaxation's point, and its multipliers of the rows.
    rounds : int
        How often inequalities are added at most; 0 = only the plain relaxation.

    Returns
    -------
    program : LinearProgram
        The program with the inequalities as rows ``fits_together``.
    bound : float
        The best dual bound evaluated on the way, -inf if none was.

    Notes
    -----
    Where HiGHS fails (numbers of extreme magnitude), what was proven until then is returned, with a warning.

    """
    last = built.program, -INF
    try:
        for last in _tightenings(built, control, on_point, rounds):  # noqa: B007  the last one counts
            pass
    except SolverError as error:
        warnings.warn(f"the bound of the linear relaxation is left where it was: {error}", stacklevel=2)
    return last


def _tightenings(
    built: DeploymentProgram,
    control: Control,
    on_point: Callable[[LinearProgram, np.ndarray, np.ndarray], None] | None,
    rounds: int,
) -> Iterator[tuple[LinearProgram, float]]:
    """Yield what `tightened` returns, round by round."""
    program = built.program
    solver = Highs(program.relaxed())
    # On large relaxations interior points from nothing take half the time that the simplex method takes from the last
    # basis (which also asks at every step whether to stop, for which it has to wait for Python's lock).
    options = {"solver": "ipm"} if program.cost.size > INTERIOR else {}
    outcome = solver.solve(control=control, options=options)
    if outcome.answer is Answer.UNKNOWN:  # interior points can end without an answer
        options = {"solver": "simplex"}
        outcome = solver.solve(control=control, options=options)
    if outcome.row_duals is None:
        return
    best = program.dual_bound(outcome.row_duals)
    control.report("bound: linear relaxation", lower_bound=best)
    yield program, best
    pools = [
        _Pool(columns, packs)
        for columns, sizes, capacity in built.knapsacks()
        if rounds and control.stop is None and (packs := maximal_packs(sizes, capacity)) is not None
    ]
    for number in range(rounds + 1):
        if outcome.answer is not Answer.OPTIMAL or outcome.x is None:
            break
        if on_point is not None:
            on_point(program, outcome.x, outcome.row_duals)
        if number == rounds:
            break
        rows = [row for pool in pools if control.stop is None for row in pool.rows(outcome.x)]
        if not rows or control.stop is not None:
            break
        program = _with_rows(program, rows)
        solver.add_rows(program.relaxed())
        outcome = solver.solve(control=control, options=options)
        if outcome.row_duals is None:
            break
        before, best = best, max(best, program.dual_bound(outcome.row_duals))
        added = program.row_upper.size - built.program.row_upper.size
        control.report(f"bound: relaxation with {added} inequalities", lower_bound=best)
        yield program, best
        if best - before < LEAST_GAIN * abs(best):
            break


def _with_rows(program: LinearProgram, rows: list[Row]) -> LinearProgram:
    """Return the program with these rows at its end."""
    start = np.concatenate([[0], np.cumsum([len(columns) for columns, _, _ in rows])])
    indices, values = (np.concatenate([row[part] for row in rows]) for part in (0, 1))
    added = sp.csr_array((values, indices, start), shape=(len(rows), program.cost.size))
    added.eliminate_zeros()
    block = Block("fits_together", program.row_upper.size, len(rows), lambda: [(k + 1,) for k in range(len(rows))])
    return dataclasses.replace(
        program,
        matrix=sp.csc_array(sp.vstack([program.matrix, added])),
        row_lower=np.concatenate([program.row_lower, np.full(len(rows), -INF)]),
        row_upper=np.concatenate([program.row_upper, [limit for _, _, limit in rows]]),
        rows=(*program.rows, block),
    )
