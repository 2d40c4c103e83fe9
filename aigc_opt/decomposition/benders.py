"""Benders' decomposition: a master program in HiGHS, and an oracle that answers its points with cuts and costs.

The loop knows nothing of a problem. What it relies on, and whoever calls it has to prove, is that every row that the
oracle returns holds at some optimal point of the problem (with the columns that stand for costs at their true values);
then the master is a relaxation, and its bound is one of the problem's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aigc_opt.control import Control
from aigc_opt.errors import SolverError
from aigc_opt.program import INF, Block, LinearProgram
from aigc_opt.solvers import Answer, Highs, Outcome

if TYPE_CHECKING:
    import scipy.sparse as sp

IDLE_ROUNDS = 6
"""A cut that was slack in so many rounds on end may be dropped."""

CUTS_AT_MOST = 20_000
"""Idle cuts are dropped once there are more than this many."""

VIOLATED = 1e-9
"""A row says something new where it is violated by more than this, relative to its side."""

CONTRADICTION = 1e-5
"""A bound above a feasible point's cost by more than this (relative) is no rounding."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Cuts of a master with n columns: ``lower <= matrix @ x <= upper``.

    Attributes
    ----------
    matrix : scipy.sparse.csr_array, shape (r, n)
    lower, upper : ndarray, shape (r,)

    """

    matrix: sp.csr_array
    lower: np.ndarray
    upper: np.ndarray

    @classmethod
    def joined(cls, parts: list[Rows]) -> Rows:
        """Stack cuts of one master."""
        import scipy.sparse as sp  # here: as in `program`

        matrix = sp.csr_array(sp.vstack([part.matrix for part in parts]))
        return cls(matrix, np.concatenate([p.lower for p in parts]), np.concatenate([p.upper for p in parts]))

    def violated(self, x: np.ndarray) -> np.ndarray:
        """Which rows a point violates, shape (r,)."""
        value = self.matrix @ x
        low = value < self.lower - VIOLATED * (1 + np.where(np.isfinite(self.lower), abs(self.lower), 0.0))
        return low | (value > self.upper + VIOLATED * (1 + np.where(np.isfinite(self.upper), abs(self.upper), 0.0)))


@dataclass(frozen=True, eq=False)
class Answered:
    """What the oracle says to a point of the master.

    Attributes
    ----------
    cuts : Rows
    cost : float
        Cost of a feasible point, in the scale of the master's objective: the point that was asked about, or another
        one made of it; inf where there is none.
    x : ndarray or None, shape (n,)
        That feasible point in the master's columns (costs at their values): the master starts from it.

    """

    cuts: Rows
    cost: float = INF
    x: np.ndarray | None = None


Oracle = Callable[[np.ndarray, Control], Answered]
"""(point of the master (n,), control) -> what it costs. When `control` says stop it returns what it has."""


class Master:
    """A program in HiGHS that grows by cuts.

    Parameters
    ----------
    program : LinearProgram
        Its rows are never dropped.
    relaxed : bool
        Whether integer columns may be fractional.
    cuts_at_most : int
        See `forget`.

    """

    def __init__(self, program: LinearProgram, relaxed: bool = False, cuts_at_most: int = CUTS_AT_MOST):
        self.whole = program
        self.program = program.relaxed() if relaxed else program
        self.own_rows, self.cuts_at_most = program.row_upper.size, cuts_at_most
        self.relaxed = not self.program.integer.any()
        self.idle = np.zeros(0, int)
        self.outcome: Outcome | None = None
        self._solver = Highs(self.program)

    @property
    def cuts(self) -> Rows:
        """All cuts that it holds."""
        p, first = self.program, self.own_rows
        return Rows(p.matrix.tocsr()[first:], p.row_lower[first:], p.row_upper[first:])

    def add(self, cuts: Rows) -> None:
        """Add cuts; the basis is kept."""
        if len(cuts.lower):
            self.program = self._with(self.program, cuts)
            self.idle = np.concatenate([self.idle, np.zeros(len(cuts.lower), int)])
            self._solver.add_rows(self.program)

    @staticmethod
    def _with(program: LinearProgram, cuts: Rows) -> LinearProgram:
        import scipy.sparse as sp  # here: as in `program`

        start, number = program.row_upper.size, len(cuts.lower)
        return dataclasses.replace(
            program,
            matrix=sp.csc_array(sp.vstack([program.matrix, cuts.matrix])),
            row_lower=np.concatenate([program.row_lower, cuts.lower]),
            row_upper=np.concatenate([program.row_upper, cuts.upper]),
            rows=(*program.rows, Block("cut", start, number, lambda: [(i,) for i in range(number)])),
        )

    def forget(self) -> int:
        """Drop cuts that have been slack for `IDLE_ROUNDS`, if there are more than `cuts_at_most`; how many."""
        drop = self.idle >= IDLE_ROUNDS
        if len(self.idle) <= self.cuts_at_most or not drop.any():
            return 0
        cuts = self.cuts
        kept = Rows(cuts.matrix[np.flatnonzero(~drop)], cuts.lower[~drop], cuts.upper[~drop])
        base = self.whole.relaxed() if self.relaxed else self.whole
        self.program, self.idle = self._with(base, kept), self.idle[~drop]
        self._solver = Highs(self.program)
        return int(drop.sum())

    def solve(self, gap: float, control: Control, start: np.ndarray | None = None) -> tuple[np.ndarray | None, float]:
        """Solve it: its point, or None, and a lower bound of its optimum.

        Of a linear master the bound is that of its multipliers, evaluated here (`LinearProgram.dual_bound`); of an
        integer one it is the word of HiGHS.

        Raises
        ------
        SolverError
            If the master has no feasible point: then a cut was wrong, or the problem has none.

        """
        if start is not None and (self.relaxed or self.cuts.violated(start).any()):
            start = None
        self.outcome = outcome = self._solver.solve(gap=gap, control=control, start=start)
        if outcome.answer is Answer.INFEASIBLE:
            raise SolverError("the master of Benders' decomposition has no feasible point")
        if self.relaxed:
            bound = -INF if outcome.row_duals is None else self.program.dual_bound(outcome.row_duals)
        else:
            bound = -INF if outcome.bound is None else outcome.bound
        if outcome.x is not None and len(self.idle):
            value = self.cuts.matrix @ outcome.x
            tight = np.minimum(value - self.cuts.lower, self.cuts.upper - value) <= 1e-6 * (1 + abs(value))
            self.idle = np.where(tight, 0, self.idle + 1)
        return outcome.x, bound


@dataclass(frozen=True, eq=False)
class Ended:
    """Where the loop ended.

    Attributes
    ----------
    x : ndarray or None
        The best feasible point in the master's columns, as the oracle gave it.
    upper, lower : float
        Its cost, and a lower bound; inf and -inf where there is none.
    trace : tuple of (float, float)
        Both after each answer of the oracle: the first never rises, the second never falls.

    """

    x: np.ndarray | None
    upper: float
    lower: float
    trace: tuple[tuple[float, float], ...]


def solve_benders(
    master: Master,
    oracle: Oracle,
    start: np.ndarray,
    width: Callable[[float], float],
    control: Control,
    mix: float = 1.0,
    rounds: int | None = None,
    report: Callable[[int, float, float], None] = lambda number, upper, lower: None,
    master_gap: float = 0.0,
    lower: float = -INF,
) -> Ended:
    """Ask the oracle about the master's points in turn, until the interval closes.

    It ends when the interval is as narrow as `width` says, when no new cut is violated by the master's point or an
    integer master comes back to integers that it had since its bound last rose (what is left then is within the
    tolerances of HiGHS, or the oracle's), after `rounds`, or when `control` says stop.

    Parameters
    ----------
    start : ndarray, shape (n,)
        The first point that the oracle is asked about.
    width : callable
        Upper end -> width of the interval at which to end.
    mix : float
        1 asks about the master's points; less, about points between them and the best one so far, which steadies a
        linear master. An integer one has to be asked about its own points.
    report : callable
        Called with the number of the round and both ends, after each answer.
    master_gap : float
        Relative gap to which an integer master is solved.
    lower : float
        A lower bound that is known already.

    Raises
    ------
    SolverError
        If the master is infeasible, or its bound contradicts a point of the oracle.

    """
    upper, best, trace = INF, None, []
    point, query, number = None, start, 0
    had: set[bytes] = set()  # a row may be violated within HiGHS's tolerance for ever
    while True:
        answered = oracle(query, control)
        if answered.cost < upper:
            upper, best = answered.cost, answered.x
        if lower > upper + CONTRADICTION * (1 + abs(upper)):
            raise SolverError("Benders' decomposition: the bound is above a feasible point's cost: a cut is wrong")
        lower = min(lower, upper)  # the last digits
        trace.append((upper, lower))
        report(number, upper, lower)
        closed = upper - lower <= width(upper)
        new = point is None or mix < 1.0 or bool(answered.cuts.violated(point).any())
        if point is not None and not master.relaxed:
            integers = point[master.program.integer].round().astype(np.int64).tobytes()
            new = new and integers not in had
            had.add(integers)
        if closed or not new or control.stop is not None or number == rounds:
            return Ended(best, upper, lower, tuple(trace))
        master.add(answered.cuts)
        point, bound = master.solve(master_gap, control, best)
        if bound > lower:
            if bound > lower + VIOLATED * (1 + abs(bound)):
                had.clear()
            lower = bound
            master.forget()  # only where the bound has risen, so that no cut comes and goes for ever
        number += 1
        if point is None:
            trace.append((upper, min(lower, upper)))
            return Ended(best, upper, min(lower, upper), tuple(trace))
        query = point if mix == 1.0 or best is None else mix * point + (1 - mix) * best
