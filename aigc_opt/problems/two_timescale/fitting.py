"""Lower bounds of many caches of a frame from slots that are split in two, fitted to some of them.

A split of a slot (`split`) bounds its cost at every cache, and closely at the caches that its price and toll are best
for. What is found for one cache serves all the others, with any number of requests to split at.
"""

from __future__ import annotations

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.two_timescale.frames import Frames
from aigc_opt.problems.two_timescale.slot_dual import Response
from aigc_opt.problems.two_timescale.split import Sides, split_slots

NUMBERS = (-1, 0, 1)
"""Numbers of requests at which a slot is split, from the one at the frame's first cache on."""

REFERENCES = 32
"""Caches of a frame that the splits are fitted to, at most."""

WORTH, IDLE = 2, 3
"""A fit is worth its while where it takes so many caches to the cutoff; after so many that are not, it ends: to solve a
cache exactly takes little longer."""

FITTED_AT_MOST = 5_000
"""Caches of a frame that splits are worked out for at once, the cheapest."""

VALUES_AT_ONCE, SLOTS_AT_ONCE = 8_000_000, 5_000
"""Pairs of a slot and a cache, and slots, that are worked on together: for memory, and between looks at the clock."""


def side_cuts(frames: Frames, of: np.ndarray, sides: Sides, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one side's constants (n K,), toll on a number of requests not included, and coefficients (n K, M)."""
    e, rows = frames.episode, frames.rows(of)
    cloud, price = e.cloud[rows], sides.price[side]
    respond = Response(e.curves, e.model[rows], cloud, None, frames.free[rows], toll=sides.toll[side])
    value, _, _ = respond(price)
    place = np.arange(len(rows))[:, None] * e.models + frames.wanted[rows]
    saved = np.where(frames.asked[rows], value - cloud, 0.0)
    grad = np.bincount(place.ravel(), saved.ravel(), len(rows) * e.models).reshape(-1, e.models)
    return cloud.sum(axis=1) - price * e.steps_per_slot, grad


class _Fitted:
    """Splits of a frame's slots that are fitted to one cache after another, and what they say of all its caches."""

    def __init__(self, caches: np.ndarray, sides: Sides, rows: slice):
        self._number = sides.number[rows]
        self._caches = caches.T.astype(float)
        shape = (2, len(NUMBERS), len(self._number), len(caches))
        self._value = np.full(shape, -np.inf)

    def add(self, sides: Sides, cuts: list[tuple[np.ndarray, np.ndarray]], rows: slice) -> np.ndarray:
        """Take up another fit, and return the lower bounds (n,) of the caches that all of them give."""
        for side, (const, grad) in enumerate(cuts):
            value = const[rows, None] + grad[rows] @ self._caches
            for i, offset in enumerate(NUMBERS):
                tolled = value - (sides.toll[side, rows] * (self._number + offset + side))[:, None]
                np.maximum(self._value[side, i], tolled, out=self._value[side, i])
        return self._value.min(axis=0).max(axis=0).sum(axis=0)


def fit_splits(
    frames: Frames,
    listed: dict[int, tuple[np.ndarray, np.ndarray]],
    first: np.ndarray,
    cutoff: np.ndarray,
    linear: np.ndarray,
    control: Control,
) -> dict[int, np.ndarray]:
    """Raise lower bounds of listed caches until each is at its frame's cutoff, or has had the splits fitted to it.

    Parameters
    ----------
    listed : dict
        Caches (n, M) and their lower bounds (n,), linear terms included, by frame.
    first : ndarray of bool, shape (T, M)
        Caches that the splits of each frame are fitted to first.
    cutoff : ndarray, shape (T,)
    linear : ndarray, shape (T, M)
        Further cost of each model in the cache.

    Returns
    -------
    dict of ndarray, shape (n,)

    """
    slots = frames.episode.slots
    values = {t: value.copy() for t, (_, value) in listed.items()}
    below: dict[int, np.ndarray] = {}
    groups: list[list[int]] = [[]]
    pairs = 0
    for t, value in values.items():
        k = np.flatnonzero(value < cutoff[t])
        below[t] = k[np.argsort(value[k], kind="stable")][:FITTED_AT_MOST]
        if len(k):
            pairs += slots * len(below[t])
            if groups[-1] and (pairs > VALUES_AT_ONCE or (len(groups[-1]) + 1) * slots > SLOTS_AT_ONCE):
                groups.append([])
                pairs = slots * len(below[t])
            groups[-1].append(t)
    for group in groups:
        _fit({t: listed[t][0] for t in group}, below, values, frames, first, cutoff, linear, control)
    return values


def _fit(
    caches_of: dict[int, np.ndarray],
    below: dict[int, np.ndarray],
    values: dict[int, np.ndarray],
    frames: Frames,
    first: np.ndarray,
    cutoff: np.ndarray,
    linear: np.ndarray,
    control: Control,
) -> None:
    """Do what `fit_splits` says for some frames; `values` is changed."""
    e, slots = frames.episode, frames.episode.slots
    waiting = {t: np.isin(np.arange(len(values[t])), below[t]) for t in caches_of}
    references = {t: first[t] for t in caches_of}
    fitted: dict[int, _Fitted] = {}
    idle: dict[int, int] = {}
    for _ in range(REFERENCES):
        if not references or control.stop is not None:
            break
        of, caches = np.array(list(references)), np.array(list(references.values()), float)
        rows, weight = frames.weights(of, caches)
        given = e.model[rows], e.cloud[rows], weight, frames.free[rows]
        sides = split_slots(e.curves, e.steps_per_slot, *given)
        cuts = [side_cuts(frames, of, sides, side) for side in (0, 1)]
        references = {}
        for i, t in enumerate(of.tolist()):
            part, k = slice(i * slots, (i + 1) * slots), below[t]
            own = caches_of[t][k]
            if t not in fitted:
                fitted[t] = _Fitted(own, sides, part)
            values[t][k] = np.maximum(values[t][k], fitted[t].add(sides, cuts, part) + own @ linear[t])
            number = waiting[t].sum()
            waiting[t] &= values[t] < cutoff[t]
            left = np.flatnonzero(waiting[t])
            idle[t] = idle.get(t, 0) + 1 if number - len(left) < WORTH else 0
            if len(left) and idle[t] < IDLE:
                best = left[values[t][left].argmin()]
                waiting[t][best] = False
                references[t] = caches_of[t][best]
