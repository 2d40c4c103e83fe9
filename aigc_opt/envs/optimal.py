"""The optimal allocation of slots whose caches are given: steps by branch and bound, shares by their convex program."""

from __future__ import annotations

import numpy as np

from aigc_opt.control import Control
from aigc_opt.envs.station import Grants
from aigc_opt.problems.two_timescale.episode import Episode
from aigc_opt.problems.two_timescale.frames import Frames
from aigc_opt.problems.two_timescale.shares import Transfers

SLOT_RELATIVE = 1e-7
"""Relative gap at which a slot's allocation counts as optimal."""


class Allocator:
    """Optimal allocations of an episode, frame by frame.

    With everything known in a slot and the cache given, slots do not interact: what is best in each is best.

    Attributes
    ----------
    episode : Episode
    frames : Frames
    transfers : Transfers
        Optimal shares, which no cache changes.

    """

    def __init__(self, episode: Episode):
        self.episode, self.frames, self.transfers = episode, Frames(episode), Transfers.of(episode)

    def grants(self, of: np.ndarray, caches: np.ndarray) -> Grants:
        """Return optimal grants of the slots of frames `of` (n,) with caches (n, M): n K rows.

        Where the steps that must be given do not fit, nobody is served at the edge, which the checker refuses.
        """
        of, caches = np.asarray(of), np.asarray(caches, bool)
        found = self.frames.allocate(of, caches, SLOT_RELATIVE, Control())
        rows = self.frames.rows(of)
        return Grants(
            found.at_edge,
            np.where(found.at_edge, found.steps, 0.0),
            self.transfers.uplink.share[rows],
            self.transfers.downlink.share[rows],
        )
