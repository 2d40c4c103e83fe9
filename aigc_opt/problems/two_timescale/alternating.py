"""Alternation between the discrete caches and the continuous allocation: the design's first routine. Points only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.two_timescale.frames import Frames, switching_cost
from aigc_opt.problems.two_timescale.knapsack import best_knapsack
from aigc_opt.problems.two_timescale.search import popular_caches, with_room_for_steps

ROUNDS = 50
SLOT_RELATIVE = 1e-7


def alternate(frames: Frames, control: Control, report: Callable[[str, float], None]) -> np.ndarray:
    """Alternate from the popular caches until neither part improves.

    With the caches fixed the allocation is solved exactly; its prices on steps say what each model in the cache is
    worth. With those prices fixed the best caches are one knapsack a frame, taken frame by frame with the switches from
    the cache before and to the one after, and kept where the true cost falls.

    Parameters
    ----------
    report : callable
        Called with a few words and the cost of the caches so far (sum scale, without transfers).

    Returns
    -------
    ndarray of bool, shape (T, M)

    """
    e = frames.episode
    every = np.arange(e.frames)
    caches = with_room_for_steps(frames, popular_caches(e))
    value, _ = frames.exact(every, caches, SLOT_RELATIVE, control)
    total = value.sum() + switching_cost(e, caches)
    report("alternating: popular caches", total)
    for number in range(1, ROUNDS + 1):
        _, _, cuts = frames.dual(every, caches.astype(float))
        new, new_value = caches.copy(), value.copy()
        for t in range(e.frames):
            if control.stop is not None:
                return caches
            before = e.initial if t == 0 else new[t - 1]
            after = new[t + 1] if t + 1 < e.frames else np.zeros(e.models, bool)
            switches = e.switch * ~before - e.switch * after
            cache, _ = best_knapsack(-(cuts.grad[t] + switches), e.size_gb, e.storage_gb)
            if (cache == new[t]).all():
                continue
            cost, _ = frames.exact(every[t : t + 1], cache[None], SLOT_RELATIVE, control)
            gain = new_value[t] + switches @ new[t] - cost[0] - switches @ cache
            if gain > 1e-9 * abs(new_value[t]):
                new[t], new_value[t] = cache, cost[0]
        cost = new_value.sum() + switching_cost(e, new)
        if not cost < total - 1e-9 * abs(total):
            break
        caches, value, total = new, new_value, cost
        report(f"alternating: round {number}", total)
    return caches
