"""Benders' decomposition on the shared driver: a master over placements in HiGHS, a cost and a cut for every slot.

The master decides what is stored, loaded, fetched and started, and has a column theta_t for what the requests of each
slot cost. With the placement fixed the slots separate, each into a linear program of routes. For prices p_im (any sign)
on its demands and theta_j, eps_j >= 0 on its GPU-seconds and joules, weak duality gives for every placement ::

    theta_t >= sum lam min(p, cloud) - sum_j (gpu H_j + eps E_j) + sum_jm eps_j l_m load_tjm
               - sum_jm y_tjm sum_i lam max(0, p_im - serve_imj - gpu_j a_m - eps_j e_m)

because a route at a server is worth at most what its request pays above its cost there, and only where the model is
loaded. Right for whatever prices; what is taken off covers the rounding of its evaluation. Those of limits are the
multipliers of the slot's routing, as HiGHS finds them. Those of demands follow from them: of the ways of a request, in
the order of their cost with the limits' prices, p is the cost of the way at which the loaded parts add up to one. Then
the cut is tight at the placement that was asked about. Where it is so for a whole interval of prices, a little weight
on the relaxation's placement decides (Magnanti and Wong, Operations Research 29, 1981).
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp

from aigc_opt.control import Control
from aigc_opt.decomposition.benders import Answered, Master, Rows, solve_benders
from aigc_opt.errors import SolverError
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.problems.deployment.arrays import placement_part
from aigc_opt.problems.deployment.costs import Costs
from aigc_opt.problems.deployment.feature_aware import Plans, fill
from aigc_opt.problems.deployment.prices import Prices
from aigc_opt.problems.deployment.routing import complete, switches
from aigc_opt.problems.problem import Found, Incumbent, Task
from aigc_opt.program import INF, LinearProgram, ProgramBuilder
from aigc_opt.result import Proof
from aigc_opt.solvers import Answer, Highs

RELAXED_SHARE = 0.5
"""Share of the time limit for the linear master at most."""

RELAXED_GAP = 1e-4
RELAXED_ROUNDS = 200
MIX = 0.3
"""Weight of the linear master's point in what the slots are asked about; the rest is the best point so far."""

CORE = 1e-3
"""Weight of the relaxation's placement where a cut's prices on demands are chosen."""

REPAIR_EVERY = 10
"""Rounds of the linear master after which its placement is made whole."""

DOUBT = 0.2
"""What a plan is believed to save, as a part, where the linear master does not want it."""


DEAREST_SLOT = 1e5
"""What the master takes the dearest slot's cost to be, about. HiGHS keeps rows to 1e-7, whatever their size: beyond 1e9
that is below the last digit of a cost, and no cost satisfies all cuts."""


class _Slot:
    """The routing of one slot as a linear program that is solved again and again, its bounds changed."""

    def __init__(self, costs: Costs, arrivals: np.ndarray):
        self.costs, self.arrivals = costs, arrivals
        servers, models = arrivals.shape
        cloud = costs.serve[:, :, servers]
        with np.errstate(invalid="ignore"):
            saving = cloud[:, :, None] - costs.serve[:, :, :servers]
        self.origin, self.model, self.server = np.nonzero((arrivals[:, :, None] > 0) & (saving > 0))
        amount = arrivals[self.origin, self.model]
        self.floor = float((arrivals * costs.serve.min(axis=2)).sum())
        self.cloud = float((arrivals * cloud).sum())
        build = ProgramBuilder()
        self.route = build.variable("route", -amount * saving[self.origin, self.model, self.server], list)
        self.spent = build.variable("spent_on_loads", np.zeros(servers), list)
        each = self.origin * models + self.model
        build.constraint("served", [(each, self.route, 1.0)], np.ones(servers * models), list)
        # In units of the limit, so that a column at its bound of 1 is all that there is.
        unit_s, unit_j = (
            np.where(np.isfinite(limit) & (limit > 0), limit, 1.0) for limit in (costs.gpu_s, costs.energy_j)
        )
        self.units = unit_s, unit_j
        at = np.arange(servers)
        work_s = amount * costs.work_s[self.model] / unit_s[self.server]
        work_j = amount * costs.work_j[self.model] / unit_j[self.server]
        build.constraint("gpu_time", [(self.server, self.route, work_s)], costs.gpu_s / unit_s, list)
        build.constraint(
            "energy", [(self.server, self.route, work_j), (at, self.spent, 1.0)], costs.energy_j / unit_j, list
        )
        self._highs = Highs(build.build())

    def price(self, loaded: np.ndarray, spent_j: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Solve it for what is `loaded` [E, M], in parts perhaps, and joules `spent_j` [E] on loads.

        Returns
        -------
        cost : float
        price_s, price_j : ndarray, shape (E,)

        """
        upper = np.clip(loaded[self.server, self.model], 0.0, 1.0)
        spent = np.clip(spent_j / self.units[1], 0.0, 1.0)
        columns = np.concatenate([self.route, self.spent])
        self._highs.set_column_bounds(
            columns, np.concatenate([np.zeros(upper.size), spent]), np.concatenate([upper, spent])
        )
        outcome = self._highs.solve()
        if outcome.answer is not Answer.OPTIMAL or outcome.objective is None or outcome.row_duals is None:
            raise SolverError(f"HiGHS says {outcome.answer} of a routing that the cloud can take")
        servers = len(spent)
        prices = np.maximum(0.0, -outcome.row_duals[self.arrivals.size :])
        return self.cloud + outcome.objective, prices[:servers] / self.units[0], prices[servers:] / self.units[1]


class _Slots:
    """The oracle: what the slots' requests cost with a placement, and the cuts that say so."""

    def __init__(self, instance: DeploymentInstance, costs: Costs):
        self.instance, self.costs = instance, costs
        self.slots = [_Slot(costs, arrivals) for arrivals in instance.arrivals]
        self.core: np.ndarray | None = None  # what the relaxation has loaded, [T, E, M]
        # If wanted, in the order of the cuts: slot, prices of demands (E, M), of GPU-seconds and joules (E,).
        self.kept: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] | None = None
        build = ProgramBuilder()
        self.stored, self.loaded, self.fetch, self.load = placement_part(build, instance, costs)
        number = len(self.slots)
        dearest = max(slot.cloud for slot in self.slots)
        # A power of two, so that no digit is lost.
        self.unit = 2.0 ** round(math.log2(dearest / DEAREST_SLOT)) if dearest > 0 else 1.0
        prices = np.full(number, self.unit)
        self.theta = build.variable("routing_cost", prices, lambda: [(t + 1,) for t in range(number)])
        slots, servers, _ = instance.shape
        limited = np.flatnonzero(np.isfinite(costs.energy_j))
        grid = np.arange(slots * limited.size).reshape(slots, limited.size, 1)
        build.constraint(
            "energy_of_loads",
            [(grid, self.load[:, limited], costs.load_j)],
            np.tile(costs.energy_j[limited], slots),
            lambda: [(t + 1, instance.servers[j].name) for t in range(slots) for j in limited.tolist()],
        )
        program = build.build()
        # No routing costs less than all requests their cheapest way, and none need cost more than the cloud.
        self.floor = sum(slot.floor * (1 - 1e-12) for slot in self.slots)
        program.lower[self.theta] = [slot.floor * (1 - 1e-12) / self.unit for slot in self.slots]
        program.upper[self.theta] = [slot.cloud * (1 + 1e-9) / self.unit + 1e-300 for slot in self.slots]
        self.program: LinearProgram = program

    def point(self, stored: np.ndarray, loaded: np.ndarray, routing_cost: np.ndarray) -> np.ndarray:
        """Return the master's point of a placement [T, E, M], in parts perhaps, and its slots' costs [T]."""
        x = np.zeros(self.program.cost.size)
        x[self.stored], x[self.loaded], x[self.theta] = stored, loaded, routing_cost / self.unit
        x[self.fetch] = switches(stored, self.instance.initial_stored)
        x[self.load] = switches(loaded, self.instance.initial_loaded)
        return x

    def ask(self, stored: np.ndarray, loaded: np.ndarray, control: Control) -> Answered:
        """Answer for a placement [T, E, M], in parts perhaps: its cost, and a cut of every slot as far as time goes."""
        spent = switches(loaded, self.instance.initial_loaded) @ self.costs.load_j
        made, costs = [], np.full(len(self.slots), INF)
        for t, slot in enumerate(self.slots):
            if control.stop is not None:
                break
            costs[t], price_s, price_j = slot.price(loaded[t], spent[t])
            near = loaded[t] if self.core is None else (1 - CORE) * loaded[t] + CORE * self.core[t]
            price = demand_prices(self.costs, near, price_s, price_j)
            made.append((t, *cut(self.costs, slot.arrivals, price, price_s, price_j)))
            if self.kept is not None:
                self.kept.append((t, price, *_of_limits(self.costs, price_s, price_j)))
        point = self.point(stored, loaded, np.where(np.isfinite(costs), costs, 0.0))
        return Answered(self._rows(made), float(self.program.cost @ point) if np.isfinite(costs).all() else INF, point)

    def _rows(self, made: list[tuple[int, float, np.ndarray, np.ndarray]]) -> Rows:
        """Cuts ``theta_t + earned . loaded - joules . load >= const`` of slots t, in the master's unit of cost."""
        per_slot = self.loaded[0].size
        width = 1 + 2 * per_slot
        indices, values = np.empty((len(made), width), dtype=int), np.empty((len(made), width))
        for row, (t, _, earned, joules) in enumerate(made):
            indices[row] = np.concatenate([[self.theta[t]], self.loaded[t].ravel(), self.load[t].ravel()])
            values[row] = np.concatenate([[1.0], earned.ravel() / self.unit, -joules.ravel() / self.unit])
        matrix = sp.csr_array(
            (values.ravel(), indices.ravel(), np.arange(len(made) + 1) * width),
            shape=(len(made), self.program.cost.size),
        )
        matrix.eliminate_zeros()
        matrix.sort_indices()
        return Rows(matrix, np.array([const / self.unit for _, const, _, _ in made]), np.full(len(made), INF))


def demand_prices(costs: Costs, loaded: np.ndarray, price_s: np.ndarray, price_j: np.ndarray) -> np.ndarray:
    """Prices per request [E, M] on a slot's demands with which its cut is tight at `loaded`, from those of its limits.

    Parameters
    ----------
    loaded : ndarray, shape (E, M)
        In [0, 1].
    price_s, price_j : ndarray, shape (E,)
        >= 0, of GPU-seconds and joules; those of limits that there are not count as 0.

    """
    ways = _ways(costs, price_s, price_j)
    servers, models = loaded.shape
    there = np.concatenate(
        [np.broadcast_to(loaded.T, (servers, models, servers)), np.ones((servers, models, 1))], axis=2
    )
    order = np.argsort(ways, axis=2, kind="stable")
    parts = np.cumsum(np.take_along_axis(there, order, axis=2), axis=2)
    first = np.argmax(parts >= 1.0 - 1e-9, axis=2)[..., None]  # the cloud is there in any case
    price = np.take_along_axis(np.take_along_axis(ways, order, axis=2), first, axis=2)[..., 0]
    return np.minimum(price, ways[:, :, servers])


def _ways(costs: Costs, price_s: np.ndarray, price_j: np.ndarray) -> np.ndarray:
    """Cost [origin, model, way] of a request, what its way takes from limits with it; the last way is the cloud."""
    price_s, price_j = _of_limits(costs, price_s, price_j)
    toll = price_s[:, None] * costs.work_s + price_j[:, None] * costs.work_j
    ways = costs.serve.copy()
    ways[:, :, :-1] += toll.T
    return ways


def _of_limits(costs: Costs, price_s: np.ndarray, price_j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.where(np.isfinite(costs.gpu_s), price_s, 0.0), np.where(np.isfinite(costs.energy_j), price_j, 0.0)


def cut(
    costs: Costs, arrivals: np.ndarray, price: np.ndarray, price_s: np.ndarray, price_j: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Make a slot's cut from prices; it holds whatever they are.

    Parameters
    ----------
    arrivals : ndarray, shape (E, M)
    price : ndarray, shape (E, M)
        Of demands, per request; at most what the cloud costs.
    price_s, price_j : ndarray, shape (E,)
        >= 0, of GPU-seconds and joules; those of limits that there are not count as 0.

    Returns
    -------
    const : float
    earned, joules : ndarray, shape (E, M)
        The slot's requests cost at least ``const - (earned * y).sum() + (joules * load).sum()`` with models y loaded
        and `load` started, both 0 or 1.

    """
    servers = len(arrivals)
    ways = _ways(costs, price_s, price_j)
    price_s, price_j = _of_limits(costs, price_s, price_j)
    earned = np.einsum("im,imj->jm", arrivals, np.maximum(0.0, price[:, :, None] - ways[:, :, :servers]))
    joules = np.broadcast_to(price_j[:, None] * costs.load_j, earned.shape)
    demand = float((arrivals * price).sum())
    limits = sum(
        float((price[np.isfinite(limit)] * limit[np.isfinite(limit)]).sum())
        for price, limit in ((price_s, costs.gpu_s), (price_j, costs.energy_j))
    )
    rounding = 4 * (arrivals.size + servers + 20) * 2.0**-53 * (demand + limits + float(earned.sum() + joules.sum()))
    return demand - limits - rounding, earned, joules


def relaxed_prices(instance: DeploymentInstance, control: Control) -> Prices:
    """Prices that prove what Benders' linear master does, or more; the floor where no master was asked for or done.

    A slot's cuts are paid for in parts w that add up to one, its floor (all requests their cheapest way, with no prices
    of limits) taking the rest. The dual function is concave in the prices, so at the average of the cuts' prices with
    weights w, and the master's multipliers of disk and GPU memory, it is no less than the master's value. It is a bound
    at any prices, these or others.
    """
    costs = Costs.of(instance)
    oracle = _Slots(instance, costs)
    oracle.kept = []
    master = Master(oracle.program, relaxed=True, cuts_at_most=RELAXED_ROUNDS * len(oracle.slots))
    nothing = np.zeros(instance.shape)
    solve_benders(
        master, lambda x, within: oracle.ask(x[oracle.stored], x[oracle.loaded], within),
        oracle.point(nothing, nothing, np.zeros(len(oracle.slots))), lambda upper: RELAXED_GAP * abs(upper), control,
        mix=MIX, rounds=RELAXED_ROUNDS, lower=oracle.floor,
        report=lambda number, _, lower: control.report(f"certificate: Benders, round {number}", lower_bound=lower),
    )  # fmt: skip
    duals = np.zeros(master.program.row_upper.size)
    if master.outcome is not None and master.outcome.row_duals is not None:
        duals = master.outcome.row_duals
    paid = np.maximum(duals[master.own_rows :], 0.0) / oracle.unit
    slots, servers, _ = instance.shape
    demand, gpu_s, energy_j = np.zeros(instance.shape), np.zeros((slots, servers)), np.zeros((slots, servers))
    weight = np.zeros(slots)
    # The last ones that were made were not added.
    for part, (t, price, price_s, price_j) in zip(paid.tolist(), oracle.kept, strict=False):
        weight[t] += part
        demand[t] += part * price
        gpu_s[t] += part * price_s
        energy_j[t] += part * price_j
    demand += np.maximum(0.0, 1.0 - weight)[:, None, None] * costs.serve.min(axis=2)
    over = np.maximum(1.0, weight)  # a slot whose cost is at its upper end
    rows = {block.name: slice(block.start, block.start + block.size) for block in master.program.rows}
    room = [np.maximum(-duals[rows[name]], 0.0).reshape(slots, servers) for name in ("storage", "gpu_memory")]
    return Prices(demand / over[:, None, None], gpu_s / over[:, None], energy_j / over[:, None], *room)


def benders(task: Task) -> Found:
    """Benders' decomposition: a master in HiGHS over placements, cuts from the routing of every slot.

    First the master's linear relaxation, whose bound is evaluated here, then the integer one, whose bound is the word
    of HiGHS. Placements are made on the way: filled in from what the linear master wants, and as the integer one has
    them; the routing of each is solved exactly.
    """
    instance, control = task.instance, task.control
    costs = Costs.of(instance)
    best = Incumbent(task)

    def offer(stored: np.ndarray, loaded: np.ndarray, event: str) -> None:
        best.offer(complete(instance, costs, stored, loaded, control), f"benders: {event}")

    def filled(favour: np.ndarray | float = 1.0) -> None:
        plans = Plans(instance, costs)
        fill(plans, 1.0, favour, stop=lambda: control.stop)
        if isinstance(favour, np.ndarray):
            fill(plans, 1.0, stop=lambda: control.stop)
        offer(plans.stored, plans.loaded, "placement filled in")

    nothing = np.zeros(instance.shape, dtype=np.int8)
    offer(nothing, nothing, "cloud only")
    assert best.solution is not None  # the cloud may serve everything
    oracle = _Slots(instance, costs)
    least, proof = oracle.floor, Proof.DUAL
    control.report("benders: cheapest ways", lower_bound=least)
    if control.stop is None:
        filled()
    if control.stop is not None:
        return Found(best.solution, least, proof, control.stop)

    rounds = 0

    def fractional(x: np.ndarray, within: Control) -> Answered:
        nonlocal rounds
        answered = oracle.ask(x[oracle.stored], x[oracle.loaded], within)
        if rounds % REPAIR_EVERY == REPAIR_EVERY - 1:
            filled(DOUBT + (1.0 - DOUBT) * np.clip(x[oracle.loaded], 0.0, 1.0).transpose(1, 2, 0))
        rounds += 1
        return answered

    def tell(event: str, lower: float) -> None:
        control.report(f"benders: {event}", lower_bound=lower if lower > least else None)

    def start() -> np.ndarray:
        return oracle.point(best.solution.stored, best.solution.loaded, np.zeros(len(oracle.slots)))

    linear = Master(oracle.program, relaxed=True)
    relaxed = solve_benders(
        linear, fractional, start(), lambda upper: RELAXED_GAP * abs(upper), control.part(RELAXED_SHARE), mix=MIX,
        rounds=RELAXED_ROUNDS, report=lambda number, upper, lower: tell(f"relaxation, round {number}", lower),
        lower=least,
    )  # fmt: skip
    least = max(least, relaxed.lower)
    if relaxed.x is not None:
        oracle.core = np.clip(relaxed.x[oracle.loaded], 0.0, 1.0)
        filled(DOUBT + (1.0 - DOUBT) * oracle.core.transpose(1, 2, 0))
    gap = best.gap(least)
    if control.stop is not None or (gap is not None and gap <= task.gap):
        return Found(best.solution, least, proof, control.stop)

    def whole(x: np.ndarray, within: Control) -> Answered:
        loaded = np.round(x[oracle.loaded]).astype(np.int8)
        offer(np.round(x[oracle.stored]).astype(np.int8), loaded, "placement of the master")
        return oracle.ask(np.round(x[oracle.stored]), loaded.astype(float), within)

    master = Master(oracle.program)
    master.add(linear.cuts)
    ended = solve_benders(
        master, whole, start(), lambda upper: task.gap * abs(upper), control,
        report=lambda number, upper, lower: tell(f"round {number}", lower), master_gap=0.2 * task.gap, lower=least,
    )  # fmt: skip
    if ended.lower > least:
        least, proof = ended.lower, Proof.SOLVER
    return Found(best.solution, least, proof, control.stop)
