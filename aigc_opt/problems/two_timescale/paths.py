"""Cheapest sequences of caches, one a frame, through lists of them: dynamic programming, with all the others as a rest.

With any prices 0 <= mu <= switch a sequence costs ::

    sum_t [V_t(x_t) + (mu_t - mu_(t+1)) x_t] - mu_1 x_0 + sum_t excess_t(x_(t-1), x_t)
    excess_t(x, y) = switch max(0, y - x) - mu_t (y - x) >= 0

A frame's *rest* is one more node that stands for every cache that is not listed: its value is a lower bound of all of
theirs, and it is entered and left without excess. So the cheapest path through nodes and rests, with lower bounds as
the nodes' values, is a lower bound over all sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.two_timescale.enumeration import Caches
from aigc_opt.problems.two_timescale.episode import Episode
from aigc_opt.problems.two_timescale.frames import Frames
from aigc_opt.problems.two_timescale.listing import KEPT_AT_MOST, list_frame
from aigc_opt.problems.two_timescale.prices import Priced
from aigc_opt.problems.two_timescale.search import local_search
from aigc_opt.problems.two_timescale.tables import Polygons

REST = -1
"""Stands for the rest of a frame in a path."""

NODES_PER_FRAME = 200
BEYOND = 3e-3
"""The cutoffs of all frames sum to this much (relative) more than the best known cost."""

WIDENINGS = 8
"""So often cutoffs and lists grow, threefold, where a cheapest path still runs through rests."""

OTHERS_PER_FRAME = 4
"""Beside the cheapest path, in each round so many nodes of a frame that could be on a better one are solved."""


@dataclass(eq=False)
class Nodes:
    """Caches of each of T frames, and what stands for the others.

    Attributes
    ----------
    caches : list of ndarray of bool, shape (n_t, M)
    value : list of ndarray, shape (n_t,)
        Costs, or lower bounds of them, linear terms of the prices included.
    rest : ndarray, shape (T,)
        Lower bounds of what other caches cost; inf where there are none.

    """

    caches: list[np.ndarray]
    value: list[np.ndarray]
    rest: np.ndarray


def best_paths(
    episode: Episode, nodes: Nodes, prices: np.ndarray | None = None
) -> tuple[np.ndarray, float, list[np.ndarray]]:
    """Find the cheapest path through nodes and rests, and the cheapest through each node.

    Parameters
    ----------
    prices : ndarray, shape (T, M), optional
        Of switches, between 0 and what they cost; 0 without them.

    Returns
    -------
    path : ndarray of int, shape (T,)
        Index of each frame's node, `REST` for the rest.
    total : float
        Of nodes and excess, without ``- mu_1 x_0``.
    through : list of ndarray, shape (n_t,)

    """
    e, frames = episode, len(nodes.caches)
    prices = np.zeros((frames, e.models)) if prices is None else prices

    def excess(t: int) -> np.ndarray:
        before = e.initial[None] if t == 0 else nodes.caches[t - 1]
        up, down = e.switch - prices[t], prices[t]
        old, new = before.astype(float), nodes.caches[t].astype(float)
        return np.maximum((new @ up) + (old @ down)[:, None] - (old * (up + down)) @ new.T, 0.0)

    # Of each frame: costs of the cheapest way to each node and, last, to the rest; and where that comes from.
    ways, come = [], []
    cost = np.array([0.0, np.inf])  # the initial cache, and no rest
    for t in range(frames):
        way = cost[:-1, None] + excess(t)
        back = way.argmin(axis=0) if len(way) else np.zeros(len(nodes.caches[t]), int)
        into = way.min(axis=0, initial=np.inf)
        back, into = np.where(cost[-1] < into, REST, back), np.minimum(into, cost[-1])
        cheapest = int(cost.argmin())
        come.append(np.r_[back, REST if cheapest == len(cost) - 1 else cheapest])
        cost = np.r_[into + nodes.value[t], cost.min() + nodes.rest[t]]
        ways.append(cost)
    path = np.empty(frames, int)
    end = int(ways[-1].argmin())
    for t in range(frames - 1, -1, -1):
        path[t] = REST if end in (REST, len(ways[t]) - 1) else end
        end = int(come[t][path[t]])
    ahead = np.zeros(len(ways[-1]))
    through = [ways[-1][:-1]]
    for t in range(frames - 2, -1, -1):
        beyond = ahead + np.r_[nodes.value[t + 1], nodes.rest[t + 1]]
        on = (excess(t + 1) + beyond[None, :-1]).min(axis=1, initial=np.inf)
        ahead = np.r_[np.minimum(on, beyond[-1]), beyond.min()]
        through.append(ways[t][:-1] + ahead[:-1])
    return path, float(ways[-1].min()), through[::-1]


class _Known:
    """The listed caches of each frame: lower bounds of their costs, and what the solved ones cost."""

    def __init__(self, frames: Frames, linear: np.ndarray, slot_relative: float):
        number, models = frames.episode.frames, frames.episode.models
        self.frames, self.linear, self.slot_relative = frames, linear, slot_relative
        self.caches = [np.zeros((0, models), bool) for _ in range(number)]
        self.lower, self.upper = ([np.zeros(0) for _ in range(number)] for _ in range(2))
        self.solved = 0

    def add(self, t: int, caches: np.ndarray, lower: np.ndarray) -> None:
        """Add caches (n, M) of frame t with lower bounds (n,); of those that are known only the bounds rise."""
        place = {cache.tobytes(): k for k, cache in enumerate(self.caches[t])}
        at = np.array([place.get(cache.tobytes(), -1) for cache in caches], int)
        new = at < 0
        self.lower[t][at[~new]] = np.maximum(self.lower[t][at[~new]], lower[~new])
        self.caches[t] = np.concatenate([self.caches[t], caches[new]])
        self.lower[t] = np.concatenate([self.lower[t], lower[new]])
        self.upper[t] = np.concatenate([self.upper[t], np.full(int(new.sum()), np.inf)])

    def solve(self, of: list[int], which: list[int], control: Control) -> None:
        """Solve some caches exactly: a place in the list of each of the frames."""
        at, caches = np.array(of), np.array([self.caches[t][k] for t, k in zip(of, which, strict=True)])
        extra = (self.linear[at] * caches).sum(axis=1)
        upper, lower = self.frames.exact(at, caches, self.slot_relative, control)
        for t, k, high, low in zip(of, which, upper + extra, lower + extra, strict=True):
            self.upper[t][k], self.lower[t][k] = high, max(low, self.lower[t][k])
            self.solved += 1

    def bounds(self, rest: np.ndarray) -> Nodes:
        """Return all caches at their lower bounds."""
        return Nodes(self.caches, self.lower, rest)

    def points(self) -> Nodes:
        """Return the solved caches at what they cost."""
        ok = [np.isfinite(upper) for upper in self.upper]
        caches = [own[kept] for own, kept in zip(self.caches, ok, strict=True)]
        return Nodes(caches, [own[kept] for own, kept in zip(self.upper, ok, strict=True)], np.full(len(ok), np.inf))

    def worth_solving(
        self, path: np.ndarray, through: list[np.ndarray], limit: float, others: int
    ) -> tuple[list[int], list[int]]:
        """Return frames and places: on the path, and those through which a path could cost less than the limit."""
        of, which = [], []
        for t, on in enumerate(path.tolist()):
            value = np.where(np.isfinite(self.upper[t]) | np.isinf(self.lower[t]), np.inf, through[t])
            near = np.argsort(value, kind="stable")[:others].tolist()
            if on != REST and np.isfinite(value[on]):
                near = [on, *(k for k in near if k != on)]
            near = [k for k in near if value[k] < limit]
            of += [t] * len(near)
            which += near
        return of, which


def close_paths(
    frames: Frames,
    prices: np.ndarray,
    priced: Priced,
    start: Caches,
    gap: float,
    offset: float,
    control: Control,
    report: Callable[[str, float, float], None],
) -> Caches:
    """Narrow the interval over sequences of caches by dynamic programming over lists of them.

    Listed in each frame are the caches that, with the prices of switches, cost less than a cutoff by their slots'
    duals; the cutoffs sum to more than the best known cost, so that few cheapest paths run through a rest. Caches on
    the cheapest path, and those through which a path could be better than the best one, are solved exactly, and the
    path is looked for again. Where nothing is left to solve but rests on it, these frames' lists grow.

    Parameters
    ----------
    prices : ndarray, shape (T, M)
        Of switches, between 0 and what they cost.
    priced : Priced
        Bounds of the frames' own problems at these prices, over all caches.
    start : Caches
    gap : float
        Relative to the cost with `offset` (the transfers).
    report : callable
        Called with a few words, and upper and lower value.

    """
    e, every = frames.episode, np.arange(frames.episode.frames)
    slot_relative = 0.1 * gap if gap < 1e-4 else 2e-4
    linear = prices - np.concatenate([prices[1:], np.zeros((1, e.models))])
    paid = float(prices[0] @ e.initial)
    upper, lower, chosen = start.upper, start.lower, start.chosen
    known = _Known(frames, linear, slot_relative)
    own = local_search(frames, every, chosen, control, linear)
    for caches in (own, chosen):
        for t in every.tolist():
            known.add(t, caches[t : t + 1], priced.lower[t : t + 1])
    both = [(t, k) for t in every.tolist() for k in range(len(known.caches[t]))]
    known.solve([t for t, _ in both], [k for _, k in both], control)
    own_value = np.array([value[0] for value in known.upper])
    polygons, rest = Polygons(e), priced.lower.copy()
    reach = max(0.0, upper - (own_value.sum() - paid)) + BEYOND * abs(upper + offset)
    beyond, kept, wide = np.full(e.frames, reach / e.frames), NODES_PER_FRAME, every
    for widening in range(WIDENINGS):
        before = rest.copy()
        for t in wide.tolist():
            found = list_frame(
                frames,
                polygons,
                t,
                priced.prices[t],
                own_value[t] + beyond[t],
                control,
                linear[t],
                kept,
                whole=True,
            )
            if found is not None:
                known.add(t, found.caches, found.value)
                rest[t] = max(rest[t], found.rest)
            if t % 10 == 9:
                report(f"caches listed in {t + 1} frames", upper, lower)
        if widening and not (rest > before).any():
            break
        others = 0
        while True:
            path, total, through = best_paths(e, known.bounds(rest), prices)
            points = known.points()
            better, cost, _ = best_paths(e, points, prices)
            if cost - paid < upper:
                upper = cost - paid
                chosen = np.array([caches[k] for caches, k in zip(points.caches, better.tolist(), strict=True)])
            lower = max(lower, min(total - paid, upper))
            report(f"dynamic programming: {known.solved} caches solved", upper, lower)
            if upper - lower <= 0.95 * gap * abs(upper + offset) or control.stop is not None:
                return Caches(chosen, upper, lower)
            of, which = known.worth_solving(path, through, upper + paid, others)
            held = (path == REST).any() and widening < WIDENINGS - 1  # only longer lists raise the bound
            if not of or (held and not known.worth_solving(path, through, upper + paid, 0)[0]):
                break
            known.solve(of, which, control)
            others = OTHERS_PER_FRAME
        wide = every[path == REST]
        if not len(wide):
            break
        beyond[wide] *= 3.0
        kept = min(3 * kept, KEPT_AT_MOST)
    return Caches(chosen, upper, lower)
