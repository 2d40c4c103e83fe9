"""Bandwidth shares of one direction, all slots at once: the least sum of transfer times with shares that sum to 1.

With signal-to-noise ratio ``x = gamma / b`` at share b, ``gamma = p g / (N0 B)``, a transfer takes ::

    time(b) = a / (b ln(1 + gamma / b)) seconds,   a = 10^6 size ln 2 / B

which is convex and falls in b. At the optimum the marginal saving d = -time'(b) is the same for every user: the price
of bandwidth. Its logarithm is close to linear in log b (slope about -2 at every ratio), so Newton's method in
logarithms, with the price eliminated by the budget, needs a handful of steps from b ~ sqrt(a) for any sizes and gains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.two_timescale.episode import Episode
from aigc_opt.reuse import shared

CHUNK = 20_000
"""Slots that are solved together: more would not fit the processor's cache."""

HURRIED = 0
"""Newton steps of a slot for which there is no time: of 5 or so that it needs."""

_SERIES = [(-1) ** k * (k - 1) / k for k in range(2, 10)]


@dataclass(frozen=True, eq=False)
class Shares:
    """Optimal shares of one direction.

    Attributes
    ----------
    share : ndarray, shape (N, U)
        Sums to at most 1 in a slot; 0 where nothing is sent.
    seconds : ndarray, shape (N,)
        Total transfer time of a slot at `share`.
    lower : ndarray, shape (N,)
        Proven lower bound of that total.
    price : ndarray, shape (N,)
        Seconds saved per unit of bandwidth, at the optimum.

    """

    share: np.ndarray
    seconds: np.ndarray
    lower: np.ndarray
    price: np.ndarray


@dataclass(frozen=True, eq=False)
class Transfers:
    """Shares of both directions, and the weighted cost of all transfers in the sum scale with its proven bound."""

    uplink: Shares
    downlink: Shares
    cost: float
    lower: float

    @classmethod
    def of(cls, episode: Episode, control: Control | None = None) -> Transfers:
        """Solve both directions of an episode. Transfers cost the same whatever is cached, so once is enough.

        When `control` says stop, the slots that are left get shares near the best ones, and bounds as valid as ever.
        """
        e = episode
        of_up = e.uplink_mbit, e.uplink_gain, e.user_power_w, e.uplink_hz, e.noise_w_per_hz
        of_down = e.downlink_mbit, e.downlink_gain, e.power_w, e.downlink_hz, e.noise_w_per_hz

        def whole(_: Shares) -> bool:
            return control is None or control.stop is None

        up = shared(lambda: solve_shares(*of_up, control=control), "shares", *of_up, keep=whole)
        down = shared(lambda: solve_shares(*of_down, control=control), "shares", *of_down, keep=whole)
        cost = e.weight_delay * float(up.seconds.sum() + down.seconds.sum())
        lower = e.weight_delay * float(up.lower.sum() + down.lower.sum())
        return cls(up, down, cost, lower)


def solve_shares(
    size_mbit: np.ndarray,
    gain: np.ndarray,
    power_w: np.ndarray | float,
    bandwidth_hz: float,
    noise_w_per_hz: float,
    tolerance: float = 1e-10,
    max_iterations: int = 60,
    control: Control | None = None,
) -> Shares:
    """Find the optimal shares of every slot.

    Parameters
    ----------
    size_mbit, gain : ndarray, shape (N, U)
        A size of 0 is no transfer: share 0, time 0.
    power_w : float or ndarray, shape (U,)
    tolerance : float
        Relative gap between `seconds` and `lower` at which a slot is done.
    control : Control, optional
        When it says stop, slots get `HURRIED` steps.

    Notes
    -----
    The bound: for the price lam = max_u d_u the Lagrangian sum_u [time_u(b_u) + lam b_u] - lam is below every feasible
    point's total (weak duality). Each time_u is convex, so above its tangent at `share`: time_u(b) >= t_u - d_u (b -
    share_u), whose minimum with lam b over b >= 0 is at b = 0. Hence ``lower = sum_u (t_u + d_u share_u) - lam``, valid
    whatever `share` is; where all d_u are equal it is the primal value.

    """
    parts = [
        _solve(
            size_mbit[i : i + CHUNK],
            gain[i : i + CHUNK],
            power_w,
            bandwidth_hz,
            noise_w_per_hz,
            tolerance,
            max_iterations if control is None or control.stop is None else HURRIED,
        )
        for i in range(0, len(size_mbit), CHUNK)
    ]
    return Shares(*(np.concatenate([part[k] for part in parts]) for k in range(4)))


def _solve(
    size: np.ndarray,
    gain: np.ndarray,
    power: np.ndarray | float,
    bandwidth: float,
    noise: float,
    tolerance: float,
    max_iterations: int,
) -> tuple[np.ndarray, ...]:
    slots = len(size)
    sent = size > 0
    a = np.where(sent, 1e6 * size * np.log(2.0) / bandwidth, 0.0)
    gamma = np.where(sent, power * gain / (noise * bandwidth), 1.0)
    b = np.sqrt(a)
    total = b.sum(axis=1)
    b = np.where(sent, b / np.where(total > 0, total, 1.0)[:, None], 1.0)
    share, seconds, lower, prices = np.zeros_like(b), np.zeros(slots), np.zeros(slots), np.zeros(slots)
    rows = np.flatnonzero(sent.any(axis=1))
    a, gamma, b, sent = a[rows], gamma[rows], b[rows], sent[rows]
    for iteration in range(max_iterations + 1):
        if not len(rows):
            break
        x = gamma / b
        log, excess = _log_terms(x)
        time = np.where(sent, a / (b * log), 0.0)
        saving = time * excess / (b * log)  # -time'(b), seconds per unit of share
        spent = time.sum(axis=1)
        price = saving.max(axis=1)
        bound = (time + saving * np.where(sent, b, 0.0)).sum(axis=1) - price
        done = (spent - bound <= tolerance * spent) | (iteration == max_iterations)
        at = rows[done]
        seconds[at], lower[at], prices[at] = spent[done], bound[done], price[done]
        share[at] = np.where(sent[done], b[done], 0.0)
        keep = ~done
        rows, a, gamma, b, sent = rows[keep], a[keep], gamma[keep], b[keep], sent[keep]
        x, log, excess, saving = x[keep], log[keep], excess[keep], saving[keep]
        slope = -((x / (1.0 + x)) ** 2) / excess - 2.0 * excess / log  # d log saving / d log b, about -2
        log_saving = np.log(np.where(sent, saving, 1.0))
        part = np.where(sent, b, 0.0)
        weight = part / slope
        log_price = (1.0 - part.sum(axis=1) + (weight * log_saving).sum(axis=1)) / weight.sum(axis=1)
        move = np.clip((log_price[:, None] - log_saving) / slope, -3.0, 3.0)
        b = np.where(sent, b * np.exp(move), 0.0)
        b /= b.sum(axis=1, keepdims=True)
        b = np.where(sent, b, 1.0)
    lower *= 1.0 - 1e-13  # rounding of the sums above
    over = share.sum(axis=1)
    share[over > 1] /= over[over > 1][:, None]
    return share, seconds, np.minimum(lower, seconds), prices


def _log_terms(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``ln(1 + x)``, and ``ln(1 + x) - x / (1 + x)``, by its series where that cancels."""
    log = np.log1p(x)
    excess = log - x / (1.0 + x)
    small = x < 1e-2
    if small.any():
        y = x[small]
        total = np.zeros_like(y)
        for coefficient in reversed(_SERIES):
            total = total * y + coefficient
        excess[small] = total * y * y
    return log, excess
