"""Whole servers over time: the Lagrangian dual of the demands alone, with all that happens on one server exact.

What is on a server's disk and in its GPU memory at a time, a *state*, is one of the few thousands of sets that fit.
Put a price p_tim (cost per request, >= 0) on ``sum_o r_timo = 1`` and eps_tj >= 0 on the joules. What is left separates
into one problem for each server, because demands are all else that links servers ::

    D = sum lam min(p, cloud) - sum eps E + sum over j of the least cost of a path through the states of server j

where a state costs what it holds and less what the models loaded in it earn, a knapsack of GPU-seconds that may be
filled in part: the most of ``sum_im lam (p - serve - eps e) r`` over r in [0, 1] with ``sum_im lam a r <= H``; it is
filled in the order of earnings per GPU-second. A step from state to state costs the fetches and the loads that it needs
(at ``load + eps l``). Every path is a path over states that fit, every server's GPU-seconds are kept in every slot.

``D <= optimum`` for all prices >= 0: take any feasible point. To its cost add each price times (left side - right side)
of its row, 0 for demands and <= 0 for joules; what stands there then is, for each j, the cost of the point's own path
and its own routes, which obey the same limits, and so is no less than the minimum; and for the cloud's routes at least
``lam min(0, cloud - p)``. The best D is at least that of `prices` and of the relaxation tightened by `cuts`, whose rows
every path obeys, and above where parts of packs are not as good as whole ones.

If states are ruled out, D bounds the points that avoid them; so branching is on states, in a slot with and without a
model. The least cost of a path *through* a state bounds the points that have it: where that is no better than a point
that is known, the state is ruled out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.problems.deployment.costs import Costs

MOST_STATES = 20_000
"""States of a server up to which paths through them are followed."""

MOST_MODELS = 39
"""Models up to which a state is a number to the base 3 of 64 bits."""

NOTHING = 1e-9
"""Share of a demand below which a route is none."""


def states_of(instance: DeploymentInstance, costs: Costs, j: int) -> np.ndarray | None:
    """Return what fits on server j, shape (N, M) of int8: 0 absent, 1 on disk, 2 in memory.

    None if that is more than `MOST_STATES`, or the models are more than `MOST_MODELS`. What the checker's tolerance
    would accept counts as fitting. In the order of numbers to the base 3, the first model counting least.
    """
    if instance.shape[2] > MOST_MODELS:
        return None
    disk, memory = (limit[j] + max(1e-6, 1e-6 * limit[j]) for limit in (costs.storage_gb, costs.gpu_memory_gb))
    states, used_gb, used_memory = np.zeros((1, 0), dtype=np.int8), np.zeros(1), np.zeros(1)
    for m in range(instance.shape[2]):
        sizes, memories = np.array([0.0, 1.0, 1.0]) * costs.size_gb[m], np.array([0.0, 0.0, 1.0]) * costs.memory_gb[m]
        gb, gpu = (sizes[:, None] + used_gb).ravel(), (memories[:, None] + used_memory).ravel()
        fits = (gb <= disk) & (gpu <= memory)
        number = len(states)
        states = np.hstack([np.tile(states, (3, 1)), np.repeat(np.arange(3, dtype=np.int8), number)[:, None]])[fits]
        used_gb, used_memory = gb[fits], gpu[fits]
        if len(states) > MOST_STATES:
            return None
    return states


@dataclass(frozen=True)
class Mixes:
    """How packs are filled with requests in one slot: demands (K,), and the share [P, K] that each pack serves."""

    demand: np.ndarray
    share: np.ndarray


class Server:
    """The states of one server, and least paths through them.

    Attributes
    ----------
    states : ndarray of int8, shape (N, M)
        As `states_of` gives them.
    pack : ndarray of int, shape (N,)
        Which of `packs` a state has loaded.
    packs : ndarray of bool, shape (P, M)
    hold : ndarray, shape (N,)
        What a slot in a state costs.

    """

    def __init__(self, instance: DeploymentInstance, costs: Costs, j: int, states: np.ndarray, demands: Demands):
        self.costs, self.j, self.states = costs, j, states
        self.slots = instance.shape[0]
        models = states.shape[1]
        weight = 3 ** np.arange(models, dtype=np.int64)
        key = states.astype(np.int64) @ weight
        self._up = {}  # (model, level): the states with it at level + 1, and the same ones with it at level
        for m in range(models):
            for level in (0, 1):
                high = np.flatnonzero(states[:, m] == level + 1)
                self._up[m, level] = np.searchsorted(key, key[high] - weight[m]), high
        self.packs, pack = np.unique(states == 2, axis=0, return_inverse=True)
        self.pack = pack.ravel()
        self.hold = (states >= 1) @ costs.hold_stored[j] + (states == 2) @ costs.hold_loaded[j]
        self.before = (instance.initial_stored + instance.initial_loaded)[j]
        serve = costs.serve[demands.origin, demands.model, j]
        useful = np.isfinite(serve)
        self._asked = [np.flatnonzero(useful & (demands.slot == t)) for t in range(self.slots)]
        self._demands, self._serve = demands, np.where(useful, serve, 0.0)

    def switching(self, sources: np.ndarray, targets: np.ndarray, load: np.ndarray) -> np.ndarray:
        """Cost [A, B] of the step from each of some states (A, M) to each of others (B, M), at `load` (M,) a load."""
        fetches = (sources[:, None] == 0) & (targets[None] >= 1)
        return fetches @ self.costs.fetch[self.j] + self.loads(sources, targets) @ load

    @staticmethod
    def loads(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Which models (A, B, M) are loaded in each step from some states to others."""
        return (sources[:, None] < 2) & (targets[None] == 2)

    def earnings(self, price: np.ndarray, joules: np.ndarray) -> tuple[np.ndarray, list[Mixes]]:
        """Most that each pack earns in each slot, shape (T, P), and how, at prices (demands,) and joules' (T,)."""
        costs, demands, limit = self.costs, self._demands, self.costs.gpu_s[self.j]
        earned, mixes = np.zeros((self.slots, len(self.packs))), []
        for t, asked in enumerate(self._asked):
            model, amount = demands.model[asked], demands.amount[asked]
            value = amount * (price[asked] - self._serve[asked] - joules[t] * costs.work_j[model])
            seconds = amount * costs.work_s[model]
            with np.errstate(divide="ignore"):
                order = np.argsort(-value / seconds, kind="stable")
            order = order[value[order] > 0]
            asked, model, value, seconds = asked[order], model[order], value[order], seconds[order]
            open_for = self.packs[:, model]
            if np.isfinite(limit):
                used = open_for * seconds
                left = limit - (np.cumsum(used, axis=1) - used)
                with np.errstate(divide="ignore", invalid="ignore"):
                    share = open_for * np.where(seconds > 0, np.clip(left / seconds, 0.0, 1.0), 1.0)
            else:
                share = open_for.astype(float)
            earned[t] = share @ value
            mixes.append(Mixes(asked, share))
        return earned, mixes

    def forward(self, node: np.ndarray, load: np.ndarray) -> np.ndarray:
        """Least cost [T, N] of a path from the start to each state, that state's cost `node` (T, N) included."""
        fetch, models = self.costs.fetch[self.j], self.states.shape[1]
        cost = np.empty(node.shape)
        cost[0] = self.switching(self.before[None], self.states, load[0])[0] + node[0]
        for t in range(1, self.slots):
            v = cost[t - 1].copy()
            for m in range(models):  # first what is dropped, for nothing, then what comes in
                for level in (1, 0):
                    low, high = self._up[m, level]
                    v[low] = np.minimum(v[low], v[high])
            for m in range(models):
                for level, paid in ((0, fetch[m]), (1, load[t, m])):
                    low, high = self._up[m, level]
                    v[high] = np.minimum(v[high], v[low] + paid)
            cost[t] = v + node[t]
        return cost

    def through(self, cost: np.ndarray, node: np.ndarray, load: np.ndarray) -> np.ndarray:
        """Least cost [T, N] of a whole path through each state, for `cost` of `forward`."""
        fetch, models = self.costs.fetch[self.j], self.states.shape[1]
        found, after = np.empty(node.shape), np.zeros(node.shape[1])
        for t in range(self.slots - 1, -1, -1):
            found[t] = cost[t] + after
            if t:
                after = after + node[t]
                for m in range(models):
                    for level, paid in ((1, load[t, m]), (0, fetch[m])):
                        low, high = self._up[m, level]
                        after[low] = np.minimum(after[low], after[high] + paid)
                for m in range(models):
                    for level in (0, 1):
                        low, high = self._up[m, level]
                        after[high] = np.minimum(after[high], after[low])
        return found

    def path(self, cost: np.ndarray, load: np.ndarray) -> np.ndarray:
        """States (T,) of a cheapest path, for `cost` of `forward`."""
        found = np.empty(self.slots, dtype=int)
        found[-1] = cost[-1].argmin()
        for t in range(self.slots - 1, 0, -1):
            step = self.switching(self.states, self.states[found[t] : found[t] + 1], load[t])[:, 0]
            found[t - 1] = (cost[t - 1] + step).argmin()
        return found


@dataclass(frozen=True)
class Demands:
    """Everything that is asked for, one after the other: where, (D,) each, and how many requests."""

    slot: np.ndarray
    origin: np.ndarray
    model: np.ndarray
    amount: np.ndarray


@dataclass(frozen=True)
class Priced:
    """The dual at some prices.

    Attributes
    ----------
    value : float
        D, rounded down: a proven lower bound of all points that avoid the states ruled out; inf if none can.
    paths : list of ndarray of int, shape (T,)
        Each server's cheapest path.
    mixes : list of list of Mixes
        How the packs of each server are filled in each slot.
    through : list of ndarray, shape (T, N)
        How much more than D the least path through a state proves, >= 0; empty unless asked for.

    """

    value: float
    paths: list[np.ndarray]
    mixes: list[list[Mixes]]
    through: list[np.ndarray]


class Servers:
    """The dual function of an instance.

    Parameters
    ----------
    instance : DeploymentInstance
    costs : Costs
    states : list of ndarray
        Of each server, from `states_of`.

    """

    def __init__(self, instance: DeploymentInstance, costs: Costs, states: list[np.ndarray]):
        self.instance, self.costs = instance, costs
        slot, origin, model = np.nonzero(instance.arrivals > 0)
        self.demands = Demands(slot, origin, model, instance.arrivals[slot, origin, model])
        self.cloud = costs.serve[origin, model, -1]
        self.servers = [Server(instance, costs, j, states[j], self.demands) for j in range(instance.shape[1])]
        self.powered = np.flatnonzero(np.isfinite(costs.energy_j))

    @classmethod
    def of(cls, instance: DeploymentInstance, costs: Costs) -> Servers | None:
        """Return the dual function, or None where a server has too many states."""
        states = []
        for j in range(instance.shape[1]):
            found = states_of(instance, costs, j)
            if found is None:
                return None
            states.append(found)
        return cls(instance, costs, states)

    def evaluate(
        self, price: np.ndarray, joules: np.ndarray, allowed: list[np.ndarray] | None = None, through: bool = False
    ) -> Priced:
        """Evaluate D.

        Parameters
        ----------
        price : ndarray, shape (D,)
            Of the demands, per request, >= 0.
        joules : ndarray, shape (T, E)
            >= 0; that of a server without a limit counts as 0.
        allowed : list of ndarray of bool, shape (T, N), optional
            States of each server that are not ruled out.
        through : bool
            Whether paths through each state are looked at.

        """
        costs, demands = self.costs, self.demands
        price, joules = np.clip(price, 0.0, self.cloud), np.maximum(joules, 0.0)
        paid = demands.amount * np.minimum(price, self.cloud)
        value, magnitude = float(paid.sum()), float(paid.sum())
        paths, mixes, more, least = [], [], [], 0.0
        for j, server in enumerate(self.servers):
            of_joules = joules[:, j] if np.isfinite(costs.energy_j[j]) else np.zeros(len(joules))
            if of_joules.any():
                spent = float(of_joules.sum() * costs.energy_j[j])
                value, magnitude = value - spent, magnitude + spent
            earned, mix = server.earnings(price, of_joules)
            node = server.hold - earned[:, server.pack]
            magnitude += float(earned.max(axis=1).sum()) + len(joules) * float(server.hold.max())
            if allowed is not None:
                node = np.where(allowed[j], node, np.inf)
            load = costs.load[j] + of_joules[:, None] * costs.load_j
            magnitude += float(load.sum() + len(joules) * costs.fetch[j].sum())
            cost = server.forward(node, load)
            least = float(cost[-1].min())
            if not np.isfinite(least):
                return Priced(np.inf, [], [], [])
            value += least
            paths.append(server.path(cost, load))
            mixes.append(mix)
            if through:
                more.append(server.through(cost, node, load) - least)
        # Sums of these numbers, each with a few roundings, along chains of at most so many additions.
        slots, servers, models = self.instance.shape
        chain = slots * (2 * models + 3) + servers * models + price.size
        doubt = 4 * chain * 2.0**-53 * magnitude
        return Priced(value - doubt, paths, mixes, [np.maximum(0.0, extra - 2 * doubt) for extra in more])

    def placement(self, paths: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return stored and loaded, shape (T, E, M) of int8, of one path for each server."""
        states = np.stack([server.states[path] for server, path in zip(self.servers, paths, strict=True)], axis=1)
        return (states >= 1).astype(np.int8), (states == 2).astype(np.int8)
