"""What a solve knows so far: its best choice, its best bound and why that holds; told to the control as it moves."""

from __future__ import annotations

import math

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.offloading.choices import solution_of, total_cost
from aigc_opt.problems.offloading.tables import Tables
from aigc_opt.problems.problem import Found
from aigc_opt.result import Limit, Proof


class Interval:
    """An interval of total costs, narrowed by offers.

    Parameters
    ----------
    tables : Tables
    control : Control
    gap : float
        Relative gap at which the interval is closed.

    Attributes
    ----------
    choice : ndarray or None
    upper, bound : float
        Total costs: of `choice`, and one that no choice is below; infinite while there is none.
    proof : Proof
        Why `bound` holds.

    """

    def __init__(self, tables: Tables, control: Control, gap: float):
        self.tables, self.control, self.gap = tables, control, gap
        self.choice: np.ndarray | None = None
        self.upper, self.bound, self.proof = math.inf, -math.inf, Proof.NONE

    @property
    def closed(self) -> bool:
        """Whether there is a point, and the gap is small enough."""
        return self.choice is not None and self.upper - self.bound <= self.gap * abs(self.upper)

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to do: closed, or stopped."""
        return self.closed or self.control.stop is not None

    def offer(
        self, event: str, choice: np.ndarray | None = None, bound: float | None = None, proof: Proof = Proof.DUAL
    ) -> None:
        """Take a choice or a bound if it is better, and report what is known."""
        if choice is not None and (upper := total_cost(self.tables, choice)) < self.upper:
            self.choice, self.upper = choice, upper
        if bound is not None and bound > self.bound:
            self.bound, self.proof = bound, proof
        self.control.report(event, self._in_file(self.upper), self._in_file(min(self.bound, self.upper)))

    def _in_file(self, total: float) -> float | None:
        """Return a total in units of the file's objective, None where it is infinite."""
        return self.tables.unit * total / self.tables.users if math.isfinite(total) else None

    def found(self, limit: Limit | None = None) -> Found:
        """Return the interval as a method's result, in units of the file's objective."""
        solution = None if self.choice is None else solution_of(self.tables, self.choice)
        return Found(solution, self._in_file(min(self.bound, self.upper)), self.proof, limit)
