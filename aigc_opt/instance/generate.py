"""Seeded families of instances; the same arguments give the same file everywhere.

Only ``numpy.random.Generator(PCG64(seed)).random()`` is drawn from, whose doubles are the same in every version of
NumPy, and every number is rounded. All values are assumed, in the ranges that the field's literature uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from aigc_opt.control import require_memory
from aigc_opt.errors import InputError
from aigc_opt.instance.base import FORMAT, VERSION, Instance
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.instance.draws import LARGEST_FACTOR, LEAST_FACTOR, draws
from aigc_opt.instance.generate_offloading import OFFLOADING_FAMILIES, generate_offloading
from aigc_opt.instance.two_timescale import TwoTimescaleInstance

TASKS = (
    "text-to-image", "inpainting", "text-to-music", "chat-small", "chat-large", "super-resolution", "text-to-video",
    "speech", "style-transfer", "captioning", "code", "image-to-3d",
)  # fmt: skip


@dataclass(frozen=True)
class DeploymentFamily:
    """What makes a family of deployment instances.

    Attributes
    ----------
    storage, gpu_memory : tuple of float
        Range of a server's capacity as a share of what all models together take.
    zipf : float
        Exponent of the popularity of models.
    drift : float
        How far the ranking of models at a server turns over the whole horizon, as a share of all ranks.
    swing : float
        Amplitude of the diurnal wave of arrivals, 0 to 1.
    peers : float
        Probability that a server shares with another one.
    limited : bool
        Whether servers have limits of GPU-seconds and joules.

    """

    storage: tuple[float, float] = (0.4, 0.55)
    gpu_memory: tuple[float, float] = (0.25, 0.35)
    zipf: float = 1.2
    drift: float = 0.35
    swing: float = 0.5
    peers: float = 0.8
    limited: bool = True


DEPLOYMENT_FAMILIES = {
    "balanced": DeploymentFamily(),
    "memory-tight": DeploymentFamily(storage=(0.15, 0.25), gpu_memory=(0.1, 0.18), zipf=0.9),
    "drifting": DeploymentFamily(zipf=1.5, drift=1.0, swing=0.8),
    "metro": DeploymentFamily(storage=(0.2, 0.35), peers=1.0, swing=0.3, limited=False),
}


BYTES_A_PLACE = 50.0
"""Memory of a (slot, server, model), or of a pair of servers, while an instance is made and written, measured."""


def _faults_of_arguments(sizes: dict[str, int], family: str, families: Iterable[str], seed: int) -> list[str]:
    faults = [f"{key} must be at least 1, got {value}" for key, value in sizes.items() if value < 1]
    if seed < 0:
        faults.append(f"seed must be >= 0, got {seed}")
    if family not in families:
        faults.append(f"family must be one of {', '.join(families)}, got {family!r}")
    return faults


def generate_deployment(
    servers: int = 4,
    models: int = 10,
    slots: int = 12,
    family: str = "balanced",
    load: float = 0.9,
    seed: int = 0,
    name: str | None = None,
) -> DeploymentInstance:
    """Make a deployment instance.

    Arrivals of a model at a server are its Zipf popularity there, whose ranking drifts over the horizon, times a
    diurnal wave with a phase of the server's own, times noise.

    Parameters
    ----------
    servers, models, slots : int
        Sizes E, M and T; a slot is 300 s, the wave's period 24 slots or the horizon if that is longer.
    family : str
        One of `DEPLOYMENT_FAMILIES`.
    load : float
        Demand for GPU-seconds over what servers have, where limited (0.9: peaks are too much, the mean is not).
    seed : int
    name : str, optional

    Raises
    ------
    InputError
        If a size is below 1, the load not from 0.01 to 100, the seed negative, there is no such family, or the instance
        does not fit into memory.

    """
    sizes = {"servers": servers, "models": models, "slots": slots}
    faults = _faults_of_arguments(sizes, family, DEPLOYMENT_FAMILIES, seed)
    if not LEAST_FACTOR <= load <= LARGEST_FACTOR:
        faults.append(f"load must be from {LEAST_FACTOR:g} to {LARGEST_FACTOR:g}, got {load}")
    if faults:
        raise InputError("generate", faults)
    places = float(slots) * servers * models
    needed = BYTES_A_PLACE * (places + float(servers) * servers)
    require_memory("generate", f"{places:,.0f} places of {servers} servers", needed)
    kind = DEPLOYMENT_FAMILIES[family]
    uniform = draws(seed)

    size = np.round(3.0 * 15.0 ** uniform(0, 1, models), 2)  # 3 to 45 GB, as many small as large ones
    memory = np.round(np.minimum(24.0, size * uniform(0.35, 0.9, models)), 2)
    warmup, load_j = uniform(0.5, 4, models, 2), uniform(1000, 3000, models, 1)
    steps = np.floor(uniform(10, 51, models))
    base_s, step_s = uniform(0.3, 2, models, 3), uniform(0.03, 0.2, models)
    base_j, step_j = uniform(10, 60, models, 1), uniform(5, 40, models, 2)
    profiles = [
        {
            "name": _task_name(m),
            "storage_gb": size[m], "gpu_memory_gb": memory[m], "warmup_s": warmup[m], "load_j": load_j[m],
            "nominal_steps": steps[m], "latency": {"base_s": base_s[m], "per_step_s": step_s[m]},
            "energy": {"base_j": base_j[m], "per_step_j": step_j[m]}, "source": "assumed",
        }
        for m in range(models)
    ]  # fmt: skip
    generation_s, generation_j = base_s + step_s * steps, base_j + step_j * steps

    arrivals = _arrivals(uniform, kind, slots, servers, models)
    storage = np.round(np.maximum(size.sum() * uniform(*kind.storage, servers), size.min() * 1.05), 1)
    gpu_memory = np.round(np.maximum(memory.sum() * uniform(*kind.gpu_memory, servers), memory.min() * 1.05), 1)
    cloud_gbps, io = uniform(5, 10, servers, 2), uniform(1.2, 3, servers, 2)
    # Limits at which the mean demand of a server's own requests would use `load` of what it has.
    busy_s = np.round((arrivals.mean(axis=0) @ generation_s) / load * uniform(0.95, 1.05, servers), 1)
    busy_j = np.round((arrivals.mean(axis=0) @ generation_j) / load * uniform(1.0, 1.5, servers) + load_j.max(), 1)
    pairs = uniform(0, 1, (servers, servers)) < kind.peers
    delay = uniform(0.2, 1.5, (servers, servers))
    peer = [
        [0.0 if i == j else (float(delay[i, j]) if pairs[i, j] else None) for j in range(servers)]
        for i in range(servers)
    ]
    data = {
        "format": FORMAT, "version": VERSION, "problem": "deployment",
        "name": name if name is not None else f"{family}-{servers}x{models}x{slots}-{seed}",
        "description": f"Generated: family {family}, load {load:g}, seed {seed}. All values are assumed.",
        "slot_s": 300,
        "models": profiles,
        "servers": [
            {
                "name": f"edge-{j + 1}", "storage_gb": storage[j], "gpu_memory_gb": gpu_memory[j],
                "cloud_gbps": cloud_gbps[j], "io_gb_per_s": io[j],
                "gpu_s": busy_s[j] if kind.limited else None, "energy_j": busy_j[j] if kind.limited else None,
            }
            for j in range(servers)
        ],
        "cloud_delay_s": np.round(generation_s * 0.6 + uniform(4, 9, models), 4),
        "peer_delay_s": peer,
        "arrivals": arrivals,
        "weights": {"delay": 1, "switching": 1, "storage": 20, "gpu_memory": 30},
    }  # fmt: skip
    return DeploymentInstance.from_dict(data, "generate")


def _arrivals(
    uniform: Callable[..., np.ndarray], kind: DeploymentFamily, slots: int, servers: int, models: int
) -> np.ndarray:
    """Whole requests [T, E, M]: Zipf popularity with drifting ranks, diurnal wave, noise."""
    start = np.argsort(uniform(0, 1, (servers, models)), axis=1)
    end = np.argsort(uniform(0, 1, (servers, models)), axis=1)
    phase, volume = uniform(0, 1, servers), uniform(40, 120, servers)
    noise = uniform(0.7, 1.3, (slots, servers, models))
    rank_start, rank_end = np.argsort(start, axis=1), np.argsort(end, axis=1)
    time = np.arange(slots) / max(slots, 24)
    along = np.linspace(0, kind.drift, slots)[:, None, None]
    rank = (1 - along) * rank_start + along * rank_end
    popularity = (1.0 + rank) ** -kind.zipf
    popularity /= popularity.sum(axis=2, keepdims=True)
    wave = 1 + kind.swing * np.sin(2 * np.pi * (time[:, None] + phase[None, :]))
    mean = volume[None, :, None] * wave[:, :, None] * popularity * models / 5
    # Rounded after the sines and powers, so that their last bits cannot matter.
    return np.floor(np.round(mean * noise, 6) + 0.5)


@dataclass(frozen=True)
class TwoTimescaleFamily:
    """What makes a family of two-timescale processes.

    Attributes
    ----------
    steps_per_user : float
        Steps per slot over users: 100 is scarce (a good picture takes 150 to 190), 1000 is as many as anybody wants.
    storage : float
        Size of the cache as a share of what all models together take.
    serve_all_hits : bool
    switching : float
        Weight of switching.

    """

    steps_per_user: float = 100.0
    storage: float = 0.4
    serve_all_hits: bool = True
    switching: float = 0.0


TWO_TIMESCALE_FAMILIES = {
    "paper": TwoTimescaleFamily(),
    "choice": TwoTimescaleFamily(serve_all_hits=False),
    "roomy": TwoTimescaleFamily(steps_per_user=1000.0),
    "switching": TwoTimescaleFamily(switching=0.3),
}


def generate_two_timescale(
    users: int = 10,
    models: int = 10,
    frames: int = 10,
    slots: int = 10,
    family: str = "paper",
    seed: int = 0,
    name: str | None = None,
) -> TwoTimescaleInstance:
    """Make a two-timescale process, the law of episodes; `sample` draws episodes from it.

    The default sizes are those that the literature uses; larger ones keep the storage in proportion to the models and
    the steps in proportion to the users.

    Parameters
    ----------
    users, models, frames, slots : int
        Sizes U, M, T and K.
    family : str
        One of `TWO_TIMESCALE_FAMILIES`.
    seed : int
    name : str, optional

    Raises
    ------
    InputError
        If a size is below 1, the seed negative, or there is no such family.

    """
    sizes = {"users": users, "models": models, "frames": frames, "slots": slots}
    if faults := _faults_of_arguments(sizes, family, TWO_TIMESCALE_FAMILIES, seed):
        raise InputError("generate", faults)
    kind = TWO_TIMESCALE_FAMILIES[family]
    uniform = draws(seed)
    size, memory = uniform(2, 9, models, 2), uniform(1, 8, models, 2)
    base_s, step_s = uniform(1, 6, models, 2), uniform(0.09, 0.2, models, 3)
    first, last = uniform(40, 70, models, 1), uniform(150, 190, models, 1)
    worst, best = uniform(90, 116, models, 1), uniform(22, 35, models, 1)
    data = {
        "format": FORMAT, "version": VERSION, "problem": "two_timescale",
        "name": name if name is not None else f"{family}-{users}x{models}x{frames}x{slots}-{seed}",
        "description": f"Generated: family {family}, seed {seed}. All values are assumed.",
        "models": [
            {
                "name": _task_name(m), "storage_gb": size[m], "gpu_memory_gb": memory[m], "warmup_s": 1,
                "latency": {"base_s": base_s[m], "per_step_s": step_s[m]},
                "quality": {"kind": "piecewise_linear", "points": [[first[m], worst[m]], [last[m], best[m]]]},
                "source": "assumed",
            }
            for m in range(models)
        ],
        "edge": {
            "storage_gb": np.round(max(kind.storage * size.sum(), size.min()), 1),
            "steps_per_slot": kind.steps_per_user * users, "min_steps": 10, "max_steps": 200,
            "uplink_mhz": 20, "downlink_mhz": 40, "power_w": 20, "backhaul_mbps": 0.5, "cloud_gbps": 5,
            "io_gb_per_s": 2,
        },
        "user_power_w": [0.2] * users,
        "cloud": {"steps": 170, "latency": {"base_s": 4, "per_step_s": 0.12}},
        "serve_all_hits": kind.serve_all_hits,
        "weights": {"delay": 0.4, "quality": 0.6, "switching": kind.switching},
        "process": {
            "frames": frames, "slots": slots, "zipf_exponents": [0.4, 0.9, 1.4],
            "transition": [[0.6, 0.3, 0.1], [0.2, 0.6, 0.2], [0.1, 0.3, 0.6]], "initial_state": 1,
            "input_mbit": [5, 10], "output_mbit": [5, 10], "distance_m": [30, 250], "fading": "rayleigh",
        },
    }  # fmt: skip
    return TwoTimescaleInstance.from_dict(data, "generate")


def _task_name(m: int) -> str:
    return TASKS[m] if m < len(TASKS) else f"{TASKS[m % len(TASKS)]}-{m // len(TASKS) + 1}"


FAMILIES: dict[str, Iterable[str]] = {
    "deployment": DEPLOYMENT_FAMILIES,
    "offloading": OFFLOADING_FAMILIES,
    "two_timescale": TWO_TIMESCALE_FAMILIES,
}
"""Names of each problem's families."""

GENERATORS: dict[str, Callable[..., Instance]] = {
    "deployment": generate_deployment,
    "offloading": generate_offloading,
    "two_timescale": generate_two_timescale,
}
"""Generator of each problem, by the problem's name."""
