"""Lagrangian bounds of frames: prices on steps in every slot, knapsacks over caches, by Frank and Wolfe's method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aigc_opt.control import Control
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

    At the averaged cache the slots' prices give a cut; its minimum over caches is a bound, and the minimiser enters the
    average. The running average of the prices gives a cut that is at least as good as the average of the cuts. Every
    bound is valid whenever it stops.

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
    number, models = len(of), episode.models
    fixings = fixings or Fixings.none(frames, number)
    linear = np.zeros((number, models)) if linear is None else linear
    found = Priced(np.full(number, -np.inf), start.astype(float), np.zeros((number, episode.slots)), [])
    mean_prices = np.zeros((number, episode.slots))
    active = np.arange(number)

    def bound(const: np.ndarray, grad: np.ndarray, prices: np.ndarray) -> np.ndarray:
        kept = Fixings(fixings.inside[active], fixings.outside[active])
        x, lower = least_caches(grad + linear[active], kept, episode, whole)
        lower = lower + const
        up = lower > found.lower[active]
        found.lower[active[up]], found.prices[active[up]] = lower[up], prices[up]
        found.met.append((active, x > 1 - 1e-9))
        return x

    for iteration in range(iterations):
        last = iteration == iterations - 1 or control.stop is not None
        _, _, cuts = frames.dual(of[active], found.average[active], control=control)
        mean_prices[active] += 2.0 / (iteration + 2.0) * (cuts.prices - mean_prices[active])
        x = bound(cuts.const, cuts.grad, cuts.prices)
        if iteration and (iteration % 5 == 4 or last):
            mean = frames.cuts(of[active], mean_prices[active])
            bound(mean.const, mean.grad, mean.prices)
        found.average[active] += 2.0 / (iteration + 3.0) * (x - found.average[active])
        if cutoff is not None:
            active = active[found.lower[active] < cutoff[active]]
        if last or not len(active):
            break
    return found
