"""Information relaxation: hindsight that pays for its knowledge, a bound for policies that know only the present.

Hindsight knows a frame's requests before it caches. A penalty z(x, frame) with mean 0 for every policy that does not
know them leaves such policies' expected cost as it is, so that ::

    E[ min over caches of (cost + penalty) ] <= the best that can be reached       (Brown, Smith and Sun 2010)

for *any* such penalty. The perfect one would be ``E[V(x) | state] - V(x)``, which is out of reach where caches are too
many to value. Here it is made of cuts: at one price of steps a state, model m in the cache saves a frame's slots
``-g_m``, a sum over its requests (`Frames.slot_cuts`), and ::

    z(x) = (G_j - g) x,        E[g | state j] = E[G_j]

where G_j is the same sum in frames drawn in state j, independent of the episode, and drawn anew for each episode. A
cache that knows no more than the state is independent of both, so z has mean 0; hindsight, which would cache what this
frame happens to ask for, pays just what it believes to gain. G_j being a sample only loosens the bound: the minimum is
concave in G_j. Every episode's value is a certified dual bound (`price_steps`; where switching costs, with prices on
switches, `switch_terms`), and episodes are independent, so the interval of their mean is Student's.
"""

from __future__ import annotations

import numpy as np

from aigc_opt.control import Control
from aigc_opt.envs.station import Slots, Station
from aigc_opt.evaluation.nonanticipative import draw_slots
from aigc_opt.problems.two_timescale.benders import relax
from aigc_opt.problems.two_timescale.frames import Frames
from aigc_opt.problems.two_timescale.prices import price_steps
from aigc_opt.problems.two_timescale.search import popular_caches, with_room_for_steps
from aigc_opt.problems.two_timescale.shares import Transfers
from aigc_opt.problems.two_timescale.switching import switch_terms

PENALTY_FRAMES = 100
"""Frames that G_j is averaged over."""

PRICE_FRAMES = 10
"""Frames that a state's price comes from."""

ROUNDS = 30
"""Rounds of prices on steps."""

ROUNDING = 1e-12


def relaxed_bound(station: Station, slots: Slots, states: np.ndarray, seed: int, penalty: bool = True) -> float:
    """Return an episode's penalised hindsight bound, in the scale of the objective; its mean bounds what is reachable.

    Parameters
    ----------
    station : Station
        With a process.
    slots : Slots
        The episode's N slots.
    states : ndarray of int64, shape (T,)
    seed : int
        Of the independent frames.
    penalty : bool
        False = plain hindsight, bounded the same way.

    """
    episode = station.episode(slots, station.frames)
    frames, every = Frames(episode), np.arange(station.frames)
    linear = _penalty(station, frames, states, seed) if penalty else np.zeros((station.frames, station.models))
    paid, start = 0.0, with_room_for_steps(frames, popular_caches(episode)).astype(float)
    if episode.switches:
        relaxed = relax(frames, Control())
        of_switches, paid = switch_terms(relaxed.switch_prices, episode.initial)
        linear, start = linear + of_switches, relaxed.average
    found = price_steps(frames, every, start, ROUNDS, Control(), linear)
    total = episode.scale * (float(found.lower.sum()) - paid + Transfers.of(episode).lower)
    return total - ROUNDING * abs(total)


def _penalty(station: Station, frames: Frames, states: np.ndarray, seed: int) -> np.ndarray:
    """Return the coefficients ``G_j - g`` of each frame's penalty, shape (T, M).

    The price of a state comes from frames of its own: were it of the episode, g would not have the mean of G_j.
    """
    linear = np.empty((station.frames, station.models))
    for j in np.unique(states):
        now = np.flatnonzero(states == j)
        price = _price(station, int(j), seed + 2 * int(j) + 1)
        fresh = draw_slots(station, int(j), PENALTY_FRAMES * station.slots, seed + 2 * int(j) + 2)
        others = Frames(station.episode(fresh, PENALTY_FRAMES))
        linear[now] = _gradients(others, np.arange(PENALTY_FRAMES), price).mean(axis=0)
        linear[now] -= _gradients(frames, now, price)
    return linear


def _price(station: Station, state: int, seed: int) -> float:
    """Mean price of steps where one cache is best for drawn frames; any number >= 0 would do."""
    drawn = station.episode(draw_slots(station, state, PRICE_FRAMES * station.slots, seed), 1)
    frames, first = Frames(drawn), np.array([0])
    start = with_room_for_steps(frames, popular_caches(drawn)).astype(float)
    return float(price_steps(frames, first, start, ROUNDS, Control()).prices.mean())


def _gradients(frames: Frames, of: np.ndarray, price: float) -> np.ndarray:
    """Return the models' coefficients of frames' cuts at one price of steps, shape (n, M)."""
    return frames.cuts(of, np.full((len(of), frames.episode.slots), price)).grad
