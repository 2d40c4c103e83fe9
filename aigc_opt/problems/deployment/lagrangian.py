"""Deployment by Lagrangian decomposition: a bound from prices, points repaired from what the prices prefer.

`prices.Relaxation` separates into paths; its dual is raised at falling temperatures. After each temperature a placement
is made of the shares that the soft minimum gives to each state: plans are filled in as in the feature-aware selection,
believing less in what the prices do not want; requests are routed exactly. The rest of the time goes to parts of the
program where the best point and the shares differ, as far as the program is of a size that HiGHS takes.
"""

from __future__ import annotations

import numpy as np

from aigc_opt.decomposition.lagrangian import smooth_ascent
from aigc_opt.problems.deployment.arrays import DeploymentProgram
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.feature_aware import Plans, fill
from aigc_opt.problems.deployment.neighbourhoods import improve
from aigc_opt.problems.deployment.prices import Relaxation
from aigc_opt.problems.deployment.routing import complete
from aigc_opt.problems.deployment.solution import DeploymentSolution
from aigc_opt.problems.problem import Found, Task
from aigc_opt.result import Proof, gap_of

TEMPERATURES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5)
"""Of the soft minimum, in units of the mean cost of sending a (slot, server, model)'s requests to the cloud."""

ITERATIONS = 400
"""Steps at each temperature."""

PRICES_SHARE = 0.5
"""Share of the time limit for prices and the points repaired on the way."""

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

    def offer(stored: np.ndarray, loaded: np.ndarray, event: str) -> bool:
        nonlocal best
        solution = complete(instance, costs, stored, loaded, control)
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
    start = vector = relaxation.vector(relaxation.first_prices())
    least, shares = -np.inf, np.stack([nothing, nothing]).astype(float)
    pricing = control.part(PRICES_SHARE)
    for index, temperature in enumerate(TEMPERATURES):
        if control.stop is not None:
            break
        ascent = pricing.part(1.0 / (len(TEMPERATURES) - index))
        scaled = temperature * relaxation.unit
        vector = smooth_ascent(relaxation.dual, vector, ascent, [scaled], ITERATIONS, start)
        priced = relaxation.evaluate(relaxation.prices(vector), scaled)
        if priced.value > least:
            least, shares = priced.value, np.stack([priced.stored, priced.loaded])
        control.report("prices", lower_bound=least)
        if control.stop is not None:
            break
        plans = _repaired(task, costs, relaxation, vector, priced.loaded)
        offer(plans.stored, plans.loaded, "repaired from prices")
        gap = gap_of(best[0], least)
        if gap is not None and gap <= task.gap:
            return Found(best[1], least, Proof.DUAL)
    if control.stop is None and np.prod(instance.shape) <= PARTS:
        built = DeploymentProgram(instance)
        tolerance = max(task.gap, 1e-4)
        improve(built, lambda: shares, lambda: best[1], offer, control, task.seed, tolerance)
    return Found(best[1], least, Proof.DUAL, control.stop)


def _repaired(task: Task, costs: Costs, relaxation: Relaxation, vector: np.ndarray, loaded: np.ndarray) -> Plans:
    """Make a placement that keeps every limit from prices and the shares [T, E, M] of models in memory."""
    prices, plans = relaxation.prices(vector), Plans(task.instance, costs)
    favour = DOUBT + (1.0 - DOUBT) * np.clip(loaded, 0.0, 1.0).transpose(1, 2, 0)
    plans.price_s, plans.price_j = (np.pad(price, ((0, 0), (0, 1))) for price in (prices.gpu_s, prices.energy_j))
    fill(plans, 1.0, favour, stop=lambda: task.control.stop)
    plans.price_s, plans.price_j = np.zeros_like(plans.price_s), np.zeros_like(plans.price_j)
    fill(plans, 1.0, stop=lambda: task.control.stop)
    return plans
