"""Benders' decomposition: a master over caches and switches in HiGHS, cuts from the prices of all slots.

Every round adds to each frame the cut at the slots' best prices (`Frames.dual`), which holds for every cache. At caches
in {0,1}^M the slots are solved exactly, and the cut is strengthened there: with the exact lower value V of cache x ::

    cost(y) >= const + grad y + (V - const - grad x) (1 - changes(x, y))

holds for every cache y: at y = x it says V; elsewhere `changes`, the number of models in which x and y differ, is at
least 1, and the right side is at most the cut. Where hits may go to the cloud a larger cache never costs more, so y
costs at least what x with y's further models costs: the terms of models in x drop out of the cut, with their changes.
Where the steps that must be given do not fit, the slot's own row ``sum_u min_steps x[phi_u] <= F`` is added.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from aigc_opt.control import Control
from aigc_opt.problems.two_timescale.enumeration import Caches
from aigc_opt.problems.two_timescale.frames import Cuts, Frames, switching_cost
from aigc_opt.problems.two_timescale.search import popular_caches, with_room_for_steps
from aigc_opt.program import INF, Block, LinearProgram, ProgramBuilder
from aigc_opt.solvers import Answer, Highs

RELAXED_ROUNDS = 40
FRAMES_AT_ONCE = 50
RELAXED_GAP = 2e-4
"""Relative gap of the relaxation at which its rounds end."""


class Master:
    """Caches, switches and a cost for each frame, with the cuts so far.

    Parameters
    ----------
    frames : Frames
    relaxed : bool
        Whether caches may be fractional.

    """

    def __init__(self, frames: Frames, relaxed: bool):
        e = self.episode = frames.episode
        every = np.arange(e.frames)
        free = frames.cuts(every, np.zeros((e.frames, e.slots)))
        # At prices of 0, with every model that helps: no cache costs less; columns are costs above that.
        self.base = free.const + np.minimum(free.grad, 0.0).sum(axis=1) - 1e-9 * (1 + abs(free.const))
        build = ProgramBuilder()
        shape, names = (e.frames, e.models), lambda: list(np.ndindex(e.frames, e.models))
        fits = np.broadcast_to(frames.fits.astype(float), shape)
        self.cached = build.variable("cached", np.zeros(shape), names, upper=fits, integer=not relaxed)
        self.switched = build.variable("switched", np.broadcast_to(e.switch, shape).copy(), names)
        self.cost = build.variable("cost", np.ones(e.frames), lambda: [(t,) for t in every.tolist()], upper=INF)
        build.constraint(
            "storage", [(every[:, None], self.cached, e.size_gb)], np.full(e.frames, e.storage_gb),
            lambda: [(t,) for t in every.tolist()],
        )  # fmt: skip
        # cached[t] - cached[t-1] - switched[t] <= 0; before the first frame: what is there already
        row = np.arange(e.frames * e.models).reshape(shape)
        known = np.zeros(shape)
        known[0] = e.initial
        terms = [(row, self.cached, 1.0), (row[1:], self.cached[:-1], -1.0), (row, self.switched, -1.0)]
        build.constraint("switching", terms, known.ravel(), names)
        self.program: LinearProgram = build.build(offset=float(self.base.sum()))
        self.solver = Highs(self.program)

    def add(self, of: np.ndarray, const: np.ndarray, grad: np.ndarray) -> None:
        """Add rows ``cost[t] >= const + grad @ cached[t]`` for frames (n,)."""
        row = np.arange(len(of))
        self._add("cut", row, of, -grad, self.cost[of], const - self.base[of], np.full(len(of), INF))

    def add_step_rows(self, frames: Frames, of: np.ndarray, caches: np.ndarray) -> int:
        """Add the rows of slots in which the steps that must be given to caches (n, M) do not fit; how many."""
        e = self.episode
        rows, weight = frames.weights(of, caches)
        over = e.min_steps * weight.sum(axis=1) > e.steps_per_slot * (1 + 1e-9)
        slots = rows[over]
        if frames.free_hits or not len(slots):
            return 0
        place = np.arange(len(slots))[:, None] * e.models + frames.wanted[slots]
        asked = frames.asked[slots].ravel().astype(float)
        count = np.bincount(place.ravel(), asked, len(slots) * e.models).reshape(-1, e.models)
        upper = np.full(len(slots), e.steps_per_slot)
        self._add(
            "steps",
            np.arange(len(slots)),
            slots // e.slots,
            e.min_steps * count,
            None,
            np.full(len(slots), -INF),
            upper,
        )
        return len(slots)

    def _add(self, name, row, of, grad, cost, lower, upper) -> None:
        models = self.episode.models
        columns, values, rows = self.cached[of].ravel(), grad.ravel(), np.repeat(row, models)
        if cost is not None:
            columns, rows = np.concatenate([columns, cost]), np.concatenate([rows, row])
            values = np.concatenate([values, np.ones(len(cost))])
        matrix = sp.csr_array((values, (rows, columns)), shape=(len(row), self.program.cost.size))
        old = self.program
        self.program = dataclasses.replace(
            old,
            matrix=sp.csr_array(sp.vstack([old.matrix, matrix])),
            row_lower=np.concatenate([old.row_lower, lower]),
            row_upper=np.concatenate([old.row_upper, upper]),
            rows=(*old.rows, Block(name, old.row_upper.size, len(row), lambda: list(enumerate(of.tolist())))),
        )
        self.solver.add_rows(self.program)

    def caches(self, x: np.ndarray) -> np.ndarray:
        """Return the caches (T, M) of a point."""
        return np.clip(x[self.cached], 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Relaxation:
    """What the master's linear relaxation says.

    Attributes
    ----------
    switch_prices : ndarray, shape (T, M)
        Prices of switches, between 0 and what they cost.
    step_prices : ndarray, shape (T, K)
        Prices of steps: each frame's cuts' own, averaged with the multipliers of the cuts.
    average : ndarray, shape (T, M)
        The best fractional caches met.
    rounded : list of ndarray of bool, shape (T, M)
        Caches of the rounds, rounded; they need not fit.
    cuts : list of Cuts

    """

    switch_prices: np.ndarray
    step_prices: np.ndarray
    average: np.ndarray
    rounded: list[np.ndarray]
    cuts: list[Cuts]


def relax(frames: Frames, control: Control) -> Relaxation:
    """Solve the relaxation by cuts, queried between the master's point and the best one so far.

    The averaged prices of steps are good because for a fixed cache a cut is concave in its prices (`Frames.cuts`): the
    cut at the average is at least the average of the cuts, which at the last round is the master's own bound.
    """
    e = frames.episode
    every = np.arange(e.frames)
    master = Master(frames, relaxed=True)
    query = with_room_for_steps(frames, popular_caches(e)).astype(float)
    rounded, every_cut, cut_rows = [query > 0.5], [], []
    best = np.inf
    average, prices, steps = query, np.zeros((e.frames, e.models)), np.zeros((e.frames, e.slots))
    switching_rows = slice(e.frames, e.frames + e.frames * e.models)
    for _ in range(RELAXED_ROUNDS):
        value, fits, cuts = frames.dual(every, query)
        before = np.concatenate([e.initial[None].astype(float), query[:-1]])
        cost = value.sum() + (np.maximum(query - before, 0.0) * e.switch).sum()
        if fits.all() and cost < best:
            best, average = cost, query.copy()
        every_cut.append(cuts)
        cut_rows.append(master.program.row_upper.size)
        master.add(every, cuts.const, cuts.grad)
        master.add_step_rows(frames, every, query)
        outcome = master.solver.solve(control=control)
        if outcome.answer is not Answer.OPTIMAL or outcome.row_duals is None:
            break
        prices = np.clip(-outcome.row_duals[switching_rows].reshape(e.frames, e.models), 0.0, e.switch)
        weight = np.array([np.maximum(outcome.row_duals[row : row + e.frames], 0.0) for row in cut_rows])
        steps = sum(w[:, None] * cuts.prices for w, cuts in zip(weight, every_cut, strict=True))
        steps = steps / np.where(weight.sum(axis=0) > 0, weight.sum(axis=0), 1.0)[:, None]
        point = master.caches(outcome.x)
        rounded.append(point > 0.5)
        if best - outcome.objective <= RELAXED_GAP * abs(best) or control.stop is not None:
            break
        query = np.clip(0.5 * point + 0.5 * average, 0.0, 1.0)
    return Relaxation(prices, steps, average, rounded, every_cut)


def relax_apart(frames: Frames, control: Control) -> Relaxation:
    """Solve the relaxation where switching costs nothing: some frames at a time, so that time grows as their number."""
    e, parts = frames.episode, []
    for first in range(0, e.frames, FRAMES_AT_ONCE):
        last = min(first + FRAMES_AT_ONCE, e.frames)
        share = (last - first) / (e.frames - first)
        parts.append(relax(Frames(e.part(first, last)), control.part(share)))
    joined = [
        np.concatenate([getattr(part, name) for part in parts]) for name in ("switch_prices", "step_prices", "average")
    ]
    return Relaxation(*joined, [], [])


def solve_benders(
    frames: Frames, gap: float, offset: float, control: Control, report=lambda event, upper, lower: None
) -> tuple[Caches, bool]:
    """Solve master and slots in turn until the interval closes.

    Parameters
    ----------
    gap : float
        Relative to the cost with `offset` (the transfers).
    report : callable
        Called with a few words, and upper and lower value, after each round.

    Returns
    -------
    Caches
        Its lower value is a bound by the word of HiGHS, whose master it is.
    bool
        Whether any master was solved (else `lower` is -inf).

    """
    e = frames.episode
    every = np.arange(e.frames)
    slot_relative = 0.1 * gap
    best, upper, lower = popular_caches(e), np.inf, -np.inf
    best = with_room_for_steps(frames, best)
    master = Master(frames, relaxed=False)
    for cuts in relax(frames, control.part(0.3)).cuts:
        master.add(every, cuts.const, cuts.grad)
    caches, rounds, met = best, 0, set()
    while True:
        value, bound = frames.exact(every, caches, slot_relative, control)
        cost = value.sum() + switching_cost(e, caches)
        if cost < upper:
            best, upper = caches, cost
        report(f"benders: round {rounds}", upper, lower)
        again = caches.tobytes() in met  # what is left is within the tolerances of HiGHS
        met.add(caches.tobytes())
        if again or upper - lower <= gap * abs(upper + offset) or control.stop is not None:
            return Caches(best, upper, min(lower, upper)), rounds > 0
        fits = np.isfinite(bound)
        master.add_step_rows(frames, every[~fits], caches[~fits])
        _add_strengthened(master, frames, every[fits], caches[fits], bound[fits])
        outcome = master.solver.solve(gap=0.2 * gap, control=control)
        if outcome.bound is not None:
            lower = max(lower, outcome.bound)
            rounds += 1
        if outcome.x is None:
            report("benders: stopped", upper, lower)
            return Caches(best, upper, min(lower, upper)), rounds > 0
        caches = master.caches(outcome.x) > 0.5


def _add_strengthened(master: Master, frames: Frames, of: np.ndarray, caches: np.ndarray, value: np.ndarray) -> None:
    """Add the cuts at caches (n, M), raised to their exact lower values."""
    _, _, cuts = frames.dual(of, caches.astype(float))
    more = np.maximum(value - cuts.const - (cuts.grad * caches).sum(axis=1), 0.0)
    const, grad = cuts.const + more, cuts.grad
    if frames.free_hits:
        const = const + (grad * caches).sum(axis=1)
        grad = np.where(caches, 0.0, grad - more[:, None])
    else:
        const = const - more * caches.sum(axis=1)
        grad = grad + more[:, None] * np.where(caches, 1.0, -1.0)
    master.add(of, const, grad)
