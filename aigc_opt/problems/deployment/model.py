"""The deployment problem in Pyomo, as a list of named parts; `arrays` is the same program built for speed.

Names follow ``<variable|constraint|objective>_<component>_<quantity>``. Every part is one family of the mathematics in
``docs/formulations.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyomo.environ as pyo

from aigc_opt.instance.deployment import DeploymentInstance


def build_model(instance: DeploymentInstance) -> pyo.ConcreteModel:
    """Build the mixed-integer program of an instance.

    Returns
    -------
    pyomo.environ.ConcreteModel
        With sets, parameters (mutable, so that the mathematics can be printed), variables and named constraints.

    """
    model = pyo.ConcreteModel(name="deployment")
    sets_of(model, instance)
    parameters_of(model, instance)

    variable_model_stored(model, instance)
    variable_model_loaded(model, instance)
    variable_switch_fetch(model)
    variable_switch_load(model)
    variable_request_routing(model)

    objective_total_cost(model)

    constraint_server_storage(model)
    constraint_server_gpu_memory(model)
    constraint_model_on_disk(model)
    constraint_switch_fetching(model)
    constraint_switch_loading(model)
    constraint_request_served(model)
    constraint_request_only_loaded(model)
    constraint_server_gpu_time(model)
    constraint_server_energy(model)
    return model


# ------------------------------------------------------------------------------------------------ sets, parameters


def sets_of(model: pyo.ConcreteModel, instance: DeploymentInstance) -> None:
    """Slots (with 0 = before the first), servers, models; pairs with arrivals, and where they may be served."""
    slots, _, _ = instance.shape
    servers = [server.name for server in instance.servers]
    models = [profile.name for profile in instance.models]
    demands = [
        (t + 1, i, m)
        for t in range(slots)
        for a, i in enumerate(servers)
        for b, m in enumerate(models)
        if instance.arrivals[t, a, b] > 0
    ]
    reach = {i: [j for b, j in enumerate(servers) if instance.shares[a, b]] for a, i in enumerate(servers)}
    model.slots = pyo.RangeSet(1, slots)
    model.moments = pyo.RangeSet(0, slots)
    model.servers = pyo.Set(initialize=servers)
    model.models = pyo.Set(initialize=models)
    model.demands = pyo.Set(initialize=demands, dimen=3)
    model.routes = pyo.Set(initialize=[(t, i, m, j) for t, i, m in demands for j in reach[i]], dimen=4)
    model.timed = pyo.Set(initialize=[s.name for s in instance.servers if s.gpu_s is not None])
    model.powered = pyo.Set(initialize=[s.name for s in instance.servers if s.energy_j is not None])


def parameters_of(model: pyo.ConcreteModel, instance: DeploymentInstance) -> None:
    """Everything given, under the names of the instance file; ``shares[i,j]`` is 1 where j may serve i's requests."""
    servers = list(model.servers)
    slots, _, _ = instance.shape

    def parameter(name: str, values: Mapping[Any, float], *index: pyo.Set) -> None:
        setattr(model, name, pyo.Param(*index, initialize=values, default=0, mutable=True, within=pyo.Reals))

    def of_servers(name: str) -> dict[str, Any]:
        return {server.name: getattr(server, name) for server in instance.servers}

    def of_models(value: Callable[[Any], float]) -> dict[str, float]:
        return {profile.name: value(profile) for profile in instance.models}

    for name in ("storage_gb", "gpu_memory_gb", "cloud_gbps", "io_gb_per_s"):
        parameter(f"server_{name}", of_servers(name), model.servers)
    parameter(
        "gpu_s",
        {name: value for name, value in of_servers("gpu_s").items() if value is not None},
        model.timed,
    )
    limits = {name: value for name, value in of_servers("energy_j").items() if value is not None}
    parameter("energy_j", limits, model.powered)

    parameter("model_storage_gb", of_models(lambda p: p.storage_gb), model.models)
    parameter("model_gpu_memory_gb", of_models(lambda p: p.gpu_memory_gb), model.models)
    parameter("warmup_s", of_models(lambda p: p.warmup_s), model.models)
    parameter("load_j", of_models(lambda p: p.load_j), model.models)
    generation = of_models(lambda p: p.latency.base_s + p.latency.per_step_s * p.nominal_steps)
    parameter("generation_s", generation, model.models)
    generation = of_models(lambda p: p.energy.base_j + p.energy.per_step_j * p.nominal_steps)
    parameter("generation_j", generation, model.models)
    cloud = dict(zip(model.models, instance.cloud_delay_s.tolist(), strict=True))
    parameter("cloud_delay_s", cloud, model.models)

    pairs = [(a, b) for a in range(len(servers)) for b in range(len(servers)) if instance.shares[a, b]]
    parameter("shares", {(servers[a], servers[b]): 1 for a, b in pairs}, model.servers, model.servers)
    if instance.peer_delay_s is not None:
        delays = {(servers[a], servers[b]): float(instance.peer_delay_s[a, b]) for a, b in pairs}
    else:
        delays = {}
    parameter("peer_delay_s", delays, model.servers, model.servers)
    arrivals = {
        (t + 1, i, m): float(instance.arrivals[t, a, b])
        for t in range(slots)
        for a, i in enumerate(servers)
        for b, m in enumerate(model.models)
        if instance.arrivals[t, a, b] > 0
    }
    parameter("arrivals", arrivals, model.slots, model.servers, model.models)

    # A server with a capacity of 0 holds nothing and pays nothing for it (priced = 0); 1 keeps the quotient defined.
    for name in ("storage", "gpu_memory"):
        values = of_servers(f"{name}_gb")
        parameter(f"shared_{name}_gb", {s: value or 1 for s, value in values.items()}, model.servers)
        parameter(f"priced_{name}", {s: 1 if value > 0 else 0 for s, value in values.items()}, model.servers)
    for name in ("storage", "gpu_memory", "delay", "switching"):
        weight = getattr(instance.weights, name)
        setattr(model, f"weight_{name}", pyo.Param(initialize=weight, mutable=True))


# ------------------------------------------------------------------------------------------------------- variables


def variable_model_stored(model: pyo.ConcreteModel, instance: DeploymentInstance) -> None:
    """``stored[t,j,m]``: 1 where model m is on server j's disk in slot t; slot 0 is fixed to the initial state."""
    model.stored = pyo.Var(model.moments, model.servers, model.models, domain=pyo.Binary)
    _fix_initial(model.stored, model, instance.initial_stored)


def variable_model_loaded(model: pyo.ConcreteModel, instance: DeploymentInstance) -> None:
    """``loaded[t,j,m]``: 1 where model m is in server j's GPU memory in slot t; slot 0 is fixed."""
    model.loaded = pyo.Var(model.moments, model.servers, model.models, domain=pyo.Binary)
    _fix_initial(model.loaded, model, instance.initial_loaded)


def _fix_initial(variable: pyo.Var, model: pyo.ConcreteModel, state: np.ndarray) -> None:
    for a, j in enumerate(model.servers):
        for b, m in enumerate(model.models):
            variable[0, j, m].fix(int(state[a, b]))


def variable_switch_fetch(model: pyo.ConcreteModel) -> None:
    """``fetches[t,j,m]``: at least 1 where a model comes to the disk."""
    model.fetches = pyo.Var(model.slots, model.servers, model.models, bounds=(0, 1))


def variable_switch_load(model: pyo.ConcreteModel) -> None:
    """``loads[t,j,m]``: at least 1 where a model comes into GPU memory."""
    model.loads = pyo.Var(model.slots, model.servers, model.models, bounds=(0, 1))


def variable_request_routing(model: pyo.ConcreteModel) -> None:
    """``route[t,i,m,j]`` and ``to_cloud[t,i,m]``: shares of the requests that server j, and the cloud, serve.

    Declared for all indices, so that sums read as in the mathematics; where nothing arrives or is shared the
    coefficients are 0, and the variable is in no row.
    """
    model.route = pyo.Var(model.slots, model.servers, model.models, model.servers, bounds=(0, 1))
    model.to_cloud = pyo.Var(model.slots, model.servers, model.models, bounds=(0, 1))


# ------------------------------------------------------------------------------------------------------- objective


def objective_total_cost(model: pyo.ConcreteModel) -> None:
    """Weighted sum of delay, switching, storage and GPU memory over all slots.

    Products here and below are grouped from the right, parameter by parameter around the variable, because Pyomo's
    LaTeX printer has no way to write a product of two parameters alone.
    """

    def delay(m: pyo.ConcreteModel) -> Any:
        served = sum(
            m.arrivals[t, i, k] * (m.shares[i, j] * ((m.peer_delay_s[i, j] + m.generation_s[k]) * m.route[t, i, k, j]))
            for t in m.slots
            for i in m.servers
            for k in m.models
            for j in m.servers
        )
        cloud = sum(
            m.arrivals[t, i, k] * (m.cloud_delay_s[k] * m.to_cloud[t, i, k])
            for t in m.slots
            for i in m.servers
            for k in m.models
        )
        return served + cloud

    def switching(m: pyo.ConcreteModel) -> Any:
        return sum(
            m.model_storage_gb[k] / m.server_cloud_gbps[j] * (8 * m.fetches[t, j, k])
            + (m.model_gpu_memory_gb[k] / m.server_io_gb_per_s[j] + m.warmup_s[k]) * m.loads[t, j, k]
            for t in m.slots
            for j in m.servers
            for k in m.models
        )

    def storage(m: pyo.ConcreteModel) -> Any:
        return sum(
            m.model_storage_gb[k] / m.shared_storage_gb[j] * (m.priced_storage[j] * m.stored[t, j, k])
            for t in m.slots
            for j in m.servers
            for k in m.models
        )

    def gpu_memory(m: pyo.ConcreteModel) -> Any:
        return sum(
            m.model_gpu_memory_gb[k] / m.shared_gpu_memory_gb[j] * (m.priced_gpu_memory[j] * m.loaded[t, j, k])
            for t in m.slots
            for j in m.servers
            for k in m.models
        )

    model.cost = pyo.Objective(
        rule=lambda m: (
            m.weight_delay * delay(m)
            + m.weight_switching * switching(m)
            + m.weight_storage * storage(m)
            + m.weight_gpu_memory * gpu_memory(m)
        )
    )


# ----------------------------------------------------------------------------------------------------- constraints


def constraint_server_storage(model: pyo.ConcreteModel) -> None:
    """What is on a disk fits there, in every slot."""

    @model.Constraint(model.slots, model.servers)
    def storage(m: pyo.ConcreteModel, t: int, j: str) -> Any:
        return sum(m.model_storage_gb[k] * m.stored[t, j, k] for k in m.models) <= m.server_storage_gb[j]


def constraint_server_gpu_memory(model: pyo.ConcreteModel) -> None:
    """What is in GPU memory fits there, in every slot."""

    @model.Constraint(model.slots, model.servers)
    def gpu_memory(m: pyo.ConcreteModel, t: int, j: str) -> Any:
        return sum(m.model_gpu_memory_gb[k] * m.loaded[t, j, k] for k in m.models) <= m.server_gpu_memory_gb[j]


def constraint_model_on_disk(model: pyo.ConcreteModel) -> None:
    """Only what is on disk can be in GPU memory."""

    @model.Constraint(model.slots, model.servers, model.models)
    def on_disk(m: pyo.ConcreteModel, t: int, j: str, k: str) -> Any:
        return m.loaded[t, j, k] - m.stored[t, j, k] <= 0


def constraint_switch_fetching(model: pyo.ConcreteModel) -> None:
    """A model that was not on disk in the slot before is fetched; dropping one is free."""

    @model.Constraint(model.slots, model.servers, model.models)
    def fetching(m: pyo.ConcreteModel, t: int, j: str, k: str) -> Any:
        return m.stored[t, j, k] - m.stored[t - 1, j, k] - m.fetches[t, j, k] <= 0


def constraint_switch_loading(model: pyo.ConcreteModel) -> None:
    """A model that was not in GPU memory in the slot before is loaded; dropping one is free."""

    @model.Constraint(model.slots, model.servers, model.models)
    def loading(m: pyo.ConcreteModel, t: int, j: str, k: str) -> Any:
        return m.loaded[t, j, k] - m.loaded[t - 1, j, k] - m.loads[t, j, k] <= 0


def constraint_request_served(model: pyo.ConcreteModel) -> None:
    """Every request is served, by a server that shares or by the cloud."""

    @model.Constraint(model.demands)
    def served(m: pyo.ConcreteModel, t: int, i: str, k: str) -> Any:
        return sum(m.shares[i, j] * m.route[t, i, k, j] for j in m.servers) + m.to_cloud[t, i, k] == 1


def constraint_request_only_loaded(model: pyo.ConcreteModel) -> None:
    """A server serves only with models in its GPU memory."""

    @model.Constraint(model.routes)
    def only_loaded(m: pyo.ConcreteModel, t: int, i: str, k: str, j: str) -> Any:
        return m.route[t, i, k, j] - m.loaded[t, j, k] <= 0


def constraint_server_gpu_time(model: pyo.ConcreteModel) -> None:
    """GPU-seconds of generation, counted at the server that serves, within its limit."""

    @model.Constraint(model.slots, model.timed)
    def gpu_time(m: pyo.ConcreteModel, t: int, j: str) -> Any:
        return (
            sum(
                m.arrivals[t, i, k] * (m.shares[i, j] * (m.generation_s[k] * m.route[t, i, k, j]))
                for i in m.servers
                for k in m.models
            )
            <= m.gpu_s[j]
        )


def constraint_server_energy(model: pyo.ConcreteModel) -> None:
    """Joules of generation and of loads within the server's limit."""

    @model.Constraint(model.slots, model.powered)
    def energy(m: pyo.ConcreteModel, t: int, j: str) -> Any:
        generation = sum(
            m.arrivals[t, i, k] * (m.shares[i, j] * (m.generation_j[k] * m.route[t, i, k, j]))
            for i in m.servers
            for k in m.models
        )
        return generation + sum(m.load_j[k] * m.loads[t, j, k] for k in m.models) <= m.energy_j[j]
