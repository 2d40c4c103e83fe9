"""Tiny instances of every shape, and their optimum by enumeration with arithmetic of its own."""

from __future__ import annotations

import itertools
import math

import numpy as np

from aigc_opt.instance.generate_offloading import OFFLOADING_FAMILIES, generate_offloading
from aigc_opt.instance.offloading import OffloadingInstance

FAMILIES = tuple(OFFLOADING_FAMILIES)

FITS = 1 + 1e-10
"""What is at its limit but for the rounding of a few operations is within it."""


def tiny(seed: int, most_users: int = 4, most_servers: int = 2) -> OffloadingInstance:
    """One to four users, none to two servers; weights of 0, tasks that must be served, short deadlines, no energy."""
    rng = np.random.Generator(np.random.PCG64(10_000 + seed))
    users, servers = int(rng.integers(1, most_users + 1)), int(rng.integers(0, most_servers + 1))
    stride = int(rng.choice([10, 20]))
    data = generate_offloading(
        users, servers, FAMILIES[seed % 4], stride=stride, speed=float(rng.uniform(0.4, 1.5)), seed=seed
    ).to_dict()
    if seed % 5 == 0:
        data["weights"]["delay"] = 0 if seed % 10 == 0 else 1.5
    if seed % 7 == 0:
        data["weights"]["energy"] = 0
    for user in data["users"]:
        if seed % 3 == 0 and rng.random() < 0.5:
            user["rejection_penalty"] = None
        if seed % 4 == 1:
            user["max_delay_s"] = round(user["max_delay_s"] * float(rng.uniform(0.4, 1)), 2)
    first = data["users"][0]
    if seed % 11 == 0:
        first["weight"] = 0.0
    if seed % 13 == 0 and first["device"]:
        first["device"]["kappa"] = 0.0
    return OffloadingInstance.from_dict(data)


def optimum(instance: OffloadingInstance) -> float | None:
    """Least objective over every combination of (server, steps) or best outside option; None if there is no point."""
    data, models = instance.to_dict(), {model.name: model for model in instance.models}
    grid = range(data["steps"]["min"], data["steps"]["max"] + 1, data["steps"]["stride"])
    menus = [_menu(data, user, models[user["model"]], grid) for user in data["users"]]
    assert math.prod(map(len, menus)) < 3_000_000, "too many combinations"
    capacity = [server["ghz"] for server in data["servers"]]
    memory: dict = {}
    best = math.inf
    for picks in itertools.product(*menus):
        value = sum(pick[1] for pick in picks)
        for i in range(len(capacity)):
            tasks = tuple(sorted((pick[2], pick[3]) for pick in picks if pick[0] == i))
            if tasks and value < best:
                if (i, tasks) not in memory:
                    memory[i, tasks] = _divide(tasks, capacity[i])
                value += memory[i, tasks]
        best = min(best, value)
    return best / len(menus) if best < math.inf else None


def _menu(data: dict, user: dict, model, grid) -> list[tuple]:
    """(server or -1, fixed cost, a of a / f, least f) of everything that the user can do."""
    w, weights = user["weight"], data["weights"]
    menu, outside = [], math.inf if user["rejection_penalty"] is None else w * user["rejection_penalty"]
    for s in grid:
        work = model.workload.base_gcycles + model.workload.per_step_gcycles * s
        loss = w * weights["quality"] * quality(model.quality, s)
        if user["device"]:
            outside = min(outside, loss + w * _device_cost(user, weights, work))
        for i, server in enumerate(data["servers"]):
            up, down = user["uplink_mbps"][i], user["downlink_mbps"][i]
            if up <= 0 or down <= 0 or (server["hosts"] is not None and user["model"] not in server["hosts"]):
                continue
            sending = user["input_mbit"] / up
            rest = user["max_delay_s"] - sending - user["output_mbit"] / down
            energy = user["transmit_power_w"] * sending
            if rest > 0 and energy <= user["battery_j"] * FITS:
                spent = weights["delay"] * (user["max_delay_s"] - rest) + weights["energy"] * energy
                menu.append((i, loss + w * spent, w * weights["delay"] * work, work / rest))
    return menu + ([(-1, outside, 0.0, 0.0)] if outside < math.inf else [])


def _device_cost(user: dict, weights: dict, work: float) -> float:
    cubic = user["device"]["kappa"] * work**3
    low, high = work / user["device"]["max_ghz"], user["max_delay_s"]
    if cubic > 0:
        low = max(low, math.sqrt(cubic / user["battery_j"]) if user["battery_j"] > 0 else math.inf)
    if low > high * FITS:
        return math.inf
    low = min(low, high)

    def price(time: float) -> float:
        return weights["delay"] * time + weights["energy"] * cubic / time**2

    a, b = low, high
    for _ in range(200):  # ternary search on a convex function
        p, q = a + (b - a) / 3, b - (b - a) / 3
        a, b = (a, q) if price(p) <= price(q) else (p, b)
    return min(price(low), price(high), price(0.5 * (a + b)))


def _divide(tasks: tuple, capacity: float) -> float:
    """Least sum of a / f with sum f <= capacity and f >= m, by bisection."""
    if sum(m for _, m in tasks) > capacity * FITS:
        return math.inf
    low, high = 0.0, 1e9
    for _ in range(200):
        x = 0.5 * (low + high)
        if sum(max(m, math.sqrt(a) * x) for a, m in tasks) > capacity:
            high = x
        else:
            low = x
    return sum(a / max(m, math.sqrt(a) * low) for a, m in tasks if a > 0)


def quality(curve, s: float) -> float:
    if curve.kind == "exponential":
        return curve.floor + (curve.ceiling - curve.floor) * math.e ** (-s / curve.scale)
    if curve.kind == "power":
        return curve.floor + curve.coefficient / s**curve.exponent
    points = curve.points.tolist()
    if s >= points[-1][0]:
        return points[-1][1]
    k = max((i for i in range(len(points)) if points[i][0] <= s), default=-1)
    if k < 0:
        return points[0][1]
    share = (s - points[k][0]) / (points[k + 1][0] - points[k][0])
    return (1 - share) * points[k][1] + share * points[k + 1][1]
