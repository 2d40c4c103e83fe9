"""The two-timescale problem in Pyomo, whole: a mixed-integer nonlinear program as a list of named parts.

Names follow ``<variable|constraint|objective>_<component>_<quantity>``. Every part is one family of the mathematics in
``docs/formulations.md``. Solving goes another way (`methods`); this is to be read, changed, printed, and, with the
transfers as constants (`monolith`), handed to a global solver on small episodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyomo.environ as pyo

from aigc_opt.instance.profile import Exponential, PiecewiseLinear
from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.problems.two_timescale.solution import TwoTimescaleSolution

SMALLEST_SHARE = 1e-9
"""Of a transfer: the time at a share of 0 is infinite."""


def build_model(
    instance: TwoTimescaleInstance, transfer_s: tuple[np.ndarray, np.ndarray] | None = None
) -> pyo.ConcreteModel:
    """Build the mixed-integer nonlinear program of an episode.

    Parameters
    ----------
    instance : TwoTimescaleInstance
    transfer_s : (ndarray, ndarray), each of shape (T, K, U), optional
        Seconds of the transfers up and down. With them the transfers are parameters, and the program has no shares and
        no rates: it is what is left to decide once the shares are chosen.

    Returns
    -------
    pyomo.environ.ConcreteModel
        With sets, parameters (mutable, so that the mathematics can be printed), variables and named constraints.

    """
    model = pyo.ConcreteModel(name="two_timescale")
    sets_of(model, instance)
    parameters_of(model, instance)

    variable_model_cached(model, instance)
    variable_model_switch(model)
    variable_request_place(model)
    variable_request_steps(model, instance)
    if transfer_s is None:
        variable_request_shares(model)
        variable_request_transfer(model)
    else:
        parameter_request_transfer(model, transfer_s)
    variable_request_loss(model, instance)
    variable_request_piece(model)

    objective_mean_cost(model)

    constraint_edge_storage(model)
    constraint_model_switching(model)
    constraint_request_hit(model, instance)
    constraint_slot_steps(model)
    constraint_request_least_steps(model)
    constraint_request_most_steps(model)
    if transfer_s is None:
        constraint_slot_shares(model)
        constraint_request_least_shares(model)
        constraint_request_rates(model)
    constraint_request_pieces(model)
    constraint_request_smooth_loss(model)
    for part in list(model.component_objects((pyo.Var, pyo.Constraint))):
        if len(part) == 0:  # no request sends anything, or has such a curve; empty parts cannot be printed
            model.del_component(part)
    return model


# ------------------------------------------------------------------------------------------------ sets, parameters


def sets_of(model: pyo.ConcreteModel, instance: TwoTimescaleInstance) -> None:
    """Frames (with 0 = before the first), slots, users, models; requests by what they send and by kind of curve."""
    requests = instance.requests
    frames, slots, users = requests.model.shape
    names = [profile.name for profile in instance.models]
    asked = [tuple(int(i) + 1 for i in place) for place in np.argwhere(requests.model >= 0)]
    of = {r: instance.models[requests.model[r[0] - 1, r[1] - 1, r[2] - 1]] for r in asked}

    def sent(size: np.ndarray) -> list[tuple[int, int, int]]:
        return [(t, k, u) for t, k, u in asked if size[t - 1, k - 1, u - 1] > 0]

    pieced = [r for r in asked if isinstance(of[r].quality, PiecewiseLinear)]
    most = max([1, *(len(pieces_of(instance, m)) for m in range(len(names)))])
    model.frames = pyo.RangeSet(1, frames)
    model.moments = pyo.RangeSet(0, frames)
    model.slots = pyo.RangeSet(1, slots)
    model.users = pyo.RangeSet(1, users)
    model.models = pyo.Set(initialize=names)
    model.requests = pyo.Set(initialize=asked, dimen=3)
    model.uplinks = pyo.Set(initialize=sent(requests.input_mbit), dimen=3)
    model.downlinks = pyo.Set(initialize=sent(requests.output_mbit), dimen=3)
    model.pieced = pyo.Set(initialize=pieced, dimen=3)
    model.smooth = pyo.Set(initialize=[r for r in asked if r not in set(pieced)], dimen=3)
    model.pieces = pyo.RangeSet(1, most)
    model.wanted = {r: profile.name for r, profile in of.items()}


def pieces_of(instance: TwoTimescaleInstance, m: int) -> list[tuple[float, float, float, float]]:
    """Linear pieces of a piecewise curve between fewest and most steps: first and last step, slope, intercept."""
    curve, least, most = instance.models[m].quality, instance.edge.min_steps, instance.edge.max_steps
    if not isinstance(curve, PiecewiseLinear):
        return []
    knots = curve.points[:, 0]
    steps = np.unique([least, most, *knots[(knots > least) & (knots < most)]])
    loss = curve.value(steps)
    if len(steps) == 1:
        return [(least, most, 0.0, float(loss[0]))]
    slope = np.diff(loss) / np.diff(steps)
    return [
        (float(a), float(b), float(s), float(q - s * a))
        for a, b, s, q in zip(steps[:-1], steps[1:], slope, loss[:-1], strict=True)
    ]


def parameters_of(model: pyo.ConcreteModel, instance: TwoTimescaleInstance) -> None:
    """Everything given, in the units of the instance file; what a request's model says stands with the request."""
    requests, edge, cloud, weights = instance.requests, instance.edge, instance.cloud, instance.weights
    profiles = {profile.name: profile for profile in instance.models}

    def parameter(name: str, values: Mapping[Any, float] | float, *index: pyo.Set) -> None:
        setattr(model, name, pyo.Param(*index, initialize=values, default=0, mutable=True, within=pyo.Reals))

    def of_models(value: Callable[[Any], float]) -> dict[str, float]:
        return {name: value(profile) for name, profile in profiles.items()}

    def of_requests(value: Callable[[tuple[int, ...], Any], float], index: pyo.Set) -> dict[tuple[int, ...], float]:
        return {r: float(value(r, profiles[model.wanted[r[:3]]])) for r in index}

    def at(array: np.ndarray, r: tuple[int, ...]) -> float:
        return float(array[r[0] - 1, r[1] - 1, r[2] - 1])

    for name in ("storage_gb", "steps_per_slot", "min_steps", "max_steps"):
        parameter(name, getattr(edge, name))
    frames, slots, _ = requests.model.shape
    for name, times in (("delay", frames * slots), ("quality", frames * slots), ("switching", frames)):
        parameter(f"weight_{name}", getattr(weights, name) / times)  # per slot, and per frame
    parameter("model_storage_gb", of_models(lambda p: p.storage_gb), model.models)
    switch_s = of_models(lambda p: 8 * p.storage_gb / edge.cloud_gbps + p.gpu_memory_gb / edge.io_gb_per_s + p.warmup_s)
    parameter("switch_s", switch_s, model.models)

    cloud_s = cloud.latency.base_s + cloud.latency.per_step_s * cloud.steps
    parameter("base_s", of_requests(lambda r, p: p.latency.base_s, model.requests), model.requests)
    parameter("per_step_s", of_requests(lambda r, p: p.latency.per_step_s, model.requests), model.requests)
    backhaul = of_requests(
        lambda r, p: (at(requests.input_mbit, r) + at(requests.output_mbit, r)) / edge.backhaul_mbps + cloud_s,
        model.requests,
    )
    parameter("cloud_s", backhaul, model.requests)
    loss = of_requests(lambda r, p: p.quality.value(np.array(cloud.steps)), model.requests)
    parameter("cloud_loss", loss, model.requests)

    noise = 10 ** ((edge.noise_dbm_per_hz - 30) / 10)
    for direction, index, size, gain, mhz in (
        ("uplink", model.uplinks, requests.input_mbit, requests.uplink_gain, edge.uplink_mhz),
        ("downlink", model.downlinks, requests.output_mbit, requests.downlink_gain, edge.downlink_mhz),
    ):
        parameter(f"{direction}_mbps", mhz / math.log(2))  # of the whole band at a ratio of e - 1
        watt = {r: instance.user_power_w[r[2] - 1] if direction == "uplink" else edge.power_w for r in index}
        parameter(f"{direction}_mbit", {r: at(size, r) for r in index}, index)
        ratio = {r: float(watt[r]) * at(gain, r) / (noise * 1e6 * mhz) for r in index}
        parameter(f"{direction}_snr", ratio, index)  # over the whole band

    parameter("wants", {(*r, name): 1 for r, name in model.wanted.items()}, model.requests, model.models)
    pieces = {name: pieces_of(instance, m) for m, name in enumerate(profiles)}
    for position, name in enumerate(("piece_first", "piece_last", "piece_slope", "piece_intercept")):
        values = {(*r, j + 1): piece[position] for r in model.pieced for j, piece in enumerate(pieces[model.wanted[r]])}
        parameter(name, values, model.pieced, model.pieces)
    curves: dict[tuple[int, ...], Any] = {r: profiles[model.wanted[r]].quality for r in model.smooth}
    parameter("floor", {r: curve.floor for r, curve in curves.items()}, model.smooth)
    most = np.array(edge.max_steps)
    parameter("least_loss", {r: float(curve.value(most)) for r, curve in curves.items()}, model.smooth)
    exponential = [r for r, curve in curves.items() if isinstance(curve, Exponential)]
    model.exponentials = pyo.Set(initialize=exponential, dimen=3)
    model.powers = pyo.Set(initialize=[r for r in curves if r not in set(exponential)], dimen=3)
    parameter("drop", {r: curves[r].ceiling - curves[r].floor for r in exponential}, model.exponentials)
    parameter("decay", {r: -1 / curves[r].scale for r in exponential}, model.exponentials)
    parameter("coefficient", {r: curves[r].coefficient for r in model.powers}, model.powers)
    parameter("exponent", {r: curves[r].exponent for r in model.powers}, model.powers)


def parameter_request_transfer(model: pyo.ConcreteModel, transfer_s: tuple[np.ndarray, np.ndarray]) -> None:
    """``uplink_s[t,k,u]``, ``downlink_s[t,k,u]``: seconds of the transfers, where they are given."""
    for name, index, seconds in zip(
        ("uplink_s", "downlink_s"), (model.uplinks, model.downlinks), transfer_s, strict=True
    ):
        values = {(t, k, u): float(seconds[t - 1, k - 1, u - 1]) for t, k, u in index}
        setattr(model, name, pyo.Param(index, initialize=values, mutable=True, within=pyo.NonNegativeReals))


# ------------------------------------------------------------------------------------------------------- variables


def variable_model_cached(model: pyo.ConcreteModel, instance: TwoTimescaleInstance) -> None:
    """``cached[t,m]``: 1 where model m is in the cache in frame t; frame 0 is fixed to the initial cache."""
    model.cached = pyo.Var(model.moments, model.models, domain=pyo.Binary)
    for index, m in enumerate(model.models):
        model.cached[0, m].fix(0 if instance.initial_cache is None else int(instance.initial_cache[index]))


def variable_model_switch(model: pyo.ConcreteModel) -> None:
    """``switched[t,m]``: at least 1 where a model comes into the cache."""
    model.switched = pyo.Var(model.frames, model.models, bounds=(0, 1))


def variable_request_place(model: pyo.ConcreteModel) -> None:
    """``at_edge[t,k,u]``: 1 where a request is served at the edge."""
    model.at_edge = pyo.Var(model.requests, domain=pyo.Binary)


def _zero_outside(variable: pyo.Var, index: pyo.Set) -> None:
    """Fix what has no request to 0: such variables are declared so that sums read as in the mathematics."""
    for place in variable:
        if place not in index:
            variable[place].fix(0)


def variable_request_steps(model: pyo.ConcreteModel, instance: TwoTimescaleInstance) -> None:
    """``steps[t,k,u]``: denoising steps, 0 in the cloud; ``tried[t,k,u]``: of smooth curves, free in the cloud."""
    least, most = instance.edge.min_steps, instance.edge.max_steps
    model.steps = pyo.Var(model.frames, model.slots, model.users, bounds=(0, most))
    _zero_outside(model.steps, model.requests)
    model.tried = pyo.Var(model.smooth, bounds=(least, most))


def variable_request_shares(model: pyo.ConcreteModel) -> None:
    """``uplink_share[t,k,u]``, ``downlink_share[t,k,u]``: shares of the bands of requests that send something."""
    model.uplink_share = pyo.Var(model.frames, model.slots, model.users, bounds=(0, 1))
    model.downlink_share = pyo.Var(model.frames, model.slots, model.users, bounds=(0, 1))
    _zero_outside(model.uplink_share, model.uplinks)
    _zero_outside(model.downlink_share, model.downlinks)


def variable_request_transfer(model: pyo.ConcreteModel) -> None:
    """``uplink_s[t,k,u]``, ``downlink_s[t,k,u]``: seconds of the transfers."""
    model.uplink_s = pyo.Var(model.uplinks, domain=pyo.NonNegativeReals)
    model.downlink_s = pyo.Var(model.downlinks, domain=pyo.NonNegativeReals)


def variable_request_loss(model: pyo.ConcreteModel, instance: TwoTimescaleInstance) -> None:
    """``edge_loss[t,k,u]``: quality loss of a request at the edge, 0 in the cloud.

    Rows bound it from below too, but only together with a place: without a bound of its own a solver that is stopped
    early has none on the objective. Curves never rise, so no loss at the edge is less than that of the most steps.
    """
    most = np.array(instance.edge.max_steps)
    least = {profile.name: min(0.0, float(profile.quality.value(most))) for profile in instance.models}
    model.edge_loss = pyo.Var(model.requests, bounds=lambda m, t, k, u: (least[m.wanted[t, k, u]], None))


def variable_request_piece(model: pyo.ConcreteModel) -> None:
    """``on_piece[t,k,u,j]``: 1 where the steps lie on piece j of the curve; ``along[t,k,u,j]``: the steps there.

    Pieces that a curve does not have are fixed to 0.
    """
    model.on_piece = pyo.Var(model.pieced, model.pieces, domain=pyo.Binary)
    model.along = pyo.Var(model.pieced, model.pieces, domain=pyo.NonNegativeReals)
    given = set(model.piece_last.sparse_keys())
    for p in model.on_piece:
        if p not in given:
            model.on_piece[p].fix(0)
            model.along[p].fix(0)


# ------------------------------------------------------------------------------------------------------- objective


def objective_mean_cost(model: pyo.ConcreteModel) -> None:
    """Weighted delay and quality loss per slot, and weighted switching per frame.

    One sum a product, because Pyomo's LaTeX printer sets no brackets around what is summed.
    """

    def delay(m: pyo.ConcreteModel) -> Any:
        up = sum(m.uplink_s[t, k, u] for t, k, u in m.uplinks)
        down = sum(m.downlink_s[t, k, u] for t, k, u in m.downlinks)
        base = sum(m.base_s[t, k, u] * m.at_edge[t, k, u] for t, k, u in m.requests)
        generation = sum(m.per_step_s[t, k, u] * m.steps[t, k, u] for t, k, u in m.requests)
        cloud = sum(m.cloud_s[t, k, u] * (1 - m.at_edge[t, k, u]) for t, k, u in m.requests)
        return up + down + base + generation + cloud

    def loss(m: pyo.ConcreteModel) -> Any:
        edge = sum(m.edge_loss[t, k, u] for t, k, u in m.requests)
        return edge + sum(m.cloud_loss[t, k, u] * (1 - m.at_edge[t, k, u]) for t, k, u in m.requests)

    def switching(m: pyo.ConcreteModel) -> Any:
        return sum(m.switch_s[i] * m.switched[t, i] for t in m.frames for i in m.models)

    model.cost = pyo.Objective(
        rule=lambda m: m.weight_delay * delay(m) + m.weight_quality * loss(m) + m.weight_switching * switching(m)
    )


# ----------------------------------------------------------------------------------------------------- constraints


def constraint_edge_storage(model: pyo.ConcreteModel) -> None:
    """What is cached fits, in every frame."""

    @model.Constraint(model.frames)
    def storage(m: pyo.ConcreteModel, t: int) -> Any:
        return sum(m.model_storage_gb[i] * m.cached[t, i] for i in m.models) <= m.storage_gb


def constraint_model_switching(model: pyo.ConcreteModel) -> None:
    """A model that was not cached in the frame before is switched; dropping one is free."""

    @model.Constraint(model.frames, model.models)
    def switching(m: pyo.ConcreteModel, t: int, i: str) -> Any:
        return m.cached[t, i] - m.cached[t - 1, i] - m.switched[t, i] <= 0


def constraint_request_hit(model: pyo.ConcreteModel, instance: TwoTimescaleInstance) -> None:
    """Only what is cached is served at the edge; all of it where `serve_all_hits` is true."""

    @model.Constraint(model.requests)
    def hit(m: pyo.ConcreteModel, t: int, k: int, u: int) -> Any:
        difference = m.at_edge[t, k, u] - sum(m.wants[t, k, u, i] * m.cached[t, i] for i in m.models)
        return difference == 0 if instance.serve_all_hits else difference <= 0


def constraint_slot_steps(model: pyo.ConcreteModel) -> None:
    """Steps of all requests of a slot within the edge server's budget."""

    @model.Constraint(model.frames, model.slots)
    def slot_steps(m: pyo.ConcreteModel, t: int, k: int) -> Any:
        return sum(m.steps[t, k, u] for u in m.users) <= m.steps_per_slot


def constraint_request_least_steps(model: pyo.ConcreteModel) -> None:
    """A request at the edge takes at least the fewest steps."""

    @model.Constraint(model.requests)
    def least(m: pyo.ConcreteModel, t: int, k: int, u: int) -> Any:
        return m.min_steps * m.at_edge[t, k, u] - m.steps[t, k, u] <= 0


def constraint_request_most_steps(model: pyo.ConcreteModel) -> None:
    """A request at the edge takes at most the most steps, one in the cloud none."""

    @model.Constraint(model.requests)
    def most(m: pyo.ConcreteModel, t: int, k: int, u: int) -> Any:
        return m.steps[t, k, u] - m.max_steps * m.at_edge[t, k, u] <= 0


def constraint_slot_shares(model: pyo.ConcreteModel) -> None:
    """Shares of each band sum to at most 1 in a slot."""

    @model.Constraint(model.frames, model.slots)
    def uplink_band(m: pyo.ConcreteModel, t: int, k: int) -> Any:
        return sum(m.uplink_share[t, k, u] for u in m.users) <= 1

    @model.Constraint(model.frames, model.slots)
    def downlink_band(m: pyo.ConcreteModel, t: int, k: int) -> Any:
        return sum(m.downlink_share[t, k, u] for u in m.users) <= 1


def constraint_request_least_shares(model: pyo.ConcreteModel) -> None:
    """Every transfer has some share: at a share of 0 its rate has no value."""

    @model.Constraint(model.uplinks)
    def uplink_least(m: pyo.ConcreteModel, t: int, k: int, u: int) -> Any:
        return m.uplink_share[t, k, u] >= SMALLEST_SHARE

    @model.Constraint(model.downlinks)
    def downlink_least(m: pyo.ConcreteModel, t: int, k: int, u: int) -> Any:
        return m.downlink_share[t, k, u] >= SMALLEST_SHARE


def constraint_request_rates(model: pyo.ConcreteModel) -> None:
    """Shannon's rate at a share b of the band, with full power: seconds times rate is what is sent."""

    @model.Constraint(model.uplinks)
    def uplink_rate(m: pyo.ConcreteModel, t: int, k: int, u: int) -> Any:
        share = m.uplink_share[t, k, u]
        rate = m.uplink_mbps * (share * pyo.log(1 + m.uplink_snr[t, k, u] / share))
        return m.uplink_s[t, k, u] * rate >= m.uplink_mbit[t, k, u]

    @model.Constraint(model.downlinks)
    def downlink_rate(m: pyo.ConcreteModel, t: int, k: int, u: int) -> Any:
        share = m.downlink_share[t, k, u]
        rate = m.downlink_mbps * (share * pyo.log(1 + m.downlink_snr[t, k, u] / share))
        return m.downlink_s[t, k, u] * rate >= m.downlink_mbit[t, k, u]


def constraint_request_pieces(model: pyo.ConcreteModel) -> None:
    """Piecewise curves: a request at the edge is on one piece, whose line gives its loss."""

    @model.Constraint(model.pieced)
    def one_piece(m: pyo.ConcreteModel, t: int, k: int, u: int) -> Any:
        return sum(m.on_piece[t, k, u, j] for j in m.pieces) - m.at_edge[t, k, u] == 0

    @model.Constraint(model.pieced)
    def piece_steps(m: pyo.ConcreteModel, t: int, k: int, u: int) -> Any:
        return sum(m.along[t, k, u, j] for j in m.pieces) - m.steps[t, k, u] == 0

    @model.Constraint(model.pieced, model.pieces)
    def piece_begins(m: pyo.ConcreteModel, t: int, k: int, u: int, j: int) -> Any:
        return m.piece_first[t, k, u, j] * m.on_piece[t, k, u, j] - m.along[t, k, u, j] <= 0

    @model.Constraint(model.pieced, model.pieces)
    def piece_ends(m: pyo.ConcreteModel, t: int, k: int, u: int, j: int) -> Any:
        return m.along[t, k, u, j] - m.piece_last[t, k, u, j] * m.on_piece[t, k, u, j] <= 0

    @model.Constraint(model.pieced)
    def piece_loss(m: pyo.ConcreteModel, t: int, k: int, u: int) -> Any:
        sloped = sum(m.piece_slope[t, k, u, j] * m.along[t, k, u, j] for j in m.pieces)
        level = sum(m.piece_intercept[t, k, u, j] * m.on_piece[t, k, u, j] for j in m.pieces)
        return m.edge_loss[t, k, u] - sloped - level == 0


def constraint_request_smooth_loss(model: pyo.ConcreteModel) -> None:
    """Smooth curves: the loss at the steps that are tried, which are at most those that are taken at the edge.

    In the cloud nothing holds the tried steps back, and the most of them make the rows say no more than a loss >= 0:
    no product of variables is needed, and every row is convex.
    """

    @model.Constraint(model.smooth)
    def tried_steps(m: pyo.ConcreteModel, t: int, k: int, u: int) -> Any:
        return m.tried[t, k, u] - m.steps[t, k, u] + m.max_steps * m.at_edge[t, k, u] <= m.max_steps

    @model.Constraint(model.exponentials)
    def exponential_loss(m: pyo.ConcreteModel, t: int, k: int, u: int) -> Any:
        loss = m.floor[t, k, u] + m.drop[t, k, u] * pyo.exp(m.decay[t, k, u] * m.tried[t, k, u])
        return loss - m.edge_loss[t, k, u] + m.least_loss[t, k, u] * m.at_edge[t, k, u] <= m.least_loss[t, k, u]

    @model.Constraint(model.powers)
    def power_loss(m: pyo.ConcreteModel, t: int, k: int, u: int) -> Any:
        loss = m.floor[t, k, u] + m.coefficient[t, k, u] / m.tried[t, k, u] ** m.exponent[t, k, u]
        return loss - m.edge_loss[t, k, u] + m.least_loss[t, k, u] * m.at_edge[t, k, u] <= m.least_loss[t, k, u]


# ----------------------------------------------------------------------------------------------------------- points


def set_point(model: pyo.ConcreteModel, instance: TwoTimescaleInstance, solution: TwoTimescaleSolution) -> None:
    """Give the variables of a model the values of a solution: to start a solver from it, or to evaluate it."""
    cached = np.round(solution.cached)
    names = list(model.models)
    before = [model.cached[0, m].value for m in names]
    for t in model.frames:
        for index, m in enumerate(names):
            now = float(cached[t - 1, index])
            model.cached[t, m].set_value(now)
            model.switched[t, m].set_value(max(0.0, now - before[index]))
            before[index] = now
    profiles = {profile.name: (m, profile) for m, profile in enumerate(instance.models)}
    for r in model.requests:
        place = tuple(i - 1 for i in r)
        at_edge, steps = float(np.round(solution.at_edge[place])), float(solution.steps[place])
        m, profile = profiles[model.wanted[r]]
        model.at_edge[r].set_value(at_edge)
        model.steps[r].set_value(steps)
        loss = float(profile.quality.value(np.array(steps))) if at_edge else 0.0
        model.edge_loss[r].set_value(loss)
        if r in model.smooth:
            model.tried[r].set_value(steps if at_edge else instance.edge.max_steps)
            continue
        pieces = pieces_of(instance, m)
        on = next((j for j, piece in enumerate(pieces) if steps <= piece[1] + 1e-9), len(pieces) - 1)
        for j in range(len(pieces)):
            there = bool(at_edge) and j == on
            model.on_piece[*r, j + 1].set_value(1.0 if there else 0.0)
            model.along[*r, j + 1].set_value(steps if there else 0.0)
    if model.find_component("uplink_share") is None:  # the transfers are parameters
        return
    for direction, index, mhz in (
        ("uplink", model.uplinks, instance.edge.uplink_mhz),
        ("downlink", model.downlinks, instance.edge.downlink_mhz),
    ):
        for r in index:
            share = float(getattr(solution, f"{direction}_share")[tuple(i - 1 for i in r)])
            ratio, size = (getattr(model, f"{direction}_{name}")[r].value for name in ("snr", "mbit"))
            getattr(model, f"{direction}_share")[r].set_value(share)
            seconds = size / (mhz / math.log(2) * share * math.log1p(ratio / share))
            getattr(model, f"{direction}_s")[r].set_value(seconds)
