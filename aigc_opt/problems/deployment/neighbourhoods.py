"""Better points near a point: most of the placement stays, a part of it is decided anew.

`replanned` decides anew what some servers have in GPU memory over all slots. With the other servers as they are, and
GPU-seconds and joules at what they are worth by the last exact routing, what a model saves at a server in a slot does
not depend on the server's other models. So the best plan is a path over time through packs, sets of models that fit
together. Packs that may be on it are few: those of the present plan, and the best ones (by knapsacks) for windows of
time, drawn at random. The routing is then solved exactly; it says whether the plan is better, and what a GPU-second is
worth from there on.

`improve` has HiGHS decide anew parts of the program: where the best point and a relaxation's point differ (relaxation
induced neighbourhoods: Danna, Rothberg, Le Pape, Mathematical Programming 102, 2005). The relaxation sees all servers
and slots at once, so where it agrees the point is seldom wrong. Of these places a part is taken, some servers, models
or a window of slots, as large as HiGHS solves in a few seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from aigc_opt.control import Control
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.problems.deployment.arrays import DeploymentProgram
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.routing import Guide, keep_on_disk, placement_cost, priced_routing
from aigc_opt.problems.deployment.solution import DeploymentSolution
from aigc_opt.program import LinearProgram
from aigc_opt.solvers import Answer, Highs

WINDOWS = 300
"""Windows of time at most for which a server's best pack is looked for."""

GRID = 1000
"""Parts of a server's GPU memory in which sizes are counted there, rounded up."""

TURNS = 3
"""Times that every server has been planned anew without a better point after which that search ends."""

DIFFERENT = 0.1
"""How far a relaxation's value is from the point's where they count as different."""

PART = 100
"""Places that are decided anew at first; adapted to what HiGHS finishes."""

LEAST_PART = 40

PART_S = 9.0
"""Seconds for one part at most."""

AXES = (0, 1, 0, 2)
"""Windows of slots, servers, and models in turn: windows gain most, and take longest."""

PATIENCE = 20
"""Parts in turn without a better point after which the search ends."""

EFFORT = 0.3
"""Share of its time that HiGHS gives to heuristics here, where only points matter."""


def choose_part(differs: np.ndarray, axis: int, size: int, random: np.random.Generator) -> np.ndarray:
    """Choose about `size` of the places where `differs` (T, E, M): a window of slots, some servers, or some models."""
    if differs.sum() <= size:
        return differs
    lines = differs.shape[axis]
    counts = differs.sum(axis=tuple(other for other in range(3) if other != axis))
    # Slots in turn from a random one on, because a plan over neighbouring slots can change; others in any order.
    order = (random.integers(lines) + np.arange(lines)) % lines if axis == 0 else random.permutation(lines)
    taken = order[: max(1, int(np.searchsorted(np.cumsum(counts[order]), size, side="right")))]
    inside = np.zeros(lines, dtype=bool)
    inside[taken] = True
    part = differs & np.expand_dims(inside, [other for other in range(3) if other != axis])
    if part.sum() > 1.5 * size:  # one server or model alone is too much
        return choose_part(part, 0 if axis else 1, size, random)
    return part


def improve(
    built: DeploymentProgram,
    relaxed: Callable[[], tuple[LinearProgram, np.ndarray] | None],
    incumbent: Callable[[], DeploymentSolution],
    offer: Callable[[np.ndarray, np.ndarray, str], bool],
    control: Control,
    seed: int,
    gap: float,
) -> None:
    """Improve a point part by part until `PATIENCE` parts, or the largest possible one, have not helped.

    Parameters
    ----------
    relaxed : callable
        The program, tightened by rows at its end perhaps, and the latest values of stored and loaded in its relaxation,
        shape (2, T, E, M); None if there are none.
    incumbent : callable
        The best point so far.
    offer : callable
        (stored, loaded, event) -> whether that is a better point.
    gap : float
        Relative gap at which a part counts as solved.

    """
    random, idle, turn = np.random.default_rng(seed), 0, 0
    sizes = [PART, PART, PART]
    while idle < PATIENCE and control.stop is None:
        found = relaxed()
        if found is None:
            return
        program, values = found
        best = incumbent()
        differs = abs(values - np.stack([best.stored, best.loaded])).max(axis=0) > DIFFERENT
        axis = AXES[turn % len(AXES)]
        turn += 1
        part = choose_part(differs, axis, sizes[axis], random)
        point, free = built.point(best), built.free_around(best, part)
        watch = control.part(1.0, PART_S)
        outcome = Highs(program.around(point, free)).solve(
            gap, watch, seed, start=point[free], options={"mip_heuristic_effort": EFFORT}
        )
        if outcome.x is not None:
            point[free] = outcome.x
        better = outcome.x is not None and offer(*built.placement(point), "neighbourhood: better point")
        idle = 0 if better else idle + 1
        if outcome.answer is not Answer.OPTIMAL:
            sizes[axis] = max(LEAST_PART, int(0.8 * sizes[axis]))
        elif part.sum() == differs.sum() and not better:
            return
        elif watch.elapsed_s < PART_S / 3:
            sizes[axis] = int(1.2 * sizes[axis]) + 1


def replanned(
    instance: DeploymentInstance,
    costs: Costs,
    start: DeploymentSolution,
    control: Control,
    seed: int,
    turns: int = TURNS,
    guide: Guide | None = None,
) -> Iterator[DeploymentSolution]:
    """Plan servers anew, several at once as long as that helps, and yield every better point.

    It ends when every server has been planned anew `turns` times without a better point.

    Parameters
    ----------
    start : DeploymentSolution
        A feasible point.
    guide : pair of ndarray, shape (T, E), optional
        What a GPU-second and a joule at each server are thought to be worth, until a routing says it.

    Yields
    ------
    DeploymentSolution
        Feasible and cheaper than all before.

    """
    random, servers = np.random.default_rng(seed), instance.shape[1]
    stored, loaded = (np.asarray(state).astype(np.int8) for state in (start.stored, start.loaded))
    at, group, idle = 0, servers, 0
    order = random.permutation(servers)
    least = placement_cost(instance, costs, stored, loaded, start.routing)
    worth = guide
    if worth is None:
        found = priced_routing(instance, costs, loaded, control)
        assert found is not None  # the start is feasible
        worth = found[1], found[2]
    while idle < turns * servers and control.stop is None:
        chosen = order[at : at + group]
        new = loaded.copy()
        for j in chosen.tolist():
            if control.stop is not None:
                break
            new[:, j] = _plan(instance, costs, new, j, worth, random)
        at += len(chosen)
        if at >= servers:
            at, order = 0, random.permutation(servers)
        idle += len(chosen)
        if (new == loaded).all() or control.stop is not None:
            continue
        disk = stored.copy()
        disk[:, chosen] = keep_on_disk(instance, costs, new)[:, chosen]
        found = priced_routing(instance, costs, new, control, worth)
        cost = np.inf if found is None else placement_cost(instance, costs, disk, new, found[0])
        if found is None or cost >= least - 1e-9 * abs(least):
            group = max(1, group // 2)
            if found is not None:  # half the way to what the resources would then be worth
                worth = (worth[0] + found[1]) / 2, (worth[1] + found[2]) / 2
            continue
        least, stored, loaded, worth, idle = cost, disk, new, (found[1], found[2]), 0
        yield DeploymentSolution(stored, loaded, found[0])


def _plan(
    instance: DeploymentInstance, costs: Costs, loaded: np.ndarray, j: int, worth: Guide, random: np.random.Generator
) -> np.ndarray:
    """Return what server j best has in GPU memory [T, M], the others as in `loaded` [T, E, M]."""
    slots, _, models = instance.shape
    capacity = costs.gpu_memory_gb[j]
    fits = np.flatnonzero((costs.memory_gb <= capacity) & (costs.size_gb <= costs.storage_gb[j]))
    now = loaded[:, j].astype(bool)
    if not fits.size:
        return loaded[:, j]
    saves = _saving(instance, costs, loaded, j, worth) - costs.hold_loaded[j] - costs.hold_stored[j]  # [T, M]
    # A model may stay on disk between two uses, so that a fetch is not always paid.
    enter = costs.load[j] + costs.fetch[j] * (1.0 if random.random() < 0.5 else random.random())
    windows = min(WINDOWS, slots * slots)
    first = random.integers(slots, size=windows)
    last = np.minimum(slots, first + np.ceil(slots ** random.random(windows)).astype(int))
    first[0], last[0] = 0, slots
    total = np.concatenate([np.zeros((1, models)), np.cumsum(saves, axis=0)])
    values = total[last] - total[first] - np.where(random.random((windows, 1)) < 0.5, enter, 0.0)
    units = np.ceil(costs.memory_gb[fits] / capacity * GRID - 1e-9).astype(int)
    packs = np.zeros((windows, models), dtype=bool)
    packs[:, fits] = _best_packs(values[:, fits], units)
    # What does not fit on disk goes, that first which is worth least there.
    by = np.argsort(-values / costs.size_gb, axis=1)
    packs_by = np.take_along_axis(packs, by, axis=1)
    packs_by &= np.cumsum(packs_by * costs.size_gb[by], axis=1) <= costs.storage_gb[j]
    np.put_along_axis(packs, by, packs_by, axis=1)
    packs = np.unique(np.concatenate([packs, now]), axis=0)
    inside = packs.astype(float)

    worth_of_slot = saves @ inside.T  # [T, K]
    enters, joules = (inside * enter) @ (1.0 - inside).T, (inside * costs.load_j) @ (1.0 - inside).T  # [K to, K from]
    enters[joules > costs.energy_j[j]] = np.inf
    begins = inside * (1.0 - instance.initial_loaded[j])
    started, start_j = begins @ enter, begins @ costs.load_j
    started[start_j > costs.energy_j[j]] = np.inf
    best = worth_of_slot[0] - started - worth[1][0, j] * start_j
    came = np.zeros((slots, len(packs)), dtype=int)
    for t in range(1, slots):
        ways = best[None, :] - enters - worth[1][t, j] * joules
        came[t] = ways.argmax(axis=1)
        best = np.take_along_axis(ways, came[t][:, None], axis=1)[:, 0] + worth_of_slot[t]
    pack, plan = int(best.argmax()), np.empty((slots, models), dtype=np.int8)
    for t in range(slots - 1, -1, -1):
        plan[t] = packs[pack]
        pack = int(came[t, pack])
    return plan


def _saving(instance: DeploymentInstance, costs: Costs, loaded: np.ndarray, j: int, worth: Guide) -> np.ndarray:
    """What each model at server j saves in each slot [T, M] on the cheapest ways to other servers and the cloud."""
    servers = instance.shape[1]

    def way(server: int) -> np.ndarray:  # [T, E, M]
        toll = worth[0][:, server, None] * costs.work_s + worth[1][:, server, None] * costs.work_j
        return costs.serve[None, :, :, server] + toll[:, None, :]

    others = np.broadcast_to(costs.serve[:, :, servers], instance.shape)
    for server in range(servers):
        if server != j:
            others = np.minimum(others, np.where(loaded[:, server, None, :] > 0, way(server), np.inf))
    return (instance.arrivals * np.maximum(0.0, others - way(j))).sum(axis=1)


def _best_packs(values: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Solve a knapsack of `GRID` units for each row of `values` [W, M], models of `units` [M]; [W, M] of bool."""
    rows = np.arange(len(values))
    best = np.zeros((len(values), GRID + 1))
    taken = np.zeros((len(units), *best.shape), dtype=bool)
    for m, size in enumerate(units.tolist()):
        with_it = best[:, : GRID + 1 - size] + values[:, m, None]
        np.greater(with_it, best[:, size:], out=taken[m, :, size:])
        best[:, size:] = np.maximum(best[:, size:], with_it)
    packs, left = np.zeros(values.shape, dtype=bool), np.full(len(values), GRID)
    for m in range(len(units) - 1, -1, -1):
        packs[:, m] = taken[m, rows, left]
        left -= units[m] * packs[:, m]
    return packs
