"""Finding multipliers of a Lagrangian dual by ascent on a smoothed copy of it.

The dual function D of a minimisation problem is concave, and D at any multipliers >= 0 is a lower bound. Its kinks make
gradient steps stall; a soft minimum in place of each minimum has none, and lies below D by at most a multiple of its
temperature. So one goes up a smooth function, cools down, and goes on from the best multipliers by D itself.
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
