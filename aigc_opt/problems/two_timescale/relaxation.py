"""The linear relaxation of the caches, by Benders' cuts: prices of switches and of steps, and fractional caches."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from aigc_opt.control import Control
from aigc_opt.decomposition.benders import Answered, Master, Rows, solve_benders
from aigc_opt.errors import SolverError
from aigc_opt.problems.two_timescale.frames import Cuts, Frames
from aigc_opt.problems.two_timescale.masters import Masters
from aigc_opt.problems.two_timescale.search import popular_caches, with_room_for_steps

RELAXED_ROUNDS = 40
FRAMES_AT_ONCE = 50
RELAXED_GAP = 2e-4
"""Relative gap of the relaxation at which its rounds end."""


@dataclass(frozen=True, eq=False)
class Relaxation:
    """What the master's linear relaxation says.

    Attributes
    ----------
    switch_prices : ndarray, shape (T, M)
        Prices of switches, between 0 and what they cost.
    step_prices : ndarray, shape (T, K)
        Prices of steps: each frame's cuts' own, averaged with the multipliers of the cuts.
    average : ndarray, shape (T, M)
        The best fractional caches met.
    rounded : list of ndarray of bool, shape (T, M)
        Caches of the rounds, rounded; they need not fit.

    """

    switch_prices: np.ndarray
    step_prices: np.ndarray
    average: np.ndarray
    rounded: list[np.ndarray]


def relax(frames: Frames, control: Control) -> Relaxation:
    """Solve the relaxation by cuts, queried between the master's point and the best one so far.

    The averaged prices of steps are good because for a fixed cache a cut is concave in its prices (`Frames.cuts`): the
    cut at the average is at least the average of the cuts, which at the last round is the master's own bound. Where
    HiGHS fails (numbers of extreme magnitude), they are those of the last master that it solved, with a warning: any
    prices prove something.
    """
    e = frames.episode
    every = np.arange(e.frames)
    layout = Masters(frames, by_slot=False)
    master = Master(layout.program, relaxed=True)
    first = with_room_for_steps(frames, popular_caches(e)).astype(float)
    rounded: list[np.ndarray] = []
    every_cut: list[tuple[int, Cuts]] = []  # where each round's cuts begin among the rows

    def ask(x: np.ndarray, control: Control) -> Answered:
        query = layout.caches(x)
        rounded.append(query > 0.5)
        value, fits, cuts = frames.dual(every, query)
        point = layout.point(query, value)
        switches = float(point[layout.switched].ravel() @ np.tile(e.switch, e.frames))
        cost = float(value.sum()) + switches if fits.all() else np.inf
        every_cut.append((master.program.row_upper.size, cuts))
        rows = layout.cuts(every, every, cuts.const, cuts.grad)
        return Answered(Rows.joined([rows, layout.step_rows(frames, every, query)]), cost, point)

    start = layout.point(first, np.zeros(e.frames))
    average = first
    try:
        ended = solve_benders(
            master, ask, start, lambda upper: RELAXED_GAP * abs(upper), control, mix=0.5, rounds=RELAXED_ROUNDS
        )
        average = first if ended.x is None else layout.caches(ended.x)
    except SolverError as error:
        warnings.warn(f"the prices of the linear relaxation are not its best: {error}", stacklevel=2)
    duals = None if master.outcome is None else master.outcome.row_duals
    if duals is None:
        return Relaxation(np.zeros((e.frames, e.models)), np.zeros((e.frames, e.slots)), average, rounded)
    prices = np.clip(-duals[layout.switching_rows].reshape(e.frames, e.models), 0.0, e.switch)
    known = [(row, cuts) for row, cuts in every_cut if row + e.frames <= len(duals)]
    weight = np.array([np.maximum(duals[row : row + e.frames], 0.0) for row, _ in known])
    steps = sum(w[:, None] * cuts.prices for w, (_, cuts) in zip(weight, known, strict=True))
    steps = steps / np.where(weight.sum(axis=0) > 0, weight.sum(axis=0), 1.0)[:, None]
    return Relaxation(prices, steps, average, rounded)


def relax_apart(frames: Frames, control: Control) -> Relaxation:
    """Solve the relaxation where switching costs nothing: some frames at a time, so that time grows as their number."""
    e, parts = frames.episode, []
    for first in range(0, e.frames, FRAMES_AT_ONCE):
        last = min(first + FRAMES_AT_ONCE, e.frames)
        share = (last - first) / (e.frames - first)
        parts.append(relax(Frames(e.part(first, last)), control.part(share)))
    return Relaxation(
        np.concatenate([part.switch_prices for part in parts]),
        np.concatenate([part.step_prices for part in parts]),
        np.concatenate([part.average for part in parts]),
        [],
    )
