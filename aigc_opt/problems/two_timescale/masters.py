"""Benders' masters over caches and switches: columns, rows, and cuts as rows. Sum scale, without transfers."""

from __future__ import annotations

import numpy as np

from aigc_opt.decomposition.benders import Rows
from aigc_opt.problems.two_timescale.frames import Frames
from aigc_opt.program import INF, LinearProgram, ProgramBuilder


class Masters:
    """The program of caches, switches, and a cost for each frame or each slot.

    Cost columns are what a frame (slot) costs above `base`, which no cache undercuts: prices of 0, with every model
    that helps.

    Parameters
    ----------
    frames : Frames
    by_slot : bool
        Whether there is a cost for each slot; else for each frame.

    Attributes
    ----------
    program : LinearProgram
        Caches are integer; `Master` relaxes them where that is wanted.
    cached, switched : ndarray of int, shape (T, M)
        Columns.
    cost : ndarray of int, shape (T,) or (T K,)
        Columns.

    """

    def __init__(self, frames: Frames, by_slot: bool):
        e = self.episode = frames.episode
        every = np.arange(e.frames)
        const, grad = frames.slot_cuts(every, np.zeros((e.frames, e.slots)))
        if not by_slot:
            const = const.reshape(e.frames, -1).sum(axis=1)
            grad = grad.reshape(e.frames, e.slots, -1).sum(axis=1)
        self.base = const + np.minimum(grad, 0.0).sum(axis=1) - 1e-9 * (1 + abs(const))
        build = ProgramBuilder()
        shape, names = (e.frames, e.models), lambda: list(np.ndindex(e.frames, e.models))
        fits = np.broadcast_to(frames.fits.astype(float), shape)
        self.cached = build.variable("cached", np.zeros(shape), names, upper=fits, integer=True)
        self.switched = build.variable("switched", np.broadcast_to(e.switch, shape).copy(), names)
        number = len(const)
        self.cost = build.variable("cost", np.ones(number), lambda: [(k,) for k in range(number)], upper=INF)
        build.constraint(
            "storage", [(every[:, None], self.cached, e.size_gb)], np.full(e.frames, e.storage_gb),
            lambda: [(t,) for t in every.tolist()],
        )  # fmt: skip
        # cached[t] - cached[t-1] - switched[t] <= 0; before the first frame: what is there already
        row = np.arange(e.frames * e.models).reshape(shape)
        known = np.zeros(shape)
        known[0] = e.initial
        terms = [(row, self.cached, 1.0), (row[1:], self.cached[:-1], -1.0), (row, self.switched, -1.0)]
        build.constraint("switching", terms, known.ravel(), names)
        self.switching_rows = slice(e.frames, e.frames + e.frames * e.models)
        self.program: LinearProgram = build.build(offset=float(self.base.sum()))

    def point(self, caches: np.ndarray, cost: np.ndarray) -> np.ndarray:
        """Return the point of caches (T, M), fractional or not, at costs of frames or slots."""
        x = np.zeros(self.program.cost.size)
        before = np.concatenate([self.episode.initial[None].astype(float), caches[:-1]])
        x[self.cached], x[self.switched] = caches, np.maximum(caches - before, 0.0)
        x[self.cost] = np.maximum(cost - self.base, 0.0)
        return x

    def caches(self, x: np.ndarray) -> np.ndarray:
        """Return the caches (T, M) of a point."""
        return np.clip(x[self.cached], 0.0, 1.0)

    def cuts(self, of: np.ndarray, frame: np.ndarray, const: np.ndarray, grad: np.ndarray) -> Rows:
        """Make rows ``cost[of] >= const + grad @ cached[frame]`` of arrays (n,), (n,), (n,) and (n, M)."""
        return self._rows(frame, -grad, const - self.base[of], np.full(len(of), INF), self.cost[of])

    def step_rows(self, frames: Frames, of: np.ndarray, caches: np.ndarray) -> Rows:
        """Make the rows of slots in which the steps that must be given to caches (n, M) of frames (n,) do not fit.

        Such a slot's own row is ``sum_u min_steps x[phi_u] <= F``: what every feasible cache keeps.
        """
        e = self.episode
        rows, weight = frames.weights(of, caches)
        over = e.min_steps * weight.sum(axis=1) > e.steps_per_slot * (1 + 1e-9)
        slots = np.unique(rows[over]) if not frames.free_hits else rows[:0]
        place = np.arange(len(slots))[:, None] * e.models + frames.wanted[slots]
        asked = frames.asked[slots].ravel().astype(float)
        count = np.bincount(place.ravel(), asked, len(slots) * e.models).reshape(-1, e.models)
        upper = np.full(len(slots), e.steps_per_slot)
        return self._rows(slots // e.slots, e.min_steps * count, np.full(len(slots), -INF), upper)

    def _rows(
        self,
        frame: np.ndarray,
        grad: np.ndarray,
        lower: np.ndarray,
        upper: np.ndarray,
        cost: np.ndarray | None = None,
    ) -> Rows:
        import scipy.sparse as sp  # here: as in `program`

        number, models = grad.shape
        columns, values, rows = self.cached[frame].ravel(), grad.ravel(), np.repeat(np.arange(number), models)
        if cost is not None:
            columns, rows = np.concatenate([columns, cost]), np.concatenate([rows, np.arange(number)])
            values = np.concatenate([values, np.ones(number)])
        matrix = sp.csr_array((values, (rows, columns)), shape=(number, self.program.cost.size))
        matrix.eliminate_zeros()
        return Rows(matrix, lower, upper)
