"""What one unit more of each resource is worth, with places and steps kept.

With places and steps fixed the rest (computing times) is a convex program, and its multipliers have closed forms. They
are >= 0 and in units of the objective: it falls by about price times a small increase, as long as the same
constraints stay tight. Where several constraints meet exactly a multiplier is not unique; then the one for an
increase is given (a server that minimum shares fill: its last breakpoint), or the first of device speed and battery.

Minimise ``sum c_n(t_n)`` with ``c_n(t) = w_n (w_delay t + w_energy kappa W^3 / t^2)`` on a device and ``w_n w_delay
t`` at a server, where ``f_n = W_n / t_n``:

=========  ====================================  ===============================================================
server i   ``sum f <= F_i``                      mu_i = (sigma_n / f_n)^2 of any task above its minimum share
deadline   ``t <= D - transfers`` at a server    mu_i f^2 / W - w w_delay
deadline   ``t <= D`` on a device                w (2 w_energy kappa W^3 / D^3 - w_delay)
device     ``W / t <= max_ghz``                  c' t / max_ghz
battery    ``kappa W^3 / t^2 <= B``              c' t / (2 B); at a server energy does not depend on the time: 0
=========  ====================================  ===============================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aigc_opt.instance.offloading import OffloadingInstance
from aigc_opt.problems.offloading.shares import divide
from aigc_opt.problems.offloading.solution import LOCAL, REJECTED, OffloadingSolution
from aigc_opt.problems.offloading.tables import Tables, build_tables

if TYPE_CHECKING:
    import pandas as pd

TIGHT = 1e-9
"""Relative distance from a limit at which it counts as reached."""


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Fall of the objective for one unit more, with places and steps as they are.

    Attributes
    ----------
    server_ghz : ndarray, shape (E,)
        Of a GHz at each server.
    deadline_s : ndarray, shape (N,)
        Of a second of each user's deadline.
    battery_j : ndarray, shape (N,)
        Of a joule of each user's battery.
    device_ghz : ndarray, shape (N,)
        Of a GHz of each user's device.

    """

    instance: OffloadingInstance
    server_ghz: np.ndarray
    deadline_s: np.ndarray
    battery_j: np.ndarray
    device_ghz: np.ndarray

    def to_frame(self) -> pd.DataFrame:
        """Return one row a price: `resource`, `name` (of a server or user), `price` of a `unit`."""
        import pandas as pd

        users = [user.name for user in self.instance.users]
        servers = [server.name for server in self.instance.servers]
        parts = (
            ("server speed", servers, self.server_ghz, "GHz"),
            ("deadline", users, self.deadline_s, "s"),
            ("battery", users, self.battery_j, "J"),
            ("device speed", users, self.device_ghz, "GHz"),
        )
        rows = [
            (resource, name, float(price), unit)
            for resource, names, prices, unit in parts
            for name, price in zip(names, prices, strict=True)
        ]
        return pd.DataFrame(rows, columns=["resource", "name", "price", "unit"])


def sensitivity(instance: OffloadingInstance, solution: OffloadingSolution) -> Sensitivity:
    """Prices of resources at the best computing times for a solution's places and steps.

    Parameters
    ----------
    instance : OffloadingInstance
    solution : OffloadingSolution
        A feasible one; its own computing times are not used.

    Returns
    -------
    Sensitivity

    Raises
    ------
    ValueError
        If a task is where it cannot be.

    """
    tables = build_tables(instance, prune=False)
    place, step = _indices(tables, solution)
    users = tables.users
    deadline, battery, device = np.zeros(users), np.zeros(users), np.zeros(users)
    n = np.flatnonzero(place >= 0)
    work, slack = tables.work[n, step[n]], tables.slack[n, place[n]]
    own = np.flatnonzero(place == -1)
    if not (slack > 0).all() or not np.isfinite(tables.local_cost[own, step[own]]).all():
        raise ValueError("a task is where it cannot be: check the solution first")
    sigma, least = np.sqrt(tables.rate[n] * work), np.minimum(work / slack, tables.capacity[place[n]])
    share, mu = divide(place[n], sigma, least, tables.capacity)
    tight = share <= least * (1 + TIGHT)
    gain = np.maximum(mu[place[n]] * share**2 / work - tables.rate[n], 0.0)
    deadline[n] = np.where(tight, gain, 0.0)
    for m in own.tolist():
        deadline[m], battery[m], device[m] = _on_device(tables, m, step[m])
    return Sensitivity(instance, mu / users, deadline / users, battery / users, device / users)


def _indices(tables: Tables, solution: OffloadingSolution) -> tuple[np.ndarray, np.ndarray]:
    """Place (server's index, -1 = device, -2 = rejected) and index of steps of each task."""
    servers = {server.name: i for i, server in enumerate(tables.instance.servers)}
    servers |= {LOCAL: -1, REJECTED: -2}
    place = np.array([servers[task.place] for task in solution.tasks])
    steps = np.array([tables.grid[0] if task.steps is None else round(task.steps) for task in solution.tasks])
    return place, np.searchsorted(tables.grid, steps)


def _on_device(tables: Tables, n: int, step: int) -> tuple[float, float, float]:
    """Prices of a second of deadline, a joule and a GHz for a task on its own device (totals)."""
    user, weights = tables.instance.users[n], tables.instance.weights
    assert user.device is not None  # the task is on it
    time, work = tables.local_time[n, step], tables.work[n, step]
    slope = user.weight * (weights.delay - 2 * weights.energy * user.device.kappa * work**3 / time**3)
    if slope < 0 and time >= user.max_delay_s * (1 - TIGHT):
        return -slope, 0.0, 0.0
    if slope > 0 and time <= work / user.device.max_ghz * (1 + TIGHT):
        return 0.0, 0.0, slope * time / user.device.max_ghz
    # A time above the device's least and with a cost still rising is held back by the battery alone.
    held = time > 0 and user.device.kappa * work**3 / time**2 >= user.battery_j * (1 - TIGHT)
    return 0.0, slope * time / (2 * user.battery_j) if slope > 0 and held else 0.0, 0.0
