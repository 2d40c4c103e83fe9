"""Benders' decomposition on the shared driver: masters over caches in HiGHS, a cost and lifted cuts for every slot.

A slot's cost depends on the cache only through the d models that are requested in it. Its dual at each of their 2^d
subsets is one table (`SlotTable`): W(y) <= V(y) for every y, and where a subset has been solved exactly W holds that
lower value. A cut of the slot at cache x is made from the table alone, by exact sequential lifting ::

    cost >= W(x) + sum over models m of delta_m |y_m - x_m|
    delta_m = min over y that differ from x in m, and else only in models lifted before m, of
              W(y) - [W(x) + sum over those models i in which y and x differ of delta_i]

By induction over the models it holds for every y in {0,1}^d, and it is tight at x: the master learns V(x) of each slot.
(The step: a y that differs in m stays above the cut by the choice of delta_m; one that does not is the step before.)
Where a slot's models are too many for a table, its Lagrangian cut at the slot's best price is raised to V(x) at x by
what it lacks there times (1 - the number of models in which y and x differ), which is <= 0 everywhere else.

Where switching costs nothing every frame has a master of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aigc_opt.control import Control
from aigc_opt.decomposition.benders import Answered, Master, Rows, solve_benders
from aigc_opt.problems.two_timescale.enumeration import Caches
from aigc_opt.problems.two_timescale.frames import Frames, switching_cost
from aigc_opt.problems.two_timescale.masters import Masters
from aigc_opt.problems.two_timescale.search import local_search, popular_caches, with_room_for_steps
from aigc_opt.problems.two_timescale.tables import Polygons, SlotTable, bits

TABLE_MODELS = 11
"""Slots with requests for at most so many models have a table."""

RELAXED_SHARE = 0.2
RELAXED_ROUNDS = 25
RELAXED_GAP = 1e-4
ROUNDING = 1e-10
"""Relative to its constant, what is taken off a cut."""

Report = Callable[[str, float, float], None]


def lifted(table: np.ndarray, at: int, order: np.ndarray) -> tuple[float, np.ndarray]:
    """Lift a cut that is tight at a subset through its neighbours, one model after another.

    Parameters
    ----------
    table : ndarray, shape (2^d,)
        A lower bound of the cost of every subset, bit k for model k; inf where it is infeasible.
    at : int
        The subset, where the table is finite.
    order : ndarray of int, shape (d,)

    Returns
    -------
    const : float
    grad : ndarray, shape (d,)
        ``const + grad @ y <= table[y]`` for all y, with equality at the subset.

    """
    number = len(order)
    flips = np.zeros(1 << number, np.int64)
    for k, m in enumerate(order.tolist()):
        flips[1 << k : 2 << k] = flips[: 1 << k] | (1 << m)
    seen = table[flips ^ at]  # entry z: the models order[k], bits k of z, changed
    cut, grad = seen[:1], np.zeros(number)
    for k, m in enumerate(order.tolist()):
        room = seen[1 << k : 2 << k] - cut
        delta = float(room.min())
        delta = delta if np.isfinite(delta) else 0.0  # every subset with this change is infeasible: any number holds
        grad[m] = delta
        cut = np.concatenate([cut, cut + delta])
    inside = ((at >> np.arange(number)) & 1).astype(bool)
    return float(seen[0] + grad[inside].sum()), np.where(inside, -grad, grad)


class _Slots:
    """The oracle: tables of all slots, their exact values where known, and the cuts that they make."""

    def __init__(self, frames: Frames, layout: Masters, slot_relative: float, control: Control):
        e = self.episode = frames.episode
        self.frames, self.layout, self.slot_relative = frames, layout, slot_relative
        self.every = np.arange(e.frames)
        self.frame_of = np.repeat(self.every, e.slots)
        polygons = Polygons(e)
        self.models, self.tables = [], []
        for slot, wanted in enumerate(e.model):
            models = np.unique(wanted[wanted >= 0])
            self.models.append(models)
            made = None
            if len(models) <= TABLE_MODELS and control.stop is None:
                made = SlotTable(e, polygons, slot).values(bits(np.arange(1 << len(models)), len(models)))
            self.tables.append(made)

    def fractional(self, x: np.ndarray, control: Control) -> Answered:
        """Answer the linear master: Lagrangian cuts of the slots, and lifted ones at the rounded caches."""
        e, query = self.episode, self.layout.caches(x)
        value, fits, cuts = self.frames.dual(self.every, query)
        const, grad = self.frames.slot_cuts(self.every, cuts.prices)
        slots = np.arange(len(const))
        rows = [
            self.layout.cuts(slots, self.frame_of, const, grad),
            self.layout.step_rows(self.frames, self.every, query),
        ]
        rows += self._lifted(query > 0.5, const, grad, control)
        weight = query[self.frame_of]
        point = self.layout.point(query, const + (grad * weight).sum(axis=1))
        switches = float((point[self.layout.switched] * e.switch).sum())
        return Answered(Rows.joined(rows), float(value.sum()) + switches if fits.all() else np.inf, point)

    def whole(self, x: np.ndarray, control: Control) -> Answered:
        """Answer the integer master: what its caches cost exactly, and cuts that say so."""
        e, caches = self.episode, self.layout.caches(x) > 0.5
        found = self.frames.allocate(self.every, caches, self.slot_relative, control)
        prices = self.frames.dual(self.every, caches.astype(float))[2].prices
        const, grad = self.frames.slot_cuts(self.every, prices)
        rows = [self.layout.step_rows(self.frames, self.every, caches)]
        rows += self._lifted(caches, const, grad, control, found.lower)
        cost = float(found.cost.sum()) + switching_cost(e, caches)
        finite = np.where(np.isfinite(found.cost), found.cost, 0.0)
        return Answered(Rows.joined(rows), cost, self.layout.point(caches.astype(float), finite))

    def _lifted(
        self,
        caches: np.ndarray,
        const: np.ndarray,
        grad: np.ndarray,
        control: Control,
        exact: np.ndarray | None = None,
    ) -> list[Rows]:
        """Make cuts that are tight at caches (T, M), with the slots' exact lower values (T K,) where known."""
        slots, constants, grads = [], [], []
        for slot, t in enumerate(self.frame_of.tolist()):
            if control.stop is not None:
                break
            models, table = self.models[slot], self.tables[slot]
            cache = caches[t][models]
            if table is None:
                if exact is None or not np.isfinite(exact[slot]):
                    continue
                own = grad[slot][models]
                lacks = max(0.0, float(exact[slot] - const[slot] - own @ cache))
                made = [(const[slot] - lacks * (cache.sum() - 1), own + np.where(cache, lacks, -lacks))]
            else:
                at = int((cache.astype(np.int64) << np.arange(len(models))).sum())
                if exact is not None:
                    table[at] = max(table[at], exact[slot])
                if not np.isfinite(table[at]):
                    continue
                single = table[at ^ (1 << np.arange(len(models)))]
                order = np.argsort(single, kind="stable")
                made = [lifted(table, at, order)]
                if len(order) > 1:
                    made.append(lifted(table, at, order[::-1]))
            for constant, own in made:
                slots.append(slot)
                constants.append(constant - ROUNDING * (1 + abs(constant)))
                grads.append((models, own))
        dense = np.zeros((len(slots), self.episode.models))
        for row, (models, own) in zip(dense, grads, strict=True):
            row[models] = own
        at_slots = np.array(slots, int)
        return [self.layout.cuts(at_slots, self.frame_of[at_slots], np.array(constants), dense)] if slots else []


def _solve_coupled(
    frames: Frames, start: np.ndarray, gap: float, offset: float, control: Control, report: Report
) -> Caches:
    """Solve one master of all the frames: its linear relaxation first, whose tight cuts the integer one begins with."""
    layout = Masters(frames, by_slot=True)
    slots = _Slots(frames, layout, 0.1 * gap, control)
    linear = Master(layout.program, relaxed=True)
    first = layout.point(start.astype(float), np.zeros(len(layout.base)))
    relaxed = solve_benders(
        linear, slots.fractional, first, lambda upper: RELAXED_GAP * abs(upper), control.part(RELAXED_SHARE),
        mix=0.5, rounds=RELAXED_ROUNDS, report=lambda number, upper, lower: report("relaxation", np.inf, lower),
    )  # fmt: skip
    master = Master(layout.program)
    kept, cuts = np.flatnonzero(linear.idle < 3), linear.cuts
    master.add(Rows(cuts.matrix[kept], cuts.lower[kept], cuts.upper[kept]))
    ended = solve_benders(
        master, slots.whole, first, lambda upper: gap * abs(upper + offset), control,
        report=lambda number, upper, lower: report(f"round {number}", upper, lower), master_gap=0.2 * gap,
        lower=relaxed.lower,
    )  # fmt: skip
    best = start if ended.x is None else layout.caches(ended.x) > 0.5
    return Caches(best, ended.upper, ended.lower)


def solve_caches(
    frames: Frames, gap: float, offset: float, control: Control, report: Report = lambda event, upper, lower: None
) -> Caches:
    """Solve masters and slots in turn until the interval closes.

    Parameters
    ----------
    gap : float
        Relative to the cost with `offset` (the transfers).
    report : callable
        Called with a few words, and upper and lower value, after each round.

    Returns
    -------
    Caches
        Its lower value is a bound by the word of HiGHS, whose masters they are; -inf where none was solved.

    """
    e = frames.episode
    every = np.arange(e.frames)
    start = with_room_for_steps(frames, popular_caches(e))
    if e.switches:
        return _solve_coupled(
            frames, start, gap, offset, control,
            lambda event, upper, lower: report(f"benders: {event}", upper, lower),
        )  # fmt: skip
    start = local_search(frames, every, start, control)
    upper, _ = frames.exact(every, start, 0.1 * gap, control)
    lower = frames.cuts(every, np.zeros((e.frames, e.slots)))
    low = lower.const + np.minimum(lower.grad, 0.0).sum(axis=1)
    chosen = start.copy()
    for t in every.tolist():
        if control.stop is not None:
            break

        def tell(event: str, up: float, down: float, t: int = t) -> None:
            both = min(up, upper[t]) - upper[t], max(down, low[t]) - low[t]
            report(f"benders: frame {t + 1}, {event}", float(upper.sum()) + both[0], float(low.sum()) + both[1])

        part = Frames(e.part(t, t + 1))
        found = _solve_coupled(part, start[t : t + 1], gap, offset / e.frames, control.part(1 / (e.frames - t)), tell)
        low[t] = max(low[t], found.lower)
        if found.upper < upper[t]:
            chosen[t], upper[t] = found.chosen[0], found.upper
        low[t] = min(low[t], upper[t])
    return Caches(chosen, float(upper.sum()), float(low.sum()))
