"""Deployment by Lagrangian decomposition: a bound from prices, points repaired from what the prices prefer.

`prices.Relaxation` separates into paths; its dual is raised at falling temperatures, in a thread of its own. After each
temperature placements are made of its prices: one of each server's best paths, as they fit; and, where the program is
of moderate size, one of the shares that the soft minimum gives to each state: plans are filled in as in the
feature-aware selection, believing less in what the prices do not want. From the best point servers are planned anew,
one turn after each temperature and the rest of the time at the end; what is left then goes to parts of the program
where the best point and the shares differ.

The point takes from the prices what they are at the end of each temperature and nothing else, so that it does not
depend on how the two threads share the machine.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from aigc_opt.control import Control
from aigc_opt.decomposition.lagrangian import SmoothDual, smooth_ascent
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.problems.deployment.arrays import DeploymentProgram
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.feature_aware import Plans, Room, fill
from aigc_opt.problems.deployment.neighbourhoods import TURNS, improve, replanned
from aigc_opt.problems.deployment.prices import Prices, Relaxation
from aigc_opt.problems.deployment.routing import complete
from aigc_opt.problems.deployment.solution import DeploymentSolution
from aigc_opt.problems.problem import Found, Incumbent, Task
from aigc_opt.result import Proof

DEARNESS = (0.1, 0.03, 0.3, 0.0, 1.0)
"""Prices to start from (`Relaxation.first_prices`): the best of these, because an ascent takes very long to come down
from prices that are far too high, as those halfway to the cloud's are where nearly all is served at the edge."""

TEMPERATURES = (1e-2, 1e-3, 3e-4, 1e-4, 3e-5)
"""Of the soft minimum, in units of the mean cost of sending a (slot, server, model)'s requests to the cloud."""

ITERATIONS = 150
"""Steps at each temperature."""

ROUTING_SHARE = 0.05
"""Share of the time that is left for routing a point exactly; the best one gets all that is left in the end."""

DOUBT = 0.2
"""What a plan is believed to save, as a part, in slots in which the prices do not want it."""

PARTS = 50_000
"""Slots x servers x models up to which plans are filled in and parts of the program are solved; beyond, it takes too
much memory and time."""


@dataclass(frozen=True)
class _Stage:
    """Where the ascent is: prices, their dual value, and shares [2, T, E, M] stored and loaded once there are any."""

    prices: Prices
    value: float
    shares: np.ndarray | None = None


class _Enough(Exception):
    """Ends an ascent that nobody waits for any more."""


def _ascent(
    relaxation: Relaxation, control: Control, enough: threading.Event, tell: Callable[[_Stage | None], None]
) -> None:
    """Raise the dual at falling temperatures, telling each stage and None at the end."""
    slowest, least = 0.0, -np.inf
    scale = vector = relaxation.vector(relaxation.first_prices())

    def dual(at: np.ndarray, temperature: float) -> SmoothDual:
        nonlocal slowest, least, vector
        if enough.is_set() or control.remaining_s < slowest:  # an evaluation is not broken off
            raise _Enough
        began = time.perf_counter()
        seen = relaxation.dual(at, temperature)
        slowest = max(slowest, time.perf_counter() - began)
        if seen.value > least:
            least, vector = seen.value, at.copy()
        return seen

    try:
        for dearness in DEARNESS:
            dual(relaxation.vector(relaxation.first_prices(dearness)), TEMPERATURES[0] * relaxation.unit)
            control.report("prices", lower_bound=least)
            if dearness == DEARNESS[0]:
                tell(_Stage(relaxation.prices(vector), least))
        for index, temperature in enumerate(TEMPERATURES):
            if control.stop is not None:
                break
            ascent = control.part(1.0 / (len(TEMPERATURES) - index))
            scaled = temperature * relaxation.unit
            smooth_ascent(dual, vector, ascent, [scaled], ITERATIONS, scale)
            prices = relaxation.prices(vector)
            priced = relaxation.evaluate(prices, scaled)
            control.report("prices", lower_bound=least)
            tell(_Stage(prices, least, np.stack([priced.stored, priced.loaded])))
    except _Enough:
        tell(_Stage(relaxation.prices(vector), least))
    finally:
        tell(None)


def _stages(relaxation: Relaxation, control: Control) -> Iterator[_Stage]:
    """Run the ascent in a thread and yield its stages; it ends where the caller leaves the loop."""
    told: queue.SimpleQueue[_Stage | None] = queue.SimpleQueue()
    enough = threading.Event()
    with ThreadPoolExecutor(1) as beside:
        running = beside.submit(_ascent, relaxation, control, enough, told.put)
        try:
            while (stage := told.get()) is not None:
                yield stage
        finally:
            enough.set()
        running.result()  # raises what the ascent has raised


def lagrangian(task: Task) -> Found:
    """Lagrangian decomposition: prices on demands and capacities, a shortest path for each server and model.

    The bound is the dual function at the best prices, as evaluated here (`prices`); it reaches the linear relaxation's.
    """
    instance, control = task.instance, task.control
    costs = Costs.of(instance)
    relaxation = Relaxation(instance, costs)
    best = Incumbent(task)
    guide = np.zeros(instance.shape[:2]), np.zeros(instance.shape[:2])

    def routed(stored: np.ndarray, loaded: np.ndarray, share: float = ROUTING_SHARE) -> DeploymentSolution | None:
        return complete(instance, costs, stored, loaded, within.part(share), guide)

    nothing, within = np.zeros(instance.shape, dtype=np.int8), control
    cloud = routed(nothing, nothing)
    began = control.elapsed_s
    best.offer(cloud, "cloud only")
    assert best.solution is not None  # the cloud may serve everything
    # A check is not broken off, so that the search for points ends before the time does.
    within = control.part(1.0, max(0.0, control.remaining_s - 2 * (control.elapsed_s - began)))
    begun = task.start
    if isinstance(begun, DeploymentSolution) and np.shape(begun.stored) == np.shape(begun.loaded) == instance.shape:
        best.offer(routed(begun.stored, begun.loaded), "starting point")
    least, shares = -np.inf, np.stack([nothing, nothing]).astype(float)
    small = np.prod(instance.shape) <= PARTS

    def closed() -> bool:
        gap = best.gap(least)
        return gap is not None and gap <= task.gap

    def replan(turns: int) -> None:
        for solution in replanned(instance, costs, best.solution, within, task.seed, turns, guide):
            best.offer(solution, "servers planned anew")
            if closed():
                break

    for stage in _stages(relaxation, control):
        least, guide = max(least, stage.value), (stage.prices.gpu_s, stage.prices.energy_j)
        if within.stop is None:
            best.offer(routed(*_rounded(instance, costs, relaxation, stage.prices, within)), "rounded from prices")
        if stage.shares is not None:
            shares = stage.shares
            if small and within.stop is None:
                best.offer(routed(*_repaired(instance, costs, stage.prices, shares[1], within)), "repaired from prices")
            if not closed() and within.stop is None:
                replan(1)
        if closed():
            return Found(best.solution, least, Proof.DUAL)
    replan(TURNS)
    if within.stop is None and small and not closed():
        built = DeploymentProgram(instance)
        tolerance = max(task.gap, 1e-4)

        def place(stored: np.ndarray, loaded: np.ndarray, event: str) -> bool:
            return best.offer(routed(stored, loaded), event)

        improve(built, lambda: (built.program, shares), lambda: best.solution, place, within, task.seed, tolerance)
    return Found(best.solution, least, Proof.DUAL, None if closed() else control.cut)


def _rounded(
    instance: DeploymentInstance, costs: Costs, relaxation: Relaxation, prices: Prices, control: Control
) -> tuple[np.ndarray, np.ndarray]:
    """Make a placement that keeps the limits of disk, GPU memory and loads from prices alone: fast, for any size.

    Each server takes its models one after the other, those first that earn most at the prices for the room that they
    take, each on its shortest path where there is room.
    """
    room = Room(instance, costs)
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
        if control.stop is not None or not worth[at, m].any():
            break
        _, states = room.best_plans(np.stack([at, m], axis=1), earned[:, at, m].T)
        room.take(at, m, states.T)
    return room.stored, room.loaded


def _repaired(
    instance: DeploymentInstance, costs: Costs, prices: Prices, loaded: np.ndarray, control: Control
) -> tuple[np.ndarray, np.ndarray]:
    """Make a placement that keeps every limit from prices and the shares [T, E, M] of models in memory."""
    plans = Plans(instance, costs)
    favour = DOUBT + (1.0 - DOUBT) * np.clip(loaded, 0.0, 1.0).transpose(1, 2, 0)
    plans.price_s, plans.price_j = (np.pad(price, ((0, 0), (0, 1))) for price in (prices.gpu_s, prices.energy_j))
    fill(plans, 1.0, favour, stop=lambda: control.stop)
    plans.price_s, plans.price_j = np.zeros_like(plans.price_s), np.zeros_like(plans.price_j)
    fill(plans, 1.0, stop=lambda: control.stop)
    return plans.stored, plans.loaded
