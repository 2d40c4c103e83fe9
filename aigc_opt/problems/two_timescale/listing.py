"""Exact minima over ALL caches of a frame: caches that a cut cannot exclude are listed, and valued with slot tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.two_timescale.fitting import fit_splits
from aigc_opt.problems.two_timescale.frames import Frames
from aigc_opt.problems.two_timescale.tables import MODELS_AT_MOST, Codes, Polygons, SlotTable, bits

LISTED_AT_MOST = 3_000_000
CUT_FROM = 500
WORTH_CUTTING, IDLE_CUTS = 0.95, 2
"""More caches than that are cut by one cut after another, until two on end leave more than this share of them."""

KEPT_AT_MOST = 20_000
FITS = 3
"""So often splits are fitted to a frame's caches, each time after a better one has been looked for."""

SOLVED_PER_TURN = 8
"""Caches of one frame that are solved exactly before its bound is looked at again."""


@dataclass(eq=False)
class Listed:
    """The caches of a frame that may cost less than a cutoff.

    Attributes
    ----------
    caches : ndarray of bool, shape (n, M)
    value : ndarray, shape (n,)
        A lower bound of each one's cost, linear terms included; rises to the exact value when it is solved.
    rest : float
        No other feasible cache costs less (or, where hits may go to the cloud, one of these costs no more).
    listed : int
        How many had to be listed.
    solved : ndarray of bool, shape (n,)

    """

    caches: np.ndarray
    value: np.ndarray
    rest: float
    listed: int
    solved: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.solved = np.zeros(len(self.value), bool)

    @property
    def lower(self) -> float:
        """Lower bound over all caches of the frame."""
        return min(self.rest, float(self.value.min(initial=np.inf)))


def caches_below(
    cost: np.ndarray, size: np.ndarray, capacity: float, level: float, useful: np.ndarray, control: Control
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """List all caches of useful models with ``cost @ x <= level`` that fit, breadth first.

    Partial caches over the models in the order of cost per size are dropped when even the best fractional completion
    (Dantzig's, a piecewise linear function of the room that is left) stays above the level.

    Returns
    -------
    code : ndarray of int64, shape (n,)
        Bit m for model m.
    cost, room : ndarray, shape (n,)
        Cost of each, and room left.

    None where there would be more than `LISTED_AT_MOST` at any stage, or `control` said stop.

    """
    order = [i for i in np.argsort(cost / size, kind="stable").tolist() if useful[i] and size[i] <= capacity]
    code, room, value = np.zeros(1, np.int64), np.full(1, float(capacity)), np.zeros(1)
    reward, sizes = np.maximum(-cost[order], 0.0), size[order]
    for k, i in enumerate(order):
        fit = room >= size[i]
        code = np.concatenate([code, code[fit] | np.int64(1 << i)])
        value = np.concatenate([value, value[fit] + cost[i]])
        room = np.concatenate([room, room[fit] - size[i]])
        sizes_left = np.concatenate([[0.0], np.cumsum(sizes[k + 1 :])])
        rewards_left = np.concatenate([[0.0], np.cumsum(reward[k + 1 :])])
        ok = value - np.interp(room, sizes_left, rewards_left) <= level
        code, room, value = code[ok], room[ok], value[ok]
        if len(code) > LISTED_AT_MOST or control.stop is not None:
            return None
    return code, value, room


def list_frame(
    frames: Frames,
    polygons: Polygons,
    t: int,
    prices: np.ndarray,
    cutoff: float,
    control: Control,
    linear: np.ndarray,
    kept: int = KEPT_AT_MOST,
    whole: bool = False,
) -> Listed | None:
    """List all caches of frame t whose Phi, plus linear terms, is below the cutoff.

    1. Those that the cut at `prices` cannot exclude are listed; what further cuts exclude is dropped, each made for the
       cache that is cheapest by the cuts so far.
    2. Slot by slot, what the slot's dual exceeds the slot's own cut by is added: never negative, because the cut is
       below it. A cache that reaches the cutoff is dropped.

    Parameters
    ----------
    prices : ndarray, shape (K,)
    linear : ndarray, shape (M,)
    kept : int
        At most so many are returned, the cheapest.
    whole : bool
        Whether caches count that cost no less than another one does, with a model more or less: what is cached here
        may matter elsewhere.

    Returns
    -------
    Listed or None
        None where too many would have to be listed, or `control` said stop.

    """
    e = frames.episode
    at = np.array([t])
    rows = frames.rows(at)
    const, grad = frames.slot_cuts(at, prices[None])
    asked = frames.asked[rows]
    wanted = np.bincount(frames.wanted[rows][asked], minlength=e.models) > 0
    useful = wanted | (linear < 0) | whole  # any other model changes nothing, or costs
    found = caches_below(grad.sum(axis=0) + linear, e.size_gb, e.storage_gb, cutoff - const.sum(), useful, control)
    if found is None:
        return None
    code, value, room = found
    value = value + const.sum()
    codes = Codes(code, e.models)
    if frames.free_hits and (linear == 0).all() and not whole:
        # A larger cache never costs more: only those with no room for one more.
        full = np.ones(len(codes), bool)
        for m in np.flatnonzero(useful & frames.fits).tolist():
            full &= codes.has(m) | (room < e.size_gb[m])
        codes, value = codes.take(full), value[full]
    listed = len(codes)
    highest, idle = value, 0
    while len(codes) > CUT_FROM and idle < IDLE_CUTS:
        cheapest = codes.take(highest.argmin(keepdims=True)).unpacked()
        _, _, cuts = frames.dual(at, cheapest.astype(float))
        highest = np.maximum(highest, codes.weighed(cuts.grad[0] + linear) + cuts.const[0])
        ok, number = highest < cutoff, len(codes)
        codes, value, highest = codes.take(ok), value[ok], highest[ok]
        idle = idle + 1 if len(codes) > WORTH_CUTTING * number else 0
    order = np.argsort(-asked.sum(axis=1), kind="stable").tolist()  # the slots that say most first
    for i, k in enumerate(order):
        if control.stop is not None:
            return None
        if asked[k].any() and len(codes):
            table = SlotTable(e, polygons, int(rows[k]))
            number = len(table.models)
            index = codes.restricted(table.models)
            if (1 << number) <= 2 * len(codes):
                subsets = bits(np.arange(1 << number), number)
            else:
                different, index = np.unique(index, return_inverse=True)
                subsets = bits(different, number)
            excess = np.maximum(table.values(subsets) - const[k] - subsets @ grad[k][table.models], 0.0)
            value = value + excess.take(index.ravel())
        if i % 3 == 2 or i == len(order) - 1:
            ok = value < cutoff
            codes, value = codes.take(ok), value[ok]
    best = np.argsort(value, kind="stable")
    rest = cutoff if len(best) <= kept else min(cutoff, float(value[best[kept]]))
    best = best[:kept]
    return Listed(codes.take(best).unpacked(), value[best], rest, listed)


@dataclass(eq=False)
class Interval:
    """Costs of T frames, with linear terms: improved in place.

    Attributes
    ----------
    lower, upper : ndarray, shape (T,)
        Proven lower bounds over all caches; costs of `caches`.
    caches : ndarray of bool, shape (T, M)

    """

    lower: np.ndarray
    upper: np.ndarray
    caches: np.ndarray

    @property
    def width(self) -> float:
        """Sum of all gaps."""
        return float((self.upper - self.lower).sum())


def close_frames(
    frames: Frames,
    interval: Interval,
    prices: np.ndarray,
    target: float,
    relative: float,
    slot_relative: float,
    control: Control,
    linear: np.ndarray | None = None,
    report: Callable[[str], None] = lambda event: None,
) -> dict[int, Listed]:
    """Narrow the interval of every frame, over all caches, until their widths sum to `target`.

    First the caches of each frame that may be better than its best one by `relative` are listed, the widest frames
    first. Then listed caches are solved exactly, many frames at a time: a frame's bound is the least of what
    is exact, what is bounded, and the cutoff.

    Parameters
    ----------
    prices : ndarray, shape (T, K)
        Prices of steps, whose cuts the listing begins with.
    linear : ndarray, shape (T, M), optional
        Further cost of each model in the cache.
    report : callable
        Called with a few words after each stage.

    Returns
    -------
    dict of Listed
        Of the frames that were listed.

    """
    e = frames.episode
    lists: dict[int, Listed] = {}
    if e.models > MODELS_AT_MOST:
        return lists
    polygons = Polygons(e)
    linear = np.zeros((e.frames, e.models)) if linear is None else linear

    def cutoff(t: int) -> float:
        return interval.upper[t] - max(relative, 1e-9) * abs(interval.upper[t])

    def settle(t: int) -> None:
        interval.lower[t] = max(interval.lower[t], min(lists[t].lower, interval.upper[t]))

    def widest(which: Iterable[int]) -> list[int]:
        return sorted(which, key=lambda t: interval.lower[t] - interval.upper[t])

    def solve(most: int, which: list[int]) -> bool:
        """Solve some listed caches of the widest frames exactly, the cheapest; return whether there were any."""
        of, places = [], []
        for t in widest(which):
            waiting = np.flatnonzero(~lists[t].solved & (lists[t].value < cutoff(t)))
            waiting = waiting[np.argsort(lists[t].value[waiting], kind="stable")][:most].tolist()
            of += [t] * len(waiting)
            places += waiting
            if len(of) >= 2 * frames.batch:
                break
        if not of:
            return False
        at = np.array(of)
        caches = np.array([lists[t].caches[k] for t, k in zip(of, places, strict=True)])
        extra = (linear[at] * caches).sum(axis=1)
        enough = np.array([cutoff(t) for t in of]) - extra
        upper, lower = frames.exact(at, caches, slot_relative, control, enough)
        for t, k, cache, up, low in zip(of, places, caches, upper + extra, lower + extra, strict=True):
            lists[t].value[k] = max(lists[t].value[k], low)
            lists[t].solved[k] = True
            if up < interval.upper[t]:
                interval.upper[t], interval.caches[t] = up, cache
        for t in set(of):
            settle(t)
        report(f"{sum(int(found.solved.sum()) for found in lists.values())} listed caches solved")
        return True

    order = widest(range(e.frames))
    for i in range(0, e.frames, frames.batch):
        part = []
        for t in order[i : i + frames.batch]:
            if interval.width <= target or control.stop is not None:
                break
            found = list_frame(frames, polygons, t, prices[t], cutoff(t), control, linear[t])
            if found is not None:
                lists[t] = found
                part.append(t)
                settle(t)
                if len(lists) % 10 == 0:
                    report(f"caches listed in {len(lists)} frames")
        for _ in range(FITS):
            if not solve(1, part) or interval.width <= target or control.stop is not None:  # for better cutoffs, too
                break
            cutoffs = np.array([cutoff(t) for t in range(e.frames)])
            waiting = {t: int((~lists[t].solved & (lists[t].value < cutoffs[t])).sum()) for t in part}
            listed = {t: (lists[t].caches, lists[t].value) for t in part if waiting[t] > SOLVED_PER_TURN}
            if not listed:
                break
            for t, value in fit_splits(frames, listed, interval.caches, cutoffs, linear, control).items():
                lists[t].value = value
                settle(t)
            report(f"slots split in {len(lists)} frames")
    report(f"{sum(found.listed for found in lists.values())} caches listed")
    while interval.width > target and control.stop is None and solve(SOLVED_PER_TURN, list(lists)):
        pass
    return lists
