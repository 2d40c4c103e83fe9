"""A choice: the column of each user, -1 for the outside option; its exact cost, and the solution that it means."""

from __future__ import annotations

import math

import numpy as np

from aigc_opt.problems.offloading.shares import TIGHT, divide
from aigc_opt.problems.offloading.solution import LOCAL, REJECTED, Assignment, OffloadingSolution
from aigc_opt.problems.offloading.tables import Tables

OUTSIDE = -1
"""Value of a choice (ndarray of int, shape (N,)) where a user takes the outside option."""

ON_DEVICE, TURNED_AWAY = -1, -2
"""Places that are no server's index: the own device, and rejection."""


def total_cost(tables: Tables, choice: np.ndarray) -> float:
    """Exact total cost of a choice with its best shares; inf where it is not feasible."""
    inside = choice[choice >= 0]
    away = tables.outside_cost[choice < 0]
    if not np.isfinite(away).all():
        return math.inf
    server, sigma, least = tables.server[inside], tables.sigma[inside], tables.f_min[inside]
    if (np.bincount(server, least, tables.servers) > tables.capacity * (1 + TIGHT)).any():
        return math.inf
    share, _ = divide(server, sigma, least, tables.capacity)
    return math.fsum(away) + math.fsum(tables.base[inside]) + math.fsum(sigma**2 / share)


def solution_of(tables: Tables, choice: np.ndarray) -> OffloadingSolution:
    """Return the solution of a feasible choice, with best shares and best times on devices."""
    inside = np.flatnonzero(choice >= 0)
    column = choice[inside]
    place, step = np.full(tables.users, ON_DEVICE), tables.outside_step.copy()
    place[inside], step[inside] = tables.server[column], tables.step[column]
    share = np.full(tables.users, np.nan)
    share[inside], _ = divide(tables.server[column], tables.sigma[column], tables.f_min[column], tables.capacity)
    place[(choice < 0) & (tables.outside_step < 0)] = TURNED_AWAY
    return assigned(tables, place, step, share)


def assigned(tables: Tables, place: np.ndarray, step: np.ndarray, share: np.ndarray) -> OffloadingSolution:
    """Return the solution of places, indices of steps, and shares of speed (GHz), each of shape (N,)."""
    instance, tasks = tables.instance, []
    for n, user in enumerate(instance.users):
        p, s = int(place[n]), int(step[n])
        if p == TURNED_AWAY:
            tasks.append(Assignment(user.name, REJECTED, None, None))
        elif p == ON_DEVICE:
            tasks.append(Assignment(user.name, LOCAL, int(tables.grid[s]), float(tables.local_time[n, s])))
        else:
            seconds = float(tables.work[n, s] / share[n])
            tasks.append(Assignment(user.name, instance.servers[p].name, int(tables.grid[s]), seconds))
    return OffloadingSolution(tuple(tasks))
