"""Optimal caches where the feasible ones are few: every cache of every frame is covered, switching included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.two_timescale.episode import Episode
from aigc_opt.problems.two_timescale.frames import Frames, distinct
from aigc_opt.problems.two_timescale.slot_dual import slot_dual

CACHES_AT_ONCE = 256
OTHERS_PER_FRAME = 6
"""Beside the best path, in each round so many entries of a frame that could be on a better one are solved."""


@dataclass(frozen=True, eq=False)
class Caches:
    """Caches of all frames and what they cost, sum scale, switching included, without transfers.

    Attributes
    ----------
    chosen : ndarray of bool, shape (T, M)
    upper, lower : float
        Cost of the chosen caches as far as their slots were solved; proven lower bound over all caches.

    """

    chosen: np.ndarray
    upper: float
    lower: float


def feasible_caches(episode: Episode, limit: int) -> np.ndarray | None:
    """List all caches that fit, shape (S, M), bool; None where there are more than `limit`."""
    caches, used = np.zeros((1, 0), bool), np.zeros(1)
    for size in episode.size_gb:
        fit = used + size <= episode.storage_gb
        without = np.pad(caches, ((0, 0), (0, 1)))
        caches = np.concatenate([without, np.pad(caches[fit], ((0, 0), (0, 1)), constant_values=True)])
        used = np.concatenate([used, used[fit] + size])
        if len(caches) > limit:
            return None
    return caches


class Paths:
    """Best sequences of caches: dynamic programming over frames, or frame by frame where switching is free."""

    def __init__(self, episode: Episode, caches: np.ndarray):
        self.switches = episode.switches
        after = caches.astype(float)
        load = after @ episode.switch
        self.first = (caches & ~episode.initial) @ episode.switch
        self.go = load[None, :] - (after * episode.switch) @ after.T if self.switches else None

    def through(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Return the best total through each entry (T, S), the best path (T,), and its total."""
        frames = len(value)
        if self.go is None:
            least = value.min(axis=1)
            total = float(least.sum())
            return value + (total - least)[:, None], value.argmin(axis=1), total
        forward, back = np.empty(value.shape), np.zeros(value.shape, int)
        forward[0] = value[0] + self.first
        for t in range(1, frames):
            way = forward[t - 1][:, None] + self.go
            back[t] = way.argmin(axis=0)
            forward[t] = way.min(axis=0) + value[t]
        backward = np.zeros(value.shape)
        for t in range(frames - 2, -1, -1):
            backward[t] = (self.go + (value[t + 1] + backward[t + 1])[None, :]).min(axis=1)
        path = np.empty(frames, int)
        path[-1] = forward[-1].argmin()
        for t in range(frames - 1, 0, -1):
            path[t - 1] = back[t, path[t]]
        return forward + backward, path, float(forward[-1].min())

    def best(self, value: np.ndarray, number: int) -> list[tuple[float, np.ndarray]]:
        """Return the best paths (T,) with their totals, at most `number`, from values of entries (T, S); inf = none.

        Dynamic programming that keeps the best few paths to every entry: of the best paths through an entry no more
        than `number` of those that lead to it are needed.
        """
        entries = [np.flatnonzero(np.isfinite(row)) for row in value]
        first = self.first[entries[0]] if self.go is not None else 0.0
        totals = np.full((len(entries[0]), number), np.inf)
        totals[:, 0] = value[0, entries[0]] + first
        back: list[np.ndarray] = []
        for t in range(1, len(value)):
            before, here = entries[t - 1], entries[t]
            step = np.zeros((len(before), len(here))) if self.go is None else self.go[np.ix_(before, here)]
            ways = (totals[:, :, None] + step[:, None, :]).reshape(-1, len(here))
            kept = np.argsort(ways, axis=0, kind="stable")[:number]
            back.append(kept)
            totals = np.full((len(here), number), np.inf)
            totals[:, : len(kept)] = np.take_along_axis(ways, kept, axis=0).T + value[t, here][:, None]
        found = []
        for flat in np.argsort(totals, axis=None, kind="stable")[:number]:
            entry, rank = np.unravel_index(flat, totals.shape)
            if not np.isfinite(totals[entry, rank]):
                break
            total, path = float(totals[entry, rank]), [int(entries[-1][entry])]
            for t in range(len(value) - 2, -1, -1):
                entry, rank = divmod(int(back[t][rank, entry]), number)
                path.append(int(entries[t][entry]))
            found.append((total, np.array(path[::-1])))
        return found


def slot_bounds(frames: Frames, caches: np.ndarray, control: Control) -> np.ndarray | None:
    """Bound every cache in every frame by the duals of its slots, shape (T, S); inf where steps do not fit.

    None where `control` said stop first.
    """
    e = frames.episode
    bound = np.empty((e.frames, len(caches)))
    for t in range(e.frames):
        for i in range(0, len(caches), CACHES_AT_ONCE):
            if control.stop is not None:
                return None
            part = caches[i : i + CACHES_AT_ONCE]
            rows, weight = frames.weights(np.full(len(part), t), part)
            codes, first, again = distinct(rows, weight > 0.5)

            def solve(
                which: np.ndarray, first: np.ndarray = first, rows: np.ndarray = rows, weight: np.ndarray = weight
            ) -> tuple[tuple[np.ndarray], bool]:
                k = first[which]
                at = rows[k]
                found = slot_dual(e.curves, e.steps_per_slot, e.model[at], e.cloud[at], weight[k], frames.free[at])
                return (np.where(found.feasible, found.bound, np.inf),), True

            (value,) = frames.solved("duals", codes, solve)
            bound[t, i : i + CACHES_AT_ONCE] = value[again].reshape(-1, e.slots).sum(axis=1)
    return bound


def enumerate_caches(
    frames: Frames,
    caches: np.ndarray,
    gap: float,
    control: Control,
    offset: float = 0.0,
    report: Callable[[float, float], None] = lambda upper, lower: None,
) -> Caches | None:
    """Find the optimal caches of all frames among `caches`, which are all that are feasible.

    Every (frame, cache) has a lower bound, its slots' duals, which is replaced by its exact value where it matters:
    dynamic programming over the frames with the current values bounds the whole; entries on its best path, and those
    through which a path could be better than the best point, are solved exactly, until the best path is.

    Parameters
    ----------
    caches : ndarray of bool, shape (S, M)
    gap : float
        Relative to the cost with `offset` (the transfers).
    report : callable
        Called with upper and lower value after each round.

    Returns
    -------
    Caches or None
        None where `control` said stop before every cache had a bound.

    """
    e = frames.episode
    lower = slot_bounds(frames, caches, control)
    if lower is None:
        return None
    paths = Paths(e, caches)
    done = np.isinf(lower)
    upper = np.full(lower.shape, np.inf)
    best, best_path = np.inf, None
    every = np.arange(e.frames)
    while True:
        total, path, bound = paths.through(lower)
        if best_path is not None:
            report(best, min(bound, best))
            closed = best - bound <= gap * abs(best + offset) or done[every, path].all()
            if closed or control.stop is not None:
                return Caches(caches[best_path], best, min(bound, best))
        need = np.zeros(lower.shape, bool)
        need[every, path] = True
        if best_path is not None:
            for t in range(e.frames):
                near = np.argsort(total[t])[:OTHERS_PER_FRAME]
                need[t, near[total[t, near] < best]] = True
        at = np.nonzero(need & ~done)
        if len(at[0]):
            up, low = frames.exact(at[0], caches[at[1]], 0.1 * gap, control)
            upper[at], lower[at] = up, np.maximum(low, lower[at])
            done[at] = True
        _, path, value = paths.through(upper)
        if value < best:
            best, best_path = value, path
