"""Prices on demand and on what servers have: the Lagrangian dual of the deployment program, vectorised.

Put a price p_tim (cost per request, >= 0) on ``sum_o r_timo = 1`` and prices theta, eps, sigma, gamma >= 0 (all [T, E])
on the limits of GPU-seconds, joules, disk and GPU memory. What is left separates into one problem for each server and
model, because all else that links them is gone ::

    D = sum lam p - sum theta H - sum eps E - sum sigma C - sum gamma G            (limits that exist)
        - sum lam max(0, p - cloud)                                                (the cloud's routes)
        + sum over (j, m) of the least cost of a path over time with states absent, on disk, in memory

where a slot on disk costs ``hold_stored + sigma c_m``, one in memory ``hold_loaded + gamma g_m`` more and less what its
routes earn, ``sum_i lam_tim max(0, p_tim - serve_imj - theta_tj a_m - eps_tj e_m)``, and a load ``load + eps l_m``.

``D <= optimum`` for all prices >= 0: take any feasible point. To its cost add each price times (left side - right side)
of its row, which is 0 for demands and <= 0 for limits; what stands there then is, for each (j, m), the cost of the
point's own path and of its own routes, which are open in slots in memory only, and so is no less than the minimum. Any
prices prove a bound, however they were found; only the evaluation has to be right. The best D is the value of the
linear relaxation, since paths and routes are integral without the priced rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aigc_opt.decomposition.lagrangian import SmoothDual
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.problems.deployment.costs import Costs

NEVER = 1e100
"""Cost of a route that there is not, so that it earns nothing at any price."""


@dataclass(frozen=True)
class Prices:
    """Prices of the rows that are relaxed.

    Attributes
    ----------
    demand : ndarray, shape (T, E, M)
        Cost per request.
    gpu_s, energy_j, storage_gb, gpu_memory_gb : ndarray, shape (T, E)
        Cost per unit; 0 where there is no limit.

    """

    demand: np.ndarray
    gpu_s: np.ndarray
    energy_j: np.ndarray
    storage_gb: np.ndarray
    gpu_memory_gb: np.ndarray


@dataclass(frozen=True)
class Priced:
    """The dual at some prices.

    Attributes
    ----------
    value : float
        D, rounded down: a proven lower bound.
    smooth : float
        Its smooth copy at the temperature asked for.
    slope : Prices
        The copy's gradient.
    stored, loaded : ndarray, shape (T, E, M)
        Shares of the soft minimum's paths that are on disk, and in memory.
    earned : ndarray, shape (T, E, M)
        What the routes of a slot in memory earn.

    """

    value: float
    smooth: float
    slope: Prices
    stored: np.ndarray
    loaded: np.ndarray
    earned: np.ndarray


class Relaxation:
    """The dual function of an instance.

    Parameters
    ----------
    instance : DeploymentInstance
    costs : Costs

    """

    def __init__(self, instance: DeploymentInstance, costs: Costs):
        self.instance, self.costs = instance, costs
        slots, servers, models = self.shape = instance.shape
        self._cloud = costs.serve[:, :, servers]
        self._serve = np.where(np.isfinite(costs.serve[:, :, :servers]), costs.serve[:, :, :servers], NEVER)
        self._limits = [costs.gpu_s, costs.energy_j, costs.storage_gb, costs.gpu_memory_gb]
        self._limited = [np.isfinite(limit) for limit in self._limits]
        paid = instance.arrivals * self._cloud
        self.unit = float(paid.mean()) or 1.0
        self._starts = instance.initial_stored + instance.initial_loaded

    # ---------------------------------------------------------------------------------- multipliers in one vector

    def vector(self, prices: Prices) -> np.ndarray:
        """Return prices as one vector, demands first; of limits only those that exist."""
        parts = [prices.demand.ravel()]
        for name, limited in zip(_LIMITS, self._limited, strict=True):
            parts.append(getattr(prices, name)[:, limited].ravel())
        return np.concatenate(parts)

    def prices(self, vector: np.ndarray) -> Prices:
        """Return the vector's prices."""
        slots, servers, models = self.shape
        at = slots * servers * models
        found: list[np.ndarray] = [vector[:at].reshape(self.shape)]
        for limited in self._limited:
            price = np.zeros((slots, servers))
            size = slots * int(limited.sum())
            price[:, limited] = vector[at : at + size].reshape(slots, -1)
            found.append(price)
            at += size
        return Prices(*found)

    def first_prices(self, dearness: float = 1.0) -> Prices:
        """Return prices to start from: demand between its cheapest way and, at 1, half the way to the cloud's.

        Prices of limits are in proportion to the least that is worth speaking of; at 0 the bound is that of every
        request its cheapest way.
        """
        slots, servers, _ = self.shape
        costs = self.costs
        cheapest = costs.serve.min(axis=2)
        demand = np.broadcast_to(cheapest + dearness * (self._cloud - cheapest) / 2, self.shape)
        scarce = np.maximum(self.unit, 1e-9)

        def each(limit: np.ndarray) -> np.ndarray:
            price = np.where(limit > 0, scarce / np.where(limit > 0, limit, 1.0), 1e-6 * scarce)  # 0 without a limit
            return np.tile(dearness * price, (slots, 1))

        return Prices(np.maximum(demand, 1e-3 * scarce * dearness), *(each(limit) for limit in self._limits))

    # ----------------------------------------------------------------------------------------------- evaluation

    def dual(self, vector: np.ndarray, temperature: float) -> SmoothDual:
        """Evaluate D for the ascent."""
        priced = self.evaluate(self.prices(vector), temperature)
        return SmoothDual(priced.value, priced.smooth, self.vector(priced.slope))

    def evaluate(self, prices: Prices, temperature: float) -> Priced:
        """Evaluate D and its smooth copy.

        In the copy the minimum over a path is a soft one, ``-T log sum exp(-cost / T)``, and what a route earns,
        ``max over r in [0, 1] of u r``, loses ``T r^2 / 2``; so it is at most a multiple of T away from D. A price of a
        limit that is not there counts as 0: with no right side to pay for what its left side adds, D would not be a
        bound.
        """
        prices = self.prices(self.vector(prices))
        slots, servers, models = self.shape
        costs, arrivals = self.costs, self.instance.arrivals
        earned, soft = np.empty(self.shape), np.empty(self.shape)
        routes: list[np.ndarray] = []
        extra = (
            prices.gpu_s[:, :, None] * costs.work_s + prices.energy_j[:, :, None] * costs.work_j
        )  # [T, E, M]: what a request pays at j beyond its delay
        over = np.maximum(0.0, prices.demand - self._cloud)
        to_cloud = np.clip(arrivals * (prices.demand - self._cloud) / temperature, 0.0, 1.0)
        for t in range(slots):
            gain = prices.demand[t][:, :, None] - self._serve
            gain -= extra[t].T
            with np.errstate(over="ignore"):
                gain *= arrivals[t][:, :, None]
            np.maximum(gain, 0.0, out=gain)
            earned[t] = gain.sum(axis=0).T
            share = gain * (1.0 / temperature)
            np.minimum(share, 1.0, out=share)
            lost = np.einsum("imj,imj->jm", share, share)
            soft[t] = np.einsum("imj,imj->jm", gain, share) - 0.5 * temperature * lost
            routes.append(share)
        disk = costs.hold_stored + prices.storage_gb[:, :, None] * costs.size_gb
        memory = disk + costs.hold_loaded + prices.gpu_memory_gb[:, :, None] * costs.memory_gb
        load = costs.load + prices.energy_j[:, :, None] * costs.load_j
        least = _least_paths(disk, memory - earned, costs.fetch, load, self._starts)
        smooth, on_disk, in_memory, loads = _soft_paths(
            disk, memory - soft, costs.fetch, load, self._starts, temperature
        )

        paid = [float((getattr(prices, name)[:, limited] * limit[limited]).sum())
                for name, limit, limited in zip(_LIMITS, self._limits, self._limited, strict=True)]  # fmt: skip
        demand_paid, cloud_paid = arrivals * prices.demand, arrivals * over
        value = float(demand_paid.sum() - cloud_paid.sum() + least.sum() - sum(paid))
        # Sums of these numbers, each with a few roundings, along chains of at most slots + servers + models additions.
        magnitude = float(demand_paid.sum() + cloud_paid.sum() + sum(paid) + (memory + earned + load).sum())
        magnitude += float(abs(costs.fetch).sum()) * slots
        value -= 4 * (slots + servers + models + 20) * 2.0**-53 * magnitude
        shape_cloud = arrivals * (prices.demand - self._cloud) * to_cloud - 0.5 * temperature * to_cloud**2
        smoothed = float(demand_paid.sum() - shape_cloud.sum() + smooth.sum() - sum(paid))

        slope_demand = arrivals * (1.0 - to_cloud)
        use_s, use_j = np.empty((slots, servers)), np.empty((slots, servers))
        for t in range(slots):
            share, open_for = routes[t], in_memory[t].T
            slope_demand[t] -= arrivals[t] * np.einsum("imj,mj->im", share, open_for)
            by_server = open_for * np.einsum("imj,im->mj", share, arrivals[t])
            use_s[t], use_j[t] = costs.work_s @ by_server, costs.work_j @ by_server
        with np.errstate(invalid="ignore"):
            slope = Prices(
                slope_demand,
                use_s - costs.gpu_s,
                use_j + loads @ costs.load_j - costs.energy_j,
                on_disk @ costs.size_gb - costs.storage_gb,
                in_memory @ costs.memory_gb - costs.gpu_memory_gb,
            )
        return Priced(value, smoothed, slope, on_disk, in_memory, earned)


_LIMITS = ("gpu_s", "energy_j", "storage_gb", "gpu_memory_gb")


def _least_paths(
    disk: np.ndarray, memory: np.ndarray, fetch: np.ndarray, load: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Least cost [E, M] of a path; `disk`, `memory` and `load` are [T, E, M], what a slot and a load cost."""
    absent, on, up = (np.where(start == state, 0.0, np.inf) for state in range(3))
    for t in range(len(disk)):
        kept = np.minimum(on, up)
        fetched = np.minimum(absent + fetch, kept)
        absent, on, up = (
            np.minimum(absent, kept),
            fetched + disk[t],
            np.minimum(up, fetched + load[t]) + memory[t],
        )
    return np.minimum(np.minimum(absent, on), up)


def _soft_paths(
    disk: np.ndarray, memory: np.ndarray, fetch: np.ndarray, load: np.ndarray, start: np.ndarray, temperature: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Soft minimum [E, M] over paths, and the shares [T, E, M] of its paths on disk, in memory, and that load.

    Forwards and backwards over the slots, in logarithms of weights exp(-cost / temperature).
    """
    slots = len(disk)
    moves = np.zeros((slots, 3, 3, *fetch.shape))  # [t, to, from]
    moves[:, 1, 0] = -fetch / temperature
    moves[:, 2, 0] = -(fetch + load) / temperature
    moves[:, 2, 1] = -load / temperature
    nodes = np.zeros((slots, 3, *fetch.shape))
    nodes[:, 1], nodes[:, 2] = -disk / temperature, -memory / temperature
    forward = np.empty((slots + 1, 3, *fetch.shape))
    forward[0] = np.stack([np.where(start == state, 0.0, -np.inf) for state in range(3)])
    for t in range(slots):
        forward[t + 1] = _log_sum(moves[t] + forward[t][None], 1) + nodes[t]
    total = _log_sum(forward[slots], 0)
    share, loads = np.empty_like(nodes), np.empty_like(disk)
    backward = np.zeros((3, *fetch.shape))
    for t in range(slots - 1, -1, -1):
        share[t] = np.exp(forward[t + 1] + backward - total)
        backward = backward + nodes[t]
        through = moves[t] + backward[:, None]
        loads[t] = np.exp(forward[t][:2] + through[2, :2] - total).sum(axis=0)
        backward = _log_sum(through, 0)
    return -temperature * total, share[:, 1] + share[:, 2], share[:, 2], loads


def _log_sum(logarithms: np.ndarray, axis: int) -> np.ndarray:
    most = logarithms.max(axis=axis, keepdims=True)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(logarithms - most).sum(axis=axis)) + most.squeeze(axis)
