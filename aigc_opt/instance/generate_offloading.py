"""Seeded families of offloading instances. All values are assumed, in the ranges that the field's literature uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from aigc_opt.control import require_memory
from aigc_opt.errors import InputError
from aigc_opt.instance.base import FORMAT, VERSION
from aigc_opt.instance.draws import LARGEST_FACTOR, LEAST_FACTOR, draws
from aigc_opt.instance.offloading import OffloadingInstance

CURVES = {
    "exponential": {"kind": "exponential", "floor": 0.05, "ceiling": 0.9, "scale": 14},
    "power": {"kind": "power", "floor": 0.02, "coefficient": 3.2, "exponent": 0.8},
    "ramp": {"kind": "piecewise_linear", "points": [[15, 0.8], [40, 0.1]]},
    "cliff": {"kind": "piecewise_linear", "points": [[12, 0.75], [24, 0.7], [31, 0.15], [50, 0.1]]},
    "stairs": {"kind": "piecewise_linear", "points": [[10, 0.9], [18, 0.5], [28, 0.48], [36, 0.12], [45, 0.12]]},
}
"""One model of each: convex and smooth, flat then falling then flat, and two that are far from convex."""


@dataclass(frozen=True)
class OffloadingFamily:
    """What makes a family of offloading instances.

    Attributes
    ----------
    ghz_per_user : float
        Speed of all servers together over the number of users.
    deadline : tuple of float
        Range of deadlines, s.
    battery : tuple of float
        Range of batteries, J.
    power : tuple of float
        Range of transmit powers, W.
    kappa : tuple of float
        Range of devices' energy coefficients, J per Gcycle per GHz^2.
    mapped : bool
        Whether users and servers stand on a map and rates fall with distance; otherwise rates are drawn.

    """

    ghz_per_user: float = 1.2
    deadline: tuple[float, float] = (8.0, 25.0)
    battery: tuple[float, float] = (7.0, 40.0)
    power: tuple[float, float] = (0.2, 0.2)
    kappa: tuple[float, float] = (0.06, 0.2)
    mapped: bool = False


OFFLOADING_FAMILIES = {
    "compute-tight": OffloadingFamily(),
    "deadline-tight": OffloadingFamily(ghz_per_user=2.6, deadline=(4.0, 9.0)),
    "battery-tight": OffloadingFamily(ghz_per_user=2.0, battery=(0.3, 4.0), power=(0.2, 1.0), kappa=(0.12, 0.35)),
    "city": OffloadingFamily(ghz_per_user=2.0, mapped=True),
}

BYTES_A_PAIR, BYTES_A_USER = 160.0, 6000.0
"""Memory of a pair of user and server, and of a user, while an instance is made and written, measured."""


def generate_offloading(
    users: int = 30,
    servers: int = 4,
    family: str = "compute-tight",
    min_steps: int = 10,
    max_steps: int = 50,
    stride: int = 10,
    speed: float = 1.0,
    seed: int = 0,
    name: str | None = None,
) -> OffloadingInstance:
    """Make an offloading instance.

    In ``compute-tight`` few gigahertz meet loose deadlines; in ``deadline-tight`` the least speeds that deadlines ask
    for fill the servers; in ``battery-tight`` devices cannot run many steps and long uploads are out; in ``city``
    users cluster on a map, rates fall with distance, and many servers are in reach.

    A quarter of the tasks that a device can run, and a few without a device that a server can run cheaply, may not be
    rejected.

    Parameters
    ----------
    users, servers : int
        Sizes N and E; there may be no server.
    family : str
        One of `OFFLOADING_FAMILIES`.
    min_steps, max_steps, stride : int
        The grid of denoising steps.
    speed : float
        Factor on the speed of all servers.
    seed : int
    name : str, optional

    Raises
    ------
    InputError
        If a size or the grid is impossible, the speed not from 0.01 to 100, the seed negative, there is no such family,
        or the instance does not fit into memory.

    """
    faults = [] if users >= 1 else [f"users must be at least 1, got {users}"]
    if servers < 0:
        faults.append(f"servers must be >= 0, got {servers}")
    if not 1 <= min_steps <= max_steps:
        faults.append(f"steps must be 1 <= min_steps <= max_steps, got {min_steps} and {max_steps}")
    if stride < 1:
        faults.append(f"stride must be at least 1, got {stride}")
    if not LEAST_FACTOR <= speed <= LARGEST_FACTOR:
        faults.append(f"speed must be from {LEAST_FACTOR:g} to {LARGEST_FACTOR:g}, got {speed}")
    if seed < 0:
        faults.append(f"seed must be >= 0, got {seed}")
    if family not in OFFLOADING_FAMILIES:
        faults.append(f"family must be one of {', '.join(OFFLOADING_FAMILIES)}, got {family!r}")
    if faults:
        raise InputError("generate", faults)
    pairs = float(users) * servers
    require_memory("generate", f"{users:,} users", BYTES_A_PAIR * pairs + BYTES_A_USER * users)
    kind = OFFLOADING_FAMILIES[family]
    uniform = draws(seed)
    models = _models(uniform)
    machines = _servers(uniform, kind, users, servers, speed, [model["name"] for model in models])
    up = _rates_on_a_map(uniform, users, servers) if kind.mapped else _rates(uniform, users, servers)
    columns = {
        "model": uniform(0, len(models), users), "has_device": uniform(0, 1, users),
        "ghz": uniform(1.5, 3.8, users, 2), "kappa": uniform(*kind.kappa, users, 3),
        "deadline": uniform(*kind.deadline, users, 2), "battery": uniform(*kind.battery, users, 1),
        "power": uniform(*kind.power, users, 2), "weight": uniform(0.5, 2.0, users, 2),
        "input": uniform(2, 10, users, 2), "output": uniform(4, 20, users, 2),
        "penalty": uniform(3, 6, users, 2), "must": uniform(0, 1, users),
    }  # fmt: skip
    people = []
    for n in range(users):
        own = {key: values[n].item() for key, values in columns.items()}
        model = models[min(int(own["model"]), len(models) - 1)]
        user = {
            "name": f"user-{n + 1}", "model": model["name"], "weight": own["weight"], "input_mbit": own["input"],
            "output_mbit": own["output"], "max_delay_s": own["deadline"], "battery_j": own["battery"],
            "transmit_power_w": own["power"], "uplink_mbps": up[n], "downlink_mbps": 2 * up[n],
            "device": {"max_ghz": own["ghz"], "kappa": own["kappa"]} if own["has_device"] < 0.85 else None,
            "rejection_penalty": own["penalty"],
        }  # fmt: skip
        if user["device"] and own["must"] < 0.25 and _least_local_s(user, model, min_steps) <= user["max_delay_s"]:
            user["rejection_penalty"] = None
        elif not user["device"] and own["must"] < 0.15 and _least_share(user, model, machines, min_steps) < 3.0:
            user["rejection_penalty"] = None
        people.append(user)
    data = {
        "format": FORMAT, "version": VERSION, "problem": "offloading",
        "name": name if name is not None else f"{family}-{users}x{servers}-{seed}",
        "description": f"Generated: family {family}, speed {speed:g}, seed {seed}. All values are assumed.",
        "models": models, "users": people, "servers": machines,
        "steps": {"min": min_steps, "max": max_steps, "stride": stride},
        "weights": {"quality": 6, "delay": 0.15, "energy": 0.02},
    }  # fmt: skip
    return OffloadingInstance.from_dict(data, "generate")


def _models(uniform: Callable[..., np.ndarray]) -> list[dict[str, Any]]:
    base, slope = uniform(2.5, 7, len(CURVES), 2), uniform(0.55, 1.5, len(CURVES), 3)
    return [
        {
            "name": f"diffusion-{name}",
            "workload": {"base_gcycles": base[m].item(), "per_step_gcycles": slope[m].item()},
            "quality": curve,
            "source": "assumed",
        }
        for m, (name, curve) in enumerate(CURVES.items())
    ]


def _servers(
    uniform: Callable[..., np.ndarray], kind: OffloadingFamily, users: int, servers: int, speed: float, names: list[str]
) -> list[dict[str, Any]]:
    """Servers whose speeds vary by a factor of up to 2.6; four in ten host only some of the models."""
    share = uniform(0.55, 1.45, servers)
    choosy, hosted = uniform(0, 1, servers), uniform(0, 1, (servers, len(names)))
    found = []
    for i in range(servers):
        ghz = max(share[i].item() * kind.ghz_per_user * speed * users / servers, 4.0 * speed)
        hosts = [name for name, draw in zip(names, hosted[i], strict=True) if draw < 0.7] or names[:1]
        found.append(
            {"name": f"edge-{i + 1}", "ghz": round(ghz, 2) or 0.01, "hosts": hosts if choosy[i] > 0.6 else None}
        )
    return found


def _rates(uniform: Callable[..., np.ndarray], users: int, servers: int) -> np.ndarray:
    """Uplink rates (N, E): uniform, one in seven pairs out of reach."""
    up = uniform(2.3, 25.0, (users, servers))
    up[uniform(0, 1, (users, servers)) < 0.15] = 0.0
    return up


def _rates_on_a_map(uniform: Callable[..., np.ndarray], users: int, servers: int) -> np.ndarray:
    """Uplink rates (N, E) of people who cluster around a few centres: Shannon over a power-law path loss.

    About 6.4 servers a square kilometre; 14 dB at 500 m, 33 dB a decade, a shadowing of 4 dB or so, 5 MHz a user; below
    2 Mbit/s a server is out of reach.
    """
    side = 1.25 * np.sqrt(max(servers, 1) / 10.0)
    where_server = uniform(0, side, (servers, 2))
    centres = uniform(0, side, (max(3, servers // 12), 2))
    own = np.minimum(uniform(0, len(centres), users).astype(int), len(centres) - 1)
    # Sums of uniforms are nearly normal and, unlike logarithms, the same on every machine.
    away = uniform(-0.28, 0.28, (users, 2, 3)).sum(axis=2) * side
    where_user = np.clip(centres[own] + away, 0, side)
    offset = where_user[:, None] - where_server[None]
    km = np.maximum(np.sqrt((offset**2).sum(axis=2)), 0.03)
    shadow_db = uniform(-3.0, 3.0, (users, servers, 4)).sum(axis=2)
    snr = 10 ** ((14 - 33 * np.log10(km / 0.5) + shadow_db) / 10)
    up = np.round(5.0 * np.log2(1 + snr), 2)
    up[up < 2.0] = 0.0
    return up


def _work(model: dict[str, Any], steps: int) -> float:
    return model["workload"]["base_gcycles"] + model["workload"]["per_step_gcycles"] * steps


def _least_local_s(user: dict[str, Any], model: dict[str, Any], steps: int) -> float:
    """Seconds that the device takes at least, by its speed and by the battery."""
    work = _work(model, steps)
    by_battery = (user["device"]["kappa"] * work**3 / user["battery_j"]) ** 0.5
    return max(work / user["device"]["max_ghz"], by_battery)


def _least_share(user: dict[str, Any], model: dict[str, Any], machines: list[dict[str, Any]], steps: int) -> float:
    """Gigahertz that meet the deadline at the server where that takes least; infinity if none does."""
    best = float("inf")
    for i, machine in enumerate(machines):
        up, down = user["uplink_mbps"][i], user["downlink_mbps"][i]
        if up <= 0 or (machine["hosts"] is not None and user["model"] not in machine["hosts"]):
            continue
        slack = user["max_delay_s"] - user["input_mbit"] / up - user["output_mbit"] / down
        if slack > 0 and user["transmit_power_w"] * user["input_mbit"] / up <= user["battery_j"]:
            best = min(best, _work(model, steps) / slack)
    return best
