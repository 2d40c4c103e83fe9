"""Tiny deployment instances of every shape, and their optimum by enumeration with arithmetic of its own."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import linprog

from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.problems.deployment.check import check
from aigc_opt.problems.deployment.solution import DeploymentSolution


def tiny(
    seed: int, slots: int = 2, servers: int = 2, models: int = 2, limits: bool | None = None
) -> DeploymentInstance:
    """A random instance with the strange things that happen: zeros, nulls, models that fit nowhere, initial states."""
    random = np.random.default_rng(seed)

    def number(low: float, high: float) -> float:
        return round(float(random.uniform(low, high)), 3)

    def maybe(chance: float, value, other):
        return value if random.random() < chance else other

    limited = random.random() < 0.5 if limits is None else limits
    stored = (random.random((servers, models)) < 0.5).astype(int)
    loaded = stored * (random.random((servers, models)) < 0.5)
    data = {
        "format": "aigc-opt/instance", "version": 1, "problem": "deployment", "name": f"tiny-{seed}",
        "models": [
            {
                "name": f"m{m}", "storage_gb": number(1, 6), "gpu_memory_gb": number(1, 5), "warmup_s": number(0, 2),
                "load_j": number(0, 30), "nominal_steps": int(random.integers(0, 20)),
                "latency": {"base_s": number(0, 2), "per_step_s": number(0, 0.2)},
                "energy": {"base_j": number(0, 5), "per_step_j": number(0, 1)},
            }
            for m in range(models)
        ],
        "servers": [
            {
                "name": f"s{j}",
                "storage_gb": maybe(0.1, 0, number(2, 12)), "gpu_memory_gb": maybe(0.1, 0, number(2, 9)),
                "cloud_gbps": number(1, 9), "io_gb_per_s": number(0.5, 3),
                "gpu_s": maybe(0.1, 0, number(3, 30)) if limited else None,
                "energy_j": maybe(0.1, 0, number(20, 150)) if limited else None,
            }
            for j in range(servers)
        ],
        "cloud_delay_s": [number(0, 12) for _ in range(models)],
        "peer_delay_s": maybe(
            0.2,
            None,
            [[0 if i == j else maybe(0.7, number(0, 2), None) for j in range(servers)] for i in range(servers)],
        ),
        "arrivals": [
            [[maybe(0.3, 0, number(0, 9)) for _ in range(models)] for _ in range(servers)] for _ in range(slots)
        ],
        "initial": maybe(0.4, {"stored": stored.tolist(), "loaded": loaded.tolist()}, None),
        "weights": {
            "delay": maybe(0.1, 0, 1), "switching": maybe(0.1, 0, number(0, 1)),
            "storage": number(0, 6), "gpu_memory": number(0, 6),
        },
    }  # fmt: skip
    return DeploymentInstance.from_dict(data)


def routed(instance: DeploymentInstance, loaded: np.ndarray) -> np.ndarray | None:
    """Best routing [T, E, M, E + 1] by one `scipy.optimize.linprog` a slot, straight from the problem's statement."""
    slots, servers, models = instance.shape
    work = [m.latency.base_s + m.latency.per_step_s * m.nominal_steps for m in instance.models]
    joules = [m.energy.base_j + m.energy.per_step_j * m.nominal_steps for m in instance.models]
    routing = np.zeros((slots, servers, models, servers + 1))
    routing[..., -1] = 1.0
    before = instance.initial_loaded
    for t in range(slots):
        ways = [
            (i, m, j)
            for i, m, j in itertools.product(range(servers), range(models), range(servers + 1))
            if j == servers or (instance.shares[i, j] and loaded[t, j, m])
        ]
        cost = [
            instance.arrivals[t, i, m]
            * (
                instance.cloud_delay_s[m]
                if j == servers
                else work[m] + (0 if instance.peer_delay_s is None else instance.peer_delay_s[i, j])
            )
            for i, m, j in ways
        ]
        whole = [[1.0 if (i, m) == (a, b) else 0.0 for i, m, _ in ways] for a in range(servers) for b in range(models)]
        rows, sides = [], []
        for j, server in enumerate(instance.servers):
            started = sum(instance.models[m].load_j for m in range(models) if loaded[t, j, m] and not before[j, m])
            for limit, use, taken in ((server.gpu_s, work, 0.0), (server.energy_j, joules, started)):
                if limit is not None:
                    if limit - taken < -1e-9:
                        return None
                    rows.append([instance.arrivals[t, i, m] * use[m] if k == j else 0.0 for i, m, k in ways])
                    sides.append(max(0.0, limit - taken))
        found = linprog(
            cost, A_ub=rows or None, b_ub=sides or None, A_eq=whole, b_eq=np.ones(len(whole)), bounds=(0, 1)
        )
        routing[t] = 0.0
        for (i, m, j), share in zip(ways, found.x, strict=True):
            routing[t, i, m, j] = share
        routing[t] /= routing[t].sum(axis=2, keepdims=True)
        before = loaded[t]
    return routing


def optimum(instance: DeploymentInstance) -> float:
    """Least objective over every placement, each with its best routing, valued by the checker."""
    slots, servers, models = instance.shape
    size = np.array([m.storage_gb for m in instance.models])
    memory = np.array([m.gpu_memory_gb for m in instance.models])
    disk = np.array([s.storage_gb for s in instance.servers])
    gpu = np.array([s.gpu_memory_gb for s in instance.servers])
    states = [
        np.array(state).reshape(servers, models)
        for state in itertools.product((0, 1, 2), repeat=servers * models)
        if ((np.array(state).reshape(servers, models) >= 1) @ size <= disk).all()
        and ((np.array(state).reshape(servers, models) == 2) @ memory <= gpu).all()
    ]
    least = np.inf
    routings: dict[bytes, np.ndarray | None] = {}
    for chosen in itertools.product(states, repeat=slots):
        state = np.array(chosen)
        loaded = (state == 2).astype(int)
        key = loaded.tobytes()
        if key not in routings:
            routings[key] = routed(instance, loaded)
        if routings[key] is None:
            continue
        checked = check(instance, DeploymentSolution((state >= 1).astype(int), loaded, routings[key]))
        assert checked.feasible, checked.violations
        least = min(least, checked.objective)
    return least
