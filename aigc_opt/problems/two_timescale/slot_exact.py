"""Optimal denoising steps of many slots at once: here the dual's gap is closed, which curves not convex leave.

Branch and bound over all slots in step; `slot_dual` bounds the nodes and `fill` makes points of them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.two_timescale.curves import Curves
from aigc_opt.problems.two_timescale.slot_dual import FITS, Dual, Response, slot_dual
from aigc_opt.problems.two_timescale.split import split_slots

CHUNK = 5_000
"""Nodes that are bounded together, between two looks at the clock."""


@dataclass(frozen=True, eq=False)
class Jobs:
    """Slots to be solved, each with one cache.

    Attributes
    ----------
    curves : Curves
    budget : float
        Steps per slot.
    model : ndarray of int64, shape (J, U)
    cloud : ndarray, shape (J, U)
        Cost in the cloud.
    cached : ndarray of bool, shape (J, U)
    free_hits : bool
        Whether a cached request may go to the cloud.

    """

    curves: Curves
    budget: float
    model: np.ndarray
    cloud: np.ndarray
    cached: np.ndarray
    free_hits: bool

    def __len__(self) -> int:
        return len(self.model)


@dataclass(frozen=True, eq=False)
class Allocation:
    """Best points of J jobs and what they cost at least.

    Attributes
    ----------
    cost, lower : ndarray, shape (J,)
        inf where the steps that must be given do not fit.
    at_edge : ndarray of bool, shape (J, U)
    steps : ndarray, shape (J, U)

    """

    cost: np.ndarray
    lower: np.ndarray
    at_edge: np.ndarray
    steps: np.ndarray

    def take(self, rows: np.ndarray) -> Allocation:
        """Return some of the jobs, repeated as asked for."""
        return Allocation(*(getattr(self, field.name)[rows] for field in fields(self)))


def fill(
    curves: Curves, budget: float, model: np.ndarray, cloud: np.ndarray, cached: np.ndarray, dual: Dual, rounds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make a feasible point of the two responses at the best price: the better of two rules.

    Both start from the response that fits (`under`) and raise requests to `over` from left to right. (1) As far as they
    fit, the last one partly: at most one then stands between two hull vertices, an optimal point of the hull problem.
    (2) Only those that fit whole; then what is left to the single request that gains most, `rounds` times.

    Returns
    -------
    cost : ndarray, shape (J,)
        inf where none fits.
    at_edge, steps : ndarray, shape (J, U)

    """
    jobs, users = model.shape
    under, over = np.where(cached, dual.under, 0.0), np.where(cached, dual.over, 0.0)
    edge_under, edge_over = cached & ~dual.away_under, cached & ~dual.away_over
    slack = budget - under.sum(axis=1)
    rise = np.maximum(over - under, 0.0)

    before = np.cumsum(rise, axis=1) - rise
    part = np.clip(slack[:, None] - before, 0.0, rise)
    steps_1, edge_1 = under + part, edge_under | (edge_over & (part > 0))
    edge_1 &= edge_under | (steps_1 >= curves.least)  # a request drawn from the cloud needs at least so many
    steps_1 = np.where(edge_1, steps_1, 0.0)
    cost_1 = np.where(edge_1, curves.value(model, steps_1), cloud).sum(axis=1)

    steps_2, edge_2, left = under.copy(), edge_under.copy(), slack.copy()
    for u in range(users):
        whole = (rise[:, u] > 0) & (rise[:, u] <= left)
        steps_2[whole, u], edge_2[whole, u] = over[whole, u], edge_over[whole, u]
        left -= np.where(whole, rise[:, u], 0.0)
    now = np.where(edge_2, curves.value(model, steps_2), cloud)
    every = np.arange(jobs)
    for _ in range(rounds):
        cost, steps = curves.best_upto(model, steps_2 + np.maximum(left, 0.0)[:, None])
        gain = np.where(cached, now - cost, -np.inf)
        u = gain.argmax(axis=1)
        k = every[gain[every, u] > 1e-12 * abs(now[every, u])]
        if not len(k):
            break
        at = (k, u[k])
        left[k] -= steps[at] - steps_2[at]
        steps_2[at], edge_2[at], now[at] = steps[at], True, cost[at]
    cost_2 = now.sum(axis=1)

    first = cost_1 <= cost_2
    at_edge = np.where(first[:, None], edge_1, edge_2)
    steps = np.where(first[:, None], steps_1, steps_2)
    return np.where(dual.feasible, np.where(first, cost_1, cost_2), np.inf), at_edge, steps


@dataclass(frozen=True, eq=False)
class _Nodes:
    """Open nodes: the job each belongs to; where its requests may be; the vertices they may use; a proven bound."""

    job: np.ndarray
    edge: np.ndarray
    free: np.ndarray
    low: np.ndarray
    high: np.ndarray
    bound: np.ndarray

    def take(self, rows: np.ndarray) -> Self:
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    def joined(self, other: Self) -> Self:
        return type(self)(
            *(np.concatenate([getattr(self, field.name), getattr(other, field.name)]) for field in fields(self))
        )


def solve_jobs(
    jobs: Jobs,
    relative: float,
    control: Control,
    group: np.ndarray | None = None,
    cutoff: np.ndarray | None = None,
    roots: bool = False,
) -> Allocation:
    """Find optimal places and steps of every job to half of a relative tolerance.

    A node says for each request whether edge and cloud are allowed, and which vertices of its curve. Its bound is the
    dual over the convex hulls of what is allowed. At the dual optimum at most one request stands strictly inside a hull
    edge; it is split there, between cloud and edge or at a vertex of the true curve under the hull edge. Both children
    keep that vertex, so every point stays in one of them; vertices are finite, so the search ends. Equal requests (of
    one model) are ordered by falling cost in the cloud: some optimum's steps (the cloud counted as fewer than any) do
    not rise along that order, because exchanging two never costs; a split is passed on along it.

    Parameters
    ----------
    relative : float
        Of the job's first bound, or of its cost in the cloud where that is less.
    control : Control
        When it says stop, jobs keep the best point so far, or the least that must be given, with a valid bound.
    group : ndarray of int, shape (J,), optional
        Jobs of a group whose lower bounds already sum to the group's `cutoff` are given up with those bounds.
    cutoff : ndarray, shape (G,), optional
    roots : bool
        Whether every job gets its first bound and point whatever `control` says.

    """
    if control.stop is not None and not roots:
        return _least(jobs)
    search = _Search(jobs, relative, group, cutoff, control)
    while len(search.open.job) and (control.stop is None or (roots and np.isneginf(search.open.bound).any())):
        search.step()
    return search.result()


def _least(jobs: Jobs) -> Allocation:
    """Answer without search: the bound at price 0, and the least that must be given as a point."""
    free = jobs.cached & jobs.free_hits
    value, _, _ = Response(jobs.curves, jobs.model, jobs.cloud, None, free)(np.zeros(len(jobs)))
    lower = np.where(jobs.cached, value, jobs.cloud).sum(axis=1)
    at_edge = jobs.cached & (not jobs.free_hits)
    steps = np.where(at_edge, jobs.curves.least, 0.0)
    fits = steps.sum(axis=1) <= jobs.budget + FITS * max(jobs.budget, 1.0)
    cost = np.where(at_edge, jobs.curves.value(jobs.model, steps), jobs.cloud).sum(axis=1)
    cost, lower = np.where(fits, cost, np.inf), np.where(fits, lower, np.inf)
    return Allocation(cost, np.minimum(lower, cost), at_edge, steps)


class _Search:
    def __init__(
        self, jobs: Jobs, relative: float, group: np.ndarray | None, cutoff: np.ndarray | None, control: Control
    ):
        self.control = control
        number, users = jobs.model.shape
        self.order = np.lexsort((-jobs.cloud, np.where(jobs.cached, jobs.model, -1)), axis=1)
        self.curves, self.budget, self.free_hits = jobs.curves, jobs.budget, jobs.free_hits
        every = np.arange(number)[:, None]
        self.model, self.cloud = jobs.model[every, self.order], jobs.cloud[every, self.order]
        self.cached = jobs.cached[every, self.order]
        self.relative, self.group, self.cutoff = relative, group, cutoff
        self.tolerance = self._tolerance_of(jobs.cloud.sum(axis=1))
        self.cost, self.lower = np.full(number, np.inf), np.full(number, np.inf)
        self.at_edge, self.steps = np.zeros((number, users), bool), np.zeros((number, users))
        self.hopeless = np.zeros(0 if cutoff is None else len(cutoff), bool)
        self.open = _Nodes(
            np.arange(number),
            self.cached.copy(),
            self.cached.copy() if self.free_hits else np.zeros_like(self.cached),
            np.zeros((number, users), np.int16),
            np.full((number, users), self.curves.vertex_steps.shape[1] - 1, np.int16),
            np.full(number, -np.inf),
        )

    def _tolerance_of(self, cost: np.ndarray) -> np.ndarray:
        return 0.5 * self.relative * abs(cost) + 1e-12

    def step(self) -> None:
        """Bound a chunk of nodes, take their points, split what stays open."""
        nodes, waiting = self.open, None
        if len(nodes.job) > CHUNK:
            # The widest gaps first; at the roots, where nothing is known yet, any.
            gap = np.where(np.isfinite(self.cost[nodes.job]), nodes.bound - self.cost[nodes.job], -np.inf)
            pick = np.argpartition(gap, CHUNK)
            nodes, waiting = nodes.take(pick[:CHUNK]), nodes.take(pick[CHUNK:])
        model, cloud = self.model[nodes.job], self.cloud[nodes.job]
        whole = not np.isfinite(nodes.bound).any()  # roots: nothing is restricted, the hull of the whole curve will do
        low, high = (None, None) if whole else (nodes.low, nodes.high)
        dual = slot_dual(
            self.curves, self.budget, model, cloud, nodes.edge.astype(float), nodes.free, low, high, tolerance=1e-11
        )
        cost, at_edge, steps = fill(self.curves, self.budget, model, cloud, nodes.edge, dual, rounds=3 if whole else 1)
        self._offer(nodes.job, cost, at_edge, steps)
        fresh = np.isneginf(nodes.bound) & dual.feasible
        root = nodes.job[fresh]
        self.tolerance[root] = np.minimum(self.tolerance[root], self._tolerance_of(dual.bound[fresh]))
        bound = np.maximum(dual.bound, nodes.bound)
        if whole and self.control.stop is None:
            bound = self._split_in_two(nodes, model, cloud, dual, bound)
        going = dual.feasible & (bound < self.cost[nodes.job] - self.tolerance[nodes.job])
        self._give_up(nodes.job, bound, dual.feasible & ~going)
        k = np.flatnonzero(going)
        kept = _Nodes(nodes.job, nodes.edge, nodes.free, nodes.low, nodes.high, bound).take(k)
        self.open = self._split(kept, dual, k)
        if waiting is not None:
            self.open = waiting.joined(self.open)
        self._prune()

    def _split_in_two(
        self, nodes: _Nodes, model: np.ndarray, cloud: np.ndarray, dual: Dual, bound: np.ndarray
    ) -> np.ndarray:
        """Bound and fill roots whose gap is open by the two sides of `split`; return their bounds."""
        k = np.flatnonzero(dual.feasible & (bound < self.cost[nodes.job] - self.tolerance[nodes.job]))
        if not len(k):
            return bound
        edge = nodes.edge[k]
        sides = split_slots(self.curves, self.budget, model[k], cloud[k], edge.astype(float), nodes.free[k])
        for side in (0, 1):
            under = sides.under[side]
            fits = (under * edge).sum(axis=1) <= self.budget + FITS * max(self.budget, 1.0)
            at = Dual(
                sides.price[side], sides.bound[side], under, sides.over[side], sides.away_under[side],
                sides.away_over[side], fits,
            )  # fmt: skip
            self._offer(nodes.job[k], *fill(self.curves, self.budget, model[k], cloud[k], edge, at, rounds=3))
        bound = bound.copy()
        bound[k] = np.maximum(bound[k], sides.bound.min(axis=0))
        return bound

    def _offer(self, job: np.ndarray, cost: np.ndarray, at_edge: np.ndarray, steps: np.ndarray) -> None:
        """Keep the cheapest point of each job."""
        order = np.lexsort((cost, job))
        first = order[np.r_[True, job[order][1:] != job[order][:-1]]]
        better = first[cost[first] < self.cost[job[first]]]
        at = job[better]
        self.cost[at], self.at_edge[at], self.steps[at] = cost[better], at_edge[better], steps[better]

    def _give_up(self, job: np.ndarray, bound: np.ndarray, which: np.ndarray) -> None:
        """End some nodes: their bound is what their job can still be sure of there."""
        np.minimum.at(self.lower, job[which], bound[which])

    def _split(self, nodes: _Nodes, dual: Dual, k: np.ndarray) -> _Nodes:
        """Both children of each node; rows `k` of `dual` are the nodes'."""
        if not len(k):
            return nodes
        model, every = self.model[nodes.job], np.arange(len(k))
        under, over = np.where(nodes.edge, dual.under[k], 0.0), np.where(nodes.edge, dual.over[k], 0.0)
        rise = np.maximum(over - under, 0.0)
        slack = self.budget - under.sum(axis=1)
        reach = np.cumsum(rise, axis=1)
        inside = (reach > slack[:, None]) & (rise > 0)
        u = inside.argmax(axis=1)  # the request that stands inside a hull edge
        at = (every, u)
        stands = under[at] + slack - (reach[at] - rise[at])
        at_edge = (nodes.edge & ~dual.away_under[k])[at]
        by_place = inside.any(axis=1) & ~at_edge
        vertex = self.curves.vertex_steps[model[at]]
        index = np.arange(vertex.shape[1])
        between = (index > nodes.low[at][:, None]) & (index < nodes.high[at][:, None])
        between &= (vertex > under[at][:, None]) & (vertex < over[at][:, None])
        between &= ~self.curves.smooth[model[at]][:, None]
        by_steps = inside.any(axis=1) & at_edge & between.any(axis=1)
        cut = np.where(between, abs(vertex - stands[:, None]), np.inf).argmin(axis=1)
        closed = ~(by_place | by_steps)
        self._give_up(nodes.job, nodes.bound, closed)

        g = np.flatnonzero(~closed)
        nodes, u, cut, by_place = nodes.take(g), u[g], cut[g][:, None], by_place[g][:, None]
        model, every, column = model[g], np.arange(len(g)), np.arange(self.model.shape[1])
        same = (model == model[every, u][:, None]) & nodes.edge & nodes.edge[every, u][:, None]
        after, before = same & (column >= u[:, None]), same & (column <= u[:, None])
        # One child: the cloud, or at most this vertex. The other: the edge, or at least this vertex at the edge.
        leave, shorten = after & by_place, after & ~by_place
        high = np.where(shorten, np.minimum(nodes.high, cut), nodes.high).astype(np.int16)
        less = _Nodes(nodes.job, nodes.edge & ~leave, nodes.free & ~leave, nodes.low, high, nodes.bound)
        low = np.where(before & ~by_place, np.maximum(nodes.low, cut), nodes.low).astype(np.int16)
        more = _Nodes(nodes.job, nodes.edge, nodes.free & ~before, low, nodes.high, nodes.bound)
        empty_less = (shorten & (less.low > less.high)).any(axis=1)
        empty_more = (before & (more.low > more.high)).any(axis=1)
        return less.take(~empty_less).joined(more.take(~empty_more))

    def _prune(self) -> None:
        """End nodes that cannot improve their job, and those of groups that have reached their cutoff."""
        nodes = self.open
        alive = nodes.bound < self.cost[nodes.job] - self.tolerance[nodes.job]
        self._give_up(nodes.job, nodes.bound, ~alive)
        if self.group is not None and self.cutoff is not None:
            least = np.minimum(self.lower, self.cost)
            np.minimum.at(least, nodes.job[alive], nodes.bound[alive])
            known = np.where(np.isfinite(least), least, 0.0)
            total = np.bincount(self.group, known, len(self.cutoff))
            unknown = np.bincount(self.group, np.isneginf(least), len(self.cutoff)) > 0
            self.hopeless |= np.bincount(self.group, np.isposinf(least), len(self.cutoff)) > 0
            enough = ((total >= self.cutoff) & ~unknown) | self.hopeless
            ended = enough[self.group[nodes.job]] & alive
            self._give_up(nodes.job, nodes.bound, ended)
            alive &= ~ended
        self.open = nodes.take(alive)

    def result(self) -> Allocation:
        """Return what is known of every job, in the order of its requests as given."""
        self._give_up(self.open.job, self.open.bound, np.ones(len(self.open.job), bool))
        untouched = np.flatnonzero(np.isneginf(self.lower))
        if len(untouched):
            self._settle_untouched(untouched)
        every = np.arange(len(self.model))[:, None]
        at_edge, steps = np.zeros_like(self.at_edge), np.zeros_like(self.steps)
        at_edge[every, self.order], steps[every, self.order] = self.at_edge, self.steps
        return Allocation(self.cost, np.minimum(self.lower, self.cost), at_edge, steps)

    def _settle_untouched(self, rows: np.ndarray) -> None:
        """Jobs whose turn never came."""
        jobs = Jobs(
            self.curves, self.budget, self.model[rows], self.cloud[rows], self.cached[rows], self.free_hits
        )  # fmt: skip
        least = _least(jobs)
        self.lower[rows] = least.lower
        self._offer(rows, least.cost, least.at_edge, least.steps)
