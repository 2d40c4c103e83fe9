"""The deployment program as sparse arrays: the same variables and rows as the Pyomo formulation in `model`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from aigc_opt.control import require_memory
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.solution import DeploymentSolution
from aigc_opt.program import Label, Labels, LinearProgram, ProgramBuilder

BYTES_A_COLUMN = 320.0
"""Memory of a program, its making and its copy in a solver, measured; what a solver does with it takes more."""


def placement_part(
    build: ProgramBuilder, instance: DeploymentInstance, costs: Costs
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Add what is decided of placements, with its costs and all constraints that are about nothing else.

    Returns
    -------
    stored, loaded, fetch, load : ndarray of int, shape (T, E, M)
        Columns.

    """
    slots, servers, models = instance.shape
    server_names = [server.name for server in instance.servers]
    model_names = [model.name for model in instance.models]
    slot_names = range(1, slots + 1)

    def placed() -> list[Label]:
        return list(itertools.product(slot_names, server_names, model_names))

    def everywhere(cost: np.ndarray) -> np.ndarray:
        return np.broadcast_to(cost, instance.shape).astype(float)

    stored = build.variable("stored", everywhere(costs.hold_stored), placed, integer=True)
    loaded = build.variable("loaded", everywhere(costs.hold_loaded), placed, integer=True)
    fetch = build.variable("fetches", everywhere(costs.fetch), placed)
    load = build.variable("loads", everywhere(costs.load), placed)
    per_server = np.arange(slots * servers).reshape(slots, servers)
    per_model = np.arange(slots * servers * models).reshape(instance.shape)

    def capacity(name: str, variable: np.ndarray, size: np.ndarray, limit: np.ndarray) -> None:
        upper = np.broadcast_to(limit, (slots, servers)).ravel()
        labels = lambda: list(itertools.product(slot_names, server_names))  # noqa: E731
        build.constraint(name, [(per_server[:, :, None], variable, size)], upper, labels)

    capacity("storage", stored, costs.size_gb, costs.storage_gb)
    capacity("gpu_memory", loaded, costs.memory_gb, costs.gpu_memory_gb)
    build.constraint("on_disk", [(per_model, loaded, 1.0), (per_model, stored, -1.0)], np.zeros(per_model.size), placed)

    def switched(name: str, state: np.ndarray, switch: np.ndarray, before: np.ndarray) -> None:
        upper = np.zeros(instance.shape)
        upper[0] = before
        terms = [(per_model, state, 1.0), (per_model, switch, -1.0), (per_model[1:], state[:-1], -1.0)]
        build.constraint(name, terms, upper.ravel(), placed)

    switched("fetching", stored, fetch, instance.initial_stored)
    switched("loading", loaded, load, instance.initial_loaded)
    return stored, loaded, fetch, load


def number_of_columns(instance: DeploymentInstance) -> float:
    """Columns of an instance's program at most: ways of requests, and four for each place."""
    ways = (np.count_nonzero(instance.arrivals, axis=(0, 2)) * (instance.shares.sum(axis=1) + 1.0)).sum()
    return float(ways + 4.0 * np.prod(instance.shape))


class DeploymentProgram:
    """The mixed-integer program of an instance, and the way from its columns to a solution and back.

    Variables exist only where they matter: routing for pairs (slot, server, model) with arrivals, towards servers that
    share. All variables lie in [0, 1], so that any multipliers give a finite dual bound.

    Attributes
    ----------
    program : LinearProgram

    """

    def __init__(self, instance: DeploymentInstance):
        self.instance = instance
        costs = Costs.of(instance)
        slots, servers, models = instance.shape
        arrivals = instance.arrivals
        columns = number_of_columns(instance)
        require_memory(instance.name, f"a program of {columns:,.0f} columns", BYTES_A_COLUMN * columns)
        server_names = [server.name for server in instance.servers]
        model_names = [model.name for model in instance.models]
        slot_names = range(1, slots + 1)
        build = ProgramBuilder()
        stored, loaded, fetch, load = placement_part(build, instance, costs)

        # demand d = (slot, origin, model); route k = (demand of the route, server that serves)
        d_slot, d_origin, d_model = np.nonzero(arrivals > 0)
        amount = arrivals[d_slot, d_origin, d_model]
        k_demand, k_server = np.nonzero(instance.shares[d_origin])
        k_slot, k_origin, k_model = d_slot[k_demand], d_origin[k_demand], d_model[k_demand]
        k_amount = amount[k_demand]

        def demands() -> list[Label]:
            return [
                (t + 1, server_names[i], model_names[m])
                for t, i, m in zip(d_slot.tolist(), d_origin.tolist(), d_model.tolist(), strict=True)
            ]

        def routes() -> list[Label]:
            demand = demands()
            return [(*demand[d], server_names[j]) for d, j in zip(k_demand.tolist(), k_server.tolist(), strict=True)]

        route = build.variable("route", k_amount * costs.serve[k_origin, k_model, k_server], routes)
        to_cloud = build.variable("to_cloud", amount * costs.serve[d_origin, d_model, servers], demands)

        def at_servers(which: np.ndarray) -> Labels:
            return lambda: [(t, server_names[j]) for t in slot_names for j in which.tolist()]

        d_row, k_row = np.arange(d_slot.size), np.arange(k_demand.size)
        one = np.ones(d_slot.size)
        build.constraint("served", [(k_demand, route, 1.0), (d_row, to_cloud, 1.0)], one, demands, lower=one)
        build.constraint(
            "only_loaded",
            [(k_row, route, 1.0), (k_row, loaded[k_slot, k_server, k_model], -1.0)],
            np.zeros(k_demand.size),
            routes,
        )

        def pooled(name: str, limit: np.ndarray, work: np.ndarray, per_load: np.ndarray | None) -> None:
            which = np.flatnonzero(np.isfinite(limit))
            row_of = np.full(servers, -1)
            row_of[which] = np.arange(which.size)
            use = k_amount * work[k_model]
            limited = (row_of[k_server] >= 0) & (use > 0)
            row = k_slot * which.size + row_of[k_server]
            terms = [(row[limited], route[limited], use[limited])]
            if per_load is not None:
                grid = np.arange(slots * which.size).reshape(slots, which.size, 1)
                terms.append((grid, load[:, which], per_load))
            build.constraint(name, terms, np.tile(limit[which], slots), at_servers(which))

        pooled("gpu_time", costs.gpu_s, costs.work_s, None)
        pooled("energy", costs.energy_j, costs.work_j, costs.load_j)

        self.program: LinearProgram = build.build()
        self._costs = costs
        self._placement = (stored, loaded, fetch, load)
        self._demand = (d_slot, d_origin, d_model)
        self._route = (k_slot, k_origin, k_model, k_server)
        self._columns = (route, to_cloud)

    def knapsacks(self) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
        """Yield columns [T, M], sizes [M] and capacity of each server's GPU memory and disk."""
        costs = self._costs
        for j in range(self.instance.shape[1]):
            yield self._placement[1][:, j], costs.memory_gb, float(costs.gpu_memory_gb[j])
            yield self._placement[0][:, j], costs.size_gb, float(costs.storage_gb[j])

    def prices(self, row_duals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return prices of demands, per request, shape (D,), and of joules, shape (T, E), from multipliers of the rows.

        The demands stand slot by slot, then by origin and model, as everywhere where there are arrivals.
        """
        blocks = {block.name: slice(block.start, block.stop) for block in self.program.rows}
        joules = np.zeros(self.instance.shape[:2])
        powered = np.isfinite(self._costs.energy_j)
        joules[:, powered] = np.maximum(0.0, -row_duals[blocks["energy"]]).reshape(len(joules), -1)
        return np.maximum(0.0, row_duals[blocks["served"]] / self.instance.arrivals[self._demand]), joules

    def free_around(self, solution: DeploymentSolution, part: np.ndarray) -> np.ndarray:
        """Say which columns may change when a `part` (T, E, M) of a solution's places does, shape (n,) of bool.

        Their states and switches, and in their slots every route that is or may become possible.
        """
        free = np.zeros(self.program.cost.size, dtype=bool)
        stored, loaded, fetch, load = self._placement
        free[stored[part]] = free[loaded[part]] = True
        switching = part.copy()
        switching[1:] |= part[:-1]
        free[fetch[switching]] = free[load[switching]] = True
        slots = np.any(part, axis=(1, 2))
        k_slot, _, k_model, k_server = self._route
        place = (k_slot, k_server, k_model)
        free[self._columns[0]] = slots[k_slot] & (part[place] | (solution.loaded[place] > 0))
        free[self._columns[1]] = slots[self._demand[0]]
        return free

    def placement_columns(self, solution: DeploymentSolution) -> tuple[np.ndarray, np.ndarray]:
        """Return the columns of stored, then loaded, and a solution's values of them, both flat."""
        stored, loaded = self._placement[:2]
        columns = np.concatenate([stored.ravel(), loaded.ravel()])
        return columns, np.concatenate([solution.stored.ravel(), solution.loaded.ravel()]).astype(float)

    def placement_values(self, x: np.ndarray) -> np.ndarray:
        """Return stored and loaded, shape (2, T, E, M), as a point of the program or of its relaxation has them."""
        return x[np.stack(self._placement[:2])]

    def placement(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return stored and loaded, shape (T, E, M) of 0 and 1, as rounded from a point of the program."""
        stored, loaded, _, _ = self._placement
        return np.round(x[stored]).astype(np.int8), np.round(x[loaded]).astype(np.int8)

    def point(self, solution: DeploymentSolution) -> np.ndarray:
        """Return the program's point of a solution, switches included."""
        x = np.zeros(self.program.cost.size)
        for state, column, switch, before in (
            (solution.stored, self._placement[0], self._placement[2], self.instance.initial_stored),
            (solution.loaded, self._placement[1], self._placement[3], self.instance.initial_loaded),
        ):
            x[column] = state
            x[switch] = np.maximum(0, np.diff(state, axis=0, prepend=before[None]))
        k_slot, k_origin, k_model, k_server = self._route
        route, to_cloud = self._columns
        x[route] = solution.routing[k_slot, k_origin, k_model, k_server]
        x[to_cloud] = solution.routing[(*self._demand, -1)]
        return x
