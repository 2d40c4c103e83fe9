"""The independent checker of deployment: instance and solution alone, no arithmetic shared with the formulation.

It walks through slots and servers as the problem's statement does, reads the instance's own fields (not `costs`), and
recomputes switches, costs and every constraint.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.problems.deployment.solution import DeploymentSolution
from aigc_opt.result import Check, Violation

TOLERANCE = 1e-6
"""A row g <= b may be broken by max(TOLERANCE, TOLERANCE |b|); a binary may be this far from an integer."""


def check(instance: DeploymentInstance, solution: DeploymentSolution) -> Check:
    """Recompute the objective of a solution and find every constraint that it breaks.

    Parameters
    ----------
    instance : DeploymentInstance
    solution : DeploymentSolution

    Returns
    -------
    Check
        `objective` is None where requests are routed to a server that does not share, which has no delay, or where
        it overflows.

    """
    violations: list[Violation] = []
    violations += _whole(instance, "stored", solution.stored)
    violations += _whole(instance, "loaded", solution.loaded)
    stored, loaded = np.round(solution.stored), np.round(solution.loaded)
    terms = {"delay": 0.0, "switching": 0.0, "storage": 0.0, "gpu_memory": 0.0}
    valued = True
    disk_before = np.zeros(stored.shape[1:]) if instance.initial is None else instance.initial.stored
    gpu_before = np.zeros(loaded.shape[1:]) if instance.initial is None else instance.initial.loaded
    for t in range(len(instance.arrivals)):
        loads = np.maximum(0.0, loaded[t] - gpu_before)
        fetches = np.maximum(0.0, stored[t] - disk_before)
        _add_placement_costs(instance, terms, stored[t], loaded[t], fetches, loads)
        violations += _placement(instance, t, stored[t], loaded[t])
        violations += _shares(instance, t, solution.routing[t], loaded[t])
        delay = _delay(instance, t, solution.routing[t])
        if delay is None:
            valued = False
        else:
            terms["delay"] += instance.weights.delay * delay
        violations += _work(instance, t, solution.routing[t], loads)
        disk_before, gpu_before = stored[t], loaded[t]
    if not valued or not np.isfinite(sum(terms.values())):
        return Check(None, None, tuple(violations))
    terms = {name: float(value) for name, value in terms.items()}
    return Check(sum(terms.values()), terms, tuple(violations))


def _exceeds(amount: float, limit: float) -> bool:
    return amount > max(TOLERANCE, TOLERANCE * abs(limit))


def _at(instance: DeploymentInstance, t: int, server: int | None = None, model: int | None = None) -> str:
    parts = [f"slot {t + 1}"]
    if server is not None:
        parts.append(f"server {instance.servers[server].name}")
    if model is not None:
        parts.append(f"model {instance.models[model].name}")
    return ", ".join(parts)


def _whole(instance: DeploymentInstance, name: str, values: np.ndarray) -> Iterator[Violation]:
    """Binaries: near an integer, and that integer 0 or 1."""
    for t, j, m in np.argwhere(abs(values - np.round(values)) > TOLERANCE):
        amount = float(abs(values[t, j, m] - np.round(values[t, j, m])))
        yield Violation(f"{name}_is_binary", _at(instance, t, j, m), amount)
    rounded = np.round(values)
    for t, j, m in np.argwhere((rounded < 0) | (rounded > 1)):
        amount = float(max(-rounded[t, j, m], rounded[t, j, m] - 1))
        yield Violation(f"{name}_is_binary", _at(instance, t, j, m), amount)


def _add_placement_costs(
    instance: DeploymentInstance,
    terms: dict[str, float],
    stored: np.ndarray,
    loaded: np.ndarray,
    fetches: np.ndarray,
    loads: np.ndarray,
) -> None:
    """Add one slot's switching, storage and GPU memory costs; the first four arrays are [E, M] of one slot."""
    weights = instance.weights
    for j, m in np.argwhere((stored != 0) | (loaded != 0)):
        server, model = instance.servers[j], instance.models[m]
        if fetches[j, m]:
            copy_s = model.storage_gb * 8.0 / server.cloud_gbps
            terms["switching"] += weights.switching * copy_s * fetches[j, m]
        if loads[j, m]:
            start_s = model.gpu_memory_gb / server.io_gb_per_s + model.warmup_s
            terms["switching"] += weights.switching * start_s * loads[j, m]
        if stored[j, m] and server.storage_gb > 0:
            terms["storage"] += weights.storage * stored[j, m] * model.storage_gb / server.storage_gb
        if loaded[j, m] and server.gpu_memory_gb > 0:
            share = model.gpu_memory_gb / server.gpu_memory_gb
            terms["gpu_memory"] += weights.gpu_memory * loaded[j, m] * share


def _placement(instance: DeploymentInstance, t: int, stored: np.ndarray, loaded: np.ndarray) -> Iterator[Violation]:
    """Capacities of disk and GPU memory, and nothing in memory that is not on disk."""
    size = np.array([model.storage_gb for model in instance.models])
    memory = np.array([model.gpu_memory_gb for model in instance.models])
    for j, server in enumerate(instance.servers):
        on_disk, in_memory = float(np.dot(stored[j], size)), float(np.dot(loaded[j], memory))
        for name, used, limit in (
            ("storage", on_disk, server.storage_gb),
            ("gpu_memory", in_memory, server.gpu_memory_gb),
        ):
            if _exceeds(used - limit, limit):
                yield Violation(name, _at(instance, t, j), used - limit)
        for m in np.flatnonzero(loaded[j] - stored[j] > TOLERANCE):
            yield Violation("on_disk", _at(instance, t, j, int(m)), float(loaded[j, m] - stored[j, m]))


def _shares(instance: DeploymentInstance, t: int, routing: np.ndarray, loaded: np.ndarray) -> Iterator[Violation]:
    """Rows of the routing [E, M, E + 1] of one slot: shares of a whole, only to loaded models that are shared."""

    def served_by(i: int, m: int, j: int) -> str:
        return f"{_at(instance, t, i, m)}, served by {_place(instance, j)}"

    total = routing.sum(axis=2)
    for i, m in np.argwhere(abs(total - 1.0) > TOLERANCE):
        yield Violation("served", _at(instance, t, i, m), float(abs(total[i, m] - 1.0)))
    for i, m, j in np.argwhere(routing < -TOLERANCE):
        yield Violation("routing_is_share", served_by(i, m, j), float(-routing[i, m, j]))
    asked = instance.arrivals[t] > 0  # elsewhere a row need only be shares of a whole
    for i, m, j in np.argwhere((routing > 1.0 + TOLERANCE) & asked[:, :, None]):
        yield Violation("routing_is_share", served_by(i, m, j), float(routing[i, m, j] - 1.0))
    share = np.where(asked[:, :, None], routing[:, :, :-1], 0.0)
    may = _may_serve(instance)[:, None, :]
    for i, m, j in np.argwhere(~may & (share > TOLERANCE)):
        yield Violation("shared", served_by(i, m, j), float(share[i, m, j]))
    for i, m, j in np.argwhere(may & asked[:, :, None] & (share - loaded.T > TOLERANCE)):
        yield Violation("only_loaded", served_by(i, m, j), float(share[i, m, j] - loaded[j, m]))


def _place(instance: DeploymentInstance, j: int) -> str:
    return instance.servers[j].name if j < len(instance.servers) else "the cloud"


def _may_serve(instance: DeploymentInstance) -> np.ndarray:
    """Whether requests that arrive at i may be served at j, shape (E, E) of bool."""
    own = np.eye(len(instance.servers), dtype=bool)
    return own if instance.peer_delay_s is None else own | ~np.isnan(instance.peer_delay_s)


def _delay(instance: DeploymentInstance, t: int, routing: np.ndarray) -> float | None:
    """Sum of the delays of one slot's requests, s; None where a share goes to a server that does not share."""
    may = _may_serve(instance)
    elsewhere = np.where(may[:, None, :], 0.0, routing[:, :, :-1])
    if (abs(elsewhere[instance.arrivals[t] > 0]) > TOLERANCE).any():
        return None
    generation = np.array([m.latency.base_s + m.nominal_steps * m.latency.per_step_s for m in instance.models])
    way = np.zeros(may.shape) if instance.peer_delay_s is None else np.where(may, instance.peer_delay_s, 0.0)
    np.fill_diagonal(way, 0.0)
    requests = np.where(may[:, None, :], instance.arrivals[t][:, :, None] * routing[:, :, :-1], 0.0)
    total = float((requests.sum(axis=1) * way).sum()) + float(np.dot(requests.sum(axis=(0, 2)), generation))
    return total + float(np.dot((instance.arrivals[t] * routing[:, :, -1]).sum(axis=0), instance.cloud_delay_s))


def _work(instance: DeploymentInstance, t: int, routing: np.ndarray, loads: np.ndarray) -> Iterator[Violation]:
    """GPU-seconds and joules at each server that serves."""
    seconds_each = np.array([m.latency.base_s + m.nominal_steps * m.latency.per_step_s for m in instance.models])
    joules_each = np.array([m.energy.base_j + m.nominal_steps * m.energy.per_step_j for m in instance.models])
    load_each = np.array([m.load_j for m in instance.models])
    for j, server in enumerate(instance.servers):
        requests = (instance.arrivals[t] * routing[:, :, j]).sum(axis=0)
        seconds = float(np.dot(requests, seconds_each))
        joules = float(np.dot(requests, joules_each)) + float(np.dot(loads[j], load_each))
        for name, used, limit in (("gpu_time", seconds, server.gpu_s), ("energy", joules, server.energy_j)):
            if limit is not None and _exceeds(used - limit, limit):
                yield Violation(name, _at(instance, t, j), used - limit)
