"""One episode of two timescales as it is decided: what is known when, what was decided, and what it costs."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from aigc_opt.envs.optimal import Allocator
from aigc_opt.envs.station import Grants, Slots, Station
from aigc_opt.envs.views import FrameView, SlotView
from aigc_opt.problems.two_timescale.solution import TwoTimescaleSolution


class Rollout:
    """An episode on its way. Costs that its methods return are shares of the objective.

    Attributes
    ----------
    station : Station
    slots : Slots
        All N slots of the episode.
    states : ndarray of int64, shape (T,), or None
    frame, slot : int
        Where the episode is, from 0.
    cache : ndarray of bool, shape (M,)
        What is cached now.
    cached : ndarray of bool, shape (T, M)
    grants : Grants
        What was decided so far; 0 where nothing was yet.

    """

    def __init__(self, station: Station, slots: Slots, states: np.ndarray | None):
        self.station, self.slots, self.states = station, slots, states
        self.frame = self.slot = 0
        self.cache = station.template.initial.copy()
        shape = len(slots.model), station.users
        self.scale = 1.0 / (station.frames * station.slots)
        self.cached = np.zeros((station.frames, station.models), bool)
        self.grants = Grants(np.zeros(shape, bool), np.zeros(shape), np.zeros(shape), np.zeros(shape))

    @cached_property
    def allocator(self) -> Allocator:
        """Optimal allocations of the episode."""
        return Allocator(self.station.episode(self.slots, self.station.frames))

    @property
    def over(self) -> bool:
        """Whether all frames are decided."""
        return self.frame == self.station.frames

    @property
    def row(self) -> int:
        """Number of the present slot in the episode."""
        return self.frame * self.station.slots + self.slot

    @property
    def now(self) -> Slots:
        """The present slot, one row."""
        return self.slots.take(slice(self.row, self.row + 1))

    @property
    def state(self) -> int | None:
        """The chain's state in this frame."""
        return None if self.states is None else int(self.states[self.frame])

    def frame_view(self) -> FrameView:
        """Return what is known at this frame's start."""
        past = self._past(self.frame * self.station.slots)
        return FrameView(self.station, self.frame, self.state, self.cache.copy(), past)

    def slot_view(self) -> SlotView:
        """Return what is known in this slot."""
        past, cache = self._past(self.row), self.cache.copy()
        return SlotView(self.station, self.frame, self.slot, self.state, cache, self.now.copy(), past)

    def _past(self, rows: int) -> Slots:
        return self.slots.take(slice(0, rows)).copy()  # a slice would still hold the future in its base

    def enter(self, cache: np.ndarray) -> float:
        """Set the frame's cache, and return what switching costs."""
        cost = float(self.station.switch_costs(self.cache, cache)) * self.scale
        self.cache = cache.copy()
        self.cached[self.frame] = cache
        return cost

    def serve(self, grants: Grants) -> float:
        """Give the present slot's requests one row of grants, go to the next slot, and return what it cost."""
        row = slice(self.row, self.row + 1)
        self._note(row, grants)
        cost = float(self.station.slot_costs(self.slots.take(row), grants)[0]) * self.scale
        self.slot += 1
        if self.slot == self.station.slots:
            self.frame, self.slot = self.frame + 1, 0
        return cost

    def serve_optimally(self) -> float:
        """Give all slots of this frame their optimal allocation, go to the next frame, and return what it cost."""
        rows = slice(self.row, self.row + self.station.slots)
        grants = self.allocator.grants(np.array([self.frame]), self.cache[None])
        self._note(rows, grants)
        self.frame += 1
        return float(self.station.slot_costs(self.slots.take(rows), grants).sum()) * self.scale

    def _note(self, rows: slice, grants: Grants) -> None:
        for name in grants.__dataclass_fields__:
            getattr(self.grants, name)[rows] = getattr(grants, name)

    def solution(self) -> TwoTimescaleSolution:
        """Return all decisions of the episode so far, for the checker."""
        shape = (self.station.frames, self.station.slots, self.station.users)
        grants = [getattr(self.grants, name).reshape(shape) for name in self.grants.__dataclass_fields__]
        return TwoTimescaleSolution(self.cached.astype(np.int64), grants[0].astype(np.int64), *grants[1:])
