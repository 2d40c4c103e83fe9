"""Costs of caches, frame by frame: exact, bounded, and as cuts. Sum scale, without transfers.

For frame t and cache x in {0,1}^M ::

    V_t(x)    least cost of the frame's slots with cache x; inf where the steps that must be given do not fit
    Phi_t(x)  the same with each slot's dual: Phi_t <= V_t at caches, and Phi_t is convex on [0,1]^M
    const(p) + grad(p) x <= Phi_t(x) for EVERY x, whatever the prices p >= 0 (weak duality, slot by slot)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.two_timescale.episode import Episode
from aigc_opt.problems.two_timescale.slot_dual import Response, slot_dual
from aigc_opt.problems.two_timescale.slot_exact import Allocation, Jobs, solve_jobs
from aigc_opt.reuse import Table, table

ROWS_AT_ONCE = 20_000
"""Slots whose duals are computed together: a bound on memory."""


@dataclass(frozen=True, eq=False)
class Cuts:
    """Linear lower bounds of n frames' costs: ``const + grad @ x`` for every cache x.

    Attributes
    ----------
    const : ndarray, shape (n,)
    grad : ndarray, shape (n, M)
    prices : ndarray, shape (n, K)
        Prices of steps, one a slot, that make them.

    """

    const: np.ndarray
    grad: np.ndarray
    prices: np.ndarray


class Frames:
    """The slots of an episode, addressed by frame.

    Attributes
    ----------
    episode : Episode
    asked : ndarray of bool, shape (N, U)
        Where there is a request.
    wanted : ndarray of int64, shape (N, U)
        The requested model, 0 where there is none.
    free : ndarray of bool, shape (N, U)
        Requests that may go to the cloud although their model is cached.
    fits : ndarray of bool, shape (M,)
        Models that fit into the cache at all.

    """

    def __init__(self, episode: Episode):
        self.episode = episode
        self.asked = episode.model >= 0
        self.wanted = np.maximum(episode.model, 0)
        self.free_hits = not episode.serve_all_hits
        self.free = self.asked & self.free_hits
        self.fits = episode.size_gb <= episode.storage_gb
        self.batch = max(1, ROWS_AT_ONCE // episode.slots)
        self._tables: dict[tuple[str | float, ...], Table | None] = {}

    def rows(self, frames: np.ndarray) -> np.ndarray:
        """Return slots of these frames, shape (n K,)."""
        slots = self.episode.slots
        return (np.asarray(frames)[:, None] * slots + np.arange(slots)).ravel()

    def weights(self, frames: np.ndarray, caches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return slots (n K,) and how much of each request's model is cached (n K, U), for caches (n, M)."""
        rows = self.rows(frames)
        pair = np.repeat(np.arange(len(caches)), self.episode.slots)
        weight = np.asarray(caches, float)[pair[:, None], self.wanted[rows]]
        return rows, np.where(self.asked[rows], weight, 0.0)

    def dual(
        self, frames: np.ndarray, caches: np.ndarray, tolerance: float = 1e-7, control: Control | None = None
    ) -> tuple[np.ndarray, np.ndarray, Cuts]:
        """Bound Phi_t(x) from below, within `tolerance`, for pairs of frames (n,) and caches (n, M), fractional or not.

        When `control` says stop, the pairs that are left get cuts at prices of 0, and a value of -inf.

        Returns
        -------
        value : ndarray, shape (n,)
            The dual at the prices of the cuts.
        fits : ndarray of bool, shape (n,)
            Whether the steps that must be given fit; where not, `value` is only some bound.
        cuts : Cuts
            The cuts at these prices, tight at the caches.

        """
        value, fits, prices = self.prices(frames, caches, tolerance, control)
        return value, fits, self.cuts(frames, prices)

    def prices(
        self, frames: np.ndarray, caches: np.ndarray, tolerance: float = 1e-7, control: Control | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what `dual` does, with the prices (n, K) in place of their cuts."""
        e = self.episode
        value, fits = np.full(len(frames), -np.inf), np.ones(len(frames), bool)
        prices = np.zeros((len(frames), e.slots))
        for part in self._parts(len(frames)):
            if control is not None and control.stop is not None:
                break
            rows, weight = self.weights(frames[part], caches[part])
            free = self.free[rows]
            found = slot_dual(
                e.curves, e.steps_per_slot, e.model[rows], e.cloud[rows], weight, free, tolerance=tolerance
            )
            value[part] = found.bound.reshape(-1, e.slots).sum(axis=1)
            fits[part] = found.feasible.reshape(-1, e.slots).all(axis=1)
            prices[part] = found.price.reshape(-1, e.slots)
        return value, fits, prices

    def value(self, frames: np.ndarray, caches: np.ndarray) -> np.ndarray:
        """Return a lower bound of V_t(x) for pairs, shape (n,); inf where the steps that must be given do not fit."""
        value, fits, _ = self.prices(frames, caches)
        return np.where(fits, value, np.inf)

    def cuts(self, frames: np.ndarray, prices: np.ndarray) -> Cuts:
        """Return the cuts of frames (n,) at prices (n, K) >= 0.

        For a fixed cache the bound is concave in the prices, so the cut at an average of prices is at least the average
        of the cuts.
        """
        e = self.episode
        const, grad = np.empty(len(frames)), np.empty((len(frames), e.models))
        for part in self._parts(len(frames)):
            per_slot, of_models = self.slot_cuts(frames[part], prices[part])
            const[part] = per_slot.reshape(-1, e.slots).sum(axis=1)
            grad[part] = of_models.reshape(-1, e.slots, e.models).sum(axis=1)
        return Cuts(const, grad, prices)

    def slot_cuts(self, frames: np.ndarray, prices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return each slot's own cut: constants (n K,) and coefficients of the models (n K, M)."""
        e = self.episode
        rows, price = self.rows(frames), np.asarray(prices).ravel()
        asked, cloud = self.asked[rows], e.cloud[rows]
        value, _, _ = Response(e.curves, e.model[rows], cloud, None, self.free[rows])(price)
        place = np.arange(len(rows))[:, None] * e.models + self.wanted[rows]
        saved = np.where(asked, value - cloud, 0.0)
        grad = np.bincount(place.ravel(), saved.ravel(), len(rows) * e.models).reshape(-1, e.models)
        return cloud.sum(axis=1) - price * e.steps_per_slot, grad

    def exact(
        self,
        frames: np.ndarray,
        caches: np.ndarray,
        relative: float,
        control: Control,
        cutoff: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Solve pairs of frames (n,) and caches (n, M): upper and lower value of V_t(x), each (n,).

        They differ by at most `relative` of what the frame's slots cost, unless `control` said stop. With a `cutoff`
        (n,) a pair is given up as soon as its lower value reaches it; both values stay valid.
        """
        slots = self.episode.slots
        upper, lower = np.empty(len(frames)), np.empty(len(frames))
        for part in self._parts(len(frames)):
            found = self.allocate(
                frames[part], caches[part], relative, control, None if cutoff is None else cutoff[part]
            )
            upper[part] = found.cost.reshape(-1, slots).sum(axis=1)
            lower[part] = found.lower.reshape(-1, slots).sum(axis=1)
        return upper, lower

    def allocate(
        self,
        frames: np.ndarray,
        caches: np.ndarray,
        relative: float,
        control: Control,
        cutoff: np.ndarray | None = None,
        roots: bool = False,
    ) -> Allocation:
        """Solve the slots of pairs as `exact` does and return them, n K rows; equal slots with equal hits once.

        With `roots` every slot gets a good point and bound whatever `control` says.
        """
        e = self.episode
        rows, weight = self.weights(frames, caches)
        cached = weight > 0.5
        group = np.repeat(np.arange(len(frames)), e.slots)
        if cutoff is not None:
            jobs = Jobs(e.curves, e.steps_per_slot, e.model[rows], e.cloud[rows], cached, self.free_hits)
            return solve_jobs(jobs, relative, control, group, cutoff, roots)

        codes, first, again = distinct(rows, cached)

        def solve(which: np.ndarray) -> tuple[tuple[np.ndarray, ...], bool]:
            at = rows[first[which]]
            jobs = Jobs(e.curves, e.steps_per_slot, e.model[at], e.cloud[at], cached[first[which]], self.free_hits)
            found = solve_jobs(jobs, relative, control, None, None, roots)
            return (found.cost, found.lower, found.at_edge, found.steps), control.stop is None

        return Allocation(*self.solved("slots", codes, solve, relative)).take(again)

    def solved(
        self,
        name: str,
        codes: np.ndarray,
        solve: Callable[[np.ndarray], tuple[tuple[np.ndarray, ...], bool]],
        *parts: float,
    ) -> tuple[np.ndarray, ...]:
        """Return columns of results, a row a code of `distinct`: solved now, or by an earlier point of a sweep.

        A slot's costs depend on its requests, its hits, the curves and the budget of steps; storage and the cost of
        switching have no part in them.
        """
        e, c = self.episode, self.episode.curves
        if (name, *parts) not in self._tables:  # to find it takes a hash of the whole episode
            of_curves = (getattr(c, field.name) for field in fields(c))
            found = table(name, *parts, e.steps_per_slot, self.free_hits, e.model, e.cloud, *of_curves)
            self._tables[name, *parts] = found if codes.dtype == np.int64 else None
        kept = self._tables[name, *parts]
        return solve(np.arange(len(codes)))[0] if kept is None else kept.rows(codes, solve)

    def _parts(self, number: int) -> list[slice]:
        return [slice(i, min(i + self.batch, number)) for i in range(0, number, self.batch)]


def distinct(rows: np.ndarray, cached: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct pairs of slot and hits, rising, where each stands first, and which of them every pair is.

    A pair is one integer where it fits, which sorts many times faster than bytes.
    """
    users = cached.shape[1]
    if users + int(rows.max(initial=0)).bit_length() < 63:
        whole = (rows.astype(np.int64) << users) | cached @ (np.int64(1) << np.arange(users))
    else:
        names = np.ascontiguousarray(rows.astype(np.int64)).view(np.uint8).reshape(len(rows), 8)
        key = np.ascontiguousarray(np.concatenate([names, np.packbits(cached, axis=1)], axis=1))
        whole = key.view([("", key.dtype)] * key.shape[1]).ravel()
    codes, first, again = np.unique(whole, return_index=True, return_inverse=True)
    return codes, first, again.ravel()


def switching_cost(episode: Episode, caches: np.ndarray) -> float:
    """Cost of the switches of caches (T, M), sum scale."""
    before = np.concatenate([episode.initial[None], caches[:-1]])
    return float(((caches & ~before) * episode.switch).sum())
