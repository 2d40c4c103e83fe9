"""The paper's algorithm: alternation between offloading decisions and (computation time, steps).

The loop is `aigc_opt.decomposition.alternating`; its two blocks are here. How each block is solved is this project's
own reading: the abstract says what alternates, not how.
"""

from __future__ import annotations

import math

import numpy as np

from aigc_opt.control import Control
from aigc_opt.decomposition.alternating import Alternation, alternate
from aigc_opt.problems.offloading.choices import ON_DEVICE, TURNED_AWAY
from aigc_opt.problems.offloading.heuristics import (
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

RANDOM_STARTS = 4
PRICE_BISECTIONS = 50


def offloading(points: Points, point: Point) -> Point | None:
    """Decide places anew, with every task's steps and computing time fixed.

    A task then brings its own speed to any server: it needs ``f = W / t`` (or the minimum share there, where the
    deadline asks for more) and the cost of the place is a constant, so that this is an assignment under capacities.
    Tasks go, by largest regret, to the cheapest place that has room. A task that is now on its device asks for the
    mean speed.
    """
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
    two = np.partition(cost, 1, axis=1)[:, :2]
    with np.errstate(invalid="ignore"):
        regret = np.where(np.isfinite(two[:, 1]), two[:, 1] - two[:, 0], np.inf)
    left, place = tables.capacity.copy(), np.full(users, UNPLACED)
    for n in np.argsort(-regret, kind="stable"):
        for p in np.argsort(cost[n], kind="stable"):
            if not np.isfinite(cost[n, p]):
                break
            if p >= servers or need[n, p] <= left[p] * (1 + SLACK):
                place[n] = p if p < servers else (ON_DEVICE if p == servers else TURNED_AWAY)
                if p < servers:
                    left[p] -= need[n, p]
                break
        if place[n] == UNPLACED:
            return None
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


def alternate_from(points: Points, start: Point, control: Control) -> Alternation[Point]:
    """Alternate from one starting point; the trace never rises."""
    return alternate(
        start,
        lambda point: point.cost,
        {
            "offloading": lambda point: offloading(points, point),
            "times and steps": lambda point: times_and_steps(points, point),
        },
        control,
    )


def alternating(points: Points, control: Control, seed: int) -> Point | None:
    """Alternation from each baseline's point and from random ones; the best end."""
    rng = np.random.Generator(np.random.PCG64(seed))
    makers = [
        ("greedy by deadline", lambda: greedy_deadline(points, control, seed)),
        ("all local", lambda: all_local(points, control, seed)),
        ("all at the best server", lambda: all_best_server(points, control, seed)),
        ("fixed steps", lambda: fixed_steps(points, control, seed)),
        *((f"random {k + 1}", lambda: random_point(points, rng)) for k in range(RANDOM_STARTS)),
    ]
    best: Point | None = None
    for name, make in makers:
        if best is not None and control.stop is not None:
            break
        start = make()
        if start is None:
            continue
        end = alternate_from(points, start, control)
        for block, cost in end.trace:
            control.report(f"alternation from {name}: {block}", objective=cost)
        if best is None or end.cost < best.cost:
            best = end.point
    return best
