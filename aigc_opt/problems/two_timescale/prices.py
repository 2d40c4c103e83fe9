"""Lagrangian bounds of frames: prices on steps in every slot, knapsacks over caches, on the shared driver."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aigc_opt.control import Control
from aigc_opt.decomposition.lagrangian import average_points
from aigc_opt.problems.two_timescale.episode import Episode
from aigc_opt.problems.two_timescale.frames import Frames
from aigc_opt.problems.two_timescale.knapsack import best_knapsack, fractional_knapsack


@dataclass(frozen=True, eq=False)
class Fixings:
    """Models that must be in the cache, and models that must not, for n frames.

    Attributes
    ----------
    inside, outside : ndarray of bool, shape (n, M)

    """

    inside: np.ndarray
    outside: np.ndarray

    @classmethod
    def none(cls, frames: Frames, number: int) -> Fixings:
        """Only what does not fit is kept out."""
        return cls(np.zeros((number, frames.episode.models), bool), np.tile(~frames.fits, (number, 1)))


@dataclass(eq=False)
class Priced:
    """What `price_steps` found for n frames.

    Attributes
    ----------
    lower : ndarray, shape (n,)
        Proven lower bounds of ``min_x Phi_t(x) + linear_t x``.
    average : ndarray, shape (n, M)
        The average cache, fractional: where the bound is attained, nearly.
    prices : ndarray, shape (n, K)
        Prices of steps that give `lower`.
    met : list of (ndarray of int, ndarray of bool)
        Caches met on the way: indices of frames and a cache for each.

    """

    lower: np.ndarray
    average: np.ndarray
    prices: np.ndarray
    met: list[tuple[np.ndarray, np.ndarray]]


def least_caches(cost: np.ndarray, fixings: Fixings, episode: Episode, whole: bool) -> tuple[np.ndarray, np.ndarray]:
    """Minimise ``cost @ x`` over the caches that keep the fixings.

    Parameters
    ----------
    cost : ndarray, shape (n, M)
    whole : bool
        Exact 0/1 knapsacks; else their linear relaxation.

    Returns
    -------
    x : ndarray, shape (n, M)
    lower : ndarray, shape (n,)
        No cache costs less.

    """
    size = episode.size_gb
    base = np.where(fixings.inside, cost, 0.0).sum(axis=1)
    room = episode.storage_gb - (fixings.inside * size).sum(axis=1)
    reward = np.where(fixings.inside | fixings.outside, 0.0, -cost)
    if whole:
        found = [best_knapsack(r, size, left) for r, left in zip(reward, room, strict=True)]
        x = np.array([chosen for chosen, _ in found], float).reshape(cost.shape)
        lower = base - np.array([bound for _, bound in found])
    else:
        x = fractional_knapsack(reward, size, room[:, None])
        earned = (reward * x).sum(axis=1)
        lower = base - earned - 1e-12 * abs(reward).sum(axis=1)
    return np.where(fixings.inside, 1.0, x), lower


def try_prices(frames: Frames, of: np.ndarray, priced: Priced, prices: np.ndarray, linear: np.ndarray | None) -> None:
    """Take prices (n, K) of steps where they bound a frame better than those found so far; `priced` is changed."""
    cuts = frames.cuts(of, prices)
    cost = cuts.grad if linear is None else cuts.grad + linear
    x, lower = least_caches(cost, Fixings.none(frames, len(of)), frames.episode, whole=True)
    up = lower + cuts.const > priced.lower
    priced.lower[up], priced.prices[up] = (lower + cuts.const)[up], prices[up]
    priced.met.append((np.arange(len(of)), x > 0.5))


def price_steps(
    frames: Frames,
    of: np.ndarray,
    start: np.ndarray,
    iterations: int,
    control: Control,
    linear: np.ndarray | None = None,
    fixings: Fixings | None = None,
    whole: bool = True,
    cutoff: np.ndarray | None = None,
) -> Priced:
    """Bound ``min_x Phi_t(x) + linear_t x`` over the caches that keep the fixings, for n frames in step.

    By `average_points`: the slots' prices at a fractional cache make a cut, whose minimum over caches is a bound.

    Parameters
    ----------
    of : ndarray of int, shape (n,)
        The frames.
    start : ndarray, shape (n, M)
        Caches to start from, fractional or not.
    linear : ndarray, shape (n, M), optional
        Further cost of each model in the cache.
    whole : bool
        Exact knapsacks; else their linear relaxation.
    cutoff : ndarray, shape (n,), optional
        A frame whose bound reaches it is left.

    """
    episode = frames.episode
    fixings = fixings or Fixings.none(frames, len(of))
    linear = np.zeros((len(of), episode.models)) if linear is None else linear

    def best_prices(rows: np.ndarray, caches: np.ndarray) -> np.ndarray:
        return frames.prices(of[rows], caches, control=control)[2]

    def bound(rows: np.ndarray, prices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cuts = frames.cuts(of[rows], prices)
        kept = Fixings(fixings.inside[rows], fixings.outside[rows])
        x, lower = least_caches(cuts.grad + linear[rows], kept, episode, whole)
        return x, lower + cuts.const

    found = average_points(best_prices, bound, start, iterations, control, cutoff)
    met = [(rows, x > 1 - 1e-9) for rows, x in found.met]
    return Priced(found.lower, found.average, found.multipliers, met)
