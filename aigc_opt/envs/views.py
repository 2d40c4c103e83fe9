"""What a two-timescale policy is shown: the present and the past, never the future, never the seed of the episode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aigc_opt.envs import features
from aigc_opt.envs.station import Slots, Station


@dataclass(frozen=True, eq=False)
class FrameView:
    """What is known when a frame's cache is chosen.

    Attributes
    ----------
    station : Station
        Sizes, limits and curves, and the law of episodes where there is one; without any requests.
    frame : int
        From 0.
    state : int or None
        The chain's state in this frame (formulations, 3: it is known); None where no law is.
    cache : ndarray of bool, shape (M,)
        What is cached before.
    past : Slots
        All slots of earlier frames, in time order.

    """

    station: Station
    frame: int
    state: int | None
    cache: np.ndarray
    past: Slots

    def vector(self) -> np.ndarray:
        """Return the observation of the caching environment, shape (D,) (`aigc_opt.envs.features`)."""
        return features.of_frame(self.station, self.frame, self._common())[0]

    def joint_vector(self) -> np.ndarray:
        """Return the observation of the joint environment at a frame's start."""
        return features.of_slot(self.station, self.frame, 0, self._common(), None, None)[0]

    def _common(self) -> np.ndarray:
        before = self.past.take(slice(max(0, len(self.past.model) - self.station.slots), None))
        state = None if self.state is None else np.array([self.state])
        return features.common(self.station, state, self.cache[None], features.seen(self.station, before))


@dataclass(frozen=True, eq=False)
class SlotView:
    """What is known when a slot's requests are served.

    Attributes
    ----------
    station, frame, state :
        As in `FrameView`.
    slot : int
        Within the frame, from 0.
    cache : ndarray of bool, shape (M,)
        What is cached in this frame.
    now : Slots
        This slot, one row.
    past : Slots
        All earlier slots, in time order.

    """

    station: Station
    frame: int
    slot: int
    state: int | None
    cache: np.ndarray
    now: Slots
    past: Slots

    def vector(self) -> np.ndarray:
        """Return the observation of the joint and allocation environments, shape (D,)."""
        station = self.station
        start = self.frame * station.slots
        before = self.past.take(slice(max(0, start - station.slots), start))
        state = None if self.state is None else np.array([self.state])
        common = features.common(station, state, self.cache[None], features.seen(station, before))
        hits = station.hits(self.now, self.cache[None])
        return features.of_slot(station, self.frame, self.slot, common, self.now, hits)[0]
