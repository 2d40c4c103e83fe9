"""The dual of many slots at once: a price on denoising steps, exact, with the two responses at the best price.

A *job* is one slot with one cache, a row of every array here. For each of its U requests there is ::

    the edge (as far as cached):              g_m(s),  least <= s <= most, takes s steps
    the cloud (not cached, or free to leave): a constant, takes no steps

and the steps of all requests sum to at most F.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from aigc_opt.problems.two_timescale.curves import Curves

FITS = 1e-12
"""Steps sum to at most F up to this share of it: rounding."""


class Response:
    """Cheapest answer of every request to a price on steps.

    Parameters
    ----------
    curves : Curves
    model : ndarray of int64, shape (J, U)
    cloud : ndarray, shape (J, U)
        Cost in the cloud.
    weight : ndarray, shape (J, U), or None
        How much of the request's model is cached: 0 or 1, or a fraction in a relaxation.
    free : ndarray of bool, shape (J, U)
        Whether a cached request may still go to the cloud.
    low, high : ndarray of int, shape (J, U), optional
        First and last vertex that a piecewise curve may use; without them the whole curve, of which only the hull's
        vertices are looked at: they hold a minimiser at every price.
    toll : ndarray, shape (J,), optional
        A request that gets at least `Curves.many` steps costs so much more, or less where that is negative. (Just
        below them it does not, so the cost there is the limit: a lower bound is no higher for it.)

    """

    def __init__(
        self,
        curves: Curves,
        model: np.ndarray,
        cloud: np.ndarray,
        weight: np.ndarray | None,
        free: np.ndarray,
        low: np.ndarray | None = None,
        high: np.ndarray | None = None,
        toll: np.ndarray | None = None,
    ):
        self.curves, self.model, self.cloud = curves, np.maximum(model, 0), cloud
        self.weight, self.free = weight, free
        hull = (low is None or high is None) and toll is None
        steps = curves.hull_steps if hull else curves.vertex_steps
        cost = curves.hull_cost if hull else curves.vertex_cost
        self._steps = [steps[:, k][self.model] for k in range(steps.shape[1])]
        self._cost = [cost[:, k][self.model] for k in range(cost.shape[1])]
        if low is not None and high is not None:
            self._cost = [np.where((k < low) | (k > high), np.inf, cost) for k, cost in enumerate(self._cost)]
        self._toll = None if toll is None else toll[:, None]
        if self._toll is not None:
            paid = self._toll
            # Vertices pay the toll; one more stands where it begins, on its better side. The curve is at its best at
            # one of them at every price: it is linear in between, and jumps only there.
            many = curves.many[self.model]
            inside = (many > curves.least) & (many < curves.most)
            there = np.where(inside, curves.value(self.model, np.clip(many, curves.least, curves.most)), np.inf)
            vertices = zip(self._steps, self._cost, strict=True)
            self._cost = [cost + np.where(at >= many, paid, 0.0) for at, cost in vertices]
            self._steps.append(np.where(paid < 0, many, many * (1 - 1e-12)))
            self._cost.append(there + np.minimum(paid, 0.0))
        self._smooth = curves.smooth[self.model] if curves.smooth.any() else None
        self._any_free = bool(np.any(free))

    def take(self, rows: np.ndarray) -> Self:
        """Return the same for some of the jobs."""
        new = object.__new__(type(self))
        new.curves, new.model, new.cloud = self.curves, self.model[rows], self.cloud[rows]
        new.weight, new.free = None if self.weight is None else self.weight[rows], self.free[rows]
        new._steps, new._cost = [s[rows] for s in self._steps], [c[rows] for c in self._cost]
        new._smooth = None if self._smooth is None else self._smooth[rows]
        new._any_free = self._any_free
        new._toll = None if self._toll is None else self._toll[rows]
        return new

    def __call__(self, price: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return cost with steps paid, steps, and whether a free request chose the cloud; each (J, U)."""
        p = price[:, None]
        value, steps = self._cost[0] + p * self._steps[0], self._steps[0]
        for at, cost in zip(self._steps[1:], self._cost[1:], strict=True):
            other = cost + p * at
            better = other < value
            value = np.where(better, other, value)
            steps = np.where(better, at, steps)
        if self._smooth is not None:
            smooth, steps = self._smooth, steps.copy()
            each = np.broadcast_to(p, smooth.shape)[smooth]
            model = self.model[smooth]
            at = self.curves.smooth_argmin(model, each)
            cost = self.curves.smooth_value(model, at) + each * at
            if self._toll is not None:
                many, toll = self.curves.many[model], np.broadcast_to(self._toll, smooth.shape)[smooth]
                few, much = np.clip(at, self.curves.least, many * (1 - 1e-12)), np.clip(at, many, self.curves.most)
                below = self.curves.smooth_value(model, few) + each * few
                above = self.curves.smooth_value(model, much) + each * much + toll
                below = np.where(many > self.curves.least, below, np.inf)
                above = np.where(many <= self.curves.most, above, np.inf)
                at, cost = np.where(below <= above, few, much), np.minimum(below, above)
            steps[smooth], value[smooth] = at, cost
        if not self._any_free:
            return value, steps, np.zeros(steps.shape, bool)
        away = self.free & (self.cloud <= value)
        return np.where(away, self.cloud, value), np.where(away, 0.0, steps), away


@dataclass(frozen=True, eq=False)
class Dual:
    """Best prices of J jobs.

    Attributes
    ----------
    price : ndarray, shape (J,)
    bound : ndarray, shape (J,)
        Lagrangian value at `price`, the cloud's part included: no allocation costs less.
    under, over : ndarray, shape (J, U)
        Steps of the responses just above and just below the best price: they sum to at most, and at least, F.
    away_under, away_over : ndarray of bool, shape (J, U)
        Whether each is in the cloud there.
    feasible : ndarray of bool, shape (J,)
        False where even the fewest steps do not fit.

    """

    price: np.ndarray
    bound: np.ndarray
    under: np.ndarray
    over: np.ndarray
    away_under: np.ndarray
    away_over: np.ndarray
    feasible: np.ndarray


def slot_dual(
    curves: Curves,
    budget: float,
    model: np.ndarray,
    cloud: np.ndarray,
    weight: np.ndarray,
    free: np.ndarray,
    low: np.ndarray | None = None,
    high: np.ndarray | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 100,
    toll: np.ndarray | None = None,
) -> Dual:
    """Maximise ``-p F + sum_u [(1 - w) cloud + w min(edge at price p, cloud where free)]`` over p >= 0.

    The function is concave; its slope at p is the steps that the responses take minus F. Between a price with positive
    and one with negative slope the next price is where the two tangents meet: the height there bounds the maximum, so
    the search ends when the value reaches it. That is finite for piecewise curves; for smooth ones the interval
    is halved now and then. `bound` is the largest value met: weak duality makes each of them a bound, whatever the
    search did.

    Parameters
    ----------
    budget : float
        F.
    model, cloud, weight, free, low, high, toll :
        See `Response`.
    tolerance : float
        Relative to the slot's cost.

    """
    jobs, users = model.shape
    respond = Response(curves, model, cloud, weight, free, low, high, toll)
    fixed = ((1.0 - weight) * cloud).sum(axis=1)

    def evaluate(respond: Response, price: np.ndarray) -> tuple[np.ndarray, ...]:
        value, steps, away = respond(price)
        slope = (respond.weight * steps).sum(axis=1) - budget
        return (respond.weight * value).sum(axis=1) - price * budget, slope, steps, away

    left = np.zeros(jobs)
    value_left, slope_left, steps, away = evaluate(respond, left)
    price, best = left.copy(), value_left.copy()
    under, over, away_under, away_over = steps.copy(), steps.copy(), away.copy(), away.copy()
    feasible = np.ones(jobs, bool)
    rows = np.flatnonzero(slope_left > 0)
    if len(rows):
        # A price at which every request takes as few steps as it can, or leaves.
        right = np.full(jobs, curves.steepest * 1.01 + 1e-9)
        if free.any() and curves.least > 0:
            smallest = curves.value(respond.model, np.full((jobs, users), curves.least))
            leave = np.where(free & (weight > 0), (cloud - smallest) / curves.least, 0.0).max(axis=1)
            right = np.maximum(right, leave * 1.01 + 1e-9)
        if toll is not None:
            # Nobody takes many steps for what that saves, or for what it is paid.
            saves = curves.steepest * curves.most + np.where(free, cloud - curves.vertex_cost.min(), 0.0).max(axis=1)
            apart = curves.many if free.any() else curves.many - curves.least
            apart = apart[apart > 0].min(initial=curves.most)
            right = np.maximum(right, 1.01 * (np.maximum(saves, 0.0) - np.minimum(toll, 0.0)) / apart)
        respond = respond.take(rows)
        left, value_left, slope_left, right = left[rows], value_left[rows], slope_left[rows], right[rows]
        value_right, slope_right, under[rows], away_under[rows] = evaluate(respond, right)
        up = value_right > best[rows]
        best[rows[up]], price[rows[up]] = value_right[up], right[up]
        stuck = slope_right > FITS * max(budget, 1.0)  # the dual is unbounded: one large price will do
        feasible[rows[stuck]] = False
        ok = ~stuck
        rows, respond = rows[ok], respond.take(ok)
        left, value_left, slope_left = left[ok], value_left[ok], slope_left[ok]
        right, value_right, slope_right = right[ok], value_right[ok], slope_right[ok]
    for iteration in range(1, max_iterations + 1):
        if not len(rows):
            break
        with np.errstate(divide="ignore", invalid="ignore"):  # one line on both sides: anything between will do
            meet = (value_right - value_left + slope_left * left - slope_right * right) / (slope_left - slope_right)
        middle = 0.5 * (left + right)
        meet = np.where((meet > left) & (meet < right), meet, middle)
        top = value_left + slope_left * (meet - left)
        at = middle if iteration % 4 == 0 else meet
        value, slope, steps, away = evaluate(respond, at)
        up = value > best[rows]
        best[rows[up]], price[rows[up]] = value[up], at[up]
        many = slope > 0
        over[rows[many]], under[rows[~many]] = steps[many], steps[~many]
        away_over[rows[many]], away_under[rows[~many]] = away[many], away[~many]
        left, right = np.where(many, at, left), np.where(many, right, at)
        value_left, value_right = np.where(many, value, value_left), np.where(many, value_right, value)
        slope_left, slope_right = np.where(many, slope, slope_left), np.where(many, slope_right, slope)
        going = top - best[rows] > tolerance * (abs(top) + abs(fixed[rows]))
        going &= right - left > 1e-15 * right
        if not going.all():
            rows, respond = rows[going], respond.take(going)
            left, value_left, slope_left = left[going], value_left[going], slope_left[going]
            right, value_right, slope_right = right[going], value_right[going], slope_right[going]
    return Dual(price, best + fixed, under, over, away_under, away_over, feasible)
