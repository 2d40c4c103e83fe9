r"""Deployment: the Lagrangian dual at given prices, exactly.

With prices p on demands, any sign, prices >= 0 on the limits (GPU-seconds, joules, disk, GPU memory) and on further
inequalities ``a x_t <= b`` for what fits together on one disk or in one GPU memory ::

    D = sum lam min(p, w_delay cloud) - sum of (price times limit)
        + sum over servers and models of the least cost of a path over time (absent, on disk, in memory)

where a slot in memory earns ``sum_i max(0, lam (p - w_delay (peer + time) - theta time - eps joules))``. D is at most
the optimum for all such prices (weak duality), and at least what the same multipliers prove as those of the linear
relaxation, whose bounds on variables it tightens to paths. An inequality is believed only after it was proved from the
sizes and the capacity, `fits_together`.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from aigc_opt.errors import Fault

LIMITS = {"gpu_s": "gpu_s", "energy_j": "energy_j", "storage_gb": "storage_gb", "gpu_memory_gb": "gpu_memory_gb"}
SIZES = {"storage": ("storage_gb", "storage_gb"), "gpu_memory": ("gpu_memory_gb", "gpu_memory_gb")}
"""What an inequality is about: the models' size and the servers' capacity."""

MOST_STATES = 200_000
"""An inequality whose proof meets more partial sums than this is refused."""

TOLERANCE = Fraction(1, 10**6)
"""Inequalities must hold for what the checker's tolerance lets into a capacity."""

Exact = list[Any]


def evaluate(data: dict[str, Any], multipliers: dict[str, Any]) -> Fraction:
    """Return D exactly.

    Parameters
    ----------
    data : dict
        The instance as `to_dict` gives it.
    multipliers : dict
        ``demand`` [T][E][M], a list [T][E] for each of `LIMITS`, and ``inequalities``; of the right shapes.

    """
    models, servers, weights = data["models"], data["servers"], data["weights"]
    peer = data["peer_delay_s"]
    every = range(len(servers))
    delay, switching = Fraction(weights["delay"]), Fraction(weights["switching"])
    time = [_affine(m["latency"], "base_s", "per_step_s", m["nominal_steps"]) for m in models]
    joules = [_affine(m["energy"], "base_j", "per_step_j", m["nominal_steps"]) for m in models]
    cloud = [delay * Fraction(d) for d in data["cloud_delay_s"]]
    arrivals = data["arrivals"]
    asked = [
        [[(i, Fraction(arrivals[t][i][m])) for i in every if arrivals[t][i][m]] for m in range(len(models))]
        for t in range(len(arrivals))
    ]
    demand = [[[Fraction(p) for p in row] for row in slot] for slot in multipliers["demand"]]
    total = sum(
        (
            amount * min(demand[t][i][m], cloud[m])
            for t, slot in enumerate(asked)
            for m, of_model in enumerate(slot)
            for i, amount in of_model
        ),
        Fraction(0),
    )
    for j, server in enumerate(servers):
        price = {key: [Fraction(row[j]) for row in multipliers[key]] for key in LIMITS}
        total -= sum(sum(price[key]) * Fraction(server[key]) for key in LIMITS if server[key] is not None)
        extra = {name: [[Fraction(0)] * len(models) for _ in arrivals] for name in SIZES}
        for row in multipliers["inequalities"]:
            if row["server"] == j:
                paid = [Fraction(p) for p in row["prices"]]
                total -= sum(paid) * row["limit"]
                for t, p in enumerate(paid):
                    if p:
                        of_slot = extra[row["of"]][t]
                        for m, weight in enumerate(row["weights"]):
                            of_slot[m] += p * weight
        near = [i for i in every if i == j or (peer is not None and peer[i][j] is not None)]
        away = {i: Fraction(0) if i == j else Fraction(peer[i][j]) for i in near}
        for m, model in enumerate(models):
            size, memory_gb = Fraction(model["storage_gb"]), Fraction(model["gpu_memory_gb"])
            fetch = switching * 8 * size / Fraction(server["cloud_gbps"])
            load_s = switching * (memory_gb / Fraction(server["io_gb_per_s"]) + Fraction(model["warmup_s"]))
            hold_disk = _share(weights["storage"], size, server["storage_gb"])
            hold_memory = _share(weights["gpu_memory"], memory_gb, server["gpu_memory_gb"])
            serve = {i: delay * (away[i] + time[m]) for i in near}
            disk, memory, load = [], [], []
            for t in range(len(arrivals)):
                use = price["gpu_s"][t] * time[m] + price["energy_j"][t] * joules[m]
                earned = sum(
                    (
                        amount * gain
                        for i, amount in asked[t][m]
                        if i in serve and (gain := demand[t][i][m] - serve[i] - use) > 0
                    ),
                    Fraction(0),
                )
                disk.append(hold_disk + price["storage_gb"][t] * size + extra["storage"][t][m])
                memory.append(
                    disk[-1] + hold_memory + price["gpu_memory_gb"][t] * memory_gb + extra["gpu_memory"][t][m] - earned
                )
                load.append(load_s + price["energy_j"][t] * Fraction(model["load_j"]))
            total += _least_path(disk, memory, fetch, load, _start(data["initial"], j, m))
    return total


def faults(data: dict[str, Any], multipliers: dict[str, Any]) -> list[Fault]:
    """Faults beyond shapes: prices of limits that there are not, inequalities that do not hold."""
    found = []
    for j, server in enumerate(data["servers"]):
        for key in LIMITS:
            if server[key] is None and any(row[j] for row in multipliers[key]):
                found.append(Fault(f"multipliers.{key}", f"must be 0 for server {j}, which has no such limit"))
    proved = set()
    for number, row in enumerate(multipliers["inequalities"]):
        what = row["of"], row["server"], tuple(row["weights"]), row["limit"]
        if what in proved:
            continue
        of_model, of_server = SIZES[row["of"]]
        sizes = [Fraction(model[of_model]) for model in data["models"]]
        capacity = Fraction(data["servers"][row["server"]][of_server])
        holds = fits_together(sizes, capacity + max(TOLERANCE, TOLERANCE * capacity), row["weights"], row["limit"])
        if not holds:
            why = "cannot be proved" if holds is None else "does not hold"
            found.append(Fault(f"multipliers.inequalities[{number}]", f"{why} for what fits together there"))
        proved.add(what)
    return found


def fits_together(sizes: list[Fraction], capacity: Fraction, weights: list[int], limit: int) -> bool | None:
    """Whether every set of models within the capacity has weights that sum to at most `limit`; None = not found out.

    Model by model, the sets so far are kept as pairs (size, weight), without those that another pair beats in both,
    those that do not fit, and those that cannot exceed the limit any more.
    """
    items = sorted(((size, weight) for size, weight in zip(sizes, weights, strict=True) if weight > 0), reverse=True)
    scale = math.lcm(capacity.denominator, *(size.denominator for size, _ in items))
    room = int(capacity * scale)
    pairs, rest = [(0, 0)], sum(weight for _, weight in items)
    if limit < 0:
        return False
    for size, weight in items:
        rest -= weight
        taken = [(used + int(size * scale), worth + weight) for used, worth in pairs]
        merged = sorted((pair for pair in pairs + taken if pair[0] <= room), key=lambda pair: (pair[0], -pair[1]))
        pairs, most = [], -1
        for used, worth in merged:
            if worth > most:
                most = worth
                if worth + rest > limit:
                    pairs.append((used, worth))
        if most > limit:
            return False
        if len(pairs) > MOST_STATES:
            return None
    return True


def _affine(values: dict[str, Any], base: str, slope: str, steps: float) -> Fraction:
    return Fraction(values[base]) + Fraction(values[slope]) * Fraction(steps)


def _share(weight: float, size: Fraction, capacity: float) -> Fraction:
    return Fraction(weight) * size / Fraction(capacity) if capacity > 0 else Fraction(0)


def _start(initial: dict[str, Any] | None, j: int, m: int) -> int:
    """State before the first slot: absent, on disk, in memory."""
    return 0 if initial is None else int(initial["stored"][j][m]) + int(initial["loaded"][j][m])


def _least_path(disk: Exact, memory: Exact, fetch: Fraction, load: Exact, start: int) -> Fraction:
    """Least cost of a path over the slots, in integers over the common denominator."""
    scale = math.lcm(fetch.denominator, *(v.denominator for values in (disk, memory, load) for v in values))

    def whole(value: Fraction) -> int:
        return value.numerator * (scale // value.denominator)

    fetched = whole(fetch)
    state: dict[int, int] = {start: 0}
    for on_disk, in_memory, loaded in zip(map(whole, disk), map(whole, memory), map(whole, load), strict=True):
        after: dict[int, int] = {}
        for before, cost in state.items():
            ready = cost if before else cost + fetched
            ways = (cost, ready + on_disk, (cost if before == 2 else ready + loaded) + in_memory)
            for now, way in enumerate(ways):
                after[now] = min(way, after.get(now, way))
        state = after
    return Fraction(min(state.values()), scale)
