"""Methods of the two-timescale problem: exact ones by decomposition, the alternation, baselines, bounds alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aigc_opt.control import require_memory
from aigc_opt.decomposition.alternating import Alternation
from aigc_opt.problems.problem import Found, Task
from aigc_opt.problems.two_timescale import heuristics
from aigc_opt.problems.two_timescale.alternating import Planned, alternate_caches
from aigc_opt.problems.two_timescale.benders import solve_caches
from aigc_opt.problems.two_timescale.branch import branch_frames
from aigc_opt.problems.two_timescale.enumeration import Caches, enumerate_caches, feasible_caches
from aigc_opt.problems.two_timescale.episode import Episode
from aigc_opt.problems.two_timescale.frames import ROWS_AT_ONCE, Frames, switching_cost
from aigc_opt.problems.two_timescale.listing import Interval, close_frames
from aigc_opt.problems.two_timescale.prices import Fixings, Priced, least_caches, price_steps, try_prices
from aigc_opt.problems.two_timescale.relaxation import Relaxation, relax, relax_apart
from aigc_opt.problems.two_timescale.search import local_search, popular_caches, with_room_for_steps
from aigc_opt.problems.two_timescale.shares import Transfers
from aigc_opt.problems.two_timescale.solution import TwoTimescaleSolution
from aigc_opt.problems.two_timescale.switching import Pool, solve_with_switching, switch_terms
from aigc_opt.problems.two_timescale.tables import MODELS_AT_MOST
from aigc_opt.result import Limit, Proof, gap_of
from aigc_opt.scip import ScipOutcome, require_scip, solve_with_scip

ENUMERATED_CACHES = 2048
ENUMERATED_SLOTS = 4_000_000
"""Episodes with so many feasible caches, and so many pairs of cache and slot, are enumerated."""

CLOSING_SHARE = 0.9
CLOSING_TIMES = 3.0
"""The interval is left as it is, and the allocation worked out and checked, after this share of the time, or when so
many times what the transfers took are left: both grow with the number of slots."""

TRANSFERS_SHARE = 0.3
"""At most this share of the time goes to the transfers; what is left of them then is done in a hurry."""

CHECKING_TIMES = 0.5
"""The check of the solution takes about so many times what the transfers took; it is left to it."""

RELAXED_SHARE = 0.3
"""At most this share of the time goes to the linear relaxation."""

BYTES_A_REQUEST, BYTES_AT_ONCE = 75.0, 150.0
"""Memory of a place for a request (frames x slots x users) in the episode's arrays, a solution and its check; and of
one in the slots whose duals are computed together. Measured; a search takes more."""

PRICE_ROUNDS = 40
ROUNDING = 1e-12
"""Share of the bound that is taken off for the rounding of sums."""


CLOSE = 1e-9
"""Relative difference below which two bounds are the same one, and SCIP's is named."""


class Work:
    """One solve: the episode's arrays, its transfers, and reports in the instance's own scale.

    Raises
    ------
    InputError
        If the arrays do not fit into memory, or the objective would overflow.

    """

    def __init__(self, task: Task):
        self.task, self.control = task, task.control
        began = self.control.elapsed_s
        places, users = task.instance.requests.model.size, task.instance.requests.model.shape[2]
        needed = BYTES_A_REQUEST * places + BYTES_AT_ONCE * min(places, ROWS_AT_ONCE * users)
        require_memory(task.instance.name, f"{places:,} places for requests", needed)
        self.episode = Episode.of(task.instance)
        self.frames = Frames(self.episode)
        self.every = np.arange(self.episode.frames)
        self.transfers = Transfers.of(self.episode, self.control.part(TRANSFERS_SHARE))
        left, took_s = self.control.remaining_s, self.control.elapsed_s - began
        self.checking_s = CHECKING_TIMES * took_s
        reserve = CLOSING_TIMES * took_s
        self.closing = self.control.part(CLOSING_SHARE, max(0.0, left - reserve))
        self.aim = task.gap * (1 - 1e-3)  # what is asked for, less what rounding could add

    @property
    def slot_relative(self) -> float:
        """Relative gap of slots that goes unseen in the gap asked for."""
        return 0.1 * self.aim if self.aim < 1e-4 else 2e-4

    def report(self, event: str, upper: float | None = None, lower: float | None = None) -> None:
        """Report an interval that is in the sum scale, without transfers."""
        scale = self.episode.scale
        objective = None if upper is None or not np.isfinite(upper) else scale * (upper + self.transfers.cost)
        self.control.report(event, objective, None if lower is None else self.bound_of(lower))

    def bound_of(self, lower: float) -> float | None:
        """Return a lower bound of the objective from one in the sum scale without transfers."""
        if not np.isfinite(lower):
            return None
        total = self.episode.scale * (lower + self.transfers.lower)
        return total - ROUNDING * abs(total)

    def first_bound(self) -> float:
        """Bound at prices of 0: steps as many as anybody likes, the best cache for each frame."""
        e = self.episode
        cuts = self.frames.cuts(self.every, np.zeros((e.frames, e.slots)))
        _, least = least_caches(cuts.grad, Fixings.none(self.frames, e.frames), e, whole=True)
        lower = float((cuts.const + least).sum())
        self.report("bound: steps for everybody", lower=lower)
        return lower

    def solution(self, caches: np.ndarray) -> TwoTimescaleSolution:
        """Allocate to caches (T, M) what is best, or what there is time for."""
        e, parts = self.episode, []
        until = self.control.part(1.0, max(0.0, self.control.remaining_s - self.checking_s))
        for i in range(0, e.frames, self.frames.batch):
            of = self.every[i : i + self.frames.batch]
            roots = until.stop is None  # else the least that must be given
            within = until.part(len(of) / (e.frames - i))
            parts.append(self.frames.allocate(of, caches[of], 0.1 * self.aim, within, roots=roots))
        shape = (e.frames, e.slots, e.users)
        at_edge = np.concatenate([part.at_edge for part in parts])
        steps = np.concatenate([part.steps for part in parts])
        return TwoTimescaleSolution(
            cached=caches.astype(np.int64),
            at_edge=at_edge.astype(np.int64).reshape(shape),
            steps=np.where(at_edge, steps, 0.0).reshape(shape),
            uplink_share=self.transfers.uplink.share.reshape(shape),
            downlink_share=self.transfers.downlink.share.reshape(shape),
        )

    def unsearched(self, lower: float) -> Found:
        """Return popular caches where there is no time to look for better ones."""
        self.report("no time to look for caches")
        return self.found(heuristics.popular(self.frames, self.task.seed), lower, Proof.DUAL)

    def found(self, caches: np.ndarray, lower: float | None, proof: Proof) -> Found:
        """Return caches with their allocation, and a bound in the sum scale."""
        solution = self.solution(caches)
        bound = None if lower is None else self.bound_of(lower)
        return Found(solution, bound, Proof.NONE if bound is None else proof, self.limit(solution, bound))

    def limit(self, solution: TwoTimescaleSolution, bound: float | None) -> Limit | None:
        """Return what cut a stage short, unless the interval is as narrow as was asked for all the same."""
        if self.control.cut is None:
            return None
        gap = gap_of(self.task.check(solution).objective, bound)
        return None if gap is not None and gap <= self.task.gap else self.control.cut


# -------------------------------------------------------------------------------------------------------- bounds


def lagrangian_bound(work: Work, relaxation: bool = True) -> tuple[float, Priced]:
    """Bound by prices on steps and, where switching costs, on switches; sum scale, without transfers.

    With the linear relaxation's prices the bound is best; a list of caches closes what they would, for less.
    """
    frames, every, control = work.frames, work.every, work.closing
    linear, paid = None, 0.0
    relaxed: Relaxation | None
    if work.episode.switches:
        relaxed = relax(frames, control.part(RELAXED_SHARE))
        linear, paid = switch_terms(relaxed.switch_prices, work.episode.initial)
        start = relaxed.average
    else:
        relaxed = relax_apart(frames, control.part(RELAXED_SHARE)) if relaxation else None
        start = with_room_for_steps(frames, popular_caches(work.episode)).astype(float)
    rounds = int(np.clip(PRICE_ROUNDS * (1e-3 / max(work.aim, 1e-12)) ** 0.25, 20, 80))
    priced = price_steps(frames, every, start, rounds, control, linear)
    if relaxed is not None:
        try_prices(frames, every, priced, relaxed.step_prices, linear)
    return float(priced.lower.sum()) - paid, priced


def bound(task: Task) -> Found:
    """Only a lower bound: prices on steps and switches, exact knapsacks, evaluated here."""
    work = Work(task)
    lower = work.first_bound()
    if work.control.stop is None:
        lower = max(lower, lagrangian_bound(work)[0])
        work.report("bound: prices", lower=lower)
    return Found(None, work.bound_of(lower), Proof.DUAL, work.control.cut)


def _bound_beside(work: Work, caches: np.ndarray) -> Found:
    """Return caches with a Lagrangian bound, unless none is wanted."""
    if not work.task.bound:
        return work.found(caches, None, Proof.NONE)
    lower = work.first_bound()
    if work.closing.stop is None:
        lower = max(lower, lagrangian_bound(work)[0])
        work.report("bound: prices", lower=lower)
    return work.found(caches, lower, Proof.DUAL)


# ------------------------------------------------------------------------------------------------------- methods


def decomposition(task: Task) -> Found:
    """Prove the optimum in the way that fits the size; the trace says which.

    Few feasible caches: all of them are covered (`enumeration`), with dynamic programming where switching costs. Else,
    without switching costs, prices on steps, then all caches that those cannot exclude are listed (`listing`), then
    branch and bound; with them, Benders' prices on switches (`switching`).
    """
    work = Work(task)
    e = work.episode
    first = work.first_bound()
    if work.closing.stop is not None:
        return work.unsearched(first)
    caches = feasible_caches(e, ENUMERATED_CACHES)
    if caches is not None and len(caches) * e.frames * e.slots <= ENUMERATED_SLOTS:
        event = f"enumeration: {len(caches)} caches fit"
        work.report(event)
        found = enumerate_caches(
            work.frames, caches, 0.5 * work.aim, work.closing, work.transfers.cost,
            lambda upper, lower: work.report(event, upper, lower),
        )  # fmt: skip
        if found is None:
            return work.unsearched(first)
        return work.found(found.chosen, max(first, found.lower), Proof.ENUMERATION)
    if e.switches:
        work.report("switching: too many caches to enumerate")
        found = solve_with_switching(work.frames, work.aim, work.transfers.cost, work.closing, work.report)
    else:
        work.report("listing: too many caches to enumerate")
        found = _solve_frames(work)
    return work.found(found.chosen, max(first, found.lower), Proof.DUAL)


def _solve_frames(work: Work) -> Caches:
    """Solve frames that do not depend on each other: prices, local search, listing, branch and bound."""
    frames, control = work.frames, work.closing
    lower, priced = lagrangian_bound(work, relaxation=work.episode.models > MODELS_AT_MOST)
    start = _best_met(work, priced)
    start = local_search(frames, work.every, start, control)
    upper, _ = frames.exact(work.every, start, work.slot_relative, control)
    interval = Interval(np.minimum(priced.lower, upper), upper, start)
    work.report("prices and local search", upper.sum(), lower)

    def report(event: str) -> None:
        work.report(event, interval.upper.sum(), interval.lower.sum())

    target = 0.95 * work.aim * abs(upper.sum() + work.transfers.cost)
    if interval.width > target and control.stop is None:
        relative = 0.88 * work.aim
        close_frames(frames, interval, priced.prices, target, relative, work.slot_relative, control, report=report)
        branch_frames(frames, interval, priced.average, target, relative, work.slot_relative, control, report)
    report("interval of every frame")
    return Caches(interval.caches, float(interval.upper.sum()), float(interval.lower.sum()))


def _best_met(work: Work, priced: Priced) -> np.ndarray:
    """Of the popular caches, the last ones that the prices met, and none at all: of each frame the best."""
    starts = [
        with_room_for_steps(work.frames, popular_caches(work.episode)),
        np.zeros((work.episode.frames, work.episode.models), bool),
    ]
    starts += [caches for of, caches in priced.met[-4:] if len(of) == work.episode.frames]
    value = np.full((len(starts), work.episode.frames), np.inf)
    value[0] = -np.inf  # where nothing is valued
    for k, caches in enumerate(starts):
        if work.closing.stop is not None:
            break
        value[k] = work.frames.value(work.every, caches)
    return np.array([starts[k][t] for t, k in enumerate(value.argmin(axis=0))])


def lagrangian(task: Task) -> Found:
    """Prices on steps and on switches alone: their bound, and the best caches that they meet, searched nearby."""
    work = Work(task)
    first = work.first_bound()
    if work.closing.stop is not None:
        return work.unsearched(first)
    lower, priced = lagrangian_bound(work)
    lower = max(lower, first)
    work.report("bound: prices", lower=lower)
    pool = Pool(work.frames)
    pool.meet(priced.met[-12:], work.closing)
    return work.found(pool.improve(work.closing), lower, Proof.DUAL)


def alternating(task: Task) -> Found:
    """Caches and allocation in turn, each with the other fixed, until neither improves; with a bound beside it.

    From the popular caches, and from none at all; the better end.
    """
    work = Work(task)
    starts = {"popular": heuristics.popular(work.frames, task.seed), "none": heuristics.cloud_only(work.frames, 0)}
    ends: list[Alternation[Planned]] = []
    for name, start in starts.items():
        if not ends or work.closing.stop is None:
            ends.append(alternate_caches(work.frames, start, work.closing))
            for number, (block, cost) in enumerate(ends[-1].trace):
                work.report(f"alternating from {name}: {block} {number or ''}".rstrip(), cost)
    return _bound_beside(work, min(ends, key=lambda end: end.cost).point.caches)


def benders(task: Task) -> Found:
    """Benders' decomposition: a master in HiGHS over caches and switches, cuts from the prices of all slots.

    HiGHS keeps rows to 1e-7 and cuts give way by 1e-9, whatever costs are, so that they are in a unit of their own.
    """
    work = Work(task)
    first = work.first_bound()
    if work.closing.stop is not None:
        return work.unsearched(first)
    unit = work.episode.unit
    found = solve_caches(
        Frames(work.episode.in_unit(unit)), work.aim, work.transfers.cost / unit, work.closing,
        lambda event, upper, lower: work.report(event, unit * upper, unit * lower),
    )  # fmt: skip
    lower = unit * found.lower
    return work.found(found.chosen, max(first, lower), Proof.SOLVER if lower > first else Proof.DUAL)


def exact(task: Task) -> Found:
    """Solve by one solver: SCIP on the Pyomo model, with the transfers as constants (`monolith`); or as `benders`.

    Of SCIP's point only the caches are taken; what they cost is computed again, exactly. The transfers' proven bound
    takes the place of their constant in SCIP's bound. SCIP has no bound before its first relaxation is solved: one that
    is stopped earlier, or with a weaker one, has the bound at prices of 0 (`Work.first_bound`), and its proof.
    """
    if task.solver == "highs":
        return benders(task)
    require_scip()
    work = Work(task)
    e = work.episode
    rounding = e.scale * (work.transfers.cost - work.transfers.lower)

    def lowered(bound: float) -> float:
        return bound - rounding - ROUNDING * abs(bound)

    def news(outcome: ScipOutcome) -> None:
        work.control.report("SCIP", lower_bound=None if outcome.bound is None else lowered(outcome.bound))

    first = work.bound_of(work.first_bound())
    outcome = solve_with_scip(task.instance, 0.5 * task.gap, work.closing, task.seed, news)
    bound = None if outcome.bound is None else lowered(outcome.bound)
    proof = Proof.NONE if bound is None else Proof.SOLVER
    if first is not None and (bound is None or first > bound + CLOSE * abs(bound)):
        bound, proof = first, Proof.DUAL
    if outcome.values is None:
        return Found(None, bound, proof, outcome.limit)
    caches = np.zeros((e.frames, e.models), bool)
    models = {model.name: m for m, model in enumerate(task.instance.models)}
    for (name, index), value in outcome.values.items():
        if name == "cached" and index[0] > 0:
            caches[index[0] - 1, models[index[1]]] = value > 0.5
    solution = work.solution(with_room_for_steps(work.frames, caches))
    return Found(solution, bound, proof, work.limit(solution, bound))


def heuristic(choose: Callable[[Frames, int], np.ndarray]) -> Callable[[Task], Found]:
    """Make a method of a function that chooses caches: allocate exactly, then bound unless told not to."""

    def method(task: Task) -> Found:
        work = Work(task)
        caches = choose(work.frames, task.seed)
        value, _ = work.frames.exact(work.every, caches, work.slot_relative, work.closing)
        work.report("caches chosen", float(value.sum()) + switching_cost(work.episode, caches))
        return _bound_beside(work, caches)

    method.__doc__ = choose.__doc__
    return method


METHODS: dict[str, Callable[[Task], Found]] = {
    "decomposition": decomposition,
    "benders": benders,
    "lagrangian": lagrangian,
    "alternating": alternating,
    "exact": exact,
    "popular": heuristic(heuristics.popular),
    "static": heuristic(heuristics.static),
    "random": heuristic(heuristics.random),
    "cloud-only": heuristic(heuristics.cloud_only),
}
