"""Baselines of the deployment problem: each makes a placement, and the best routing for it is found exactly.

Every function takes (instance, costs, control, seed) and returns stored and loaded, arrays (T, E, M) of 0 and 1.
"""

from __future__ import annotations

import numpy as np

from aigc_opt.control import Control
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.routing import energy_left, keep_on_disk, switches

Placement = tuple[np.ndarray, np.ndarray]

POPULATION = 32
GENERATIONS = 150
"""Of the genetic algorithm."""

STALE = 40
"""Generations in turn without a better placement after which it ends."""


def cloud_only(instance: DeploymentInstance, costs: Costs, control: Control, seed: int) -> Placement:
    """Nothing at the edge: every request goes to the cloud."""
    nothing = np.zeros(instance.shape, dtype=np.int8)
    return nothing, nothing


def popularity(instance: DeploymentInstance, costs: Costs, control: Control, seed: int) -> Placement:
    """Most popular first: in each slot each server loads what is asked for most there, as far as it fits."""
    slots, servers, _ = instance.shape
    loaded = np.zeros(instance.shape, dtype=np.int8)
    for t in range(slots):
        if control.stop is not None:
            break
        for j in range(servers):
            asked = instance.arrivals[t, j]
            loaded[t, j] = _pack(np.argsort(-asked, kind="stable"), asked > 0, costs, j)
    loaded = _within_energy(instance, costs, loaded)
    return keep_on_disk(instance, costs, loaded), loaded


def static(instance: DeploymentInstance, costs: Costs, control: Control, seed: int) -> Placement:
    """One placement for all slots: what is asked for most over the whole horizon, loaded at the start."""
    servers = instance.shape[1]
    loaded = np.zeros(instance.shape, dtype=np.int8)
    for j in range(servers):
        asked = instance.arrivals[:, j].sum(axis=0)
        loaded[:, j] = _pack(np.argsort(-asked, kind="stable"), asked > 0, costs, j)
    loaded = _within_energy(instance, costs, loaded)
    return loaded.copy(), loaded


def random(instance: DeploymentInstance, costs: Costs, control: Control, seed: int) -> Placement:
    """A random feasible placement in each slot, from models in random order as far as they fit."""
    generator = np.random.default_rng(seed)
    slots, servers, models = instance.shape
    loaded = np.zeros(instance.shape, dtype=np.int8)
    for t in range(slots):
        if control.stop is not None:
            break
        for j in range(servers):
            loaded[t, j] = _pack(generator.permutation(models), np.ones(models, bool), costs, j)
    loaded = _within_energy(instance, costs, loaded)
    return keep_on_disk(instance, costs, loaded), loaded


def lru(instance: DeploymentInstance, costs: Costs, control: Control, seed: int) -> Placement:
    """Load what is asked for, dropping what was used least recently, from disk and from GPU memory.

    Within a slot requests are taken to come in the order of how many there are, the rarest first, so that the most
    asked for model is the most recently used one. A slot begins with what the one before left, and what is in memory
    at its end serves it; there is no look ahead.
    """
    slots, servers, _ = instance.shape
    stored = np.zeros(instance.shape, dtype=np.int8)
    loaded = np.zeros(instance.shape, dtype=np.int8)
    for j in range(servers):
        disk = _Recent(costs.size_gb, costs.storage_gb[j], np.flatnonzero(instance.initial_stored[j]))
        memory = _Recent(costs.memory_gb, costs.gpu_memory_gb[j], np.flatnonzero(instance.initial_loaded[j]))
        for m in [m for m in memory.used if m not in disk.used]:
            memory.drop(m)
        for t in range(slots):
            if control.stop is not None:
                break
            asked = instance.arrivals[t, j]
            for m in np.argsort(asked, kind="stable").tolist():
                if asked[m] > 0 and costs.size_gb[m] <= disk.limit and costs.memory_gb[m] <= memory.limit:
                    for dropped in disk.use(m):
                        memory.drop(dropped)
                    memory.use(m)
            stored[t, j, list(disk.used)] = 1
            loaded[t, j, list(memory.used)] = 1
    return stored, _within_energy(instance, costs, loaded)


class _Recent:
    """What is in a store of limited size, least recently used first."""

    def __init__(self, sizes: np.ndarray, limit: float, there: np.ndarray):
        self.sizes, self.limit, self.total = sizes, float(limit), 0.0
        self.used: dict[int, None] = {}  # a dict keeps its order
        for m in there.tolist():
            if sizes[m] <= limit:
                self.use(m)

    def use(self, m: int) -> list[int]:
        """Put a model last, and return what had to be dropped for it."""
        self.drop(m)
        self.used[m] = None
        self.total = float(self.sizes[list(self.used)].sum())
        dropped = []
        while self.total > self.limit:
            oldest = next(iter(self.used))
            dropped.append(oldest)
            self.drop(oldest)
            self.total = float(self.sizes[list(self.used)].sum())
        return dropped

    def drop(self, m: int) -> None:
        """Take a model out, if it is there."""
        self.used.pop(m, None)


def genetic(instance: DeploymentInstance, costs: Costs, control: Control, seed: int) -> Placement:
    """Genetic algorithm over loaded models with repair.

    A chromosome is `loaded`; crossover exchanges whole servers or a window of slots, mutation flips entries or copies a
    slot from the one before; repair drops the models with the fewest requests for their memory until everything fits.
    Fitness routes every request its cheapest way and sends what a server has no GPU-seconds or joules for to the cloud.
    """
    generator = np.random.default_rng(seed)
    slots, servers, models = instance.shape
    worth = instance.arrivals / costs.memory_gb

    def repaired(loaded: np.ndarray) -> np.ndarray:
        for j in range(servers):
            for sizes, limit in (
                (costs.memory_gb, costs.gpu_memory_gb[j]),
                (costs.size_gb, costs.storage_gb[j]),
            ):
                for t in np.flatnonzero(loaded[:, j] @ sizes > limit):
                    for m in np.argsort(worth[t, j] * loaded[t, j], kind="stable"):
                        if loaded[t, j] @ sizes <= limit:
                            break
                        loaded[t, j, m] = 0
        return _within_energy(instance, costs, loaded)

    known: dict[bytes, tuple[float, np.ndarray, np.ndarray]] = {}  # as it converges, most children have been before

    def scored(loaded: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        key = np.packbits(loaded.astype(bool)).tobytes()
        if key not in known:
            stored = keep_on_disk(instance, costs, loaded)
            known[key] = _fitness(instance, costs, stored, loaded), stored, loaded
        return known[key]

    seeds = [static, popularity, cloud_only]
    population = [scored(make(instance, costs, control, seed)[1].copy()) for make in seeds]
    while len(population) < POPULATION and not control.stop:
        population.append(scored(random(instance, costs, control, int(generator.integers(2**31)))[1]))
    population.sort(key=lambda item: item[0])
    improved = 0
    for generation in range(GENERATIONS):
        if control.stop or generation - improved > STALE:
            break
        children = []
        for _ in range(POPULATION):
            if control.stop:
                break
            first, second = (population[int(generator.integers(len(population), size=3).min())][2] for _ in range(2))
            child = first.copy()
            if generator.random() < 0.5:
                which = generator.random(servers) < 0.5
                child[:, which] = second[:, which]
            else:
                start, stop = sorted(generator.integers(slots + 1, size=2))
                child[start:stop] = second[start:stop]
            if generator.random() < 0.5:
                child ^= generator.random(child.shape) < 2 / child.size * generator.integers(1, 6)
            else:
                j, start = int(generator.integers(servers)), int(generator.integers(slots))
                stop = start + int(generator.integers(1, slots + 1))
                child[start:stop, j] = child[start, j]
            children.append(scored(repaired(child)))
        least = population[0][0]
        population = sorted(population + children, key=lambda item: item[0])[:POPULATION]
        improved = generation if population[0][0] < least else improved
        control.report(f"genetic: generation {generation + 1}")
    return population[0][1], population[0][2]


def _fitness(instance: DeploymentInstance, costs: Costs, stored: np.ndarray, loaded: np.ndarray) -> float:
    """Cost of a placement with a quick feasible routing, or infinity if its loads take too much energy."""
    servers = instance.shape[1]
    left_j = energy_left(instance, costs, loaded)
    if (left_j < 0).any():
        return np.inf
    total = 0.0
    cloud = costs.serve[:, :, servers]
    for t in range(len(loaded)):
        way = np.where(loaded[t].T[None, :, :] > 0, costs.serve[:, :, :servers], np.inf)
        chosen = way.argmin(axis=2)
        cost = way.min(axis=2)
        edge = cost < cloud
        amount = np.where(edge, instance.arrivals[t], 0.0)
        use_s = np.bincount(chosen.ravel(), (amount * costs.work_s).ravel(), servers)
        use_j = np.bincount(chosen.ravel(), (amount * costs.work_j).ravel(), servers)
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.minimum(np.where(use_s > 0, costs.gpu_s / use_s, 1), np.where(use_j > 0, left_j[t] / use_j, 1))
        share = np.minimum(1.0, part)[chosen]
        total += float((amount * (share * np.where(edge, cost, 0.0) + (1 - share) * cloud)).sum())
        total += float((np.where(edge, 0.0, instance.arrivals[t]) * cloud).sum())
    total += float((stored.sum(axis=0) * costs.hold_stored + loaded.sum(axis=0) * costs.hold_loaded).sum())
    total += float((switches(stored, instance.initial_stored).sum(axis=0) * costs.fetch).sum())
    return total + float((switches(loaded, instance.initial_loaded).sum(axis=0) * costs.load).sum())


def _pack(order: np.ndarray, wanted: np.ndarray, costs: Costs, j: int) -> np.ndarray:
    """Models in this order, each taken if it is wanted and still fits disk and GPU memory of server j."""
    chosen = np.zeros(len(wanted), dtype=np.int8)
    disk, memory = costs.storage_gb[j], costs.gpu_memory_gb[j]
    for m in order:
        if wanted[m] and costs.size_gb[m] <= disk and costs.memory_gb[m] <= memory:
            chosen[m] = 1
            disk -= costs.size_gb[m]
            memory -= costs.memory_gb[m]
    return chosen


def _within_energy(instance: DeploymentInstance, costs: Costs, loaded: np.ndarray) -> np.ndarray:
    """Undo loads that take more energy than a server has, where they happen, from the first slot on."""
    if np.isinf(costs.energy_j).all():
        return loaded
    before = instance.initial_loaded
    for t in range(len(loaded)):
        for j in np.flatnonzero(np.maximum(0, loaded[t] - before) @ costs.load_j > costs.energy_j):
            left = costs.energy_j[j]
            for m in np.argsort(-instance.arrivals[t, j], kind="stable"):
                if loaded[t, j, m] and not before[j, m]:
                    if costs.load_j[m] <= left:
                        left -= costs.load_j[m]
                    else:
                        loaded[t, j, m] = 0
        before = loaded[t]
    return loaded
