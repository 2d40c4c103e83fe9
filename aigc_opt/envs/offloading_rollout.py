"""One offloading instance as it is decided, task after task: place and steps are decided, the shares are optimal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aigc_opt.instance.offloading import OffloadingInstance, User
from aigc_opt.problems.offloading.choices import ON_DEVICE, TURNED_AWAY
from aigc_opt.problems.offloading.heuristics import UNPLACED, Point, Points, complete, solution_of_point
from aigc_opt.problems.offloading.shares import divide
from aigc_opt.problems.offloading.solution import LOCAL, REJECTED, Assignment, OffloadingSolution
from aigc_opt.problems.offloading.tables import build_tables

MOST = 50.0
"""Observations are clipped to it; it also stands for what is impossible."""

FAILED = 1e6
"""Cost of the last step where a task that must be served finds no room: such an episode has no objective."""

PLACES_BEFORE_SERVERS = 2
"""Place 0 is the own device, 1 rejection, 2 + i server i."""


@dataclass(frozen=True, eq=False)
class OffloadingView:
    """What is known when a task is placed: the task, and what the ones before left.

    Attributes
    ----------
    number, users : int
        From 0, of so many.
    user : User
        The task's user, as in the file.
    grid : ndarray of int, shape (S,)
        Step counts.
    least : ndarray, shape (E, S)
        GHz that the task's deadline asks for at least, by server and steps; inf where that cannot be.
    left : ndarray, shape (E,)
        GHz that the minimum shares of earlier tasks leave.
    capacity, crowd : ndarray, shape (E,)
        GHz of the servers, and tasks there.
    transfer_cost : ndarray, shape (E,)
        Weighted cost of the transfers, inf where the server cannot be used.
    local_cost : ndarray, shape (S,)
        On the own device, inf where that cannot be.
    reject_cost : float
        inf where the task must be served.

    """

    number: int
    users: int
    user: User
    grid: np.ndarray
    least: np.ndarray
    left: np.ndarray
    capacity: np.ndarray
    crowd: np.ndarray
    transfer_cost: np.ndarray
    local_cost: np.ndarray
    reject_cost: float

    def vector(self) -> np.ndarray:
        """Return the observation, shape (6 + 4 E,), float32.

        n / N, weight, best cost on the own device, cost of rejection, deadline, megabits; then for each server the
        transfers' cost, the least share over what is left, what is left over the capacity, and the tasks there over N.
        Costs, seconds and megabits as ln(1 + x); `MOST` where something cannot be.
        """
        mbit = self.user.input_mbit + self.user.output_mbit
        own = [self.local_cost.min(initial=np.inf), self.reject_cost, self.user.max_delay_s, mbit]
        least = self.least.min(axis=1, initial=np.inf) / np.maximum(self.left, 1e-9)
        parts = [
            [self.number / self.users, self.user.weight], np.log1p(own), np.log1p(self.transfer_cost), least,
            self.left / self.capacity, self.crowd / self.users,
        ]  # fmt: skip
        return np.clip(np.concatenate(parts), 0.0, MOST).astype(np.float32)


class OffloadingRollout:
    """An offloading instance on its way. A step's cost is what the task adds, all shares divided anew.

    An action is (place, index of steps), see `PLACES_BEFORE_SERVERS`. What cannot be, or finds no room beside the
    minimum shares of earlier tasks, becomes: the same place with the most steps below that can; the own device or
    rejection, whichever is cheaper; the server with the smallest minimum share. A task that must be served and finds no
    room waits for the end, where others are moved for it (`heuristics.complete`).
    """

    def __init__(self, instance: OffloadingInstance, strict: bool = False):
        self.instance, self.strict = instance, strict
        self.tables = build_tables(instance, prune=False)
        self.points = Points(self.tables)
        users = self.tables.users
        self.number, self.total = 0, 0.0
        self.point: Point | None = None
        self.place, self.step = np.full(users, UNPLACED), np.zeros(users, int)
        self.asked: list[tuple[int, int]] = []
        self.left = self.tables.capacity.copy()
        self.places, self.grid = PLACES_BEFORE_SERVERS + self.tables.servers, len(self.tables.grid)
        self.observation_size, self.action_size = 6 + 4 * self.tables.servers, 2

    @property
    def over(self) -> bool:
        """Whether all tasks are decided."""
        return self.number == self.tables.users

    def view(self) -> OffloadingView:
        """Return what is known of the present task."""
        n, t = self.number, self.tables
        crowd = np.bincount(self.place[self.place >= 0], minlength=t.servers).astype(float)
        # Copies: a row of a table still holds the tasks to come in its base, and what is written to it stays there.
        return OffloadingView(
            n, t.users, self.instance.users[n], t.grid.copy(), self.points.least[n].copy(), self.left.copy(),
            t.capacity.copy(), crowd, t.fixed[n].copy(), t.local_cost[n].copy(), float(t.reject_cost[n]),
        )  # fmt: skip

    def act(self, action: np.ndarray) -> float:
        """Place the present task; return what it adds to the objective."""
        place, step = (int(v) for v in np.asarray(action).reshape(-1)[:2])
        place = min(max(place, 0), self.places - 1)
        where = (ON_DEVICE, TURNED_AWAY)[place] if place < PLACES_BEFORE_SERVERS else place - PLACES_BEFORE_SERVERS
        step = min(max(step, 0), self.grid - 1)
        n = self.number
        self.asked.append((where, step))
        ways = [(where, step)] if self.strict else self._ways(where, step)
        for p, s in ways:
            if self._possible(p, s):
                self.place[n], self.step[n] = p, s
                if p >= 0:
                    self.left[p] -= self.points.least[n, p, s]
                break
        self.number += 1
        before, self.total = self.total, self._cost()
        return self.total - before

    def _ways(self, where: int, step: int) -> list[tuple[int, int]]:
        n, t = self.number, self.tables
        ways = [(where, s) for s in range(step, -1, -1)] if where != TURNED_AWAY else [(TURNED_AWAY, 0)]
        if t.outside_step[n] >= 0:
            ways.append((ON_DEVICE, int(t.outside_step[n])))
        ways.append((TURNED_AWAY, 0))
        least = self.points.least[n].min(axis=1, initial=np.inf)
        return ways + [(int(i), int(self.points.least[n, i].argmin())) for i in np.argsort(least, kind="stable")]

    def _possible(self, p: int, s: int) -> bool:
        n = self.number
        if p == ON_DEVICE:
            return bool(np.isfinite(self.tables.local_cost[n, s]))
        if p == TURNED_AWAY:
            return bool(np.isfinite(self.tables.reject_cost[n]))
        return bool(self.points.fits(n, self.left)[p, s])

    def _cost(self) -> float:
        """Objective of what is decided so far, best shares included; at the end of the whole, `FAILED` without one."""
        t = self.tables
        if self.over:
            left = np.maximum(self.left, 0.0)
            if self.strict:
                self.point = self.points.settle(*np.array(self.asked).T)
            else:
                self.point = complete(self.points, self.place, self.step, left)
            return self.total + FAILED if self.point is None else self.point.cost
        n = np.flatnonzero(self.place >= 0)
        own, away = np.flatnonzero(self.place == ON_DEVICE), np.flatnonzero(self.place == TURNED_AWAY)
        sigma = np.sqrt(t.rate[n] * t.work[n, self.step[n]])
        least = np.minimum(self.points.least[n, self.place[n], self.step[n]], t.capacity[self.place[n]])
        share, _ = divide(self.place[n], sigma, least, t.capacity)
        cost = (t.fixed[n, self.place[n]] + t.loss[n, self.step[n]] + sigma**2 / share).sum()
        return float(cost + t.local_cost[own, self.step[own]].sum() + t.reject_cost[away].sum()) / t.users

    def solution(self) -> OffloadingSolution | None:
        """Return the decisions once all tasks are placed; None where a task found no room.

        With `strict` they are what was asked for: where that cannot be, without best shares but as slow as deadlines
        let it, so that the checker names a constraint that no shares keep.
        """
        if self.point is None:
            return self._asked_for() if self.strict and self.over else None
        return solution_of_point(self.tables, self.point)

    def _asked_for(self) -> OffloadingSolution:
        t, tasks = self.tables, []
        for n, (user, (place, step)) in enumerate(zip(self.instance.users, self.asked, strict=True)):
            if place == TURNED_AWAY:
                tasks.append(Assignment(user.name, REJECTED, None, None))
                continue
            name, left = LOCAL, float(t.local_time[n, step])
            if place != ON_DEVICE:
                name = self.instance.servers[place].name
                up, down = float(user.uplink_mbps[place]), float(user.downlink_mbps[place])
                reached = up > 0 and down > 0
                left = user.max_delay_s - (user.input_mbit / up + user.output_mbit / down) if reached else 0.0
            seconds = left if left > 0 else user.max_delay_s  # it cannot be there in any time
            tasks.append(Assignment(user.name, name, int(t.grid[step]), seconds))
        return OffloadingSolution(tuple(tasks))

    def action(self, place: str, steps: float | None) -> np.ndarray:
        """Return the action of a place's name and steps; off the grid, the nearest below."""
        names = [LOCAL, REJECTED, *(server.name for server in self.instance.servers)]
        step = 0 if steps is None else int(np.searchsorted(self.tables.grid, steps + 1e-6, side="right")) - 1
        return np.array([names.index(place), max(step, 0)])

    def actions_of(self, solution: OffloadingSolution) -> list[np.ndarray]:
        """Return the N actions that mean a solution's places and steps."""
        return [self.action(task.place, task.steps) for task in solution.tasks]
