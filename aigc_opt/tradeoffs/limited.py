"""Epsilon-constraint: the least value of one term with others limited, by prices on the limits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from aigc_opt.control import Control
from aigc_opt.errors import InputError
from aigc_opt.instance.base import Instance
from aigc_opt.instance.files import loaded
from aigc_opt.problems.problem import Problem, problem_of
from aigc_opt.result import Solution, Status
from aigc_opt.tradeoffs.front import ROUNDING, solve_weighted


@dataclass(frozen=True)
class Constrained:
    """Interval of the least value of one term with others limited.

    Attributes
    ----------
    status : Status
        `OPTIMAL` within the gap asked for, `FEASIBLE` otherwise, `INFEASIBLE` proved, `BOUND_ONLY` where no point found
        keeps the limits.
    objective, lower_bound : float or None
        The term at `solution`; what it is at least at every feasible point that keeps the limits.
    terms : dict or None
        All terms of the solution.
    solved : int
        Weighted sums that were solved.

    """

    status: Status
    objective: float | None
    lower_bound: float | None
    terms: dict[str, float] | None
    solution: Solution | None
    solved: int
    runtime_s: float


def epsilon_constraint(
    instance: Instance | str | os.PathLike[str],
    term: str,
    limits: Mapping[str, float],
    method: str | None = None,
    gap: float = 1e-3,
    time_limit: float | None = None,
    rounds: int = 20,
) -> Constrained:
    """Minimise one term while others are at most their limits, for any of the problems.

    By prices p >= 0 on the limits: for every feasible x that keeps them ``f(x) >= f(x) + sum_k p_k (f_k(x) - limit_k)
    >= L(p) - sum_k p_k limit_k`` with L(p) a proven lower bound of the weighted sum ``f + sum_k p_k f_k`` over all
    feasible points, so that each solve proves a bound whatever the prices (weak duality). Prices are chosen by Kelley's
    cutting planes over the points met. Points that keep the limits are candidates; the problems are not convex, so that
    a duality gap can stay, and then the interval says so.

    Parameters
    ----------
    instance : Instance or path
    term : str
        What is minimised.
    limits : mapping
        Term -> its greatest value, in units of the objective. Terms that are not named are free.
    method, time_limit
        As for `solve`, for each sum.
    gap : float
        Relative gap at which it ends.
    rounds : int
        Weighted sums at most, beyond one for each limit.

    Raises
    ------
    InputError
        If a term is not one of the problem's, or a limit no finite number.

    """
    instance = loaded(instance)
    problem = problem_of(instance)
    faults = [
        f"term must be one of {', '.join(problem.terms)}, got {k!r}" for k in (term, *limits) if k not in problem.terms
    ]
    faults += [f"limit of {name} must be a finite number" for name, value in limits.items() if not np.isfinite(value)]
    if not limits or term in limits:
        faults.append(f"limits must name other terms than {term}, at least one")
    if faults:
        raise InputError("epsilon_constraint", faults)
    work = _Limited(instance, problem, term, dict(limits), method, gap, time_limit)
    with work.control.catching_interrupts():
        return work.run(rounds)


class _Limited:
    """One epsilon-constraint problem: cuts met so far, best bound, best point that keeps the limits."""

    def __init__(
        self,
        instance: Instance,
        problem: Problem,
        term: str,
        limits: dict[str, float],
        method: str | None,
        gap: float,
        time_limit: float | None,
    ):
        self.instance, self.problem, self.term, self.limits = instance, problem, term, limits
        self.method, self.gap, self.time_limit = method, gap, time_limit
        self.limit = np.array(list(limits.values()), float)
        self.cuts: list[tuple[float, np.ndarray]] = []  # f, f_k - limit_k of points met
        self.best: tuple[dict[str, float], Solution] | None = None
        self.lower, self.solved, self.control = -np.inf, 0, Control()

    def _sum(self, own: float, prices: np.ndarray) -> float:
        """Solve a weighted sum; return its bound less the limits' share, -inf where there is none."""
        factors = dict.fromkeys(self.problem.terms, 0.0) | {self.term: own}
        factors |= dict(zip(self.limits, map(float, prices), strict=True))
        start = None if self.best is None else self.best[1]
        result, terms = solve_weighted(
            self.instance, self.problem, factors, start, self.method, 0.5 * self.gap, self.time_limit
        )
        self.solved += 1
        if terms is not None and result.solution is not None:
            over = np.array([terms[name] for name in self.limits]) - self.limit
            self.cuts.append((terms[self.term], over))
            if (over <= 0).all() and (self.best is None or terms[self.term] < self.best[0][self.term]):
                self.best = terms, result.solution
        if result.lower_bound is None:
            return -np.inf
        paid = float(prices @ self.limit)
        return result.lower_bound - paid - ROUNDING * (abs(result.lower_bound) + abs(paid))

    def run(self, rounds: int) -> Constrained:
        for k in range(len(self.limit)):  # with no weight on the term itself: can the limit be kept at all?
            only = np.zeros(len(self.limit))
            only[k] = 1.0
            if self._sum(0.0, only) > 1e-9 * abs(self.limit[k]):
                return self._result(Status.INFEASIBLE)
            if not self.cuts or self.control.interrupted:
                return self._result(Status.UNKNOWN if self.best is None else Status.FEASIBLE)
        prices = np.zeros(len(self.limit))
        for _ in range(rounds):
            self.lower = max(self.lower, self._sum(1.0, prices))
            if self._closed() or self.control.interrupted:
                break
            following = self._kelley()
            if following is None or np.allclose(following, prices, rtol=1e-9, atol=0):
                break
            prices = following
        status = Status.BOUND_ONLY if self.best is None else Status.OPTIMAL if self._closed() else Status.FEASIBLE
        return self._result(status)

    def _closed(self) -> bool:
        if self.best is None:
            return False
        value = self.best[0][self.term]
        return value - self.lower <= self.gap * abs(value)

    def _kelley(self) -> np.ndarray | None:
        """Prices at which the least of all cuts is greatest."""
        from scipy.optimize import linprog

        # Unbounded while no point met keeps the limits: then prices grow, tenfold at most.
        size = max(1.0, *(abs(value) for value, _ in self.cuts))
        most = [
            10.0 * size / max(1e-9 * size, *(abs(over[k]) for _, over in self.cuts)) for k in range(len(self.limit))
        ]
        rows = np.array([[1.0, *(-over)] for _, over in self.cuts])
        values = np.array([value for value, _ in self.cuts])
        found = linprog(
            [-1.0, *np.zeros(len(self.limit))], rows, values, bounds=[(None, None), *((0.0, top) for top in most)]
        )
        return found.x[1:] if found.status == 0 else None

    def _result(self, status: Status) -> Constrained:
        seconds = self.control.elapsed_s
        if status is Status.INFEASIBLE:
            return Constrained(status, None, None, None, None, self.solved, seconds)
        terms, solution = self.best if self.best is not None else (None, None)
        objective = None if terms is None else terms[self.term]
        lower = None if not np.isfinite(self.lower) else self.lower if objective is None else min(self.lower, objective)
        return Constrained(status, objective, lower, terms, solution, self.solved, seconds)
