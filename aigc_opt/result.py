"""What a solve returns: an interval, the point that attains its upper end, and why both ends hold."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd  # imported where a table is made: it takes as long as solving a small instance

RESULT_FORMAT = "aigc-opt/result"
RESULT_VERSION = 1
RESULT_KEYS = (
    "format", "version", "instance", "method", "status", "limit", "objective", "lower_bound", "gap", "gap_tolerance",
    "certificate", "terms", "trace", "runtime_s", "seed", "versions", "solution",
)  # fmt: skip


class Status(StrEnum):
    """How a solve ended.

    `OPTIMAL`: a checked point whose gap is at most the tolerance. `FEASIBLE`: a checked point otherwise (the bound may
    be missing). `BOUND_ONLY`: a bound and no point. `INFEASIBLE`: proved. `UNKNOWN`: neither point nor bound.
    """

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    BOUND_ONLY = "bound_only"
    INFEASIBLE = "infeasible"
    UNKNOWN = "unknown"


POINTLESS = (Status.BOUND_ONLY, Status.INFEASIBLE, Status.UNKNOWN)
"""What a result without a solution may say of itself."""


class Proof(StrEnum):
    """Why a lower bound holds: nothing, a solver's word, weak duality evaluated here, every discrete choice covered."""

    NONE = "none"
    SOLVER = "solver"
    DUAL = "dual"
    ENUMERATION = "enumeration"


class Limit(StrEnum):
    """What stopped a method that did not end by itself."""

    TIME = "time"
    ITERATIONS = "iterations"
    INTERRUPT = "interrupt"


class Solution(Protocol):
    """A point of a problem: arrays or tasks, without a value and without a claim."""

    def to_dict(self) -> dict[str, Any]:
        """Return the solution's JSON object."""

    def to_frame(self, instance: Any) -> pd.DataFrame:
        """Return the decisions as a table."""


@dataclass(frozen=True)
class Violation:
    """A constraint that a point breaks: which, where, and by how much before tolerance."""

    constraint: str
    where: str
    amount: float

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {"constraint": self.constraint, "where": self.where, "amount": self.amount}


@dataclass(frozen=True)
class Check:
    """What the independent checker says of a point.

    Attributes
    ----------
    objective : float or None
        Recomputed from instance and solution alone; None where the point has no value.
    terms : dict of float
        Weighted terms that sum to the objective.
    violations : tuple of Violation
        Empty = feasible.

    """

    objective: float | None
    terms: dict[str, float] | None
    violations: tuple[Violation, ...]

    @property
    def feasible(self) -> bool:
        """Whether every constraint is kept."""
        return not self.violations

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of ``aigc-opt check --json``."""
        return {
            "feasible": self.feasible,
            "objective": self.objective,
            "terms": self.terms,
            "violations": [violation.to_dict() for violation in self.violations],
        }

    def to_frame(self) -> pd.DataFrame:
        """Return the violations as a table."""
        import pandas as pd

        return pd.DataFrame([v.to_dict() for v in self.violations], columns=["constraint", "where", "amount"])


@dataclass(frozen=True)
class TraceRow:
    """One moment of a solve: what was known after `elapsed_s` seconds and what had happened."""

    elapsed_s: float
    objective: float | None
    lower_bound: float | None
    event: str

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "elapsed_s": self.elapsed_s,
            "objective": self.objective,
            "lower_bound": self.lower_bound,
            "event": self.event,
        }


def gap_of(objective: float | None, lower_bound: float | None) -> float | None:
    """Return the relative gap ``max(0, objective - lower_bound) / |objective|``.

    0 where the numerator is 0; None where a side is missing, or the objective is 0 and the numerator is not.
    """
    if objective is None or lower_bound is None:
        return None
    numerator = max(0.0, objective - lower_bound)
    if numerator == 0.0:
        return 0.0
    return numerator / abs(objective) if objective != 0 else None


CONTRADICTION = 1e-6
"""A lower bound this far (relative) above a checked point is not rounding: one of the two is wrong."""


ROUNDING = 1e-9
"""Differences of relative size that different orders of the same sums, or 10 digits written, explain."""


def contradicts(lower_bound: float, objective: float, relative: float = CONTRADICTION) -> bool:
    """Whether a lower bound is above a checked point by more than the checker's tolerance explains."""
    return lower_bound - objective > relative * max(1e-6, abs(objective))


def status_of(objective: float | None, lower_bound: float | None, tolerance: float) -> Status:
    """Return the status of an interval whose relative gap may be `tolerance`."""
    if objective is None:
        return Status.UNKNOWN if lower_bound is None else Status.BOUND_ONLY
    gap = gap_of(objective, lower_bound)
    return Status.OPTIMAL if gap is not None and gap <= tolerance else Status.FEASIBLE


@dataclass(frozen=True)
class Result:
    """An interval that holds the optimum, as far as it was found, and where it came from.

    Attributes
    ----------
    objective : float or None
        Value of `solution`, recomputed by the independent checker.
    lower_bound : float or None
        A number that no feasible point is below; `proof` says why.
    terms : dict of float or None
        Weighted terms that sum to the objective.
    trace : tuple of TraceRow
        Both ends of the interval over time.
    reasons : tuple of str
        Where the problem is infeasible: why, a line each. Not in the result file.

    """

    instance: dict[str, str]
    method: str
    status: Status
    limit: Limit | None
    objective: float | None
    lower_bound: float | None
    gap_tolerance: float
    proof: Proof
    terms: dict[str, float] | None
    trace: tuple[TraceRow, ...]
    runtime_s: float
    seed: int
    versions: dict[str, str]
    solution: Solution | None
    checked: bool = field(default=False)
    reasons: tuple[str, ...] = field(default=())

    @property
    def gap(self) -> float | None:
        """Relative gap of the interval, see `gap_of`."""
        return gap_of(self.objective, self.lower_bound)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the result file."""
        return {
            "format": RESULT_FORMAT,
            "version": RESULT_VERSION,
            "instance": self.instance,
            "method": self.method,
            "status": str(self.status),
            "limit": None if self.limit is None else str(self.limit),
            "objective": self.objective,
            "lower_bound": self.lower_bound,
            "gap": self.gap,
            "gap_tolerance": self.gap_tolerance,
            "certificate": {"point": "checked" if self.checked else "none", "bound": str(self.proof)},
            "terms": self.terms,
            "trace": [row.to_dict() for row in self.trace],
            "runtime_s": self.runtime_s,
            "seed": self.seed,
            "versions": self.versions,
            "solution": None if self.solution is None else self.solution.to_dict(),
        }

    def to_frame(self) -> pd.DataFrame:
        """Return the trace as a table: one row a moment, with the gap."""
        import pandas as pd

        rows = [{**row.to_dict(), "gap": gap_of(row.objective, row.lower_bound)} for row in self.trace]
        return pd.DataFrame(rows, columns=["elapsed_s", "objective", "lower_bound", "gap", "event"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result file; an old one stays until the new one is whole."""
        from aigc_opt.instance.files import dump_json, write_text

        write_text(path, dump_json(self.to_dict()))

    def __repr__(self) -> str:
        ends = [f"{end:.6g}" if end is not None else "?" for end in (self.lower_bound, self.objective)]
        gap = "" if self.gap is None else f", gap {self.gap:.2e}"
        return f"<Result {self.instance['name']}: {self.status} [{', '.join(ends)}]{gap}, {self.method}>"
