"""The best routing for a given placement, and what to keep on disk for given loads: exact, small, used by all methods.

With a placement fixed the slots separate. Where no server is short of GPU-seconds or joules every request takes its
cheapest way, which is closed form; where one is, the slot is a small linear program.
"""

from __future__ import annotations

import numpy as np

from aigc_opt.control import Control
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.solution import DeploymentSolution
from aigc_opt.program import ProgramBuilder
from aigc_opt.solvers import Answer, Highs

Guide = tuple[np.ndarray, np.ndarray]
"""What a GPU-second and a joule at each server are thought to be worth, each of shape (T, E)."""

BATCH = 5_000
"""Columns of one routing program, unless a single slot has more: slots are batched, and the clock is asked between."""


def switches(state: np.ndarray, before: np.ndarray) -> np.ndarray:
    """1 where a model comes in, shape (T, E, M), for a state of that shape and the state [E, M] before it."""
    return np.maximum(0, np.diff(state, axis=0, prepend=before[None]))


def placement_cost(
    instance: DeploymentInstance, costs: Costs, stored: np.ndarray, loaded: np.ndarray, routing: np.ndarray
) -> float:
    """Weighted cost of a placement, each of shape (T, E, M), with a routing, shape (T, E, M, E + 1)."""
    finite = np.where(np.isfinite(costs.serve), costs.serve, 0.0)
    total = float((np.einsum("tim,timj->imj", instance.arrivals, routing) * finite).sum())
    for state, before, switch, hold in (
        (stored, instance.initial_stored, costs.fetch, costs.hold_stored),
        (loaded, instance.initial_loaded, costs.load, costs.hold_loaded),
    ):
        total += float((switches(state, before).sum(axis=0) * switch).sum() + (state.sum(axis=0) * hold).sum())
    return total


def energy_left(instance: DeploymentInstance, costs: Costs, loaded: np.ndarray) -> np.ndarray:
    """Joules left for generation after the loads, shape (T, E); inf = no limit, negative = the loads are too many."""
    spent = switches(loaded, instance.initial_loaded) @ costs.load_j
    return costs.energy_j[None, :] - spent


def best_routing(
    instance: DeploymentInstance, costs: Costs, loaded: np.ndarray, control: Control | None = None
) -> np.ndarray | None:
    """Return only the routing of `priced_routing`."""
    found = priced_routing(instance, costs, loaded, control)
    return None if found is None else found[0]


def priced_routing(
    instance: DeploymentInstance,
    costs: Costs,
    loaded: np.ndarray,
    control: Control | None = None,
    guide: Guide | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Cheapest routing when `loaded` models serve, and what one more GPU-second or joule would save.

    Parameters
    ----------
    loaded : ndarray, shape (T, E, M)
        0 or 1.
    guide : pair of ndarray, shape (T, E), optional
        What a GPU-second and a joule at each server are thought to be worth, for slots in which the work is stopped.

    Returns
    -------
    routing : ndarray, shape (T, E, M, E + 1)
    price_s, price_j : ndarray, shape (T, E)
        Multipliers of the limits, >= 0; 0 where they are not short.

    None where the loads alone take more energy than a server has. If `control` stops the work, the slots that are short
    and still to come are routed by `_next_cheapest`.

    """
    left_j = energy_left(instance, costs, loaded)
    if (left_j < -1e-9 * np.maximum(1, abs(costs.energy_j))).any():
        return None
    slots, servers, models = instance.shape
    routing = np.zeros((slots, servers, models, servers + 1))
    seconds, joules = cheapest_ways(instance, costs, loaded, routing)
    short = (seconds > costs.gpu_s) | (joules > np.maximum(left_j, 0.0))
    scarce = np.flatnonzero(short.any(axis=1))
    price_s, price_j = np.zeros((slots, servers)), np.zeros((slots, servers))
    left_j = np.maximum(left_j, 0.0)
    for batch in _batches(instance, loaded, scarce):
        found_prices = None
        if control is None or control.stop is None:
            found_prices = _route_scarce(instance, costs, batch, loaded, left_j, routing, control)
        if found_prices is not None:
            price_s[batch], price_j[batch] = found_prices
            continue
        for t in batch:
            worth = (price_s[t], price_j[t]) if guide is None else (guide[0][t], guide[1][t])
            _next_cheapest(instance.arrivals[t], costs, loaded[t], left_j[t], worth, routing[t])
    return routing, price_s, price_j


def _batches(instance: DeploymentInstance, loaded: np.ndarray, slots: np.ndarray) -> list[np.ndarray]:
    """Split slots into runs of at most `BATCH` possible routes."""
    routes = np.einsum("tim,ij,tjm->t", instance.arrivals[slots] > 0, instance.shares, loaded[slots] > 0.5, dtype=int)
    cuts = np.flatnonzero(np.diff(np.cumsum(routes) // BATCH)) + 1
    return [batch for batch in np.split(slots, cuts) if batch.size]


def _next_cheapest(
    arrivals: np.ndarray,
    costs: Costs,
    loaded: np.ndarray,
    left_j: np.ndarray,
    worth: tuple[np.ndarray, np.ndarray],
    routing: np.ndarray,
) -> None:
    """Route one slot without a linear program, into `routing` [E, M, E + 1]: quick, feasible, not the best.

    All requests go their cheapest way, where a server's GPU-seconds and joules [E] cost what they are `worth`; a server
    that cannot serve all serves an equal share of them and is full, and what is left over goes its next cheapest way.
    What then is for the cloud goes once more the cheapest way at no such cost, as far as there is room.
    """
    servers = len(arrivals)
    left_s, left_j, left, full = costs.gpu_s.copy(), left_j.copy(), arrivals.astype(float), np.zeros(servers, bool)
    origin, model = np.indices(arrivals.shape)
    cloud = costs.serve[:, :, servers]
    open_ways = np.where(loaded.T > 0.5, costs.serve[:, :, :servers], np.inf)
    toll = costs.work_s[:, None] * worth[0] + costs.work_j[:, None] * worth[1]  # [M, E]
    routing[...] = 0.0
    for ways in (open_ways + toll, open_ways):
        while not full.all():
            way = np.where(full, np.inf, ways)
            chosen = way.argmin(axis=2)
            wanted = np.where(way.min(axis=2) < cloud, left, 0.0)
            use_s = np.bincount(chosen.ravel(), (wanted * costs.work_s).ravel(), servers)
            use_j = np.bincount(chosen.ravel(), (wanted * costs.work_j).ravel(), servers)
            with np.errstate(divide="ignore", invalid="ignore"):
                able_s, able_j = (
                    np.where(use_s > 0, left_s / use_s, np.inf),
                    np.where(use_j > 0, left_j / use_j, np.inf),
                )
                part = np.minimum(able_s, able_j)
                full |= part < 1.0
                part = np.minimum(part, 1.0)
                served = wanted * part[chosen]
                routing[origin, model, chosen] += np.where(arrivals > 0, served / arrivals, 0.0)
            left = np.maximum(0.0, left - served)
            left_s, left_j = np.maximum(0.0, left_s - part * use_s), np.maximum(0.0, left_j - part * use_j)
            if (part >= 1.0).all():
                break
    routing[:, :, servers] = np.maximum(0.0, 1.0 - routing[:, :, :servers].sum(axis=2))


def complete(
    instance: DeploymentInstance,
    costs: Costs,
    stored: np.ndarray,
    loaded: np.ndarray,
    control: Control | None = None,
    guide: Guide | None = None,
) -> DeploymentSolution | None:
    """Return a placement with its best routing, or None where its loads take more energy than there is."""
    found = priced_routing(instance, costs, loaded, control, guide)
    return None if found is None else DeploymentSolution(stored, loaded, found[0])


def cheapest_ways(
    instance: DeploymentInstance, costs: Costs, loaded: np.ndarray, routing: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Send every request its cheapest way, whatever the limits; fills `routing`, returns seconds and joules (T, E)."""
    slots, servers, models = instance.shape
    seconds, joules = np.empty((slots, servers)), np.empty((slots, servers))
    at = np.ix_(range(servers), range(models))
    for t in range(slots):  # slot by slot, because [E, M, E + 1] of all slots at once may not fit into memory
        way = np.where(loaded[t].T[None, :, :] > 0.5, costs.serve[:, :, :servers], np.inf)
        way = np.concatenate([way, costs.serve[:, :, servers:]], axis=2)
        chosen = way.argmin(axis=2)
        chosen[instance.arrivals[t] == 0] = servers
        routing[t] = 0.0
        routing[t][(*at, chosen)] = 1.0
        served = np.einsum("im,imj->jm", instance.arrivals[t], routing[t][:, :, :servers])
        seconds[t], joules[t] = served @ costs.work_s, served @ costs.work_j
    return seconds, joules


def _route_scarce(
    instance: DeploymentInstance,
    costs: Costs,
    slots: np.ndarray,
    loaded: np.ndarray,
    left_j: np.ndarray,
    routing: np.ndarray,
    control: Control | None,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Cheapest routing of some slots under their limits, into `routing`; returns the prices [S, E] of the limits.

    One linear program for all of them, block by block. The cloud takes what is left, so maximising what is saved
    against it is the same program with fewer columns, and always feasible. None if it was stopped.
    """
    servers, models = instance.shape[1:]
    arrivals = instance.arrivals[slots]
    with np.errstate(invalid="ignore"):
        saving = np.where(np.isfinite(costs.serve), costs.serve[:, :, servers:] - costs.serve, 0.0)[:, :, :servers]
    worth = saving > 0
    useful = (arrivals[..., None] > 0) & (loaded[slots].transpose(0, 2, 1)[:, None] > 0.5) & worth
    slot, origin, model, server = np.nonzero(useful)
    amount = arrivals[slot, origin, model]
    build = ProgramBuilder()
    route = build.variable("route", -amount * saving[origin, model, server], list)
    demand = (slot * servers + origin) * models + model
    build.constraint("served", [(demand, route, 1.0)], np.ones(arrivals.size), list)
    place = slot * servers + server
    for name, work, limit in (
        ("gpu_time", costs.work_s, np.tile(costs.gpu_s, slots.size)),
        ("energy", costs.work_j, left_j[slots].ravel()),
    ):
        build.constraint(name, [(place, route, amount * work[model])], limit, list)
    small = route.size <= BATCH  # then presolve takes longer than it saves
    outcome = Highs(build.build()).solve(
        control=None if small else control, options={"presolve": "off"} if small else None
    )
    if outcome.answer is not Answer.OPTIMAL or outcome.x is None or outcome.row_duals is None:
        return None
    shares = np.zeros((slots.size, servers, models, servers + 1))
    shares[slot, origin, model, server] = np.clip(outcome.x, 0.0, 1.0)
    shares /= np.maximum(1.0, shares.sum(axis=3, keepdims=True))
    shares[..., servers] = np.maximum(0.0, 1.0 - shares.sum(axis=3))
    routing[slots] = shares
    prices = np.maximum(0.0, -outcome.row_duals[arrivals.size :]).reshape(2, slots.size, servers)
    return prices[0], prices[1]


def keep_on_disk(instance: DeploymentInstance, costs: Costs, loaded: np.ndarray) -> np.ndarray:
    """Choose what is on disk so that `loaded` is possible: keep a model between two uses where that is cheaper.

    The gaps with most saved per gigabyte and slot come first, as long as the disk has room.

    Returns
    -------
    ndarray, shape (T, E, M)
        Stored, 0 or 1, at least `loaded`.

    """
    slots, servers, models = instance.shape
    stored = (loaded > 0.5).astype(np.int8)
    for j in range(servers):
        free = costs.storage_gb[j] - stored[:, j] @ costs.size_gb
        gaps = []
        for m in range(models):
            used = np.flatnonzero(stored[:, j, m]).tolist()
            before = -1 if instance.initial_stored[j, m] else None
            for t in used:
                if before is not None and t - before > 1:
                    length = t - before - 1
                    saved = costs.fetch[j, m] - length * costs.hold_stored[j, m]
                    if saved > 0:
                        gaps.append((saved / (length * costs.size_gb[m]), m, before + 1, t))
                before = t
        for _, m, start, stop in sorted(gaps, reverse=True):
            if (free[start:stop] >= costs.size_gb[m] - 1e-12).all():
                stored[start:stop, j, m] = 1
                free[start:stop] -= costs.size_gb[m]
    return stored
