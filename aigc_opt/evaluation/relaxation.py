"""Information relaxation: hindsight that pays for its knowledge, a bound for policies that know only the present.

Hindsight knows a frame's requests before it caches. A penalty z(x, frame) whose mean is 0 for every policy that does
not know them leaves such policies' expected cost as it is, so that ::

    E[ min over caches of (cost + penalty) ] <= the best that can be reached       (Brown, Smith and Sun 2010)

for *any* such penalty. With V(x) the cost of the frame's slots and Y(x) that of other slots, drawn in the same state
and independent of the episode, averaged to a frame's length, take ::

    z(x) = Y(x) - V(x),        E[Y(x) | state] = E[V(x) | state]

A cache that is chosen knowing the state but not the frame's requests is independent of both, so z has mean 0; and
hindsight now minimises Y, the average of as many slots as one likes, which the episode's own requests no longer move.
What is left is an episode with longer frames, which is solved like any other: its certified lower bound counts, and
the cost of switching keeps its weight, because the objective averages frames. Only the states of the future are still
known for nothing, which keeps this below the dynamic program of `nonanticipative` where that can be computed. Episodes
are independent, penalties included, so the interval of the mean is Student's.
"""

from __future__ import annotations

import numpy as np

from aigc_opt.api import solve
from aigc_opt.envs.station import Slots, Station, instance_with
from aigc_opt.evaluation.nonanticipative import SOLVE_GAP, draw_requests_in
from aigc_opt.instance.two_timescale import REQUEST_ARRAYS, TwoTimescaleInstance
from aigc_opt.problems.two_timescale.shares import Transfers
from aigc_opt.result import Limit

LONGER = 10
"""So many times as long as the law's are the frames that the penalty averages over. With 1 it would do nothing."""


def relaxed_bound(
    instance: TwoTimescaleInstance,
    station: Station,
    slots: Slots,
    states: np.ndarray,
    seed: int,
    time_limit: float | None = None,
    longer: int = LONGER,
) -> float | None:
    """Return an episode's penalised hindsight bound, in the objective's scale; its mean bounds what can be reached.

    Parameters
    ----------
    instance : TwoTimescaleInstance
        With a process; `station` is its station.
    slots : Slots
        The episode's N slots. Only their transfers are read, which cost every policy at least the same.
    states : ndarray of int64, shape (T,)
        The episode's states.
    seed : int
        Of the independent slots.
    time_limit : float, optional
        Wall seconds of the solve.
    longer : int
        Length of the penalty's frames in frames.

    Returns
    -------
    float or None
        None if the time was too short for any bound.

    """
    length = longer * station.slots
    requests: dict[str, np.ndarray] = {}
    for j in np.unique(states):
        now = np.flatnonzero(states == j)
        drawn = draw_requests_in(station, int(j), len(now) * length, seed + int(j))
        for key in REQUEST_ARRAYS:
            part = drawn[key].reshape(len(now), length, station.users)
            whole = requests.setdefault(key, np.empty((station.frames, *part.shape[1:]), part.dtype))
            whole[now] = part
    result = solve(instance_with(instance, requests), gap=SOLVE_GAP, time_limit=time_limit)
    if result.limit is Limit.INTERRUPT:
        raise KeyboardInterrupt
    if result.lower_bound is None:
        return None
    longer_ones = station.episode(station.slots_of(requests), station.frames)
    own = station.episode(slots, station.frames)
    # The bound holds for slots and transfers together; less what the transfers cost, it holds for the slots.
    without = result.lower_bound - longer_ones.scale * Transfers.of(longer_ones).cost
    return without + own.scale * Transfers.of(own).lower
