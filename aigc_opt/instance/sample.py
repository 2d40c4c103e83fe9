"""Episodes drawn from a two-timescale process: the same seed gives the same episode everywhere.

Only the doubles of ``numpy.random.Generator(PCG64(seed)).random()`` are used, in the order that the format page says;
sizes and gains are rounded, so that the last bits of logarithms and powers do not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aigc_opt.control import require_memory
from aigc_opt.errors import InputError
from aigc_opt.instance.two_timescale import Process, TwoTimescaleInstance

SIZE_DECIMALS = 3
GAIN_DIGITS = 6
BYTES_A_REQUEST = 225.0
"""Memory of a place for a request (frames x slots x users) while it is drawn and written, measured."""

DRAWS_PER_REQUEST = 7
"""Request, model, input, output, distance, fading up, fading down: drawn for every user in every slot, used or not."""


def sample(process: TwoTimescaleInstance, seed: int = 0, name: str | None = None) -> TwoTimescaleInstance:
    """Draw one episode.

    Parameters
    ----------
    process : TwoTimescaleInstance
        An instance with a `process`.
    seed : int
    name : str, optional
        Name of the episode; the process's name and the seed by default.

    Returns
    -------
    TwoTimescaleInstance
        The same instance with `requests` in the place of the process.

    Raises
    ------
    InputError
        If the instance is an episode already, the seed is negative, or the episode does not fit into memory.

    """
    faults = []
    if process.problem != "two_timescale" or process.process is None:
        faults.append("has no process to sample from")
    if seed < 0:
        faults.append(f"seed must be >= 0, got {seed}")
    if faults:
        raise InputError(process.name, faults)
    require_room(process)
    data = process.to_dict()
    del data["process"]
    data["name"] = name or f"{process.name}-{seed}"
    data["description"] = f"Episode {seed} of {process.name}. {process.description}".rstrip()
    data["requests"] = draw_requests(process.process, len(process.user_power_w), len(process.models), seed)
    return TwoTimescaleInstance.from_dict(data, "sample")


def require_room(process: TwoTimescaleInstance) -> None:
    """Refuse a process whose episode does not fit into memory, before anything of it is drawn.

    Raises
    ------
    InputError
        With one line that says how much is needed and how much there is.

    """
    drawn = process.process
    places = 0 if drawn is None else drawn.frames * drawn.slots * len(process.user_power_w)
    require_memory(process.name, f"{places:,} places for requests", BYTES_A_REQUEST * places)


def draw_requests(process: Process, users: int, models: int, seed: int) -> dict[str, np.ndarray]:
    """Draw the requests of one episode.

    Returns
    -------
    dict of ndarray, shape (T, K, U)
        ``model`` (int64, -1 = none), ``input_mbit``, ``output_mbit``, ``uplink_gain``, ``downlink_gain``.

    """
    return {key: values[0] for key, values in draw_episodes(process, users, models, [seed])[1].items()}


def draw_episodes(
    process: Process, users: int, models: int, seeds: Sequence[int]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draw n episodes at once, each exactly as its seed alone would give it.

    Returns
    -------
    state : ndarray of int64, shape (n, T)
        State of the chain in each frame.
    requests : dict of ndarray, shape (n, T, K, U)
        As `draw_requests` returns them.

    """
    frames, slots, number = process.frames, process.slots, len(seeds)
    row = DRAWS_PER_REQUEST * slots * users + 1
    draws = np.empty((number, frames * row))
    draws[:, 0] = np.nan  # the first frame draws no state; with this gap every frame is one row
    for part, seed in zip(draws, seeds, strict=True):
        np.random.Generator(np.random.PCG64(seed)).random(out=part[1:])
    by_frame = draws.reshape(number, frames, row)
    state = _states(process, by_frame[:, :, 0])
    # The seven draws first, so that each is one block of memory.
    v = np.ascontiguousarray(by_frame[:, :, 1:].reshape(-1, DRAWS_PER_REQUEST).T)
    v = v.reshape(DRAWS_PER_REQUEST, number, frames, slots, users)

    weight = (1.0 + np.arange(models)) ** -process.zipf_exponents[:, None]
    cumulative = np.cumsum(weight / weight.sum(axis=1, keepdims=True), axis=1)
    model = np.empty((number, frames, slots, users), np.int64)
    for j in range(len(cumulative)):
        now = state == j
        model[now] = _inverse(cumulative[j], v[1][now])
    if process.request_probability < 1:
        model[v[0] >= process.request_probability] = -1

    def uniform(ends: np.ndarray, k: int) -> np.ndarray:
        return ends[0] + (ends[1] - ends[0]) * v[k]

    loss = process.path_loss_db
    decibel = loss.intercept + loss.slope * np.log10(uniform(process.distance_m, 4) / 1000.0)
    gain = 10.0 ** (-decibel / 10.0)
    fading = process.fading == "rayleigh"
    return state, {
        "model": model,
        "input_mbit": round_decimals(uniform(process.input_mbit, 2), SIZE_DECIMALS),
        "output_mbit": round_decimals(uniform(process.output_mbit, 3), SIZE_DECIMALS),
        "uplink_gain": round_significant(gain * -np.log1p(-v[5]) if fading else gain, GAIN_DIGITS),
        "downlink_gain": round_significant(gain * -np.log1p(-v[6]) if fading else gain, GAIN_DIGITS),
    }


def _states(process: Process, v: np.ndarray) -> np.ndarray:
    """State of the chain in each frame, shape (n, T), for draws of that shape; ``v[:, 0]`` is not used."""
    rows = np.cumsum(process.transition, axis=1)
    state = np.full(v.shape, process.initial_state, np.int64)
    for t in range(1, v.shape[1]):
        for j in range(len(rows)):
            now = state[:, t - 1] == j
            state[now, t] = _inverse(rows[j], v[now, t])
    return state


def _inverse(cumulative: np.ndarray, v: np.ndarray | float) -> np.ndarray:
    """Inverse of a cumulative distribution: the first index with v < cumulative, at most the last one with mass."""
    last = np.flatnonzero(np.diff(cumulative, prepend=0.0) > 0)[-1]
    return np.minimum(np.searchsorted(cumulative, v, side="right"), last)


def round_decimals(x: np.ndarray, decimals: int) -> np.ndarray:
    """Round every entry as ``round(x, decimals)`` does, correctly, but all at once.

    ``rint(x 10^d) / 10^d`` is that (a quotient of exact integers is correctly rounded), except where x 10^d is within
    rounding error of a tie; those few entries go through Python's own exact `round`.
    """
    ten = 10.0**decimals
    y = x * ten
    rounded = np.rint(y) / ten
    near_tie = abs(abs(y - np.floor(y)) - 0.5) < 1e-9 * np.maximum(1.0, abs(y))
    for index in np.flatnonzero(near_tie):
        rounded.flat[index] = round(float(x.flat[index]), decimals)
    return rounded


def round_significant(x: np.ndarray, digits: int) -> np.ndarray:
    """Round every entry (> 0) as ``float(f"{x:.6g}")`` does for 6 digits, correctly, but all at once."""
    usual = np.where((x > 0) & np.isfinite(x), x, 1.0)
    shift = digits - 1 - np.floor(np.log10(usual)).astype(np.int64)  # x 10^shift has `digits` digits before the point
    power = 10.0 ** np.abs(shift).astype(float)
    y = np.where(shift >= 0, usual * power, usual / power)
    whole = np.rint(y)
    rounded = np.where(shift >= 0, whole / power, whole * power)  # correct: whole and 10^|shift| (<= 22) are exact
    odd = (
        (abs(y - np.floor(y) - 0.5) < 1e-8 * y)
        | (abs(shift) > 22)
        | (y < 10.0 ** (digits - 1) * (1 + 1e-9))
        | (y > 10.0**digits * (1 - 1e-9))
        | (usual != x)
    )
    for index in np.flatnonzero(odd):
        rounded.flat[index] = float(f"{float(x.flat[index]):.{digits}g}")
    return rounded
