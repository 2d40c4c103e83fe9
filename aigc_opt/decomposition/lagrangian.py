"""Finding multipliers of a Lagrangian dual: ascent on a smoothed copy of it, or averages of its minimisers.

The dual function D of a minimisation problem is concave, and D at any multipliers >= 0 is a lower bound. Its kinks make
gradient steps stall; a soft minimum in place of each minimum has none, and lies below D by at most a multiple of its
temperature. So `smooth_ascent` goes up a smooth function, cools down, and goes on from the best by D itself.

Where the best multipliers for a given point, fractional or not, are found exactly, `average_points` needs no steps: by
Frank and Wolfe's method it averages the minimisers that the multipliers of the average so far lead to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from aigc_opt.control import Control

SMALLEST_SCALE = 1e-6
"""Multipliers are measured in units of where they start, and at least in this one."""


@dataclass(frozen=True)
class SmoothDual:
    """A dual function at some multipliers: its `value`, a `smooth` one below it, and the gradient `slope` of that."""

    value: float
    smooth: float
    slope: np.ndarray


class _Stopped(Exception):
    """Ends an ascent from inside the function that is evaluated."""


def smooth_ascent(
    dual: Callable[[np.ndarray, float], SmoothDual],
    start: np.ndarray,
    control: Control,
    temperatures: Sequence[float],
    iterations: int = 60,
    scale: np.ndarray | None = None,
) -> np.ndarray:
    """Raise a dual function by L-BFGS-B on its smooth copy at falling temperatures.

    Parameters
    ----------
    dual : callable
        (multipliers (m,), temperature) -> `SmoothDual`.
    start : ndarray, shape (m,)
        Multipliers >= 0.
    control : Control
        Polled at every evaluation.
    temperatures : sequence of float
    iterations : int
        At most, at each temperature.
    scale : ndarray, shape (m,), optional
        Units > 0 of the multipliers; `start` by default.

    Returns
    -------
    ndarray, shape (m,)
        The multipliers of the largest value seen; `start` if none is better.

    """
    from scipy.optimize import minimize

    best, best_value = start, -np.inf
    scale = np.maximum(start if scale is None else scale, SMALLEST_SCALE)

    def descend(scaled: np.ndarray, temperature: float) -> tuple[float, np.ndarray]:
        nonlocal best, best_value
        if control.stop is not None:
            raise _Stopped
        multipliers = scaled * scale
        seen = dual(multipliers, temperature)
        if seen.value > best_value:
            best, best_value = multipliers.copy(), seen.value
        return -seen.smooth, -seen.slope * scale

    try:
        for temperature in temperatures:
            minimize(
                descend,
                best / scale,
                args=(temperature,),
                jac=True,
                method="L-BFGS-B",
                bounds=[(0, None)] * len(start),
                options={"maxiter": iterations, "maxcor": 20, "ftol": 1e-9},
            )
    except _Stopped:
        pass
    return best


@dataclass(eq=False)
class Averaged:
    """What `average_points` found for n problems.

    Attributes
    ----------
    lower : ndarray, shape (n,)
        The largest values of the duals that were met.
    multipliers : ndarray, shape (n, k)
        Where they were.
    average : ndarray, shape (n, m)
        The average points: where the relaxed problems are solved, nearly.
    met : list of (ndarray of int, ndarray)
        Minimisers met on the way: problems (a,) and a point (a, m) for each.

    """

    lower: np.ndarray
    multipliers: np.ndarray
    average: np.ndarray
    met: list[tuple[np.ndarray, np.ndarray]]


def average_points(
    best_multipliers: Callable[[np.ndarray, np.ndarray], np.ndarray],
    dual: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    start: np.ndarray,
    iterations: int,
    control: Control,
    cutoff: np.ndarray | None = None,
    mean_every: int = 5,
) -> Averaged:
    """Bound n problems in step: multipliers of an average point, a minimiser there, which enters the average.

    The running average of the multipliers is tried now and then: a dual is concave, so there it is at least as good as
    the average of what was tried before. Every bound is a value of a dual, valid whenever it stops.

    Parameters
    ----------
    best_multipliers : callable
        (problems (a,), points (a, m)) -> multipliers >= 0 (a, k) that are best for these points.
    dual : callable
        (problems (a,), multipliers (a, k)) -> minimisers (a, m) of the Lagrangians, and their values (a,) or less.
    start : ndarray, shape (n, m)
    control : Control
        Polled in each iteration; the first one is done whatever it says.
    cutoff : ndarray, shape (n,), optional
        A problem whose bound reaches it is left.

    """
    number = len(start)
    found = Averaged(np.full(number, -np.inf), np.zeros((number, 0)), start.astype(float), [])
    mean = np.zeros((number, 0))
    active = np.arange(number)

    def evaluate(multipliers: np.ndarray) -> np.ndarray:
        x, value = dual(active, multipliers)
        up = value > found.lower[active]
        found.lower[active[up]], found.multipliers[active[up]] = value[up], multipliers[up]
        found.met.append((active, x))
        return x

    for iteration in range(iterations):
        last = iteration == iterations - 1 or control.stop is not None
        multipliers = best_multipliers(active, found.average[active])
        if not iteration:
            mean, found.multipliers = np.zeros((number, multipliers.shape[1])), np.zeros((number, multipliers.shape[1]))
        mean[active] += 2.0 / (iteration + 2.0) * (multipliers - mean[active])
        x = evaluate(multipliers)
        if iteration and (iteration % mean_every == mean_every - 1 or last):
            evaluate(mean[active])
        found.average[active] += 2.0 / (iteration + 3.0) * (x - found.average[active])
        if cutoff is not None:
            active = active[found.lower[active] < cutoff[active]]
        if last or not len(active):
            break
    return found
