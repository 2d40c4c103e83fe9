"""Branch and price over whole servers: the best prices of `servers` by column generation, then branching on states.

The *master* is a linear program over the states that cheapest paths have visited: for each server a network of these
states over the slots, through which one unit flows, and for each pack visited in a slot the ways to fill it with
requests that prices have led to so far (mixes). Its multipliers of the demands are the next prices; the paths and mixes
that are cheapest there join it. The master's own prices swing, so they may leave the best ones so far by no more than
`REACH`, and prices between them and the best ones are tried first (du Merle, Villeneuve, Desrosiers and Hansen,
Discrete Mathematics 194, 1999; Wentges, International Transactions in Operational Research 4, 1997). Every bound is a
value of `Servers.evaluate`, whatever the master is, and its tolerance.

A node of the tree is a set of states that are still allowed. One of its children has a model on a server in a slot, the
other one has not: together they have every point of the node. States through which no path can lead to a point that is
better than the cutoff are ruled out, by the same bound. So each point is in an open node, or in one that was left
because its bound reached the cutoff, or was ruled out because of it: the least bound of the open nodes, or the cutoff
if that is less, is a lower bound of all points. A cutoff only falls, so that those of earlier are no less.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.sparse as sp

from aigc_opt.control import Control
from aigc_opt.errors import SolverError
from aigc_opt.problems.deployment.servers import NOTHING, Priced, Servers
from aigc_opt.program import INF, LinearProgram
from aigc_opt.solvers import Answer, Highs, Outcome

REACH = 0.05
"""How far the master's prices may be from the best ones, as a part of what the cloud costs."""

HELD = 0.05
"""Demands that the master leaves at the ends of that reach, in all, up to which it counts as free of them."""

SMOOTHING = 0.5
"""Weight of the best prices so far in those that are tried first."""

ROUNDS = 60
"""Masters for one node at most."""

CLOSE = 2e-5
"""A master no further above the bound than this, as a part of it, ends the search for prices."""

CLOSE_TO_CUTOFF = 0.04
"""The same inside the tree, as a part of what the bound lacks to the cutoff: branching gains more than the rest."""

KEPT = 0.6
"""What paths may cost more than the least one, as a part of what the bound lacks to the cutoff, for a state to stay in
the master from node to node; mixes half of that."""

CANDIDATES = 3
"""Places to branch on of which the children get one master, before one is chosen (strong branching)."""

WHOLE = 0.01
"""Shares this close to 0 or 1 are not branched on."""

INTERIOR: dict[str, bool | float | str] = {"solver": "ipm", "run_crossover": "off", "ipm_optimality_tolerance": 1e-6}
"""The master by interior points and no further: prices from the middle of the best ones lead to better columns."""


@dataclass(frozen=True)
class Node:
    """A part of the tree.

    Attributes
    ----------
    bound : float
        Proven for all its points.
    price, joules : ndarray, shapes (D,) and (T, E)
        Prices that prove it, or its parent's bound.
    values : ndarray, shape (2, T, E, M)
        Shares of stored and loaded in its last master.
    allowed : list of ndarray of bool, shape (T, N)
        States of each server that its points may have.
    master : float
        Value of its last master: what the bound would be at most, if no columns were missing.

    """

    bound: float
    price: np.ndarray
    joules: np.ndarray
    values: np.ndarray
    allowed: list[np.ndarray]
    master: float = INF


@dataclass(frozen=True)
class Mix:
    """One way to fill a pack: its cost and joules, the demands served and the share of each."""

    cost: float
    joules: float
    demand: np.ndarray
    share: np.ndarray


@dataclass
class Columns:
    """The states that were visited, and the mixes of their packs."""

    servers: Servers
    visited: list[list[list[int]]] = field(default_factory=list)
    mixes: dict[tuple[int, int, int], dict[bytes, Mix]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        slots, servers, _ = self.servers.instance.shape
        self.visited = [[[] for _ in range(slots)] for _ in range(servers)]

    def add(self, priced: Priced) -> int:
        """Add the cheapest paths, and the best mixes of all packs visited; return how many were new."""
        new, costs, demands = 0, self.servers.costs, self.servers.demands
        for j, (server, path) in enumerate(zip(self.servers.servers, priced.paths, strict=True)):
            for t, state in enumerate(path.tolist()):
                states, found = self.visited[j][t], priced.mixes[j][t]
                if state not in states:
                    states.append(state)
                    new += 1
                for pack in {int(server.pack[state]) for state in states}:
                    used = np.flatnonzero(found.share[pack] > NOTHING)
                    used = used[np.argsort(found.demand[used])]
                    demand, share = found.demand[used], np.round(found.share[pack, used], 9)
                    key = demand.tobytes() + share.tobytes()
                    known = self.mixes.setdefault((j, t, pack), {})
                    if used.size and key not in known:
                        served, model = demands.amount[demand] * share, demands.model[demand]
                        cost = float(served @ costs.serve[demands.origin[demand], model, j])
                        known[key] = Mix(cost, float(served @ costs.work_j[model]), demand, share)
                        new += 1
        return new

    def thin(self, node: Node, through: list[np.ndarray], slack: float) -> None:
        """Leave only states with paths within `slack` of the least, and mixes that are as good for their pack.

        Parameters
        ----------
        through : list of ndarray
            As in `Priced`, at the node's prices.

        """
        kept, amount = set(), self.servers.demands.amount
        for j, server in enumerate(self.servers.servers):
            for t, states in enumerate(self.visited[j]):
                states[:] = [state for state in states if through[j][t, state] <= slack]
                kept |= {(j, t, int(server.pack[state])) for state in states}
        for place in list(self.mixes):
            known = self.mixes.pop(place)
            if place not in kept or not known:
                continue
            j, t, _ = place
            worth = {}
            for key, mix in known.items():
                earned = float((amount[mix.demand] * node.price[mix.demand]) @ mix.share)
                worth[key] = earned - mix.cost - float(node.joules[t, j]) * mix.joules
            least = max(worth.values()) - 0.5 * slack
            self.mixes[place] = {key: mix for key, mix in known.items() if worth[key] >= least}

    def master(self, node: Node) -> tuple[LinearProgram, Callable[[np.ndarray], np.ndarray]]:
        """Return the master of a node, and what makes the shares (2, T, E, M) of stored and loaded of its points.

        Its first rows are the demands, then the joules of servers with a limit, slot by slot. Requests that are served
        for a price at the upper end of its reach, and the lower end paid for serving more than all, keep the
        multipliers there; the cloud's cost is an upper end as well.
        """
        servers, demands, costs = self.servers, self.servers.demands, self.servers.costs
        slots = servers.instance.shape[0]
        number = demands.amount.size
        every, one = np.arange(number), np.ones(number)
        reach = REACH * servers.cloud
        price = np.clip(node.price, 0.0, servers.cloud)
        cost = [
            demands.amount * np.minimum(price + reach, servers.cloud),
            -demands.amount * np.maximum(price - reach, 0.0),
        ]
        entries = [(every, every, one), (every, number + every, -one)]
        width, rows = 2 * number, number + servers.powered.size * slots
        lower = [one, np.full(rows - number, -INF)]
        upper = [np.full(number, INF), np.repeat(costs.energy_j[servers.powered], slots)]
        of_joules = {j: number + k * slots for k, j in enumerate(servers.powered.tolist())}
        flows: list[tuple[int, int, np.ndarray, int, np.ndarray]] = []

        for j, server in enumerate(servers.servers):
            before, leaving = server.before[None], np.array([rows])
            lower.append(np.ones(1))
            upper.append(np.ones(1))
            rows += 1
            for t in range(slots):
                current = np.array(self.visited[j][t])
                current = current[node.allowed[j][t, current]]
                states = server.states[current]
                packs, of_pack = np.unique(server.pack[current], return_inverse=True)
                entering = rows + np.arange(len(current))
                filled = rows + len(current) + np.arange(len(packs))
                rows += len(current) + len(packs)
                lower += [np.zeros(len(current)), np.full(len(packs), -INF)]
                upper += [np.full(len(current), INF if t == slots - 1 else 0.0), np.zeros(len(packs))]
                source, target = (part.ravel() for part in np.indices((len(before), len(current))))
                step = width + np.arange(source.size)
                entries += [
                    (leaving[source], step, np.full(source.size, -1.0 if t else 1.0)),
                    (entering[target], step, np.ones(source.size)),
                    (filled[of_pack.ravel()[target]], step, np.full(source.size, -1.0)),
                ]
                if j in of_joules:
                    joules = (server.loads(before, states) @ costs.load_j).ravel()
                    entries.append((np.full(source.size, of_joules[j] + t), step, joules))
                cost.append((server.switching(before, states, costs.load[j]) + server.hold[current]).ravel())
                flows.append((j, t, states, width, target))
                width += source.size
                for pack, of_mixes in zip(packs.tolist(), filled.tolist(), strict=True):
                    for mix in self.mixes.get((j, t, pack), {}).values():
                        entries.append((mix.demand, np.full(mix.demand.size, width), mix.share))
                        entries.append((np.array([of_mixes]), np.array([width]), np.ones(1)))
                        if j in of_joules:
                            entries.append((np.array([of_joules[j] + t]), np.array([width]), np.array([mix.joules])))
                        cost.append(np.array([mix.cost]))
                        width += 1
                before, leaving = states, entering
        row, column, value = (np.concatenate([entry[part] for entry in entries]) for part in range(3))
        matrix = sp.csc_array((value, (row.astype(np.int32), column.astype(np.int32))), shape=(rows, width))
        matrix.eliminate_zeros()
        program = LinearProgram(
            np.concatenate(cost), np.zeros(width), np.full(width, INF), np.zeros(width, dtype=bool), matrix,
            np.concatenate(lower), np.concatenate(upper),
        )  # fmt: skip

        def values(x: np.ndarray) -> np.ndarray:
            found = np.zeros((2, *servers.instance.shape))
            for j, t, states, start, target in flows:
                weight = np.bincount(target, x[start : start + len(target)], len(states))
                found[:, t, j] = weight @ (states >= 1), weight @ (states == 2)
            return found

        return program, values


def root(servers: Servers, price: np.ndarray, joules: np.ndarray) -> tuple[Columns, Node]:
    """Return the columns and the bound that prices of another relaxation lead to."""
    allowed = [np.ones((servers.instance.shape[0], len(server.states)), dtype=bool) for server in servers.servers]
    priced = servers.evaluate(price, joules)
    columns = Columns(servers)
    columns.add(priced)
    nothing = np.zeros((2, *servers.instance.shape))
    return columns, Node(priced.value, np.clip(price, 0.0, servers.cloud), np.maximum(joules, 0.0), nothing, allowed)


def solve_master(program: LinearProgram, control: Control) -> Outcome | None:
    """Solve a master, by the simplex method where interior points end without an answer; None if it was stopped."""
    for options in (INTERIOR, {}):
        try:
            outcome = Highs(program).solve(control=control, options=options)
        except SolverError:  # an answer that breaks the program
            continue
        if outcome.answer is Answer.OPTIMAL and outcome.row_duals is not None:
            return outcome
        if control.stop is not None:
            break
    return None


def ascend(
    columns: Columns,
    node: Node,
    control: Control,
    cutoff: float = INF,
    on_node: Callable[[Node], object] | None = None,
    rounds: int = ROUNDS,
) -> Node:
    """Raise a node's bound by column generation from its prices, until the master agrees, or the cutoff is reached.

    Parameters
    ----------
    cutoff : float
        Bound from which on the node is of no interest; inf = none, its best bound is wanted.
    on_node : callable, optional
        Called with the node after each master.
    rounds : int
        Masters at most.

    """
    servers, demands = columns.servers, columns.servers.demands
    slots, number = servers.instance.shape[0], demands.amount.size
    for _ in range(rounds):
        if control.stop is not None or node.bound >= cutoff:
            break
        program, values = columns.master(node)
        outcome = solve_master(program, control)
        if outcome is None or outcome.x is None or outcome.row_duals is None:
            break
        least = float(program.cost @ outcome.x)
        price = np.maximum(0.0, outcome.row_duals[:number]) / demands.amount
        joules = np.zeros_like(node.joules)
        powered = outcome.row_duals[number : number + slots * servers.powered.size]
        joules[:, servers.powered] = np.maximum(0.0, -powered).reshape(-1, slots).T
        before, new, node = node.bound, 0, replace(node, values=values(outcome.x), master=least)
        close = CLOSE * abs(least) if cutoff == INF else CLOSE_TO_CUTOFF * (cutoff - node.bound)
        centre = node
        for weight in (SMOOTHING, 0.0):
            mixed = weight * centre.price + (1 - weight) * price, weight * centre.joules + (1 - weight) * joules
            priced = servers.evaluate(*mixed, node.allowed)
            new += columns.add(priced)
            if priced.value > node.bound:
                node = replace(node, bound=priced.value, price=mixed[0], joules=mixed[1])
            if priced.value >= least - close:
                break
        if on_node is not None:
            on_node(node)
        ends = outcome.x[: 2 * number].reshape(2, number)
        held = float(ends[0][centre.price + REACH * servers.cloud < servers.cloud].sum() + ends[1].sum())
        if (least - node.bound <= close and held < HELD) or (not new and node.bound <= before):
            break
    return node


def branching_places(servers: Servers, node: Node) -> list[tuple[int, int, int, int]]:
    """List (0 = stored or 1 = loaded, t, j, m) where to branch; empty if only one state is allowed everywhere.

    The models and servers that are undecided over most slots, in the middle of these: a decision there goes on to the
    slots around it, because every switch costs. What is stored only where all that is loaded is decided; and where the
    master has no more shares, but the bound is not there yet, wherever there is a choice.
    """
    for level in (1, 0):
        part = np.minimum(node.values[level], 1.0 - node.values[level])
        part[part < WHOLE] = 0.0
        mass = part.sum(axis=0)
        if mass.any():
            places = []
            for index in np.argsort(-mass, axis=None, kind="stable")[
                : min(CANDIDATES, np.count_nonzero(mass))
            ].tolist():
                j, m = divmod(index, mass.shape[1])
                t = int(np.searchsorted(np.cumsum(part[:, j, m]), 0.5 * mass[j, m]))
                places.append((level, t, j, m))
            return places
    for level in (1, 0):
        for j, server in enumerate(servers.servers):
            for t, allowed in enumerate(node.allowed[j]):
                has = server.states[allowed] > level
                differs = np.flatnonzero(has.any(axis=0) & ~has.all(axis=0))
                if differs.size:
                    return [(level, t, j, int(differs[0]))]
    return []


def children(
    columns: Columns, node: Node, place: tuple[int, int, int, int], control: Control, cutoff: float
) -> list[Node]:
    """Return the two children of a node, after one master each; without those whose bound reaches the cutoff."""
    level, t, j, m = place
    has = columns.servers.servers[j].states[:, m] > level
    found = []
    for side in (has, ~has):
        allowed = list(node.allowed)
        allowed[j] = allowed[j].copy()
        allowed[j][t] &= side
        begun = columns.servers.evaluate(node.price, node.joules, allowed)
        if begun.value < cutoff:
            columns.add(begun)
            child = replace(node, bound=max(node.bound, begun.value), allowed=allowed)
            child = ascend(columns, child, control, cutoff, rounds=1)
            if child.bound < cutoff:
                found.append(child)
    return found


def branch(
    columns: Columns,
    node: Node,
    control: Control,
    cutoff: Callable[[], float],
    on_node: Callable[[Node, list[np.ndarray]], object],
) -> float:
    """Branch until every node's bound reaches the cutoff, the node with the least bound first.

    Parameters
    ----------
    cutoff : callable
        What a bound has to reach; it may fall while the tree grows.
    on_node : callable
        Called with each node that is branched on, and the cheapest paths at its prices.

    Returns
    -------
    float
        A lower bound of all points of the node; the last cutoff if the tree was closed.

    """
    servers, number, done, settled = columns.servers, 0, 0, INF
    heap = [(node.bound, number, node)]
    while heap and heap[0][0] < min(settled, cutoff()) and control.stop is None:
        _, _, node = heapq.heappop(heap)
        priced = servers.evaluate(node.price, node.joules, node.allowed, through=True)
        on_node(node, priced.paths)
        limit = cutoff()
        allowed = [ok & (priced.value + extra < limit) for ok, extra in zip(node.allowed, priced.through, strict=True)]
        node = replace(node, allowed=allowed)
        columns.thin(node, priced.through, KEPT * (limit - node.bound))
        tried = [children(columns, node, place, control, limit) for place in branching_places(servers, node)]
        if not tried:  # one path for each server, whose point is known: no better bound can be had
            settled = min(settled, node.bound)
            continue

        def gain(pair: list[Node], limit: float = limit, bound: float = node.bound) -> float:
            """Product of how far the masters are above the bound; that of a child that was left is at the cutoff."""
            gains = [max(min(child.master, limit) - bound, 0.01) for child in pair]
            return float(np.prod(gains + [limit - bound] * (2 - len(gains))))

        for child in max(tried, key=gain):
            found = ascend(columns, child, control, limit)
            if found.bound < limit:
                number += 1
                heapq.heappush(heap, (found.bound, number, found))
        done += 1
        least = min(heap[0][0] if heap else INF, settled, cutoff())
        control.report(f"branch and price: {done} nodes, {len(heap)} open", lower_bound=least)
    return min(heap[0][0] if heap else INF, settled, cutoff())
