"""The whole formulation for a global solver: caches, places and steps, with the transfers as constants.

Which model that is, and why it is equivalent. Shares of bandwidth stand in no row together with caches, places or
steps, and the transfers' delay is a term of its own in the objective. So the problem is the sum of two: the least delay
of the transfers, one convex problem a slot and direction, and everything else; an optimum of the whole is an optimum
of each. `shares` solves the first with a proven bound. SCIP gets the second, with the seconds of the transfers as
constants, and not `model.build_model` as the field writes it: with shares and logarithmic rates as variables it finds
no bound in the time in which it closes the rest.
"""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo

from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.problems.two_timescale.episode import Episode
from aigc_opt.problems.two_timescale.model import build_model
from aigc_opt.problems.two_timescale.shares import Transfers


def transfer_seconds(episode: Episode, transfers: Transfers) -> tuple[np.ndarray, np.ndarray]:
    """Return the seconds of each transfer up and down at the optimal shares, each (T, K, U); 0 for no transfer."""
    e, found = episode, []
    for shares, size, gain, power, hertz in (
        (transfers.uplink, e.uplink_mbit, e.uplink_gain, e.user_power_w, e.uplink_hz),
        (transfers.downlink, e.downlink_mbit, e.downlink_gain, e.power_w, e.downlink_hz),
    ):
        sent = size > 0
        width = np.where(sent, shares.share, 1.0) * hertz
        rate = width * np.log1p(power * gain / (e.noise_w_per_hz * width)) / np.log(2.0)
        found.append(np.where(sent, 1e6 * size / rate, 0.0).reshape(e.frames, e.slots, e.users))
    return found[0], found[1]


def build_global(instance: TwoTimescaleInstance) -> pyo.ConcreteModel:
    """Build the program in which the transfers at their optimal shares are constants: linear but for smooth curves."""
    episode = Episode.of(instance)
    return build_model(instance, transfer_seconds(episode, Transfers.of(episode)))
