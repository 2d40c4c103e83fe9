"""Caches to begin with, and better ones nearby: all frames in step, valued by their duals."""

from __future__ import annotations

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.two_timescale.episode import Episode
from aigc_opt.problems.two_timescale.frames import Frames
from aigc_opt.problems.two_timescale.slot_dual import FITS

MOVES_PER_ROUND = 12
"""Of all flips and swaps of a cache the most promising so many are valued."""


def packed(order: np.ndarray, useful: np.ndarray, episode: Episode, share: float = 1.0) -> np.ndarray:
    """Return the cache (M,) that takes useful models in this order, as far as they fit into a share of the storage."""
    cache, room = np.zeros(episode.models, bool), episode.storage_gb * share
    for m in order.tolist():
        if useful[m] and episode.size_gb[m] <= room:
            cache[m] = True
            room -= episode.size_gb[m]
    return cache


def request_counts(episode: Episode) -> np.ndarray:
    """Requests for each model in each frame, shape (T, M)."""
    shape = (episode.frames, episode.models)
    frame = np.repeat(np.arange(episode.frames), episode.slots)[:, None]
    place = frame * episode.models + np.maximum(episode.model, 0)
    asked = (episode.model >= 0).ravel().astype(float)
    return np.bincount(place.ravel(), asked, shape[0] * shape[1]).reshape(shape)


def popular_caches(episode: Episode) -> np.ndarray:
    """Caches (T, M) of each frame's own most requested models, as far as they fit."""
    counts = request_counts(episode)
    return np.array([packed(np.argsort(-count, kind="stable"), count > 0, episode) for count in counts])


def with_room_for_steps(frames: Frames, caches: np.ndarray) -> np.ndarray:
    """Empty those caches (T, M) whose hits must be given more steps than there are."""
    e = frames.episode
    if frames.free_hits:
        return caches
    hit = caches[np.repeat(np.arange(e.frames), e.slots)[:, None], frames.wanted] & frames.asked
    least = e.curves.least * np.count_nonzero(hit, axis=1).reshape(e.frames, e.slots)
    fits = (least <= e.steps_per_slot + FITS * max(e.steps_per_slot, 1.0)).all(axis=1)
    return caches & fits[:, None]


def flips_of(models: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the moves near a cache: one model put in or taken out, or two exchanged.

    Returns
    -------
    first, second : ndarray of int, shape (n,)
        The models that change; the same one twice where only one does.
    flips : ndarray of bool, shape (n, M)
        What changes.

    """
    pairs = [(i, i) for i in range(models)] + [(i, j) for i in range(models) for j in range(i)]
    first, second = np.array(pairs).T
    flips = np.zeros((len(pairs), models), bool)
    flips[np.arange(len(pairs)), first] = flips[np.arange(len(pairs)), second] = True
    return first, second, flips


def local_search(
    frames: Frames,
    of: np.ndarray,
    caches: np.ndarray,
    control: Control,
    linear: np.ndarray | None = None,
    rounds: int = 20,
) -> np.ndarray:
    """Improve caches by putting a model in, taking one out, or exchanging two, as long as that helps.

    Moves are ranked by the cut at the cache, a lower bound of what they reach, and the best `MOVES_PER_ROUND` are
    valued by the duals of the frame's slots.

    Parameters
    ----------
    of : ndarray of int, shape (n,)
        The frames.
    caches : ndarray of bool, shape (n, M)
    linear : ndarray, shape (n, M), optional
        Further cost of each model in the cache.

    Returns
    -------
    ndarray of bool, shape (n, M)

    """
    e = frames.episode
    caches = caches.copy()
    linear = np.zeros(caches.shape) if linear is None else linear
    first, second, flips = flips_of(e.models)
    swap = first != second
    if control.stop is not None:
        return caches
    value, fits, cuts = frames.dual(of, caches.astype(float))
    value = np.where(fits, value + (linear * caches).sum(axis=1), np.inf)
    grad = cuts.grad
    todo = np.arange(len(of))
    for _ in range(rounds):
        if not len(todo) or control.stop is not None:
            break
        near_of, near = [], []
        for k in todo:
            sign = np.where(caches[k], -1.0, 1.0)
            change, size = (grad[k] + linear[k]) * sign, e.size_gb * sign
            gain = change[first] + np.where(swap, change[second], 0.0)
            used = e.size_gb[caches[k]].sum() + size[first] + np.where(swap, size[second], 0.0)
            exchanges = ~swap | (caches[k][first] != caches[k][second])
            gain = np.where((used <= e.storage_gb) & (gain < 0) & exchanges, gain, np.inf)
            best = np.argsort(gain)[:MOVES_PER_ROUND]
            best = best[np.isfinite(gain[best])]
            near_of.append(np.full(len(best), k))
            near.append(caches[k] ^ flips[best])
        which, reached = np.concatenate(near_of), np.concatenate(near)
        if not len(which):
            break
        there, fits, cuts = frames.dual(of[which], reached.astype(float), control=control)
        if control.stop is not None:
            break  # the last of them have no value
        there = np.where(fits, there + (linear[which] * reached).sum(axis=1), np.inf)
        order = np.lexsort((there, which))
        lead = order[np.r_[True, which[order][1:] != which[order][:-1]]]
        now = value[which[lead]]
        lead = lead[there[lead] < np.where(np.isfinite(now), now - 1e-9 * abs(now), now)]
        todo = which[lead]
        caches[todo], value[todo], grad[todo] = reached[lead], there[lead], cuts.grad[lead]
    return caches
