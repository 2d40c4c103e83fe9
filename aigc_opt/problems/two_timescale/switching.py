"""Frames coupled by the cost of switching, with more caches than can be enumerated.

For ANY prices mu with 0 <= mu <= switch ::

    sum_t switch max(0, x_t - x_(t-1)) >= sum_t mu_t (x_t - x_(t-1))

so with them the frames separate, each with the linear cost ``mu_t - mu_(t+1)`` of what it caches, and the sum of the
frames' minima less ``mu_1 x_0`` is a proven bound. Benders' relaxation only supplies mu; the bound is evaluated
here. Points come from dynamic programming over a pool of caches per frame, and local search in between. What is left
between the two, `close_paths` narrows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.two_timescale.enumeration import Caches
from aigc_opt.problems.two_timescale.frames import Frames, switching_cost
from aigc_opt.problems.two_timescale.paths import Nodes, best_paths, close_paths
from aigc_opt.problems.two_timescale.prices import price_steps, try_prices
from aigc_opt.problems.two_timescale.relaxation import relax
from aigc_opt.problems.two_timescale.search import local_search, popular_caches, with_room_for_steps
from aigc_opt.problems.two_timescale.tables import MODELS_AT_MOST

ITERATIONS = 30
"""Rounds of prices on steps."""


class Pool:
    """Caches of each frame with the duals of their slots as values."""

    def __init__(self, frames: Frames):
        self.frames = frames
        self._known: list[dict[bytes, tuple[np.ndarray, float]]] = [{} for _ in range(frames.episode.frames)]
        every = np.arange(frames.episode.frames)
        self.add(every, np.zeros((len(every), frames.episode.models), bool))

    def add(self, of: np.ndarray, caches: np.ndarray) -> None:
        """Add caches (n, M) that fit to frames (n,)."""
        e = self.frames.episode
        new_of, new = [], []
        for t, cache in zip(np.asarray(of).tolist(), caches, strict=True):
            key = cache.tobytes()
            if key not in self._known[t] and e.size_gb[cache].sum() <= e.storage_gb:
                self._known[t][key] = (cache.copy(), np.inf)
                new_of.append(t)
                new.append(cache)
        if not new:
            return
        value = self.frames.value(np.array(new_of), np.array(new))
        for t, cache, cost in zip(new_of, new, value.tolist(), strict=True):
            self._known[t][cache.tobytes()] = (cache.copy(), cost)

    def spread(self, of: np.ndarray, caches: np.ndarray) -> None:
        """Add caches to their frames and to the frames beside them."""
        for shift in (0, -1, 1):
            inside = (of + shift >= 0) & (of + shift < len(self._known))
            self.add(of[inside] + shift, caches[inside])

    def meet(self, met: Iterable[tuple[np.ndarray, np.ndarray]], control: Control) -> None:
        """Add popular caches; then, spread, these and those that were met, as long as there is time."""
        every = np.arange(self.frames.episode.frames)
        popular = with_room_for_steps(self.frames, popular_caches(self.frames.episode))
        self.add(every, popular)
        for of, caches in [(every, popular), *met]:
            if control.stop is not None:
                break
            self.spread(of, caches)

    def best(self) -> tuple[float, np.ndarray]:
        """Return the best path through the pool."""
        pools = [np.array([cache for cache, _ in known.values()]) for known in self._known]
        values = [np.array([value for _, value in known.values()]) for known in self._known]
        path, total, _ = best_paths(self.frames.episode, Nodes(pools, values, np.full(len(pools), np.inf)))
        return total, np.array([pool[k] for pool, k in zip(pools, path.tolist(), strict=True)])

    def improve(self, control: Control, rounds: int = 4) -> np.ndarray:
        """Take the best path, and search near it on odd and even frames in turn, given their neighbours."""
        e = self.frames.episode
        total, caches = self.best()
        for _ in range(rounds):
            if control.stop is not None:
                break
            for half in (0, 1):
                of = np.arange(half, e.frames, 2)
                if not len(of):
                    continue
                before = np.concatenate([e.initial[None], caches[:-1]])
                after = np.concatenate([caches[1:], np.zeros((1, e.models), bool)])
                linear = e.switch * (~before[of]) - e.switch * after[of]
                caches[of] = local_search(self.frames, of, caches[of], control, linear, rounds=6)
                self.spread(of, caches[of])
            before_total = total
            total, caches = self.best()
            if not total < before_total - 1e-6 * abs(before_total):
                break
        return caches


def solve_with_switching(
    frames: Frames,
    gap: float,
    offset: float,
    control: Control,
    report: Callable[[str, float, float], None] = lambda event, upper, lower: None,
) -> Caches:
    """Narrow the interval over caches that are coupled by switching.

    Parameters
    ----------
    gap : float
        Relative to the cost with `offset` (the transfers).
    report : callable
        Called with a few words, and upper and lower value, after each stage.

    """
    e = frames.episode
    every = np.arange(e.frames)
    slot_relative = 0.1 * gap if gap < 1e-4 else 2e-4
    relaxed = relax(frames, control.part(0.3))
    linear, paid = switch_terms(relaxed.switch_prices, e.initial)
    priced = price_steps(frames, every, relaxed.average, ITERATIONS, control, linear)
    try_prices(frames, every, priced, relaxed.step_prices, linear)
    lower = priced.lower.sum() - paid

    pool = Pool(frames)
    pool.meet([*priced.met[-12:], *((every, rounded) for rounded in relaxed.rounded[-4:])], control)
    best = pool.improve(control)
    value, _ = frames.exact(every, best, slot_relative, control)
    upper = value.sum() + switching_cost(e, best)
    report("prices of steps and switches", upper, lower)
    aim = 0.95 * gap * abs(upper + offset)
    if upper - lower <= aim or control.stop is not None or e.models > MODELS_AT_MOST:
        return Caches(best, upper, min(lower, upper))

    start = Caches(best, upper, min(lower, upper))
    return close_paths(frames, relaxed.switch_prices, priced, start, gap, offset, control, report)


def switch_terms(prices: np.ndarray, initial: np.ndarray) -> tuple[np.ndarray, float]:
    """Linear cost (T, M) of caches that prices (T, M) of switches leave to frames, and what the first cache saves."""
    return prices - np.concatenate([prices[1:], np.zeros((1, prices.shape[1]))]), float(prices[0] @ initial)
