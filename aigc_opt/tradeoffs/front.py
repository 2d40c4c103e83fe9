"""Fronts of two criteria with a certified region: the points found, and half-planes below which no point lies."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aigc_opt.api import solve
from aigc_opt.control import Control
from aigc_opt.errors import InputError
from aigc_opt.instance.base import Instance
from aigc_opt.instance.files import loaded
from aigc_opt.problems.problem import Problem, problem_of
from aigc_opt.result import Limit, Result, Solution

if TYPE_CHECKING:
    import pandas as pd

END = 1e-3
"""Weight of the other criterion at the ends of a front, both in units of what the first solve found: small enough to
come close to the criterion's own optimum, and not 0, where any value of the other would do."""

ROUNDING = 1e-12
"""Share of each bound that is taken off for rounding the scaled weights."""


@dataclass(frozen=True)
class Solved:
    """One weighted sum: its weights, what it proves, and the point found with it.

    Attributes
    ----------
    weights : (float, float)
        Of the two criteria.
    lower_bound : float
        ``weights @ criteria >= lower_bound`` at every feasible point.
    point : (float, float)
        Criteria of the point, recomputed by the checker under the instance's own weights.
    solution : Solution or None
        None where the front was read from a file.

    """

    weights: tuple[float, float]
    lower_bound: float
    point: tuple[float, float]
    solution: Solution | None


@dataclass(frozen=True)
class Front:
    """Points of two criteria that are minimised, and what is proven about all others.

    Every weighted sum that was solved has a lower bound L that holds for each feasible point x, so that ``a f1(x) + b
    f2(x) >= L`` with the sum's own weights a, b >= 0: f1 and f2 do not depend on a and b, only the objective does, and
    it is linear in them. Each sum therefore excludes a half-plane, for every feasible x and not only those found, and
    no feasible point's criteria lie in the union of what they exclude. The true front, convex or not, lies between
    that boundary (`lower`) and the points found. A gap in a solve makes the half-plane smaller, never wrong.

    Attributes
    ----------
    names : (str, str)
        Of the criteria.
    solved : tuple of Solved
        In the order in which they were solved.
    runtime_s : float

    """

    names: tuple[str, str]
    solved: tuple[Solved, ...]
    runtime_s: float

    @property
    def points(self) -> np.ndarray:
        """Points that no other found point beats in both criteria, shape (n, 2), the first criterion rising."""
        return _efficient(np.array([one.point for one in self.solved]))

    @property
    def half_planes(self) -> np.ndarray:
        """Rows (a, b, L): ``a f1 + b f2 >= L`` at every feasible point."""
        return np.array([(*one.weights, one.lower_bound) for one in self.solved])

    def lower(self, first: np.ndarray) -> np.ndarray:
        """Return a lower bound of the second criterion for values of the first; inf where no feasible point can be."""
        a, b, bound = self.half_planes.T
        first = np.asarray(first, float)[..., None]
        with np.errstate(divide="ignore", invalid="ignore"):
            rest = bound - a * first
            of_each = np.where(b > 0, rest / b, np.where(rest > 0, np.inf, -np.inf))
        return of_each.max(axis=-1)

    def knee(self) -> int:
        """Return the index in `points` of the knee: furthest below the line between the ends, both criteria scaled."""
        points = self.points
        span = np.ptp(points, axis=0)
        if len(points) < 3 or (span == 0).any():
            return 0
        scaled = (points - points.min(axis=0)) / span
        return int(scaled.sum(axis=1).argmin())  # the line between the scaled ends (0, 1) and (1, 0) is x + y = 1

    def hypervolume(self, reference: tuple[float, float] | None = None) -> tuple[float, float]:
        """Bound the area that the true front dominates up to a reference point (default: worst of the points found).

        Returns
        -------
        (float, float)
            What the points found dominate, and what no set of feasible points exceeds.

        """
        points = self.points
        corner = points.max(axis=0) if reference is None else np.asarray(reference, float)
        inside = points[(points <= corner).all(axis=1)]
        right = np.append(inside[1:, 0], corner[0])
        found = float(((right - inside[:, 0]) * (corner[1] - inside[:, 1])).sum())
        return found, max(found, _area(self._polygon(corner)))

    def _polygon(self, corner: np.ndarray) -> np.ndarray:
        """Corners of the box below `corner` that the half-planes leave, shape (n, 2)."""
        scale = np.abs(self.points).max(axis=0) + np.abs(corner) + 1.0
        low = corner - 1e6 * scale
        polygon = np.array([low, [corner[0], low[1]], corner, [low[0], corner[1]]])
        for a, b, bound in self.half_planes:
            polygon = _clipped(polygon, a, b, bound)
        return polygon

    def to_frame(self) -> pd.DataFrame:
        """Return one row a weighted sum, the first criterion rising: criteria, weights, value, bound, gap."""
        import pandas as pd

        rows = [
            {
                self.names[0]: one.point[0], self.names[1]: one.point[1],
                "weight_first": one.weights[0], "weight_second": one.weights[1],
                "weighted_sum": float(np.dot(one.weights, one.point)), "lower_bound": one.lower_bound,
            }
            for one in sorted(self.solved, key=lambda one: one.point)
        ]  # fmt: skip
        table = pd.DataFrame(rows)
        table["gap"] = (table["weighted_sum"] - table["lower_bound"]).clip(lower=0) / table["weighted_sum"].abs()
        return table

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_frame` as CSV; ``aigc-opt plot`` draws it."""
        from aigc_opt.instance.files import write_text

        write_text(path, self.to_frame().to_csv(index=False))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Front:
        """Read what `save` wrote; solutions are not in the file.

        Raises
        ------
        InputError
            If it is not such a file.

        """
        import pandas as pd

        try:
            table = pd.read_csv(path)
            names = table.columns[0], table.columns[1]
            sums = [
                Solved((row[2], row[3]), row[5], (row[0], row[1]), None)
                for row in table.to_numpy(float).tolist()
                if table.columns[2] == "weight_first"
            ]
        except (OSError, ValueError, IndexError) as error:
            raise InputError(str(path), [f"is not the file of a front: {error}"]) from None
        if not sums:
            raise InputError(str(path), ["is not the file of a front"])
        return cls(names, tuple(sums), float("nan"))


def front(
    instance: Instance | str | os.PathLike[str],
    term: str,
    points: int = 15,
    method: str | None = None,
    gap: float = 1e-4,
    time_limit: float | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> Front:
    """Trade one term of the objective against the sum of all others, both minimised.

    The first solve takes the instance's own weights, two more the ends. Then weights are orthogonal to the segment
    between neighbouring points under which the proven region is deepest, until there are so many points or no segment
    can hide one (the dichotomic search of Aneja and Nair, 1979, steered by the bounds).

    Parameters
    ----------
    instance : Instance or path
        Criteria are in units of its objective, with its weights; a term of weight 0 is no criterion.
    term : str
        One of the result's terms, such as ``"delay"``.
    points : int
        Different points on the front that are looked for, at least 3; at most twice as many sums are solved.
    method, gap, time_limit
        As for `solve`, for each sum.
    progress : callable, optional
        Called with points found, points looked for, and seconds so far.

    Returns
    -------
    Front
        On Ctrl-C what is proven by the sums that were solved.

    Raises
    ------
    InputError
        If there is no such term, or the instance is infeasible.

    """
    instance = loaded(instance)
    problem = problem_of(instance)
    faults = []
    if term not in problem.terms:
        faults.append(f"term must be one of {', '.join(problem.terms)}, got {term!r}")
    if type(points) is not int or points < 3:
        faults.append(f"points must be an integer >= 3, got {points!r}")
    if faults:
        raise InputError("front", faults)
    others = tuple(name for name in problem.terms if name != term)
    control = Control()
    solved: list[Solved] = []

    def add(a: float, b: float) -> Solved | None:
        factors = {term: a / (a + b)} | dict.fromkeys(others, b / (a + b))
        near = min(solved, key=lambda one: abs(one.weights[0] - factors[term]), default=None)
        start = None if near is None else near.solution
        result, terms = solve_weighted(instance, problem, factors, start, method, gap, time_limit)
        if terms is None or result.lower_bound is None or result.limit is Limit.INTERRUPT:
            return None
        bound = result.lower_bound - ROUNDING * abs(result.lower_bound)
        point = terms[term], sum(terms[name] for name in others)
        solved.append(Solved((a / (a + b), b / (a + b)), bound, point, result.solution))
        if progress is not None:
            found = len(_efficient(np.array([p.point for p in solved])))
            progress(min(points, found), points, control.elapsed_s)
        return solved[-1]

    def made() -> Front:
        return Front((term, " + ".join(others)), tuple(solved), control.elapsed_s)

    with control.catching_interrupts():
        first = add(1.0, 1.0)
        if first is None:
            raise InputError(instance.name, ["has no interval at its own weights: infeasible, or stopped too early"])
        size = [abs(value) or 1.0 for value in first.point]
        for a, b in ((1.0, END), (END, 1.0)):
            if control.interrupted or add(a / size[0], b / size[1]) is None:
                return made()
        tried: set[Ends] = set()
        while len(found := made().points) < points and len(solved) < 2 * points and not control.interrupted:
            segments = _segments(made(), found, gap)
            fresh = [(pair, weights) for _, pair, weights in segments if pair not in tried]
            if not fresh:
                break
            tried.add(fresh[0][0])
            if add(*fresh[0][1]) is None:
                break
    return made()


def solve_weighted(
    instance: Instance,
    problem: Problem,
    factors: Mapping[str, float],
    start: Solution | None,
    method: str | None,
    gap: float,
    time_limit: float | None,
) -> tuple[Result, dict[str, float] | None]:
    """Minimise the sum of ``factors[k] * term_k``; return the result, and the point's terms at the factors 1.

    Feasibility does not depend on weights, so the checker accepts the point under the instance itself too.
    """
    if start is not None and (method or problem.default_method) not in problem.starts:
        start = None
    result = solve(weighted(instance, factors), method=method, gap=gap, time_limit=time_limit, start=start)
    terms = None if result.solution is None else problem.check(instance, result.solution).terms
    return result, terms


def weighted(instance: Instance, factors: Mapping[str, float]) -> Instance:
    """Return the instance whose terms are those of `instance` times factors >= 0.

    Every term but offloading's rejection has a weight of its own name, in which it is linear; rejection is linear in
    the users' penalties.
    """
    data: dict[str, Any] = instance.to_dict()
    requests = getattr(instance, "requests", None)
    if requests is not None:
        data["requests"] = {key: getattr(requests, key) for key in type(requests).model_fields}
    data["weights"] = {name: value * factors[name] for name, value in data["weights"].items()}
    if "rejection" in factors:
        data["users"] = [
            user if user["rejection_penalty"] is None
            else {**user, "rejection_penalty": user["rejection_penalty"] * factors["rejection"]}
            for user in data["users"]
        ]  # fmt: skip
    return type(instance).from_dict(data, instance.name)


def _efficient(points: np.ndarray) -> np.ndarray:
    """Points that no other one beats or equals in both criteria, the first rising; equal ones once."""
    points = np.unique(points, axis=0)  # sorted by the first, then the second
    best = np.minimum.accumulate(np.append(np.inf, points[:-1, 1]))
    return points[points[:, 1] < best]


Ends = tuple[float, ...]
"""Both ends of a segment, four numbers."""


def _segments(found: Front, points: np.ndarray, gap: float) -> list[tuple[float, Ends, tuple[float, float]]]:
    """Segments under which a point could hide, the deepest first: depth, its ends, weights orthogonal to it.

    Depth is how far below the segment, in the span of both criteria, the proven boundary goes; what a relative gap of
    the weighted sum explains does not count.
    """
    span = np.maximum(np.ptp(points, axis=0), 1e-300)
    segments = []
    for left, right in itertools.pairwise(points):
        a, b = left[1] - right[1], right[0] - left[0]
        # The boundary is convex and piecewise linear: the sum is least on it at a corner, found on a fine grid.
        first = np.linspace(left[0], right[0], 65)
        value = a * left[0] + b * left[1]
        depth = value - float((a * first + b * found.lower(first)).min())
        if depth > gap * abs(value):
            segments.append((depth / (a * span[0] + b * span[1]), (*left, *right), (float(a), float(b))))
    return sorted(segments, key=lambda segment: -segment[0])


def _clipped(polygon: np.ndarray, a: float, b: float, bound: float) -> np.ndarray:
    """Cut a convex polygon (n, 2) down to where ``a x + b y >= bound``."""
    kept = []
    over = polygon @ np.array([a, b]) - bound
    for k in range(len(polygon)):
        here, there = over[k - 1], over[k]
        if (here < 0) != (there < 0):
            kept.append(polygon[k - 1] + (polygon[k] - polygon[k - 1]) * (here / (here - there)))
        if there >= 0:
            kept.append(polygon[k])
    return np.array(kept).reshape(-1, 2)


def _area(polygon: np.ndarray) -> float:
    """Area of a convex polygon (n, 2)."""
    if len(polygon) < 3:
        return 0.0
    x, y = (polygon - polygon.mean(axis=0)).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
