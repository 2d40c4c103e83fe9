"""The convex rest of the problem, with places and steps fixed, as a nonlinear program for any Ipopt-compatible solver.

The package itself needs no such solver: shares and times are closed form (`shares`), and so are their multipliers
(`sensitivity`). This is the same program in Pyomo, to compare with and to extend.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyomo.environ as pyo
from pyomo.common.errors import ApplicationError

from aigc_opt.errors import MissingSolverError, SolverError
from aigc_opt.instance.offloading import OffloadingInstance
from aigc_opt.problems.offloading.solution import LOCAL, REJECTED, Assignment, OffloadingSolution

EXECUTABLES = ("ipopt", "pounce")
"""Programs that are looked for, in this order: on PATH, then beside the running Python."""


@dataclass(frozen=True)
class FixedOutcome:
    """What an interior-point solver found for fixed places and steps.

    Attributes
    ----------
    solution : OffloadingSolution
        The same places and steps with the solver's computing times.
    ghz_price : dict of float
        Multiplier of each server's speed: fall of the objective for a GHz more.
    deadline_price : dict of float
        Multiplier of each served task's deadline: fall of the objective for a second more.

    """

    solution: OffloadingSolution
    ghz_price: dict[str, float]
    deadline_price: dict[str, float]


def find_ipopt() -> str:
    """Return the path of an Ipopt-compatible program.

    Raises
    ------
    MissingSolverError
        With the line that installs one.

    """
    for name in EXECUTABLES:
        for found in (shutil.which(name), shutil.which(name, path=str(Path(sys.executable).parent))):
            if found:
                return found
    raise MissingSolverError('no Ipopt-compatible solver is installed; get one with: pip install "aigc_opt[ipopt]"')


def build_fixed_model(instance: OffloadingInstance, solution: OffloadingSolution) -> pyo.ConcreteModel:
    """Build the program of computing times for a solution's places and steps.

    Its objective is the part of the file's that depends on times.
    """
    profiles = {profile.name: profile for profile in instance.models}
    servers = {server.name: i for i, server in enumerate(instance.servers)}
    served = [(u, t) for u, t in zip(instance.users, solution.tasks, strict=True) if t.place != REJECTED]
    model = pyo.ConcreteModel(name="offloading with places and steps fixed")
    loads = {u.name: profiles[u.model].workload for u, _ in served}
    work = {u.name: loads[u.name].base_gcycles + loads[u.name].per_step_gcycles * (t.steps or 0) for u, t in served}
    users = {u.name: u for u, _ in served}
    devices = {u.name: u.device for u, t in served if t.place == LOCAL and u.device is not None}
    slack = {}
    for user, task in served:
        slack[user.name] = user.max_delay_s
        if task.place != LOCAL:
            i = servers[task.place]
            sending = user.input_mbit / float(user.uplink_mbps[i])
            slack[user.name] -= sending + user.output_mbit / float(user.downlink_mbps[i])
    start = {u.name: t.computation_s for u, t in served}
    model.computation_s = pyo.Var(list(users), domain=pyo.PositiveReals, initialize=start)
    model.dual = pyo.Suffix(direction=pyo.Suffix.IMPORT)

    def energy(m: pyo.ConcreteModel, n: str) -> Any:
        return devices[n].kappa * work[n] ** 3 / m.computation_s[n] ** 2

    weights = instance.weights
    count = len(instance.users)
    model.cost = pyo.Objective(
        expr=sum(users[n].weight / count * weights.delay * model.computation_s[n] for n in users)
        + sum(users[n].weight / count * weights.energy * energy(model, n) for n in devices)
    )

    @model.Constraint(list(users))
    def deadline(m: pyo.ConcreteModel, n: str) -> Any:
        return m.computation_s[n] <= slack[n]

    @model.Constraint(list(servers))
    def server_speed(m: pyo.ConcreteModel, i: str) -> Any:
        guests = [u.name for u, t in served if t.place == i]
        if not guests:
            return pyo.Constraint.Skip
        return sum(work[n] / m.computation_s[n] for n in guests) <= instance.servers[servers[i]].ghz

    @model.Constraint(list(devices))
    def device_speed(m: pyo.ConcreteModel, n: str) -> Any:
        return work[n] / m.computation_s[n] <= devices[n].max_ghz

    @model.Constraint(list(devices))
    def battery(m: pyo.ConcreteModel, n: str) -> Any:
        return energy(m, n) <= users[n].battery_j

    return model


def solve_fixed(
    instance: OffloadingInstance, solution: OffloadingSolution, executable: str | None = None
) -> FixedOutcome:
    """Best computing times for a solution's places and steps, by an Ipopt-compatible solver through Pyomo.

    Parameters
    ----------
    instance : OffloadingInstance
    solution : OffloadingSolution
        A feasible one; its computing times are the starting point.
    executable : str, optional
        The solver's program; by default `find_ipopt` looks for one.

    Returns
    -------
    FixedOutcome

    Raises
    ------
    MissingSolverError
        If there is no such program.
    SolverError
        If it does not end with an optimum.

    """
    executable = executable or find_ipopt()
    model = build_fixed_model(instance, solution)
    if len(model.computation_s):
        try:
            outcome = pyo.SolverFactory("ipopt", executable=executable).solve(model, load_solutions=False)
        except ApplicationError as error:
            raise SolverError(f"{executable} failed: {error}") from None
        if outcome.solver.termination_condition != pyo.TerminationCondition.optimal:
            raise SolverError(f"{executable} ended with {outcome.solver.termination_condition}")
        model.solutions.load_from(outcome)
    tasks = []
    for task in solution.tasks:
        seconds = None if task.place == REJECTED else float(pyo.value(model.computation_s[task.user]))
        tasks.append(Assignment(task.user, task.place, task.steps, seconds))
    prices = [
        {key: abs(model.dual.get(row, 0.0)) for key, row in family.items()}
        for family in (model.server_speed, model.deadline)
    ]
    return FixedOutcome(OffloadingSolution(tuple(tasks)), *prices)
