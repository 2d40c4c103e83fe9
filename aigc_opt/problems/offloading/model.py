"""The offloading problem in Pyomo, as a list of named parts: places, steps, computation times, speeds.

Names follow ``<variable|constraint|objective>_<component>_<quantity>``. Every part is one family of the mathematics in
``docs/formulations.md``.

Two products make the problem nonlinear, and both are written here so that nothing is approximated and the relaxation of
the binaries stays convex, for quality curves of any shape:

* speed times time is the workload. With a binary ``runs[n,p,s]`` for each step count and ``root = sum_s sqrt(W(s))
  runs``, the row ``speed * time >= root^2`` is a rotated second-order cone. It holds with equality where it matters:
  time costs and speed is scarce, so that nobody gains from computing longer or faster than the work asks for.
* the energy of a device is ``kappa W^3 / t^2``, which is two such cones in a row: ``pull * time >= work^2`` and
  ``joules * work >= pull^2``, with kappa taken out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyomo.environ as pyo

from aigc_opt.instance.offloading import OffloadingInstance, OffloadingServer, User

LOCAL, REJECTED = "local", "rejected"


def build_model(instance: OffloadingInstance) -> pyo.ConcreteModel:
    """Build the mixed-integer conic program of an instance.

    Returns
    -------
    pyomo.environ.ConcreteModel
        With sets, parameters, variables and named constraints; its objective is the file's (divided by N).

    """
    model = pyo.ConcreteModel(name="offloading")
    sets_of(model, instance)
    parameters_of(model, instance)

    variable_task_place(model)
    variable_task_steps(model)
    variable_task_runs(model)
    variable_task_computation(model)
    variable_task_speed(model)
    variable_task_work(model)
    variable_device_energy(model)

    objective_mean_cost(model)

    constraint_task_placed(model)
    constraint_task_runs_where_placed(model)
    constraint_task_counts_steps(model)
    constraint_task_works(model)
    constraint_task_computes(model)
    constraint_server_speed(model)
    constraint_device_speed(model)
    constraint_task_deadline(model)
    constraint_device_power(model)
    constraint_device_joules(model)
    constraint_device_battery(model)
    constraint_task_least_speed(model)
    constraint_task_least_time(model)
    constraint_device_least_joules(model)
    return model


# ------------------------------------------------------------------------------------------------ sets, parameters


def sets_of(model: pyo.ConcreteModel, instance: OffloadingInstance) -> None:
    """Users, servers, step counts; and who can be where: a place is left out if transfers alone rule it out."""
    names = [user.name for user in instance.users]
    servers = [server.name for server in instance.servers]
    grid = instance.steps
    reach = [
        (user.name, server.name)
        for user in instance.users
        for i, server in enumerate(instance.servers)
        if _reached(user, server, i)
    ]
    devices = [user.name for user in instance.users if user.device is not None]
    optional = [user.name for user in instance.users if user.rejection_penalty is not None]
    places = [LOCAL, *servers, REJECTED]
    model.users = pyo.Set(initialize=names)
    model.servers = pyo.Set(initialize=servers)
    model.grid = pyo.Set(initialize=list(range(grid.min, grid.max + 1, grid.stride)))
    model.reach = pyo.Set(initialize=reach, dimen=2)
    model.devices = pyo.Set(initialize=devices)
    model.optional = pyo.Set(initialize=optional)
    by_user: dict[str, list[str]] = {name: [] for name in names}
    for name in devices:
        by_user[name].append(LOCAL)
    for name, server in reach:
        by_user[name].append(server)
    computing = [(name, place) for name in names for place in by_user[name]]
    model.computing = pyo.Set(initialize=computing, dimen=2)
    model.placing = pyo.Set(initialize=computing + [(name, REJECTED) for name in optional], dimen=2)
    model.places = pyo.Set(initialize=places)


def _reached(user: User, server: OffloadingServer, i: int) -> bool:
    up, down = float(user.uplink_mbps[i]), float(user.downlink_mbps[i])
    if up <= 0 or down <= 0 or (server.hosts is not None and user.model not in server.hosts):
        return False
    sending = user.input_mbit / up
    in_time = sending + user.output_mbit / down < user.max_delay_s
    return in_time and user.transmit_power_w * sending <= user.battery_j


def parameters_of(model: pyo.ConcreteModel, instance: OffloadingInstance) -> None:
    """Everything given, user by user: quality loss and work at each step count, transfers, limits, penalties."""
    profiles = {profile.name: profile for profile in instance.models}
    of_server = {server.name: i for i, server in enumerate(instance.servers)}
    users = {user.name: user for user in instance.users}
    devices = {user.name: user.device for user in instance.users if user.device is not None}
    penalties = {u.name: u.rejection_penalty for u in instance.users if u.rejection_penalty is not None}

    def parameter(name: str, values: Mapping[Any, float], *index: pyo.Set) -> None:
        setattr(model, name, pyo.Param(*index, initialize=values, default=0, mutable=True, within=pyo.Reals))

    work, loss = {}, {}
    for name, user in users.items():
        profile = profiles[user.model]
        for steps in model.grid:
            work[name, steps] = profile.workload.base_gcycles + profile.workload.per_step_gcycles * steps
            loss[name, steps] = float(profile.quality.value(steps))
    parameter("work_gcycles", work, model.users, model.grid)
    parameter("root_work", {key: math.sqrt(value) for key, value in work.items()}, model.users, model.grid)
    parameter("quality_loss", loss, model.users, model.grid)

    transfer, upload = {}, {}
    for name, server in model.reach:
        user, i = users[name], of_server[server]
        sending = user.input_mbit / float(user.uplink_mbps[i])
        transfer[name, server] = sending + user.output_mbit / float(user.downlink_mbps[i])
        upload[name, server] = user.transmit_power_w * sending
    parameter("transfer_s", transfer, model.computing)
    parameter("upload_j", upload, model.computing)
    slack = {(n, p): users[n].max_delay_s - transfer.get((n, p), 0.0) for n, p in model.computing}
    parameter("slack_s", slack, model.computing)
    slowest = {(n, s): work[n, s] ** 3 / users[n].max_delay_s ** 2 for n in model.devices for s in model.grid}
    parameter("slowest_joules", slowest, model.devices, model.grid)
    parameter("max_delay_s", {name: user.max_delay_s for name, user in users.items()}, model.users)
    parameter("battery_j", {name: user.battery_j for name, user in users.items()}, model.users)
    parameter("weight", {name: user.weight for name, user in users.items()}, model.users)
    parameter("rejection_penalty", penalties, model.users)
    parameter("max_ghz", {name: device.max_ghz for name, device in devices.items()}, model.users)
    parameter("kappa", {name: device.kappa for name, device in devices.items()}, model.users)
    parameter("server_ghz", {server.name: server.ghz for server in instance.servers}, model.servers)
    servers = {server.name: server.ghz for server in instance.servers}
    top = {(n, p): devices[n].max_ghz if p == LOCAL else servers[p] for n, p in model.computing}
    parameter("top_ghz", top, model.computing)
    for name in ("quality", "delay", "energy"):
        setattr(model, f"weight_{name}", pyo.Param(initialize=getattr(instance.weights, name), mutable=True))
    model.share_of_user = pyo.Param(initialize=1.0 / len(users), mutable=True)


# ------------------------------------------------------------------------------------------------------- variables


def variable_task_place(model: pyo.ConcreteModel) -> None:
    """``place[n,p]``: 1 where user n's task is: on the device, at a server, or rejected."""
    model.place = pyo.Var(model.placing, domain=pyo.Binary)


def variable_task_steps(model: pyo.ConcreteModel) -> None:
    """``steps[n]``: denoising steps of user n's task, 0 where it is rejected."""
    model.steps = pyo.Var(model.users, domain=pyo.NonNegativeIntegers, bounds=(0, max(model.grid)))


def variable_task_runs(model: pyo.ConcreteModel) -> None:
    """``runs[n,p,s]``: 1 where user n's task runs s steps at place p."""
    model.runs = pyo.Var(model.computing, model.grid, domain=pyo.Binary)


def variable_task_computation(model: pyo.ConcreteModel) -> None:
    """``computation_s[n,p]``: seconds of computing at place p; 0 elsewhere."""
    model.computation_s = pyo.Var(model.computing, bounds=lambda m, n, p: (0, pyo.value(m.slack_s[n, p])))


def variable_task_speed(model: pyo.ConcreteModel) -> None:
    """``speed_ghz[n,p]``: speed that the task uses at place p; 0 elsewhere."""
    model.speed_ghz = pyo.Var(model.computing, bounds=lambda m, n, p: (0, pyo.value(m.top_ghz[n, p])))


def variable_task_work(model: pyo.ConcreteModel) -> None:
    """``root[n,p]``: square root of the work done at place p; ``work[n]``: the work done on the device."""
    last = max(model.grid)  # work rises with the steps
    model.root = pyo.Var(model.computing, bounds=lambda m, n, p: (0, pyo.value(m.root_work[n, last])))
    model.work = pyo.Var(model.devices, bounds=lambda m, n: (0, pyo.value(m.work_gcycles[n, last])))


def variable_device_energy(model: pyo.ConcreteModel) -> None:
    """``pull[n]`` >= W^2 / t and ``joules[n]`` >= W^3 / t^2 (times kappa: the energy of the device)."""

    def most(m: pyo.ConcreteModel, n: str) -> Any:
        return pyo.value(m.max_ghz[n]) * max(pyo.value(m.work_gcycles[n, s]) for s in m.grid)

    model.pull = pyo.Var(model.devices, bounds=lambda m, n: (0, most(m, n)))
    model.joules = pyo.Var(model.devices, bounds=lambda m, n: (0, most(m, n) * pyo.value(m.max_ghz[n])))


# ------------------------------------------------------------------------------------------------------- objective


def objective_mean_cost(model: pyo.ConcreteModel) -> None:
    """Quality loss, delay and energy of tasks that are served, penalties of those that are not; over all users.

    A sum over nothing is left out, because Pyomo's LaTeX printer cannot write it.
    """

    def quality(m: pyo.ConcreteModel) -> Any:
        return sum(m.weight[n] * (m.quality_loss[n, s] * m.runs[n, p, s]) for n, p in m.computing for s in m.grid)

    def delay(m: pyo.ConcreteModel) -> Any:
        return sum(m.weight[n] * (m.computation_s[n, p] + m.transfer_s[n, p] * m.place[n, p]) for n, p in m.computing)

    def energy(m: pyo.ConcreteModel) -> Any:
        sent = sum(m.weight[n] * (m.upload_j[n, p] * m.place[n, p]) for n, p in m.computing)
        return sum(m.weight[n] * (m.kappa[n] * m.joules[n]) for n in m.devices) + sent if len(m.devices) else sent

    def rejection(m: pyo.ConcreteModel) -> Any:
        return sum(m.weight[n] * (m.rejection_penalty[n] * m.place[n, REJECTED]) for n in m.optional)

    def total(m: pyo.ConcreteModel) -> Any:
        served = m.weight_quality * quality(m) + m.weight_delay * delay(m) + m.weight_energy * energy(m)
        return m.share_of_user * (served + rejection(m) if len(m.optional) else served)

    model.cost = pyo.Objective(rule=total)


# ----------------------------------------------------------------------------------------------------- constraints


def constraint_task_placed(model: pyo.ConcreteModel) -> None:
    """Each task is in one place."""
    places = _places_of(model)

    @model.Constraint(model.users)
    def placed(m: pyo.ConcreteModel, n: str) -> Any:
        # A task without any place makes the problem infeasible, which a sum over nothing could not say.
        return sum(m.place[n, p] for p in places[n]) == 1 if places[n] else pyo.Constraint.Infeasible


def _places_of(model: pyo.ConcreteModel) -> dict[str, list[str]]:
    places: dict[str, list[str]] = {n: [] for n in model.users}
    for n, p in model.placing:
        places[n].append(p)
    return places


def constraint_task_runs_where_placed(model: pyo.ConcreteModel) -> None:
    """A task runs one number of steps at the place where it is, and none elsewhere."""

    @model.Constraint(model.computing)
    def runs_where_placed(m: pyo.ConcreteModel, n: str, p: str) -> Any:
        return sum(m.runs[n, p, s] for s in m.grid) - m.place[n, p] == 0


def constraint_task_counts_steps(model: pyo.ConcreteModel) -> None:
    """Steps of a task are those that it runs, wherever that is."""
    places = _places_of(model)

    @model.Constraint(model.users)
    def counts_steps(m: pyo.ConcreteModel, n: str) -> Any:
        return m.steps[n] == sum(s * m.runs[n, p, s] for p in places[n] if p != REJECTED for s in m.grid)


def constraint_task_works(model: pyo.ConcreteModel) -> None:
    """Work is that of the steps that run."""

    @model.Constraint(model.computing)
    def works_root(m: pyo.ConcreteModel, n: str, p: str) -> Any:
        return m.root[n, p] == sum(m.root_work[n, s] * m.runs[n, p, s] for s in m.grid)

    @model.Constraint(model.devices)
    def works_on_device(m: pyo.ConcreteModel, n: str) -> Any:
        return m.work[n] == sum(m.work_gcycles[n, s] * m.runs[n, LOCAL, s] for s in m.grid)


def constraint_task_computes(model: pyo.ConcreteModel) -> None:
    """Speed times time does the work: a rotated second-order cone."""

    @model.Constraint(model.computing)
    def computes(m: pyo.ConcreteModel, n: str, p: str) -> Any:
        return m.root[n, p] ** 2 - m.speed_ghz[n, p] * m.computation_s[n, p] <= 0


def constraint_server_speed(model: pyo.ConcreteModel) -> None:
    """A server's tasks share its speed."""
    guests: dict[str, list[str]] = {i: [] for i in model.servers}
    for n, i in model.reach:
        guests[i].append(n)

    @model.Constraint(model.servers)
    def server_speed(m: pyo.ConcreteModel, i: str) -> Any:
        if not guests[i]:
            return pyo.Constraint.Feasible
        return sum(m.speed_ghz[n, i] for n in guests[i]) <= m.server_ghz[i]


def constraint_device_speed(model: pyo.ConcreteModel) -> None:
    """A device is no faster than it is."""

    @model.Constraint(model.devices)
    def device_speed(m: pyo.ConcreteModel, n: str) -> Any:
        return m.speed_ghz[n, LOCAL] <= m.max_ghz[n] * m.place[n, LOCAL]


def constraint_task_deadline(model: pyo.ConcreteModel) -> None:
    """Transfers and computing end before the deadline; no time is spent where the task is not."""

    @model.Constraint(model.computing)
    def deadline(m: pyo.ConcreteModel, n: str, p: str) -> Any:
        return m.computation_s[n, p] + m.transfer_s[n, p] * m.place[n, p] <= m.max_delay_s[n] * m.place[n, p]


def constraint_device_power(model: pyo.ConcreteModel) -> None:
    """``pull * time >= work^2``: pull is work times speed."""

    @model.Constraint(model.devices)
    def device_power(m: pyo.ConcreteModel, n: str) -> Any:
        return m.work[n] ** 2 - m.pull[n] * m.computation_s[n, LOCAL] <= 0


def constraint_device_joules(model: pyo.ConcreteModel) -> None:
    """``joules * work >= pull^2``, so that joules are W^3 / t^2 at least."""

    @model.Constraint(model.devices)
    def device_joules(m: pyo.ConcreteModel, n: str) -> Any:
        return m.pull[n] ** 2 - m.joules[n] * m.work[n] <= 0


def constraint_device_battery(model: pyo.ConcreteModel) -> None:
    """A task on the device takes no more than the battery gives; uploads that would are not in `reach`."""

    @model.Constraint(model.devices)
    def battery(m: pyo.ConcreteModel, n: str) -> Any:
        return m.kappa[n] * m.joules[n] <= m.battery_j[n]


# Rows that follow from the others for whole choices, and make the relaxation much tighter.


def constraint_task_least_speed(model: pyo.ConcreteModel) -> None:
    """Speed that the deadline asks for at least, step count by step count."""

    @model.Constraint(model.computing)
    def least_speed(m: pyo.ConcreteModel, n: str, p: str) -> Any:
        needs = sum(m.work_gcycles[n, s] * m.runs[n, p, s] for s in m.grid)
        return needs <= m.slack_s[n, p] * m.speed_ghz[n, p]


def constraint_task_least_time(model: pyo.ConcreteModel) -> None:
    """Time that the whole speed of the place takes at least, step count by step count."""

    @model.Constraint(model.computing)
    def least_time(m: pyo.ConcreteModel, n: str, p: str) -> Any:
        works = sum(m.work_gcycles[n, s] * m.runs[n, p, s] for s in m.grid)
        return works <= m.top_ghz[n, p] * m.computation_s[n, p]


def constraint_device_least_joules(model: pyo.ConcreteModel) -> None:
    """Energy of computing on the device until the deadline, step count by step count."""

    @model.Constraint(model.devices)
    def least_joules(m: pyo.ConcreteModel, n: str) -> Any:
        return sum(m.slowest_joules[n, s] * m.runs[n, LOCAL, s] for s in m.grid) <= m.joules[n]
