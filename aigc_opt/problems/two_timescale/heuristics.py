"""Baselines of the two-timescale problem: each chooses caches, and the best allocation for them is found exactly.

Every function takes (frames, seed) and returns caches, an array (T, M) of bool.
"""

from __future__ import annotations

import numpy as np

from aigc_opt.problems.two_timescale.frames import Frames
from aigc_opt.problems.two_timescale.search import packed, popular_caches, request_counts, with_room_for_steps


def popular(frames: Frames, seed: int) -> np.ndarray:
    """Each frame caches what is asked for most in it, as far as it fits."""
    return with_room_for_steps(frames, popular_caches(frames.episode))


def static(frames: Frames, seed: int) -> np.ndarray:
    """One cache for all frames: what is asked for most over the whole episode."""
    e = frames.episode
    count = request_counts(e).sum(axis=0)
    cache = packed(np.argsort(-count, kind="stable"), count > 0, e)
    return with_room_for_steps(frames, np.tile(cache, (e.frames, 1)))


def random(frames: Frames, seed: int) -> np.ndarray:
    """A random cache in each frame, from models in random order as far as they fit."""
    e, generator = frames.episode, np.random.default_rng(seed)
    everything = np.ones(e.models, bool)
    caches = [packed(generator.permutation(e.models), everything, e) for _ in range(e.frames)]
    return with_room_for_steps(frames, np.array(caches))


def cloud_only(frames: Frames, seed: int) -> np.ndarray:
    """Nothing at the edge: every request goes to the cloud."""
    return np.zeros((frames.episode.frames, frames.episode.models), bool)
