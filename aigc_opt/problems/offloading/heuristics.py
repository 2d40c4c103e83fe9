"""The simple policies that the algorithms are compared with.

Each decides places and steps; shares and times are then exact (`Points.settle`). Whoever does not fit goes to the own
device or is rejected; for a task that only a server can serve, others are moved out of its way. None gives a bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.offloading.choices import ON_DEVICE, TURNED_AWAY, assigned
from aigc_opt.problems.offloading.shares import TIGHT, divide
from aigc_opt.problems.offloading.solution import OffloadingSolution
from aigc_opt.problems.offloading.tables import Tables, blocks, least_shares

UNPLACED = -9

ROOM = 0.5 * TIGHT
"""Relative to the capacity: what a sum of least shares may lack by rounding; `settle` allows twice as much."""

Wish = tuple[int, int]
"""A place (server's index, `ON_DEVICE` or `TURNED_AWAY`) and an index of steps."""


@dataclass(frozen=True, eq=False)
class Point:
    """Places and steps with their best shares.

    Attributes
    ----------
    place : ndarray of int, shape (N,)
        Server's index, `ON_DEVICE` or `TURNED_AWAY`.
    step : ndarray of int, shape (N,)
        Index into the grid.
    share : ndarray, shape (N,)
        GHz; NaN off the servers.
    cost : float
        The file's objective.

    """

    place: np.ndarray
    step: np.ndarray
    share: np.ndarray
    cost: float


class Points:
    """Least shares of every (user, server, steps), and the best times of given places and steps.

    Attributes
    ----------
    tables : Tables
    least : ndarray, shape (N, E, S)
        GHz that the deadline asks for at least; inf where the place is impossible.

    """

    def __init__(self, tables: Tables):
        self.tables = tables
        self.least = np.empty((tables.users, tables.servers, len(tables.grid)))
        for block in blocks(tables.users, tables.servers * len(tables.grid)):
            self.least[block] = least_shares(tables.work[block], tables.slack[block], tables.capacity)

    def fits(self, n: int, left: np.ndarray) -> np.ndarray:
        """Whether user n's least shares (E, S) are left (E,); tasks that fill a server exactly fit, as in `settle`."""
        return self.least[n] <= (left + ROOM * self.tables.capacity)[:, None]

    def settle(self, place: np.ndarray, step: np.ndarray) -> Point | None:
        """Return the point of places and steps; None if something is impossible or does not fit."""
        tables = self.tables
        n = np.flatnonzero(place >= 0)
        own, away = np.flatnonzero(place == ON_DEVICE), np.flatnonzero(place == TURNED_AWAY)
        share = np.full(tables.users, np.nan)
        sigma = np.sqrt(tables.rate[n] * tables.work[n, step[n]])
        least = self.least[n, place[n], step[n]]
        used = np.bincount(place[n], least, tables.servers)
        if not np.isfinite(least).all() or (used > tables.capacity * (1 + TIGHT)).any():
            return None
        share[n], _ = divide(place[n], sigma, np.minimum(least, tables.capacity[place[n]]), tables.capacity)
        value = (
            math.fsum(tables.fixed[n, place[n]] + tables.loss[n, step[n]])
            + math.fsum(sigma**2 / share[n])
            + math.fsum(tables.local_cost[own, step[own]])
            + math.fsum(tables.reject_cost[away])
        )
        return Point(place.copy(), step.copy(), share, value / tables.users) if math.isfinite(value) else None

    def costs_at_shares(self, share: np.ndarray, n: int | slice = slice(None)) -> np.ndarray:
        """Cost (N, E, S) were `share` (E,) GHz of each server given to the task; inf = impossible."""
        tables, least = self.tables, self.least[n]
        work = (tables.rate[:, None] * tables.work)[n]
        with np.errstate(invalid="ignore"):
            given = np.maximum(share[:, None], np.where(np.isfinite(least), least, 1.0))
            cost = tables.fixed[n][..., None] + tables.loss[n][..., None, :] + work[..., None, :] / given
        return np.where(np.isfinite(least), cost, np.inf)


def solution_of_point(tables: Tables, point: Point) -> OffloadingSolution:
    """Return the solution of a point."""
    return assigned(tables, point.place, point.step, point.share)


# ------------------------------------------------------------------------------------ placing one after another


def place_in_order(points: Points, order: Iterable[int], wishes: Callable[[int], Iterable[Wish]]) -> Point | None:
    """Place users one after another at the first of their wishes whose minimum share still fits.

    Parameters
    ----------
    points : Points
    order : iterable of int
        Users, first served first.
    wishes : callable
        User -> places and steps, best first; device, rejection and (for a task that must be served) every server at any
        steps follow by themselves.

    Returns
    -------
    Point or None
        None where a task that must be served finds no room even with others moved outside.

    """
    tables = points.tables
    place, step = np.full(tables.users, UNPLACED), np.zeros(tables.users, int)
    left = tables.capacity.copy()
    for n in order:
        for p, s in [*wishes(n), *_last_resorts(points, n)]:
            if p == ON_DEVICE:
                possible = np.isfinite(tables.local_cost[n, s])
            elif p == TURNED_AWAY:
                possible = np.isfinite(tables.reject_cost[n])
            else:
                possible = points.fits(n, left)[p, s]
            if possible:
                place[n], step[n] = p, s
                if p >= 0:
                    left[p] -= points.least[n, p, s]
                break
    return complete(points, place, step, left)


def complete(points: Points, place: np.ndarray, step: np.ndarray, left: np.ndarray) -> Point | None:
    """Find room for users who are still `UNPLACED`; changes the arrays. None where that fails."""
    for n in np.flatnonzero(place == UNPLACED).tolist():
        if not _make_room(points, n, place, step, left):
            return None
    return points.settle(place, step)


def _outside(tables: Tables, n: int) -> Wish:
    return (TURNED_AWAY, 0) if tables.outside_step[n] < 0 else (ON_DEVICE, int(tables.outside_step[n]))


def _last_resorts(points: Points, n: int) -> list[Wish]:
    """Own device at its best steps, rejection; else any server at any steps, least minimum share first."""
    tables = points.tables
    found: list[Wish] = []
    if np.isfinite(tables.local_cost[n]).any():
        found.append((ON_DEVICE, int(tables.local_cost[n].argmin())))
    if np.isfinite(tables.reject_cost[n]):
        found.append((TURNED_AWAY, 0))
    if not found and tables.servers:
        least = points.least[n]
        i, s = np.unravel_index(np.argsort(least, axis=None, kind="stable"), least.shape)
        found += [(int(a), int(b)) for a, b in zip(i, s, strict=True) if np.isfinite(least[a, b])]
    return found


def _make_room(points: Points, n: int, place: np.ndarray, step: np.ndarray, left: np.ndarray) -> bool:
    """Serve a user by moving tasks that have somewhere else to go, and by cutting steps of those that have not."""
    tables = points.tables
    for i in np.argsort(points.least[n].min(axis=1, initial=np.inf), kind="stable"):
        s = int(points.least[n, i].argmin())
        least = points.least[n, i, s]
        if not np.isfinite(least):
            return False
        need = least - ROOM * tables.capacity[i]
        there = np.flatnonzero((place == i) & ~tables.must)
        must = np.flatnonzero((place == i) & tables.must)
        shrink = points.least[must, i, step[must]] - points.least[must, i].min(axis=1)
        if left[i] + points.least[there, i, step[there]].sum() + shrink.sum() < need:
            continue
        for m in there:
            if left[i] >= need:
                break
            left[i] += points.least[m, i, step[m]]
            place[m], step[m] = _outside(tables, int(m))
        for m, gain in zip(must, shrink, strict=True):
            if left[i] >= need:
                break
            left[i] += gain
            step[m] = int(points.least[m, i].argmin())
        if left[i] >= need:
            place[n], step[n] = i, s
            left[i] -= least
            return True
    return False


# ------------------------------------------------------------------------------------------------ the baselines


def all_local(points: Points, control: Control, seed: int) -> Point | None:
    """Every task on its own device at its best steps; rejected where that cannot be, at a server if it must."""
    tables = points.tables
    return place_in_order(points, range(tables.users), lambda n: [(ON_DEVICE, int(tables.local_cost[n].argmin()))])


def all_best_server(points: Points, control: Control, seed: int) -> Point | None:
    """Every task at the server with the fastest transfers, by weight; steps best at equal shares, fewer if needed."""
    tables = points.tables
    if not tables.servers:
        return all_local(points, control, seed)
    nearest = tables.slack.argmax(axis=1)
    crowd = np.bincount(nearest, minlength=tables.servers)
    step = points.costs_at_shares(tables.capacity / np.maximum(crowd, 1)).argmin(axis=2)

    def wishes(n: int) -> list[Wish]:
        i = int(nearest[n])
        return [(i, s) for s in range(int(step[n, i]), -1, -1)]

    return place_in_order(points, np.argsort(-tables.rate, kind="stable"), wishes)


def random(points: Points, control: Control, seed: int) -> Point | None:
    """Places and steps drawn uniformly among those that are possible for each user, in random order."""
    return random_point(points, np.random.Generator(np.random.PCG64(seed)))


def random_point(points: Points, rng: np.random.Generator) -> Point | None:
    """Return a random point, see `random`."""
    tables = points.tables

    def wishes(n: int) -> list[Wish]:
        i, s = np.nonzero(np.isfinite(points.least[n]))
        menu = list(zip(i.tolist(), s.tolist(), strict=True))
        menu += [(ON_DEVICE, int(s)) for s in np.flatnonzero(np.isfinite(tables.local_cost[n]))]
        menu += [(TURNED_AWAY, 0)] if np.isfinite(tables.reject_cost[n]) else []
        order = np.argsort(rng.random(len(menu)), kind="stable")
        return [menu[k] for k in order[:3]]

    return place_in_order(points, np.argsort(rng.random(tables.users), kind="stable"), wishes)


def fixed_steps_point(points: Points, step: int) -> Point | None:
    """Everybody the same steps (an index into the grid), at the place that is cheapest at equal shares, by weight."""
    tables = points.tables
    share = tables.capacity * max(1, tables.servers) / max(1, tables.users)
    cost = points.costs_at_shares(np.minimum(share, tables.capacity))[:, :, step]

    def wishes(n: int) -> list[Wish]:
        menu = [(float(cost[n, i]), i) for i in np.flatnonzero(np.isfinite(cost[n])).tolist()]
        menu += [(float(tables.local_cost[n, step]), ON_DEVICE)] if np.isfinite(tables.local_cost[n, step]) else []
        menu += [(float(tables.reject_cost[n]), TURNED_AWAY)] if np.isfinite(tables.reject_cost[n]) else []
        return [(p, step if p != TURNED_AWAY else 0) for _, p in sorted(menu)]

    return place_in_order(points, np.argsort(-tables.rate, kind="stable"), wishes)


def fixed_steps(points: Points, control: Control, seed: int) -> Point | None:
    """Everybody the same steps at the cheapest place; the best of one, two, three quarters of the grid and its end."""
    last = len(points.tables.grid) - 1
    found: list[Point | None] = []
    for step in sorted({last // 4, last // 2, 3 * last // 4, last}):
        if found and control.stop is not None:
            break
        found.append(fixed_steps_point(points, step))
    return min((point for point in found if point is not None), key=lambda point: point.cost, default=None)


def greedy_deadline(points: Points, control: Control, seed: int) -> Point | None:
    """Earliest deadline first; each takes what is cheapest at equal shares among the tasks there and itself."""
    tables = points.tables
    crowd, left = np.zeros(tables.servers), tables.capacity.copy()
    place, step = np.full(tables.users, UNPLACED), np.zeros(tables.users, int)
    for n in np.argsort([user.max_delay_s for user in tables.instance.users], kind="stable"):
        best, (p, s) = tables.outside_cost[n], _outside(tables, n)
        if tables.servers:
            cost = points.costs_at_shares(tables.capacity / (crowd + 1), n)
            cost = np.where(points.fits(n, left), cost, np.inf)
            at = np.unravel_index(cost.argmin(), cost.shape)
            if cost[at] < best:
                best, (p, s) = cost[at], (int(at[0]), int(at[1]))
        if not np.isfinite(best):
            continue
        place[n], step[n] = p, s
        if p >= 0:
            crowd[p] += 1
            left[p] -= points.least[n, p, s]
    return complete(points, place, step, left)
