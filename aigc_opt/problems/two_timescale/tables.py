"""Dual values of one slot for many caches at once, and caches as integers.

A slot's dual depends on the cache only through the models requested there, and for a given cache it is a continuous
knapsack: begin with everybody at the cheapest place that needs no price, then buy steps in the order of saving per step
until F is used. So the value for all subsets of the slot's models is one sorted cumulative sum.
"""

from __future__ import annotations

import numpy as np

from aigc_opt.problems.two_timescale.episode import Episode

MODELS_AT_MOST = 62
"""Caches are held as the bits of 64-bit integers."""

_BITS = 11


class Polygons:
    """Convex polygons on or below the models' curves (`Curves.polygons`), padded to arrays; what slot tables share."""

    def __init__(self, episode: Episode):
        polygons = episode.curves.polygons()
        width = max(len(steps) for steps, _ in polygons)
        self.steps = np.array([np.pad(steps, (0, width - len(steps)), mode="edge") for steps, _ in polygons])
        self.cost = np.array([np.pad(cost, (0, width - len(cost)), mode="edge") for _, cost in polygons])
        self.run, rise = np.diff(self.steps, axis=1), np.diff(self.cost, axis=1)
        self.slope = np.where(self.run > 0, rise / np.where(self.run > 0, self.run, 1.0), 0.0)


class SlotTable:
    """Dual value of one slot as a function of which of its requested models are cached.

    Attributes
    ----------
    models : ndarray of int, shape (d,)
        The models that the slot's requests are for.

    """

    def __init__(self, episode: Episode, polygons: Polygons, slot: int):
        wanted = episode.model[slot]
        users = np.flatnonzero(wanted >= 0)
        model, cloud = wanted[users], episode.cloud[slot, users]
        self.models, own = np.unique(model, return_inverse=True)
        number = len(self.models)
        self._base, self._budget = float(cloud.sum()), episode.steps_per_slot
        steps, cost = polygons.steps[model], polygons.cost[model]
        run, slope = polygons.run[model], polygons.slope[model]
        self._start: np.ndarray
        self._used: np.ndarray
        if episode.serve_all_hits:
            self._start = np.bincount(own, cost[:, 0] - cloud, number)
            self._used = np.bincount(own, steps[:, 0], number)
        else:
            # The cloud, a point at 0 steps, joins the hull: its first edge goes to the vertex of the steepest descent.
            least = np.minimum(cost[:, 0], cloud) if episode.min_steps == 0 else cloud
            positive = steps > 0
            ray = np.where(positive, (cost - least[:, None]) / np.where(positive, steps, 1.0), np.inf)
            vertex, every = ray.argmin(axis=1), np.arange(len(users))
            self._start, self._used = np.bincount(own, least - cloud, number), np.zeros(number)
            later = np.arange(run.shape[1]) >= vertex[:, None]
            run = np.concatenate([steps[every, vertex][:, None], np.where(later, run, 0.0)], axis=1)
            slope = np.concatenate([ray[every, vertex][:, None], np.where(later, slope, 0.0)], axis=1)
        own = np.broadcast_to(own[:, None], run.shape)
        saves = (slope < 0) & (run > 0)
        own, run, slope = own[saves], run[saves], slope[saves]
        if episode.serve_all_hits and len(own):  # requests for one model have the same edges: each once, added up
            _, first, again = np.unique(np.stack([own, slope]), axis=1, return_index=True, return_inverse=True)
            run = np.bincount(again.ravel(), run)
            own, slope = own[first], slope[first]
        order = np.argsort(slope, kind="stable")
        self._own, self._run, slope = own[order], run[order], slope[order]
        self._drop = slope - np.r_[slope[1:], 0.0]

    def values(self, subsets: np.ndarray) -> np.ndarray:
        """Return the dual for subsets (n, d), bool, of `models`; inf where the steps that must be given do not fit."""
        chosen = subsets.astype(float)
        room = self._budget - chosen @ self._used
        value = self._base + chosen @ self._start
        if len(self._own):
            bought = chosen[:, self._own]
            bought *= self._run
            np.cumsum(bought, axis=1, out=bought)
            np.minimum(bought, np.maximum(room, 0.0)[:, None], out=bought)
            value += bought @ self._drop
        value[room < -1e-9 * max(self._budget, 1.0)] = np.inf
        return value


class Codes:
    """Caches as 64-bit integers, bit m for model m; cut into pieces of few bits, which are looked up in tables."""

    def __init__(self, code: np.ndarray, models: int):
        self.code, self.models = code, models
        self._pieces = [((code >> at) & ((1 << _BITS) - 1)).astype(np.int32) for at in range(0, models, _BITS)]

    def take(self, rows: np.ndarray) -> Codes:
        """Return some of the caches."""
        new = object.__new__(Codes)
        new.code, new.models, new._pieces = self.code[rows], self.models, [piece[rows] for piece in self._pieces]
        return new

    def __len__(self) -> int:
        return len(self.code)

    def restricted(self, models: np.ndarray) -> np.ndarray:
        """Index of each cache's restriction to `models`: bit k for ``models[k]``."""
        index = np.zeros(len(self.code), np.int64)
        every = np.arange(1 << _BITS)
        for i, piece in enumerate(self._pieces):
            table = np.zeros(1 << _BITS, np.int64)
            for k, m in enumerate(models.tolist()):
                if i * _BITS <= m < (i + 1) * _BITS:
                    table |= ((every >> (m - i * _BITS)) & 1) << k
            if table.any():
                index += table.take(piece)
        return index

    def weighed(self, weight: np.ndarray) -> np.ndarray:
        """Return the sum of the weights (M,) of each cache's models."""
        total, every = np.zeros(len(self.code)), np.arange(1 << _BITS)
        for i, piece in enumerate(self._pieces):
            table = np.zeros(1 << _BITS)
            for m in range(i * _BITS, min(self.models, (i + 1) * _BITS)):
                table += weight[m] * ((every >> (m - i * _BITS)) & 1)
            total += table.take(piece)
        return total

    def has(self, m: int) -> np.ndarray:
        """Whether model m is in each cache."""
        return ((self.code >> m) & 1).astype(bool)

    def unpacked(self) -> np.ndarray:
        """Return the caches as (n, M), bool."""
        return bits(self.code, self.models)


def bits(index: np.ndarray, number: int) -> np.ndarray:
    """Return the lowest bits of integers, shape (n, number), bool."""
    return ((index[:, None] >> np.arange(number)) & 1).astype(bool)
