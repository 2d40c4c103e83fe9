"""Alternation between the discrete caches and the continuous allocation: the design's first routine. Points only.

The loop is `aigc_opt.decomposition.alternating`; its two blocks are here. With the caches fixed the allocation is
solved exactly; its prices on steps say what each model in the cache is worth. With those prices fixed the best caches
are one knapsack a frame, taken frame by frame with the switches from the cache before and to the one after.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aigc_opt.control import Control
from aigc_opt.decomposition.alternating import Alternation, alternate
from aigc_opt.problems.two_timescale.frames import Frames, switching_cost
from aigc_opt.problems.two_timescale.knapsack import best_knapsack

SLOT_RELATIVE = 1e-7


@dataclass(frozen=True, eq=False)
class Planned:
    """Caches with their best allocation's cost.

    Attributes
    ----------
    caches : ndarray of bool, shape (T, M)
    value : ndarray, shape (T,)
        Cost of each frame's slots with the best allocation, switching not included.
    total : float
        Sum of the values, and the switches.

    """

    caches: np.ndarray
    value: np.ndarray
    total: float


def alternate_caches(frames: Frames, start: np.ndarray, control: Control) -> Alternation[Planned]:
    """Alternate from caches (T, M) until neither part improves; sum scale, without transfers."""
    e = frames.episode
    every = np.arange(e.frames)

    def planned(caches: np.ndarray) -> Planned:
        value, _ = frames.exact(every, caches, SLOT_RELATIVE, control)
        return Planned(caches, value, float(value.sum()) + switching_cost(e, caches))

    def cache(point: Planned) -> Planned | None:
        """Choose caches anew at the prices of the present allocation; a frame's is kept where its true cost rises."""
        _, _, cuts = frames.dual(every, point.caches.astype(float), control=control)
        new, new_value = point.caches.copy(), point.value.copy()
        for t in range(e.frames):
            if control.stop is not None:
                return None
            before = e.initial if t == 0 else new[t - 1]
            after = new[t + 1] if t + 1 < e.frames else np.zeros(e.models, bool)
            switches = e.switch * ~before - e.switch * after
            chosen, _ = best_knapsack(-(cuts.grad[t] + switches), e.size_gb, e.storage_gb)
            if (chosen == new[t]).all():
                continue
            cost, _ = frames.exact(every[t : t + 1], chosen[None], SLOT_RELATIVE, control)
            gain = new_value[t] + switches @ new[t] - cost[0] - switches @ chosen
            if gain > 1e-9 * abs(new_value[t]):
                new[t], new_value[t] = chosen, cost[0]
        return Planned(new, new_value, float(new_value.sum()) + switching_cost(e, new))

    return alternate(planned(start), lambda point: point.total, {"caches": cache}, control)
