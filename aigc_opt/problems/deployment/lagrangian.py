"""Deployment by Lagrangian decomposition: a bound from prices, points repaired from what the prices prefer.

`prices.Relaxation` separates into paths; its dual is raised at falling temperatures. After each temperature placements
are made: one of each server's best paths at the prices, as they fit; and, where the program is of a size that HiGHS
takes, one of the shares that the soft minimum gives to each state: plans are filled in as in the feature-aware
selection, believing less in what the prices do not want. The rest of the time goes to parts of the program where the
best point and the shares differ or, beyond that size, to the exact routing of the best point.
"""

from __future__ import annotations

import numpy as np

from aigc_opt.decomposition.lagrangian import smooth_ascent
from aigc_opt.problems.deployment.arrays import DeploymentProgram
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.feature_aware import Plans, Room, fill
from aigc_opt.problems.deployment.neighbourhoods import improve
from aigc_opt.problems.deployment.prices import Prices, Relaxation
from aigc_opt.problems.deployment.routing import complete
from aigc_opt.problems.deployment.solution import DeploymentSolution
from aigc_opt.problems.problem import Found, Task
from aigc_opt.result import Proof, gap_of

DEARNESS = (0.1, 0.03, 0.3, 0.0, 1.0)
"""Prices to start from (`Relaxation.first_prices`): the best of these, because an ascent takes very long to come down
from prices that are far too high, as those halfway to the cloud's are where nearly all is served at the edge."""

START_SHARE = 0.2
"""Share of the time for that choice at most."""

TEMPERATURES = (1e-2, 1e-3, 3e-4, 1e-4, 3e-5)
"""Of the soft minimum, in units of the mean cost of sending a (slot, server, model)'s requests to the cloud."""

ITERATIONS = 150
"""Steps at each temperature."""

PRICES_SHARE = 0.6
"""Share of the time limit for prices and the points repaired on the way."""

ROUTING_SHARE = 0.05
"""Share of the time that is left for routing a point exactly; the best one gets all that is left in the end."""

DOUBT = 0.2
"""What a plan is believed to save, as a part, in slots in which the prices do not want it."""

PARTS = 50_000
"""Slots x servers x models up to which parts of the program are solved; beyond, it takes too much memory and time."""


def lagrangian(task: Task) -> Found:
    """Lagrangian decomposition: prices on demands and capacities, a shortest path for each server and model.

    The bound is the dual function at the best prices, as evaluated here (`prices`); it reaches the linear relaxation's.
    """
    instance, control = task.instance, task.control
    costs = Costs.of(instance)
    relaxation = Relaxation(instance, costs)
    best: tuple[float, DeploymentSolution] | None = None
    guide = np.zeros(instance.shape[:2]), np.zeros(instance.shape[:2])

    def offer(stored: np.ndarray, loaded: np.ndarray, event: str, share: float = ROUTING_SHARE) -> bool:
        nonlocal best
        solution = complete(instance, costs, stored, loaded, control.part(share), guide)
        if solution is None:
            return False
        checked = task.check(solution)
        if not checked.feasible or checked.objective is None:
            return False
        if best is not None and checked.objective >= best[0] - 1e-9 * abs(best[0]):
            return False
        best = checked.objective, solution
        control.report(event, objective=checked.objective)
        return True

    nothing = np.zeros(instance.shape, dtype=np.int8)
    offer(nothing, nothing, "cloud only")
    assert best is not None  # the cloud may serve everything
    begun = task.start
    if isinstance(begun, DeploymentSolution) and np.shape(begun.stored) == np.shape(begun.loaded) == instance.shape:
        offer(begun.stored, begun.loaded, "starting point")
    scale = vector = relaxation.vector(relaxation.first_prices())
    least, shares = -np.inf, np.stack([nothing, nothing]).astype(float)
    starting = control.part(START_SHARE)
    for dearness in DEARNESS:
        prices = relaxation.first_prices(dearness)
        priced = relaxation.evaluate(prices, TEMPERATURES[0] * relaxation.unit)
        if priced.value > least:
            least, vector = priced.value, relaxation.vector(prices)
        if starting.stop is not None:
            break
    control.report("prices", lower_bound=least)
    small = np.prod(instance.shape) <= PARTS

    def place() -> None:
        nonlocal guide
        prices = relaxation.prices(vector)
        guide = prices.gpu_s, prices.energy_j
        offer(*_rounded(task, costs, relaxation, prices), "rounded from prices")

    began = control.elapsed_s
    if control.stop is None:
        place()
    takes_s = control.elapsed_s - began
    pricing = control.part(PRICES_SHARE)
    for index, temperature in enumerate(TEMPERATURES):
        if control.stop is not None:
            break
        ascent = pricing.part(0.8 / (len(TEMPERATURES) - index))  # the rest is for the points
        scaled = temperature * relaxation.unit
        vector = smooth_ascent(relaxation.dual, vector, ascent, [scaled], ITERATIONS, scale)
        priced = relaxation.evaluate(relaxation.prices(vector), scaled)
        if priced.value > least:
            least, shares = priced.value, np.stack([priced.stored, priced.loaded])
        control.report("prices", lower_bound=least)
        if control.stop is not None or control.remaining_s < takes_s:
            break
        place()
        if small:
            plans = _repaired(task, costs, relaxation, vector, priced.loaded)
            offer(plans.stored, plans.loaded, "repaired from prices")
        gap = gap_of(best[0], least)
        if gap is not None and gap <= task.gap:
            return Found(best[1], least, Proof.DUAL)
    if control.stop is None and not small:
        offer(best[1].stored, best[1].loaded, "routed exactly", 1.0)
    if control.stop is None and small:
        built = DeploymentProgram(instance)
        tolerance = max(task.gap, 1e-4)
        improve(built, lambda: (built.program, shares), lambda: best[1], offer, control, task.seed, tolerance)
    return Found(best[1], least, Proof.DUAL, control.stop)


def _rounded(task: Task, costs: Costs, relaxation: Relaxation, prices: Prices) -> tuple[np.ndarray, np.ndarray]:
    """Make a placement that keeps the limits of disk, GPU memory and loads from prices alone: fast, for any size.

    Each server takes its models one after the other, those first that earn most at the prices for the room that they
    take, each on its shortest path where there is room.
    """
    instance, room = task.instance, Room(task.instance, costs)
    slots, servers, models = instance.shape
    earned = relaxation.evaluate(prices, relaxation.unit).earned
    pairs = np.stack(np.unravel_index(np.arange(servers * models), (servers, models)), axis=1)
    value, states = room.best_plans(pairs, earned.transpose(1, 2, 0).reshape(len(pairs), slots))
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.nan_to_num(costs.size_gb / costs.storage_gb[:, None], posinf=1.0)
        memory = np.nan_to_num(costs.memory_gb / costs.gpu_memory_gb[:, None], posinf=1.0)
    on_disk, in_memory = ((states >= state).sum(axis=1).reshape(servers, models) for state in (1, 2))
    taken = np.maximum(np.maximum(on_disk * size, in_memory * memory), 1e-9)
    worth = np.maximum(value, 0.0).reshape(servers, models)
    order = np.argsort(-worth / taken, axis=1, kind="stable")
    at = np.arange(servers)
    for m in order.T:
        if task.control.stop is not None or not worth[at, m].any():
            break
        _, states = room.best_plans(np.stack([at, m], axis=1), earned[:, at, m].T)
        room.take(at, m, states.T)
    return room.stored, room.loaded


def _repaired(task: Task, costs: Costs, relaxation: Relaxation, vector: np.ndarray, loaded: np.ndarray) -> Plans:
    """Make a placement that keeps every limit from prices and the shares [T, E, M] of models in memory."""
    prices, plans = relaxation.prices(vector), Plans(task.instance, costs)
    favour = DOUBT + (1.0 - DOUBT) * np.clip(loaded, 0.0, 1.0).transpose(1, 2, 0)
    plans.price_s, plans.price_j = (np.pad(price, ((0, 0), (0, 1))) for price in (prices.gpu_s, prices.energy_j))
    fill(plans, 1.0, favour, stop=lambda: task.control.stop)
    plans.price_s, plans.price_j = np.zeros_like(plans.price_s), np.zeros_like(plans.price_j)
    fill(plans, 1.0, stop=lambda: task.control.stop)
    return plans
