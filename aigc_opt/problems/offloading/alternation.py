"""The paper's algorithm: alternation between offloading decisions and (computation time, steps).

The loop is `aigc_opt.decomposition.alternating`; its two blocks are here. How each block is solved is this project's
own reading: the abstract says what alternates, not how.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from aigc_opt.control import Control
from aigc_opt.decomposition.alternating import Alternation, alternate
from aigc_opt.problems.offloading.choices import ON_DEVICE, TURNED_AWAY
from aigc_opt.problems.offloading.heuristics import (
    ROOM,
    UNPLACED,
    Point,
    Points,
    all_best_server,
    all_local,
    fixed_steps,
    greedy_deadline,
    random_point,
)
from aigc_opt.problems.offloading.shares import set_cost
from aigc_opt.problems.offloading.tables import SLACK
from aigc_opt.program import ProgramBuilder
from aigc_opt.solvers import Highs

RANDOM_STARTS = 4
PRICE_BISECTIONS = 50

ASSIGNMENT_GAP = 1e-3
"""Relative gap to which an assignment is solved."""

ASSIGNMENT_SECONDS = 1.0
"""Most for one assignment; then the best one found so far is taken."""

EXACT_STARTS = 3
"""Ends of alternation by regret from which it goes on with assignments by HiGHS."""

ASSIGNMENT_PLACES = 2_000
"""Up to so many (user, server) pairs the assignment goes to HiGHS; beyond, regret alone decides."""


class AssignmentProblem(NamedTuple):
    """Places to choose from when every task's steps and computing time are fixed.

    Attributes
    ----------
    step : ndarray of int, shape (N,)
        Index of steps.
    need : ndarray, shape (N, E)
        GHz that the task takes there; inf where the place is impossible.
    cost : ndarray, shape (N, E + 2)
        At each server, on the device, and rejected; inf where that is impossible.

    """

    step: np.ndarray
    need: np.ndarray
    cost: np.ndarray


def offloading(points: Points, point: Point) -> Point | None:
    """Decide places anew, with every task's steps and computing time fixed, by regret.

    A task then brings its own speed to any server: it needs ``f = W / t`` (or the minimum share there, where the
    deadline asks for more) and the cost of the place is a constant, so that this is an assignment under capacities.
    A task that is now outside the servers has no computing time there yet, and asks for the mean speed.
    Tasks go, by largest regret, to the cheapest place that has room.
    """
    return _by_regret(points, _assignment(points, point))


def best_offloading(points: Points, point: Point, control: Control) -> Point | None:
    """Decide places as `offloading` does where that is cheaper; else solve the assignment to `ASSIGNMENT_GAP`."""
    assignment = _assignment(points, point)
    quick = _by_regret(points, assignment)
    return quick if quick is not None and quick.cost < point.cost else _by_program(points, assignment, control)


def _assignment(points: Points, point: Point) -> AssignmentProblem:
    tables = points.tables
    users, servers = tables.users, tables.servers
    rows = np.arange(users)
    at_server = point.place >= 0
    if at_server.any():
        mean = float(np.nanmean(point.share))
    else:
        mean = float(tables.capacity.sum()) / users
    wish = np.where(np.isnan(point.share), mean, point.share)
    step = np.where(point.place == TURNED_AWAY, np.maximum(tables.outside_step, 0), point.step)
    need = np.maximum(points.least[rows, :, step], wish[:, None])
    cost = np.full((users, servers + 2), np.inf)
    with np.errstate(invalid="ignore"):
        served = (
            tables.fixed + tables.loss[rows, step][:, None] + (tables.rate * tables.work[rows, step])[:, None] / need
        )
    cost[:, :servers] = np.where(np.isfinite(need), served, np.inf)
    cost[:, servers], cost[:, servers + 1] = tables.local_cost[rows, step], tables.reject_cost
    return AssignmentProblem(step, need, cost)


def _by_regret(points: Points, assignment: AssignmentProblem) -> Point | None:
    """Tasks go, by largest regret, to the cheapest place that has room."""
    tables, (step, need, cost) = points.tables, assignment
    users, servers = tables.users, tables.servers
    two = np.partition(cost, 1, axis=1)[:, :2]
    with np.errstate(invalid="ignore"):
        regret = np.where(np.isfinite(two[:, 1]), two[:, 1] - two[:, 0], np.inf)
    left, place = tables.capacity.copy(), np.full(users, UNPLACED)
    for n in np.argsort(-regret, kind="stable"):
        for p in np.argsort(cost[n], kind="stable"):
            if not np.isfinite(cost[n, p]):
                break
            if p >= servers or need[n, p] <= left[p] + ROOM * tables.capacity[p]:
                place[n] = p if p < servers else (ON_DEVICE if p == servers else TURNED_AWAY)
                if p < servers:
                    left[p] -= need[n, p]
                break
        if place[n] == UNPLACED:
            return None
    return points.settle(place, np.where(place == TURNED_AWAY, 0, step))


def _by_program(points: Points, assignment: AssignmentProblem, control: Control) -> Point | None:
    """Solve the assignment as a program: a binary a (user, server), one row a user and one a server."""
    tables, (step, need, cost) = points.tables, assignment
    users, servers = tables.users, tables.servers
    outside = cost[:, servers:].min(axis=1)
    must = np.isinf(outside)
    n, i = np.nonzero(np.isfinite(cost[:, :servers]))
    if not len(n) or must[np.setdiff1d(np.arange(users), n)].any():
        return None
    instance = tables.instance
    build = ProgramBuilder()
    runs = build.variable(
        "runs",
        cost[n, i] - np.where(must, 0.0, outside)[n],
        lambda: [(instance.users[a].name, instance.servers[b].name) for a, b in zip(n, i, strict=True)],
        integer=True,
    )
    build.constraint(
        "served",
        [(n, runs, np.ones(len(n)))],
        np.ones(users),
        lambda: [(user.name,) for user in instance.users],
        lower=np.where(must, 1.0, -np.inf),
    )
    build.constraint(
        "speed",
        [(i, runs, need[n, i] / tables.capacity[i])],
        np.full(servers, 1 + SLACK),
        lambda: [(server.name,) for server in instance.servers],
    )
    part = control.part(most_s=ASSIGNMENT_SECONDS)
    outcome = Highs(build.build(0.0)).solve(gap=ASSIGNMENT_GAP, control=part)
    if outcome.x is None:
        return None
    place = np.where(cost[:, servers] <= cost[:, servers + 1], ON_DEVICE, TURNED_AWAY)
    chosen = outcome.x > 0.5
    place[n[chosen]] = i[chosen]
    return points.settle(place, np.where(place == TURNED_AWAY, 0, step))


def times_and_steps(points: Points, point: Point) -> Point | None:
    """Decide computing times and steps anew, with places fixed.

    On a device that is closed form. A server's tasks share its speed by the square-root rule; for a price of speed each
    task's best steps are closed form too, and the price is bisected; steps change only where that is cheaper.
    """
    tables = points.tables
    place, step = point.place.copy(), point.step.copy()
    own = place == ON_DEVICE
    step[own] = tables.local_cost[own].argmin(axis=1)
    for i in range(tables.servers):
        n = np.flatnonzero(place == i)
        if len(n):
            step[n] = _steps_at_server(points, i, n, step[n])
    return points.settle(place, step)


def _steps_at_server(points: Points, i: int, n: np.ndarray, step: np.ndarray) -> np.ndarray:
    tables, capacity, rows = points.tables, float(points.tables.capacity[i]), np.arange(len(n))
    least = points.least[n, i]
    sigma = np.sqrt(tables.rate[n][:, None] * tables.work[n])
    base = tables.fixed[n, i][:, None] + tables.loss[n]
    bounded = np.where(np.isfinite(least), np.minimum(least, capacity), capacity)

    def cost(pick: np.ndarray) -> float:
        return float(base[rows, pick].sum()) + set_cost(sigma[rows, pick], least[rows, pick], capacity)

    best, best_cost = step, cost(step)
    gained = sigma[sigma > 0] ** 2
    if not len(gained):
        low, high = 1e-9, 1.0
    else:  # below the first price everybody takes the whole server, above the second one the minimum share
        low, high = float(gained.min()) / capacity**2 * 1e-3, float((sigma**2 / bounded**2).max()) * 1e3
    tried = set()
    for _ in range(PRICE_BISECTIONS):
        mu = math.sqrt(low * high)
        share = np.clip(sigma / math.sqrt(mu), bounded, capacity)
        pick = np.where(np.isfinite(least), base + sigma**2 / share + mu * share, np.inf).argmin(axis=1)
        if share[rows, pick].sum() > capacity:
            low = mu
        else:
            high = mu
        if pick.tobytes() not in tried:
            tried.add(pick.tobytes())
            if (value := cost(pick)) < best_cost:
                best, best_cost = pick, value
    return best


def alternate_from(points: Points, start: Point, control: Control, exact: bool = False) -> Alternation[Point]:
    """Alternate from one starting point, with assignments by regret or (`exact`) by HiGHS; the trace never rises."""
    return alternate(
        start,
        lambda point: point.cost,
        {
            "offloading": lambda point: best_offloading(points, point, control) if exact else offloading(points, point),
            "times and steps": lambda point: times_and_steps(points, point),
        },
        control,
    )


def alternating(points: Points, control: Control, seed: int) -> Point | None:
    """Alternation from each baseline's point and from random ones; the best end.

    First with assignments by regret; from the best few ends on with assignments solved by HiGHS, where those have at
    most `ASSIGNMENT_PLACES` (user, server) pairs.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    makers: list[tuple[str, Callable[[], Point | None]]] = [
        ("greedy by deadline", lambda: greedy_deadline(points, control, seed)),
        ("all local", lambda: all_local(points, control, seed)),
        ("all at the best server", lambda: all_best_server(points, control, seed)),
        ("fixed steps", lambda: fixed_steps(points, control, seed)),
        *((f"random {k + 1}", lambda: random_point(points, rng)) for k in range(RANDOM_STARTS)),
    ]
    ends: list[tuple[str, Point]] = []

    def go(name: str, start: Point, exact: bool) -> None:
        end = alternate_from(points, start, control, exact)
        for block, cost in end.trace:
            control.report(f"alternation from {name}: {block}", objective=cost)
        ends.append((name, end.point))

    for name, make in makers:
        if ends and control.stop is not None:
            break
        if (start := make()) is not None:
            go(name, start, exact=False)
    ends.sort(key=lambda end: end[1].cost)
    if points.tables.servers and points.least[:, :, 0].size <= ASSIGNMENT_PLACES:
        for name, start in ends[:EXACT_STARTS]:
            if control.stop is None:
                go(f"the end of {name}", start, exact=True)
    return min((point for _, point in ends), key=lambda point: point.cost, default=None)
