"""Everything that can be known of an instance before any decision is made, as flat arrays.

A *column* is a triple (user, server, steps) that is possible on its own. Served that way with a share f (GHz) of the
server's speed it costs ::

    base + sigma^2 / f,      f >= f_min

where ``sigma^2 = w_n w_delay W_n(s)`` and ``f_min = W_n(s) / (D_n - transfers)``. What happens outside the servers (own
device, rejection) touches nothing that is shared, so only the cheapest such option of a user matters: the *outside*
option. All costs here are totals in units of `Tables.unit`; the file's objective is the total over N.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from aigc_opt.control import Control, require_memory
from aigc_opt.instance.offloading import OffloadingInstance
from aigc_opt.result import Limit

SLACK = 1e-12
"""Relative slack in favour of what is possible: a bound stays valid, and the checker's tolerance is 1e-6."""

ORDINARY = 2.0**20
"""Costs between this and its inverse are taken as they are."""

BYTES_A_COLUMN, BYTES_A_KEPT_COLUMN = 35.0, 75.0
"""Memory of a triple of user, server and steps, measured: most are pruned, or all are kept. A solver takes more."""

BYTES_AN_OPTION = 35.0
"""Memory of a pair of user and steps: work, loss, and cost and time on the own device with what they are made of."""

BLOCK = 2**16
"""Entries of an array that are worked on at once: they stay in the processor's cache, and the clock is seen."""

_COLUMN_ARRAYS = {"user": int, "server": int, "step": int, "base": float, "sigma": float, "f_min": float}

REJECT, NOWHERE = -1, -2
"""Values of `Tables.outside_step` of a user whose outside option is rejection, and who has none."""


@dataclass(frozen=True, eq=False)
class Tables:
    """Arrays of an instance: N users, E servers, S step counts, C columns sorted by user.

    Attributes
    ----------
    instance : OffloadingInstance
    unit : float
        Costs here times this are those of the file.
    grid : ndarray of int, shape (S,)
        Step counts.
    work : ndarray, shape (N, S)
        Gcycles.
    loss : ndarray, shape (N, S)
        Cost of quality, ``w_n w_quality q_n(s)``.
    slack : ndarray, shape (N, E)
        Seconds left for computing after both transfers; -inf where the place is impossible for the user.
    fixed : ndarray, shape (N, E)
        Cost of the transfers; inf where the place is impossible.
    rate : ndarray, shape (N,)
        Cost of a second, ``w_n w_delay``.
    local_cost, local_time : ndarray, shape (N, S)
        On the own device with the best seconds of computing; inf and NaN where that is impossible.
    reject_cost : ndarray, shape (N,)
        inf where the task must be served.
    outside_cost, outside_step : ndarray, shape (N,)
        Cheapest of device and rejection, and the index of its steps (or `REJECT`, `NOWHERE`).
    capacity : ndarray, shape (E,)
        GHz.
    user, server, step : ndarray of int, shape (C,)
        What each column is.
    base, sigma, f_min : ndarray, shape (C,)
        What it costs, see above.
    start : ndarray of int, shape (N + 1,)
        Columns of user n are ``start[n]:start[n + 1]``.
    stopped : Limit or None
        What cut the making of columns short: then there are none, and all that they prove is `everybody_alone`.

    """

    instance: OffloadingInstance
    unit: float
    grid: np.ndarray
    work: np.ndarray
    loss: np.ndarray
    slack: np.ndarray
    fixed: np.ndarray
    rate: np.ndarray
    local_cost: np.ndarray
    local_time: np.ndarray
    reject_cost: np.ndarray
    outside_cost: np.ndarray
    outside_step: np.ndarray
    capacity: np.ndarray
    user: np.ndarray
    server: np.ndarray
    step: np.ndarray
    base: np.ndarray
    sigma: np.ndarray
    f_min: np.ndarray
    start: np.ndarray
    stopped: Limit | None = None

    @property
    def users(self) -> int:
        """Number of users."""
        return len(self.rate)

    @property
    def servers(self) -> int:
        """Number of servers."""
        return len(self.capacity)

    @property
    def must(self) -> np.ndarray:
        """Users (N,) without an outside option: only a server can serve them."""
        return np.isinf(self.outside_cost)

    @property
    def away_cost(self) -> np.ndarray:
        """Costs (N,) of outside options, 0 where there is none: the part of the cost that columns are measured from."""
        return np.where(self.must, 0.0, self.outside_cost)

    def restricted(self, users: np.ndarray, columns: np.ndarray) -> Tables:
        """Return the problem of some users over some of their columns (both sorted); servers keep their numbers."""
        new = np.full(self.users, -1)
        new[users] = np.arange(len(users))
        user = new[self.user[columns]]
        by_user = (
            "work", "loss", "slack", "fixed", "rate", "local_cost", "local_time", "reject_cost", "outside_cost",
            "outside_step",
        )  # fmt: skip
        by_column = ("server", "step", "base", "sigma", "f_min")
        return replace(
            self,
            **{name: getattr(self, name)[users] for name in by_user},
            **{name: getattr(self, name)[columns] for name in by_column},
            user=user,
            start=np.searchsorted(user, np.arange(len(users) + 1)),
        )


def build_tables(instance: OffloadingInstance, control: Control | None = None, prune: bool = True) -> Tables:
    """Make the tables of an instance.

    Parameters
    ----------
    instance : OffloadingInstance
    control : Control, optional
        Polled while columns are made; where it says stop there are none, see `Tables.stopped`.
    prune : bool
        Leave out columns that some optimal point does without: those that cost no less than the user's outside option
        even with the whole server to themselves (moving the user outside frees a share and costs no more), and step
        counts that another one beats or equals in both workload and loss (less work is a smaller sigma and f_min).
        Costs of an extreme size are then scaled too (`_in_units`), because they go to a solver.

    Raises
    ------
    InputError
        If the arrays do not fit into memory.

    """
    users, servers = instance.users, instance.servers
    shape = len(users), len(servers)
    steps = instance.steps
    options = float((steps.max - steps.min) // steps.stride + 1) * len(users)
    columns = options * len(servers)
    needed = BYTES_AN_OPTION * options + (BYTES_A_COLUMN if prune else BYTES_A_KEPT_COLUMN) * columns
    what = f"{columns:,.0f} triples of user, server and steps" if servers else f"{options:,.0f} pairs of user and steps"
    require_memory(instance.name, what, needed)
    grid = np.arange(steps.min, steps.max + 1, steps.stride)
    profiles = instance.models
    model_work = np.array([m.workload.base_gcycles + m.workload.per_step_gcycles * grid for m in profiles], float)
    model_loss = np.array([m.quality.value(grid) for m in profiles], float)
    position = {profile.name: k for k, profile in enumerate(profiles)}
    model = np.array([position[user.model] for user in users])
    weight = np.array([user.weight for user in users])
    work = model_work[model]
    loss = (weight * instance.weights.quality)[:, None] * model_loss[model]
    rate = weight * instance.weights.delay
    capacity = np.array([server.ghz for server in servers], float)

    local_cost, local_time = _local(instance, work, loss, weight)
    penalty = np.array([np.inf if u.rejection_penalty is None else u.weight * u.rejection_penalty for u in users])
    best = local_cost.argmin(axis=1)
    outside_cost = local_cost[np.arange(shape[0]), best]
    outside_step = np.where(np.isfinite(outside_cost), best, NOWHERE)
    rejecting = penalty < outside_cost
    outside_cost = np.where(rejecting, penalty, outside_cost)
    outside_step = np.where(rejecting, REJECT, outside_step)

    slack, fixed = _transfers(instance, weight, model, position)
    kept = np.ones(model_work.shape, bool) if not prune else ~_beaten(model_work, model_loss)
    parts: dict[str, list[np.ndarray]] = {name: [np.zeros(0, kind)] for name, kind in _COLUMN_ARRAYS.items()}
    stopped = None
    for block in blocks(shape[0], shape[1] * len(grid)):
        stopped = None if control is None else control.stop
        if stopped is not None:
            break
        least = least_shares(work[block], slack[block], capacity)
        keep = np.isfinite(least) & kept[model[block], None]
        if prune:
            alone = (rate[block, None] * work[block])[:, None] / capacity[:, None]
            alone += fixed[block, :, None]
            alone += loss[block, None]
            keep &= alone < outside_cost[block, None, None]
        user, server, step = np.nonzero(keep)
        f_min = np.minimum(least[keep], capacity[server])
        user += block.start
        base, sigma = fixed[user, server] + loss[user, step], np.sqrt(rate[user] * work[user, step])
        for name, values in zip(parts, (user, server, step, base, sigma, f_min), strict=True):
            parts[name].append(values)
    # Each array's blocks go when it is whole: all of them twice would be too much memory.
    columns_of = {name: np.concatenate(parts.pop(name)[: 1 if stopped else None]) for name in _COLUMN_ARRAYS}
    tables = Tables(
        instance, 1.0, grid, work, loss, slack, fixed, rate, local_cost, local_time, penalty,
        outside_cost, outside_step,
        capacity, **columns_of, start=np.searchsorted(columns_of["user"], np.arange(shape[0] + 1)), stopped=stopped,
    )  # fmt: skip
    return _in_units(tables) if prune else tables


def everybody_alone(tables: Tables) -> float:
    """Lower bound without columns: each user outside, or on the fastest server, all of it theirs, by the best channel.

    Each part of a column's cost is no less than here: ``base`` = transfers and loss, and ``sigma^2 / f`` with
    f <= capacity. So no option of a user costs less, and no point less than the sum; what is taken off covers the
    rounding of all parts, which may have either sign.
    """
    cost = tables.outside_cost
    size = np.where(np.isfinite(cost), abs(cost), 0.0)
    if tables.servers:
        served, transfer = tables.rate[:, None] * tables.work / tables.capacity.max(), tables.fixed.min(axis=1)
        cost = np.minimum(cost, transfer + (tables.loss + served).min(axis=1))
        size += abs(tables.loss).max(axis=1) + served.max(axis=1) + np.where(np.isfinite(transfer), transfer, 0.0)
    return float(cost.sum() - 1e-12 * size.sum()) if np.isfinite(cost).all() else -math.inf


def blocks(rows: int, width: int, most: int | None = None) -> Iterator[slice]:
    """Divide rows of `width` entries into runs of `most` entries, by default of `BLOCK`, but a row at least."""
    size = max(1, (most or BLOCK) // max(1, width))
    for first in range(0, rows, size):
        yield slice(first, min(first + size, rows))


def least_shares(work: np.ndarray, slack: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """Least speeds (N, E, S) in GHz that deadlines ask for, inf where the place is impossible.

    Of work (N, S), seconds left after transfers (N, E), and servers' speeds (E,).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        least = work[:, None, :] / slack[:, :, None]
    least[~((slack[:, :, None] > 0) & (least <= capacity[:, None] * (1 + SLACK)))] = np.inf
    return least


def _in_units(tables: Tables) -> Tables:
    """Return the tables with costs of ordinary size: where they are none, in a unit that is a power of 4.

    Solvers have absolute tolerances and drop small numbers. The dearest of the users' cheapest options counts; such a
    power leaves costs and their square roots exact, so that a problem in other units is solved by the same numbers.
    """
    least = tables.outside_cost.copy()
    for block in blocks(len(tables.user), 1):
        by_itself = tables.base[block] + tables.sigma[block] ** 2 / tables.capacity[tables.server[block]]
        np.minimum.at(least, tables.user[block], by_itself)
    dearest = float(abs(least[np.isfinite(least)]).max(initial=0.0))
    if dearest == 0.0 or 1.0 / ORDINARY < dearest < ORDINARY:
        return tables
    unit = 4.0 ** round(0.5 * math.log2(dearest))
    costs = ("loss", "fixed", "rate", "local_cost", "reject_cost", "outside_cost", "base")
    scaled = {name: getattr(tables, name) / unit for name in costs}
    return replace(tables, unit=unit, sigma=tables.sigma / math.sqrt(unit), **scaled)


def _local(
    instance: OffloadingInstance, work: np.ndarray, loss: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cost and seconds (N, S) on the own device.

    ``W / t <= max_ghz`` and ``kappa W^3 / t^2 <= B`` bound the time from below, the deadline from above; between them
    the convex ``w_delay t + w_energy kappa W^3 / t^2`` is least where ``t^3 = 2 w_energy kappa W^3 / w_delay``.
    """
    users, weights = instance.users, instance.weights
    has = np.array([user.device is not None for user in users])
    ghz = np.array([user.device.max_ghz if user.device else 1.0 for user in users])
    kappa = np.array([user.device.kappa if user.device else 0.0 for user in users])
    deadline = np.array([user.max_delay_s for user in users])
    battery = np.array([user.battery_j for user in users])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        cubic = kappa[:, None] * work**3
        by_battery = np.where(cubic > 0, np.sqrt(cubic / battery[:, None]), 0.0)
        least = np.maximum(work / ghz[:, None], by_battery)
        if weights.delay > 0:
            free = np.cbrt(2.0 * weights.energy * cubic / weights.delay)
        else:
            free = np.full_like(cubic, np.inf if weights.energy > 0 else 0.0)
        time = np.minimum(np.maximum(free, least), deadline[:, None])
        possible = has[:, None] & (least <= deadline[:, None] * (1 + SLACK))
        spent = weight[:, None] * (weights.delay * time + weights.energy * cubic / time**2)
        cost = np.where(possible, loss + spent, np.inf)
    return cost, np.where(possible, time, np.nan)


def _transfers(
    instance: OffloadingInstance, weight: np.ndarray, model: np.ndarray, position: dict[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds left after the transfers and their cost, (N, E) each; -inf and inf where a server is impossible."""
    users, servers, weights = instance.users, instance.servers, instance.weights
    shape = len(users), len(servers)
    column = {
        key: np.array([getattr(user, key) for user in users], float)[:, None]
        for key in ("input_mbit", "output_mbit", "transmit_power_w", "battery_j", "max_delay_s")
    }
    up = np.array([user.uplink_mbps for user in users], float).reshape(shape)
    down = np.array([user.downlink_mbps for user in users], float).reshape(shape)
    runs = np.array([[s.hosts is None or name in s.hosts for s in servers] for name in position], bool)
    hosted = runs.reshape(len(position), len(servers))[model]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        upload = column["input_mbit"] / up
        transfer = upload + column["output_mbit"] / down
        energy = column["transmit_power_w"] * upload
        reach = (up > 0) & (down > 0) & hosted & (energy <= column["battery_j"] * (1 + SLACK))
        reach &= transfer < column["max_delay_s"]
        cost = weight[:, None] * (weights.delay * transfer + weights.energy * energy)
    return np.where(reach, column["max_delay_s"] - transfer, -np.inf), np.where(reach, cost, np.inf)


def _beaten(work: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """(M, S) step counts that another one beats or equals in both workload and loss; of equals the first stays.

    In the order of workload, then loss, then place only those before a step count can beat it: one of them does where
    the least of their losses is no more than its own.
    """
    order = np.lexsort((loss, work), axis=1)
    sorted_loss = np.take_along_axis(loss, order, axis=1)
    before = np.minimum.accumulate(sorted_loss, axis=1)[:, :-1]
    beaten = np.zeros(work.shape, bool)
    np.put_along_axis(beaten, order[:, 1:], before <= sorted_loss[:, 1:], axis=1)
    return beaten
