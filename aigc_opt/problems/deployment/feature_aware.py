"""Feature-aware, model-level selection: decide model by model from its features, sharing pooled resources.

For one model at one server everything that matters is known at a time when the rest is fixed: what its requests would
save (arrivals, inference delay, sharing between servers, GPU-seconds and joules that are left), what it takes to bring
it in (size on disk, GPU memory, load delay, what is there already) and what it occupies. The best plan over time for
that one model (absent, on disk, in memory in each slot) is then a shortest path with three states. Plans are taken in
the order of what they save for the room that they take; afterwards servers and models are cleared and decided anew as
long as that helps.

The selection by features, one model at a time, follows the abstract of arXiv 2409.05303; the plans by shortest paths
and the clearing are this project's own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aigc_opt.control import Control
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.routing import energy_left, priced_routing

CLEARINGS = 500
"""How often a part of the placement is cleared and decided anew, at most."""

CLEARINGS_PER_PLACE = 2
"""The same for each (slot, server, model): a small placement has been seen from all sides much sooner."""

WANDER = 0.4
"""How far above the best placement the search goes on from one, at most, as a share of a (server, model) pair's part.

With P pairs that is WANDER / P of the cost at first, and less and less, down to nothing at the end.
"""

CLOSE = 0.03
"""How far above the best placement one may be by the quick routing to be worth the exact one."""

FRONT = 8
"""How many plans at the front are worked out again at once when the first of them is out of date."""

EPSILON = 1e-9


class Room:
    """A placement under construction, and what it leaves of disk, GPU memory and joules.

    Attributes
    ----------
    stored, loaded : ndarray of int8, shape (T, E, M)
    storage_gb, gpu_memory_gb, energy_j : ndarray, shape (T, E)
        What is left.

    """

    def __init__(self, instance: DeploymentInstance, costs: Costs):
        self.instance, self.costs = instance, costs
        slots = instance.shape[0]
        self.stored = np.zeros(instance.shape, dtype=np.int8)
        self.loaded = np.zeros(instance.shape, dtype=np.int8)
        self.storage_gb = np.tile(costs.storage_gb, (slots, 1))
        self.gpu_memory_gb = np.tile(costs.gpu_memory_gb, (slots, 1))
        self.energy_j = np.tile(costs.energy_j, (slots, 1))

    def best_plans(self, pairs: np.ndarray, benefit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shortest path over time for each of some (server, model) pairs, everything else fixed.

        Parameters
        ----------
        pairs : ndarray of int, shape (K, 2)
        benefit : ndarray, shape (K, T)

        Returns
        -------
        value : ndarray, shape (K,)
            Saved by the best plan against having nothing there (which costs nothing), >= 0.
        states : ndarray of int8, shape (K, T)
            0 absent, 1 on disk, 2 in memory.

        """
        costs, instance = self.costs, self.instance
        j, m = pairs.T
        slots = benefit.shape[1]
        fits_disk = self.storage_gb[:, j] >= costs.size_gb[m] - EPSILON
        fits_gpu = fits_disk & (self.gpu_memory_gb[:, j] >= costs.memory_gb[m] - EPSILON)
        can_load = self.energy_j[:, j] >= costs.load_j[m] - EPSILON
        fetch, load = costs.fetch[j, m], costs.load[j, m]
        hold_disk = costs.hold_stored[j, m]
        hold_gpu = hold_disk + costs.hold_loaded[j, m]
        state = instance.initial_stored[j, m] + instance.initial_loaded[j, m]
        absent, disk, memory = (np.where(state == s, 0.0, np.inf) for s in range(3))
        enter = np.where(can_load, load, np.inf)
        stay_disk = np.where(fits_disk, hold_disk, np.inf)
        stay_memory = np.where(fits_gpu, hold_gpu - benefit.T, np.inf)
        came = np.zeros((slots, 3, len(pairs)), dtype=np.int8)
        for t in range(slots):
            # Into each state from the two others or from itself; 1 + (a > b) names which of two is the less.
            kept = np.minimum(disk, memory)
            came[t, 0] = np.where(absent <= kept, 0, 1 + (disk > memory))
            fetched = absent + fetch
            came[t, 1] = np.where(fetched <= kept, 0, 1 + (disk > memory))
            started = np.minimum(fetched, disk) + enter[t]
            came[t, 2] = np.where(memory <= started, 2, disk < fetched)
            absent, disk, memory = (
                np.minimum(absent, kept),
                np.minimum(fetched, kept) + stay_disk[t],
                np.minimum(memory, started) + stay_memory[t],
            )
        cost, columns = np.stack([absent, disk, memory]), np.arange(len(pairs))
        states = np.empty((len(pairs), slots), dtype=np.int8)
        last = cost.argmin(axis=0)
        value = -cost[last, columns]
        for t in range(slots - 1, -1, -1):
            states[:, t] = last
            last = came[t, last, columns]
        return value, states

    def take(self, j: np.ndarray, m: np.ndarray, states: np.ndarray) -> None:
        """Carry out plans of shape (T, K) for K pairs of different servers that have none."""
        costs, before = self.costs, self.instance.initial_loaded[j, m].astype(np.int8)
        self.stored[:, j, m] = states >= 1
        self.loaded[:, j, m] = states == 2
        loads = np.maximum(0, np.diff(self.loaded[:, j, m], axis=0, prepend=before[None]))
        self.storage_gb[:, j] -= costs.size_gb[m] * (states >= 1)
        self.gpu_memory_gb[:, j] -= costs.memory_gb[m] * (states == 2)
        self.energy_j[:, j] -= costs.load_j[m] * loads


class Plans(Room):
    """A placement under construction: plans of (server, model) pairs, what is left of each resource, who serves whom.

    Attributes
    ----------
    stored, loaded : ndarray of int8, shape (T, E, M)
    storage_gb, gpu_memory_gb, gpu_s, energy_j : ndarray, shape (T, E)
        What is left.
    served : ndarray, shape (T, E, M, E + 1)
        Requests by origin, model and the server that serves them; last = cloud.

    """

    def __init__(self, instance: DeploymentInstance, costs: Costs):
        super().__init__(instance, costs)
        slots, servers, models = instance.shape
        self.gpu_s = np.tile(costs.gpu_s, (slots, 1))
        self.served = np.zeros((slots, servers, models, servers + 1))
        self.served[..., servers] = instance.arrivals
        # What one more GPU-second, or joule, at a server would save, by the last exact routing.
        self.price_s = np.zeros((slots, servers + 1))
        self.price_j = np.zeros((slots, servers + 1))
        with np.errstate(invalid="ignore"):
            # saving[j][i, m, o]: what server j saves on a request that arrives at i and was served by o
            saving = [costs.serve - costs.serve[:, :, j : j + 1] for j in range(servers)]
        self._ways = [[self._order(saving[j][:, m, :], j) for m in range(models)] for j in range(servers)]
        cloud_first = costs.serve[:, :, servers:] - costs.serve[:, :, :servers]
        self._routes = [self._pairs(cloud_first[:, m, :]) for m in range(models)]

    def _order(self, saving: np.ndarray, j: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pairs (origin, served by) from which server j may take over, and what that saves, the most first."""
        possible = np.isfinite(saving)
        possible[:, j] = False
        origin, other = np.nonzero(possible)
        by = np.argsort(-saving[origin, other], kind="stable")
        origin, other = origin[by], other[by]
        return origin, other, saving[origin, other]

    @staticmethod
    def _pairs(saving: np.ndarray) -> list[tuple[int, int]]:
        origin, server = np.nonzero(np.where(np.isfinite(saving), saving, -1.0) > EPSILON)
        by = np.argsort(-saving[origin, server], kind="stable")
        return list(zip(origin[by].tolist(), server[by].tolist(), strict=True))

    def copy(self) -> Plans:
        """Return an independent copy that shares what never changes."""
        other = object.__new__(Plans)
        other.__dict__.update(self.__dict__)
        for name in ("stored", "loaded", "storage_gb", "gpu_memory_gb", "gpu_s", "energy_j", "served"):
            setattr(other, name, getattr(self, name).copy())
        return other

    # -------------------------------------------------------------------------------------------- evaluation

    def objective(self) -> float:
        """Weighted cost of the placement with the present routing."""
        costs, instance = self.costs, self.instance
        finite = np.where(np.isfinite(costs.serve), costs.serve, 0.0)
        total = float((self.served.sum(axis=0) * finite).sum())
        for state, before, switch, hold in (
            (self.stored, instance.initial_stored, costs.fetch, costs.hold_stored),
            (self.loaded, instance.initial_loaded, costs.load, costs.hold_loaded),
        ):
            arrives = np.maximum(0, np.diff(state, axis=0, prepend=before[None].astype(np.int8)))
            total += float((arrives.sum(axis=0) * switch).sum() + (state.sum(axis=0) * hold).sum())
        return total

    def _room(self, left_s: np.ndarray, left_j: np.ndarray, m: int) -> np.ndarray:
        """Requests of model m that so many GPU-seconds and joules are enough for."""
        costs = self.costs
        room = np.full(len(left_s), np.inf)
        if costs.work_s[m] > 0:
            room = np.minimum(room, np.maximum(0.0, left_s) / costs.work_s[m])
        if costs.work_j[m] > 0:
            room = np.minimum(room, np.maximum(0.0, left_j) / costs.work_j[m])
        return room

    def benefit(self, j: int, m: int) -> np.ndarray:
        """What loading model m at server j would save in each slot, shape (T,).

        A request that leaves another server gives back GPU-seconds and joules there, and takes them here, at their
        prices. Where they have a price here, others can make way; where not, only what is left can be used.
        """
        costs = self.costs
        origin, other, saving = self._ways[j][m]
        unit = self.price_s * costs.work_s[m] + self.price_j * costs.work_j[m]  # [T, E + 1], the cloud's is 0
        amount = self.served[:, origin, m, other]
        if unit.any():
            value = np.maximum(0.0, saving + unit[:, other] - unit[:, j : j + 1])
            order = np.argsort(-value, axis=1)
            rows = np.arange(len(order))[:, None]
            value, amount = value[rows, order], amount[rows, order]
        else:  # the same order, the best first, in all slots
            value = np.maximum(0.0, saving)
        left = self._room(self.gpu_s[:, j], self.energy_j[:, j], m)
        whole = self._room(np.full(len(left), costs.gpu_s[j]), np.full(len(left), costs.energy_j[j]), m)
        room = np.where(unit[:, j] > 0, whole, left)
        before = np.cumsum(amount, axis=1) - amount
        return (np.minimum(np.maximum(room[:, None] - before, 0.0), amount) * value).sum(axis=1)

    def _taken(self, j: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pairs (origin, served by) and the requests [T, pairs] that j takes over from them as far as its room goes."""
        origin, other, saving = self._ways[j][m]
        better = saving > EPSILON
        origin, other = origin[better], other[better]
        amount = self.served[:, origin, m, other]
        room = self._room(self.gpu_s[:, j], self.energy_j[:, j], m)
        before = np.cumsum(amount, axis=1) - amount
        return origin, other, np.clip(room[:, None] - before, 0.0, amount)

    # ------------------------------------------------------------------------------------------------ changes

    def add(self, j: int, m: int, states: np.ndarray) -> None:
        """Carry out a plan of shape (T,) for a pair that has none, and let it take over requests."""
        self.take(np.array([j]), np.array([m]), states[:, None])
        origin, other, taken = self._taken(j, m)
        taken *= self.loaded[:, j, m][:, None]
        for index in np.flatnonzero(taken.any(axis=0)):
            self._move(m, int(origin[index]), int(other[index]), j, taken[:, index])

    def _loads(self, j: int, m: int) -> np.ndarray:
        before = self.instance.initial_loaded[j, m]
        return np.maximum(0, np.diff(self.loaded[:, j, m], prepend=np.int8(before)))

    def _move(self, m: int, origin: int, source: int, target: int, amount: np.ndarray) -> None:
        """Let `target` instead of `source` serve `amount` (T,) requests."""
        costs, cloud = self.costs, self.served.shape[3] - 1
        self.served[:, origin, m, source] -= amount
        self.served[:, origin, m, target] += amount
        for server, sign in ((source, 1.0), (target, -1.0)):
            if server != cloud:
                self.gpu_s[:, server] += sign * costs.work_s[m] * amount
                self.energy_j[:, server] += sign * costs.work_j[m] * amount

    def remove(self, pairs: list[tuple[int, int]]) -> None:
        """Take plans away; other servers that have the models loaded take the requests over as far as they can."""
        costs = self.costs
        for j, m in pairs:
            self.energy_j[:, j] += costs.load_j[m] * self._loads(j, m)
            self.storage_gb[:, j] += costs.size_gb[m] * self.stored[:, j, m]
            self.gpu_memory_gb[:, j] += costs.memory_gb[m] * self.loaded[:, j, m]
            self.stored[:, j, m] = 0
            self.loaded[:, j, m] = 0
        for m in sorted({m for _, m in pairs}):
            self._route_anew(m)

    def route_all(self, control: Control) -> None:
        """Route all requests anew, the cheapest way that there is for what is loaded."""
        costs, cloud = self.costs, self.served.shape[3] - 1
        found = priced_routing(self.instance, costs, self.loaded, control)
        assert found is not None  # plans keep to the energy that there is
        routing, price_s, price_j = found
        self.price_s, self.price_j = (np.pad(price, ((0, 0), (0, 1))) for price in (price_s, price_j))
        self.served = self.instance.arrivals[..., None] * routing
        by_server = self.served[..., :cloud].sum(axis=1).transpose(0, 2, 1)  # [T, E, M]
        self.gpu_s = costs.gpu_s - by_server @ costs.work_s
        self.energy_j = energy_left(self.instance, costs, self.loaded) - by_server @ costs.work_j

    def _route_anew(self, m: int) -> None:
        slots, servers, _ = self.stored.shape
        served, costs = self.served[:, :, m, :], self.costs
        by_server = served[:, :, :servers].sum(axis=1)
        self.gpu_s += costs.work_s[m] * by_server
        self.energy_j += costs.work_j[m] * by_server
        served[:, :, servers] = self.instance.arrivals[:, :, m]
        served[:, :, :servers] = 0.0
        used = np.any(self.loaded[:, :, m], axis=0)
        for origin, j in self._routes[m]:
            if used[j]:
                room = self._room(self.gpu_s[:, j], self.energy_j[:, j], m)
                amount = np.minimum(served[:, origin, servers], room) * self.loaded[:, j, m]
                if amount.any():
                    self._move(m, origin, servers, j, amount)


def fill(
    plans: Plans, exponent: float, favour: np.ndarray | float = 1.0, stop: Callable[[], object] | None = None
) -> None:
    """Add plans, the one that saves most for the room that it takes first, until none saves anything.

    Parameters
    ----------
    exponent : float
        How much room counts: saved / room^exponent.
    favour : ndarray, shape (E, M, T), or float
        Factor of what a pair is believed to save in each slot when it is planned.
    stop : callable, optional
        Polled between additions; a true answer ends the filling.

    """
    instance, costs = plans.instance, plans.costs
    slots, servers, models = instance.shape
    fits = (costs.size_gb[None, :] <= costs.storage_gb[:, None]) & (
        costs.memory_gb[None, :] <= costs.gpu_memory_gb[:, None]
    )
    open_pairs = fits & ~plans.stored.any(axis=0)
    favour = np.broadcast_to(favour, (servers, models, slots))
    value = np.zeros((servers, models))
    states = np.zeros((servers, models, slots), dtype=np.int8)
    size = costs.size_gb[None, :, None] / np.maximum(costs.storage_gb, 1e-300)[:, None, None]
    memory = costs.memory_gb[None, :, None] / np.maximum(costs.gpu_memory_gb, 1e-300)[:, None, None]
    stale = open_pairs.copy()
    room = np.ones((servers, models))
    score = np.where(open_pairs, np.inf, -np.inf)
    while True:
        # What others do since can hardly make a plan worth more, so a plan that was worth less is not looked at again
        # before it comes to the front.
        front = np.argpartition(score, -min(FRONT, score.size), axis=None)[-min(FRONT, score.size) :]
        j, m = np.unravel_index(int(score.argmax()), score.shape)
        if score[j, m] <= 0 or (stop is not None and stop()):
            return
        if stale[j, m]:
            if np.isinf(score[j, m]):  # the first time all are planned
                front = np.flatnonzero(open_pairs)
            looked = np.stack(np.unravel_index(front, score.shape), axis=1)
            looked = looked[stale[looked[:, 0], looked[:, 1]] & open_pairs[looked[:, 0], looked[:, 1]]]
            at = (looked[:, 0], looked[:, 1])
            benefit = np.stack([plans.benefit(int(a), int(b)) * favour[a, b] for a, b in looked])
            value[at], states[at] = plans.best_plans(looked, benefit)
            taken = np.maximum((states[at] >= 1) * size[at[0], at[1]], (states[at] == 2) * memory[at[0], at[1]])
            room[at] = np.maximum(taken.sum(axis=1), EPSILON)
            score[at] = np.where(value[at] > 1e-7, value[at], -np.inf) / room[at] ** exponent
            stale[at] = False
            continue
        plans.add(int(j), int(m), states[j, m])
        open_pairs[j, m] = False
        score[j, m] = -np.inf
        stale[j, :] = True
        stale[:, m] = True


def select(
    instance: DeploymentInstance, costs: Costs, control: Control, seed: int, clearings: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Run the feature-aware selection.

    Parameters
    ----------
    clearings : int, optional
        How often a part is decided anew; by default what suits the size, at most `CLEARINGS`.

    Returns
    -------
    stored, loaded : ndarray, shape (T, E, M)
        A placement that respects every limit.

    """
    slots, servers, models = instance.shape
    if clearings is None:
        clearings = min(CLEARINGS, 40 + CLEARINGS_PER_PLACE * slots * servers * models)
    random = np.random.default_rng(seed)
    best: Plans | None = None
    least = np.inf
    for exponent in (1.0, 0.5):
        plans = Plans(instance, costs)
        fill(plans, exponent, stop=lambda: control.stop)
        plans.route_all(control)
        if plans.objective() < least:
            best, least = plans, plans.objective()
        if control.stop:
            break
    assert best is not None
    control.report("feature-aware: first selection", objective=None)
    current = best
    began = control.elapsed_s
    for clearing in range(clearings):
        if control.stop:
            break
        plans = current.copy()
        cleared = _clear(plans, random)
        # With full prices everything that is short goes where it is worth most; without, what is there stays.
        trust = random.uniform(0.0, 1.2) if random.random() < 0.6 else 0.0
        plans.price_s, plans.price_j = trust * current.price_s, trust * current.price_j
        plans.remove([(int(j), int(m)) for j, m in np.argwhere(cleared)])
        fill(plans, random.uniform(0.3, 1.2), _windows(plans, random), stop=lambda: control.stop)
        if plans.objective() < least * (1 + CLOSE):
            plans.route_all(control)
        found = plans.objective()
        if found < least - 1e-9 * abs(least):
            best, least = plans, found
            control.report("feature-aware: clearing and selecting")
        spent = control.elapsed_s - began
        done = max(clearing / clearings, spent / (spent + control.remaining_s))
        if found < least * (1 + WANDER / (servers * models) * (1 - done) ** 2) and not control.stop:
            current = plans
    return best.stored, best.loaded


def _windows(plans: Plans, random: np.random.Generator) -> np.ndarray:
    """Favour of some pairs in some windows of time, shape (E, M, T), so that models can follow one another.

    A model planned alone takes all slots in which it saves anything; that another one is better from some slot on shows
    only when the first is believed to save nothing there.
    """
    slots, servers, models = plans.stored.shape
    start = random.integers(slots, size=(servers, models, 1))
    length = random.integers(1, slots + 1, size=(servers, models, 1))
    inside = (np.arange(slots) - start) % slots < length
    windowed = random.random((servers, models, 1)) < random.uniform(0.0, 0.6)
    return np.where(windowed & ~inside, 0.2, 1.0)


def _clear(plans: Plans, random: np.random.Generator) -> np.ndarray:
    """Choose what to decide anew, shape (E, M) of bool: a server, a model, two servers' part, or a random share."""
    placed = plans.stored.any(axis=0)
    servers, models = placed.shape
    chosen = np.zeros_like(placed)
    kind = random.integers(4)
    if kind == 0:
        chosen[random.integers(servers)] = True
    elif kind == 1:
        chosen[:, random.integers(models, size=min(models, 2))] = True
    elif kind == 2:
        chosen[random.choice(servers, size=min(servers, 2), replace=False)] = True
        chosen &= random.random(placed.shape) < 0.6
    else:
        chosen = random.random(placed.shape) < min(0.5, 8 / max(1, placed.sum()))
    return chosen & placed
