"""Branch and bound over the caches of all frames in step: slower than listing, and always possible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.two_timescale.frames import Frames
from aigc_opt.problems.two_timescale.listing import Interval
from aigc_opt.problems.two_timescale.prices import Fixings, price_steps

ITERATIONS = 4
"""Rounds of prices that bound a node."""

ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class _Nodes:
    """Open nodes: a frame each, models fixed inside and outside, a fractional cache to start from, a proven bound."""

    frame: np.ndarray
    inside: np.ndarray
    outside: np.ndarray
    average: np.ndarray
    bound: np.ndarray

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, rows: np.ndarray) -> Self:
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    def joined(self, other: Self) -> Self:
        return type(self)(
            *(np.concatenate([getattr(self, field.name), getattr(other, field.name)]) for field in fields(self))
        )


def branch_frames(
    frames: Frames,
    interval: Interval,
    average: np.ndarray,
    target: float,
    relative: float,
    slot_relative: float,
    control: Control,
    report: Callable[[str], None] = lambda event: None,
) -> None:
    """Narrow the interval of every frame, without linear terms, until their widths sum to `target`.

    A node fixes models inside and outside the cache of one frame; `price_steps` bounds it under the fixings. A node
    with nothing left to choose is one cache, whose slots are solved exactly. A node whose bound comes within `relative`
    of the frame's best cache is dropped, and its bound kept: a frame's lower bound is the least over its open, dropped
    and finished nodes.

    Parameters
    ----------
    average : ndarray, shape (T, M)
        Fractional caches to start from.

    """
    _Tree(frames, interval, average, relative, slot_relative, control).run(target, report)


class _Tree:
    def __init__(
        self,
        frames: Frames,
        interval: Interval,
        average: np.ndarray,
        relative: float,
        slot_relative: float,
        control: Control,
    ):
        e = frames.episode
        self.frames, self.interval, self.control = frames, interval, control
        self.relative, self.slot_relative = max(relative, ROUNDING), slot_relative
        self.size, self.storage_gb = e.size_gb, e.storage_gb
        self.closed = np.full(e.frames, np.inf)  # least bound of dropped and finished nodes
        root = Fixings.none(frames, e.frames)
        self.open = _Nodes(np.arange(e.frames), root.inside, root.outside, average.copy(), interval.lower.copy())
        self.count = 0

    def run(self, target: float, report: Callable[[str], None]) -> None:
        told = 0
        while len(self.open):
            self._settle()
            if self.interval.width <= target or self.control.stop is not None:
                return
            if self._drop() or self._finish():
                continue
            self._branch(target)
            if self.count - told >= 1000:
                told = self.count
                report(f"branch and bound: {self.count} nodes")
        self._settle()

    def _settle(self) -> None:
        """Raise the frames' lower bounds to the least over their nodes."""
        least = self.closed.copy()
        np.minimum.at(least, self.open.frame, self.open.bound)
        np.maximum(self.interval.lower, np.minimum(least, self.interval.upper), out=self.interval.lower)

    def _cutoff(self, of: np.ndarray) -> np.ndarray:
        upper = self.interval.upper[of]
        return upper - self.relative * abs(upper)

    def _close(self, of: np.ndarray, bound: np.ndarray) -> None:
        np.minimum.at(self.closed, of, bound)

    def _drop(self) -> bool:
        drop = self.open.bound >= self._cutoff(self.open.frame)
        self._close(self.open.frame[drop], self.open.bound[drop])
        self.open = self.open.take(~drop)
        return bool(drop.any())

    def _choices(self, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        """Models that may still be put in."""
        room = self.storage_gb - (inside * self.size).sum(axis=1)
        return ~inside & ~outside & (self.size <= room[:, None] + 1e-12)

    def _finish(self) -> bool:
        """Solve nodes with nothing left to choose."""
        leaf = ~np.any(self._choices(self.open.inside, self.open.outside), axis=1)
        if not leaf.any():
            return False
        done, self.open = self.open.take(leaf), self.open.take(~leaf)
        upper, lower = self.frames.exact(done.frame, done.inside, self.slot_relative, self.control)
        self._close(done.frame, np.maximum(lower, done.bound))
        self._offer(done.frame, done.inside, upper)
        return True

    def _offer(self, of: np.ndarray, caches: np.ndarray, upper: np.ndarray) -> None:
        for t, cache, value in zip(of, caches, upper, strict=True):
            if value < self.interval.upper[t]:
                self.interval.upper[t], self.interval.caches[t] = value, cache

    def _branch(self, target: float) -> None:
        """Split the worst nodes of the widest frames, and bound their children."""
        gap = self.interval.upper - self.interval.lower
        wide = gap[self.open.frame] > 0.5 * target / max(1, (gap > 0).sum())
        pool = np.flatnonzero(wide) if wide.any() else np.arange(len(self.open))
        order = pool[np.lexsort((self.open.bound[pool], self.open.frame[pool]))]
        of = self.open.frame[order]
        begins = np.where(np.r_[True, of[1:] != of[:-1]], np.arange(len(order)), 0)
        rank = np.arange(len(order)) - np.maximum.accumulate(begins)
        chosen = order[np.lexsort((-gap[of], rank))][: max(1, self.frames.batch // 2)]
        stay = np.ones(len(self.open), bool)
        stay[chosen] = False
        nodes, self.open = self.open.take(chosen), self.open.take(stay)
        self.count += 2 * len(nodes)
        free = self._choices(nodes.inside, nodes.outside)
        score = np.where(free, np.minimum(nodes.average, 1 - nodes.average) + 1e-6 * nodes.average, -1.0)
        at = (np.arange(len(nodes)), score.argmax(axis=1))
        inside, outside = nodes.inside.copy(), nodes.outside.copy()
        inside[at] = outside[at] = True
        children = _Nodes(nodes.frame, inside, nodes.outside, nodes.average, nodes.bound).joined(
            _Nodes(nodes.frame, nodes.inside, outside, nodes.average, nodes.bound)
        )
        self.open = self.open.joined(self._bounded(children))

    def _bounded(self, nodes: _Nodes) -> _Nodes:
        free = self._choices(nodes.inside, nodes.outside)
        average = np.where(free, nodes.average, 0.0)
        room = self.storage_gb - (nodes.inside * self.size).sum(axis=1)
        used = (average * self.size).sum(axis=1)
        average *= np.where(used > room, room / np.where(used > 0, used, 1.0), 1.0)[:, None]
        average = np.where(nodes.inside, 1.0, average)
        outside = ~nodes.inside & ~free
        found = price_steps(
            self.frames, nodes.frame, average, ITERATIONS, self.control,
            fixings=Fixings(nodes.inside, outside), whole=False, cutoff=self._cutoff(nodes.frame),
        )  # fmt: skip
        which, caches = found.met[-1]  # the last vertices, rounded down, may be better caches
        of = nodes.frame[which]
        value = self.frames.value(of, caches)
        order = np.lexsort((value, of))
        lead = order[np.r_[True, of[order][1:] != of[order][:-1]]]
        lead = lead[value[lead] < self._cutoff(of[lead])]
        if len(lead):
            upper, _ = self.frames.exact(of[lead], caches[lead], self.slot_relative, self.control)
            self._offer(of[lead], caches[lead], upper)
        return _Nodes(nodes.frame, nodes.inside, outside, found.average, np.maximum(found.lower, nodes.bound))
