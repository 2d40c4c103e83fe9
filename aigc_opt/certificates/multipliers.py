"""Multipliers worth certifying, from the solving modules; nothing here is trusted by the evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from aigc_opt.control import Control
from aigc_opt.decomposition.lagrangian import smooth_ascent
from aigc_opt.instance.base import Instance
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.instance.offloading import OffloadingInstance
from aigc_opt.instance.two_timescale import TwoTimescaleInstance

if TYPE_CHECKING:
    from aigc_opt.problems.deployment.prices import Prices

Multipliers = dict[str, Any]

RELAXED = 4000
"""Slots x servers x models up to which the linear relaxation of a deployment is solved by default."""

ROUNDS = 60


def deployment_relaxation(instance: DeploymentInstance, control: Control) -> Multipliers | None:
    """Row multipliers of the tightened linear relaxation; None if it was not solved in time."""
    from aigc_opt.problems.deployment.arrays import DeploymentProgram
    from aigc_opt.problems.deployment.cuts import tightened
    from aigc_opt.solvers import Highs

    built = DeploymentProgram(instance)
    program, _ = tightened(built, control)
    outcome = Highs(program.relaxed()).solve(control=control)
    if outcome.row_duals is None:
        return None
    duals, (slots, servers, models) = outcome.row_duals, instance.shape
    blocks = {block.name: slice(block.start, block.start + block.size) for block in program.rows}

    def price(name: str, which: np.ndarray) -> list[Any]:
        full = np.zeros((slots, servers))
        full[:, which] = np.maximum(-duals[blocks[name]], 0.0).reshape(slots, len(which))
        return full.tolist()

    every = np.arange(servers)
    limited = [
        np.flatnonzero([getattr(server, key) is not None for server in instance.servers])
        for key in ("gpu_s", "energy_j")
    ]
    asked = instance.arrivals > 0
    demand = np.zeros(instance.shape)
    demand[asked] = duals[blocks["served"]] / instance.arrivals[asked]
    found = {
        "demand": demand.tolist(),
        "gpu_s": price("gpu_time", limited[0]),
        "energy_j": price("energy", limited[1]),
        "storage_gb": price("storage", every),
        "gpu_memory_gb": price("gpu_memory", every),
        "inequalities": [],
    }
    place = {
        int(column): (name, j, t)
        for name in ("storage", "gpu_memory")
        for j in every.tolist()
        for t, column in ((t, c) for t, row in enumerate(_columns(built, name)[:, j]) for c in row)
    }
    model = {int(c): m for name in ("storage", "gpu_memory")
             for m in range(models) for c in _columns(built, name)[:, :, m].ravel()}  # fmt: skip
    rows: dict[tuple[Any, ...], list[float]] = {}
    matrix = program.matrix.tocsr()
    for row in range(built.program.row_upper.size, program.row_upper.size):
        paid = max(-float(duals[row]), 0.0)
        columns = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]
        if not paid or not len(columns):
            continue
        weights = [0] * models
        for column, value in zip(columns, matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]], strict=True):
            weights[model[int(column)]] = round(value)
        name, j, t = place[int(columns[0])]
        key = name, j, tuple(weights), round(program.row_upper[row])
        rows.setdefault(key, [0.0] * slots)[t] += paid
    found["inequalities"] = [
        {"of": name, "server": j, "weights": list(weights), "limit": limit, "prices": paid}
        for (name, j, weights, limit), paid in rows.items()
    ]
    return found


def _columns(built: Any, name: str) -> np.ndarray:
    """Columns [T, E, M] of what is on disk or in GPU memory."""
    variable = built.program.block("stored" if name == "storage" else "loaded")
    return np.arange(variable.start, variable.start + variable.size).reshape(built.instance.shape)


def deployment_lagrangian(instance: DeploymentInstance, control: Control) -> Multipliers | None:
    """Prices of the Lagrangian decomposition."""
    from aigc_opt.problems.deployment.costs import Costs
    from aigc_opt.problems.deployment.lagrangian import ITERATIONS, TEMPERATURES
    from aigc_opt.problems.deployment.prices import Relaxation

    relaxation = Relaxation(instance, Costs.of(instance))
    start = relaxation.vector(relaxation.first_prices())
    best, least = start, -np.inf
    vector = start
    for index, temperature in enumerate(TEMPERATURES):
        if control.stop is not None:
            break
        part = control.part(1.0 / (len(TEMPERATURES) - index))
        vector = smooth_ascent(relaxation.dual, vector, part, [temperature * relaxation.unit], ITERATIONS, start)
        value = relaxation.evaluate(relaxation.prices(vector), temperature * relaxation.unit).value
        if value > least:
            best, least = vector, value
        control.report("certificate: prices", lower_bound=least)
    return _of_prices(relaxation.prices(best))


def deployment_benders(instance: DeploymentInstance, control: Control) -> Multipliers:
    """Prices of the cuts in Benders' linear master, averaged by what the master pays for them."""
    from aigc_opt.problems.deployment.benders import relaxed_prices

    return _of_prices(relaxed_prices(instance, control))


def _of_prices(prices: Prices) -> Multipliers:
    found: Multipliers = {"demand": prices.demand.tolist(), "inequalities": []}
    for name in ("gpu_s", "energy_j", "storage_gb", "gpu_memory_gb"):
        found[name] = np.maximum(getattr(prices, name), 0.0).tolist()
    return found


def offloading_lagrangian(instance: OffloadingInstance, control: Control) -> Multipliers | None:
    """Prices of server speed."""
    from aigc_opt.problems.offloading.decomposition import prices
    from aigc_opt.problems.offloading.interval import Interval
    from aigc_opt.problems.offloading.tables import build_tables

    tables = build_tables(instance, control)
    if tables.stopped is not None:
        return None
    found = prices(tables, Interval(tables, control, 0.0), 1e-9)
    return {"ghz": (np.maximum(found.mu, 0.0) * tables.unit).tolist()}


def two_timescale_lagrangian(instance: TwoTimescaleInstance, control: Control) -> Multipliers | None:
    """Prices of steps and switches, by Frank and Wolfe's method after the linear relaxation."""
    return _two_timescale(instance, control, ROUNDS)


def two_timescale_benders(instance: TwoTimescaleInstance, control: Control) -> Multipliers | None:
    """The same from nothing but the multipliers of the cuts in Benders' relaxed master."""
    return _two_timescale(instance, control, 0)


def _two_timescale(instance: TwoTimescaleInstance, control: Control, rounds: int) -> Multipliers | None:
    from aigc_opt.problems.two_timescale.episode import Episode
    from aigc_opt.problems.two_timescale.frames import Frames
    from aigc_opt.problems.two_timescale.prices import Priced, price_steps, try_prices
    from aigc_opt.problems.two_timescale.relaxation import relax, relax_apart
    from aigc_opt.problems.two_timescale.shares import Transfers
    from aigc_opt.problems.two_timescale.switching import switch_terms

    episode = Episode.of(instance)
    frames, every = Frames(episode), np.arange(episode.frames)
    relaxed = (relax if episode.switches else relax_apart)(frames, control.part(0.5))
    linear, _ = switch_terms(relaxed.switch_prices, episode.initial)
    # Prices of 0 are prices: whatever is found later is taken only where it is better.
    priced = Priced(np.full(episode.frames, -np.inf), relaxed.average, np.zeros((episode.frames, episode.slots)), [])
    try_prices(frames, every, priced, priced.prices.copy(), linear)
    try_prices(frames, every, priced, relaxed.step_prices, linear)
    if rounds and control.stop is None:
        more = price_steps(frames, every, relaxed.average, rounds, control, linear)
        try_prices(frames, every, priced, more.prices, linear)
    transfers, shape = Transfers.of(episode), (episode.frames, episode.slots, episode.users)
    return {
        "steps": np.maximum(priced.prices, 0.0).tolist(),
        "switches": np.maximum(relaxed.switch_prices, 0.0).tolist(),
        "uplink_share": transfers.uplink.share.reshape(shape).tolist(),
        "downlink_share": transfers.downlink.share.reshape(shape).tolist(),
    }


FINDERS: dict[str, dict[str, Callable[[Any, Control], Multipliers | None]]] = {
    "deployment": {
        "relaxation": deployment_relaxation,
        "lagrangian": deployment_lagrangian,
        "benders": deployment_benders,
    },
    "offloading": {"lagrangian": offloading_lagrangian},
    "two_timescale": {"lagrangian": two_timescale_lagrangian, "benders": two_timescale_benders},
}
"""Problem -> kind of bound -> where its multipliers come from; the first kind is the default."""


def default_kind(instance: Instance) -> str:
    """Kind of bound that is certified unless something else is asked."""
    kinds = list(FINDERS[instance.problem])
    if isinstance(instance, DeploymentInstance) and np.prod(instance.shape) > RELAXED:
        return "lagrangian"
    return kinds[0]
