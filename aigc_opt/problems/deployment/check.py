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
    for j, server in enumerate(instance.servers):
        for m, model in enumerate(instance.models):
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
    for j, server in enumerate(instance.servers):
        on_disk = sum(float(stored[j, m]) * model.storage_gb for m, model in enumerate(instance.models))
        in_memory = sum(float(loaded[j, m]) * model.gpu_memory_gb for m, model in enumerate(instance.models))
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
    for j in range(len(instance.servers)):
        for i in range(len(instance.servers)):
            share = np.where(asked[i], routing[i, :, j], 0.0)
            if not _may_serve(instance, i, j):
                for m in np.flatnonzero(share > TOLERANCE):
                    yield Violation("shared", served_by(i, int(m), j), float(share[m]))
                continue
            for m in np.flatnonzero(asked[i] & (share - loaded[j] > TOLERANCE)):
                yield Violation("only_loaded", served_by(i, int(m), j), float(share[m] - loaded[j, m]))


def _place(instance: DeploymentInstance, j: int) -> str:
    return instance.servers[j].name if j < len(instance.servers) else "the cloud"


def _may_serve(instance: DeploymentInstance, i: int, j: int) -> bool:
    if i == j:
        return True
    return instance.peer_delay_s is not None and not np.isnan(instance.peer_delay_s[i, j])


def _delay(instance: DeploymentInstance, t: int, routing: np.ndarray) -> float | None:
    """Sum of the delays of one slot's requests, s; None where a share goes to a server that does not share."""
    total = 0.0
    generation = np.array([m.latency.base_s + m.nominal_steps * m.latency.per_step_s for m in instance.models])
    for i in range(len(instance.servers)):
        for j in range(len(instance.servers)):
            requests = instance.arrivals[t, i] * routing[i, :, j]
            if not _may_serve(instance, i, j):
                if (abs(routing[i, :, j][instance.arrivals[t, i] > 0]) > TOLERANCE).any():
                    return None
                continue
            away = instance.peer_delay_s
            way = 0.0 if i == j or away is None else float(away[i, j])
            total += float(np.dot(requests, way + generation))
        to_cloud = instance.arrivals[t, i] * routing[i, :, -1]
        total += float(np.dot(to_cloud, instance.cloud_delay_s))
    return total


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
