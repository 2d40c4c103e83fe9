"""Curves of quality loss by least squares: piecewise linear with breakpoints found, exponential, power.

For given knots, scale or exponent a curve is linear in what is left, so only those few numbers are searched; the rest
is linear least squares with the signs that keep the curve from rising. Samples of one step count enter by their number
and mean, which changes no minimiser.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize, minimize_scalar, nnls

from aigc_opt.instance.profile import Exponential, PiecewiseLinear, Power, Quality

MOST_POINTS = 6
"""Most points of a fitted piecewise linear curve."""

CANDIDATES = 30
"""Step counts that are tried as breakpoints before those are moved freely."""

DIGITS = 9
"""Significant digits of fitted numbers."""

EXACT = 1e-18
"""Residuals below this share of the total sum of squares are rounding: curves that reach it count as equally good."""


def rounded(x: float) -> float:
    """Round to `DIGITS` significant digits."""
    return float(f"{x:.{DIGITS}g}")


class Samples:
    """Samples of one quantity, gathered by step count."""

    def __init__(self, steps: np.ndarray, values: np.ndarray):
        self.values = values
        distinct, which = np.unique(steps, return_inverse=True)
        self.steps, again = np.unique([rounded(s) for s in distinct], return_inverse=True)
        which = again[which]  # closer together no breakpoints are told apart
        count = np.bincount(which)
        self.mean = np.bincount(which, values) / count
        self.root = np.sqrt(count)
        self.n = len(values)
        self.within = float(((values - self.mean[which]) ** 2).sum())
        self.total = float(((values - values.mean()) ** 2).sum())

    def sse(self, fitted: np.ndarray) -> float:
        """Sum of squared residuals over all samples, of a curve with these values at the step counts."""
        return self.within + float(((self.root * (self.mean - fitted)) ** 2).sum())

    def r2(self, fitted: np.ndarray) -> float:
        """1 - SSE / SST of a curve with these values at the samples; 1 where nothing varies and nothing is missed."""
        missed = float(((self.values - fitted) ** 2).sum())
        if self.total == 0:
            return 1.0 if missed <= EXACT * self.n * float(abs(self.values).max()) ** 2 else 0.0
        return 1.0 - missed / self.total

    def bic(self, sse: float, parameters: int) -> float:
        floor = EXACT * max(self.total, float(abs(self.values).max()) ** 2, 1e-300)
        return self.n * math.log(max(sse, floor) / self.n) + parameters * math.log(self.n)

    def falling(self, columns: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        """Least squares of ``constant + columns @ c`` with every c >= 0; returns c, the constant, and the values.

        `columns` (D, P) must fall along the step counts, so that the sum does.
        """
        weight = self.root**2 / self.n
        middle, level = weight @ columns, float(weight @ self.mean)
        scale = max(float(abs(self.mean - level).max()), 1e-300)
        c, _ = nnls(self.root[:, None] * (columns - middle), self.root * ((self.mean - level) / scale))
        c *= scale
        constant = level - float(middle @ c)
        return c, constant, constant + columns @ c


def fit_line(steps: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Base and slope, both >= 0, of a line by least squares."""
    reach, scale = max(float(steps.max()), 1.0), max(float(values.max()), 1e-300)
    c, _ = nnls(np.column_stack([np.ones(len(steps)), steps / reach]), values / scale)
    return rounded(c[0] * scale), rounded(c[1] * scale / reach)


# --------------------------------------------------------------------------------------------- piecewise linear


def _piecewise_linear(samples: Samples, auto: bool) -> tuple[float, Quality] | str:
    """Breakpoints and their number: each further one begins where it helps most, then all are moved freely."""
    steps, fewest = samples.steps, len(samples.steps)
    most = min(MOST_POINTS, (fewest - 1) // 2)
    if most < 2:  # too few step counts to find breakpoints between them: their means, joined
        knots = steps
        return _line_bic(samples, knots, len(knots)), _line(samples, knots)
    candidates = np.unique(np.quantile(steps, np.linspace(0, 1, CANDIDATES), method="nearest"))
    pairs = [np.array([a, b]) for i, a in enumerate(candidates) for b in candidates[i + 1 :]]
    met = [_moved(samples, pairs)]
    while len(met[-1]) < most:
        knots = met[-1]
        apart = [np.sort(np.append(knots, s)) for s in candidates if abs(knots - s).min() > 0]
        met.append(_moved(samples, apart))
    # Backwards as well: of many breakpoints those that matter stand right, which the first few alone may not.
    while len(met[-1]) > 2:
        met.append(_moved(samples, [np.delete(met[-1], k) for k in range(len(met[-1]))]))
    tried = [(_line_bic(samples, knots, 2 * len(knots)), knots) for knots in met]
    tried.append((_line_bic(samples, steps[:1], 1), steps[:1]))
    bic, knots = min(tried, key=lambda pair: pair[0])
    return bic, _line(samples, knots)


def _falls(steps: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """One column a piece: 0 before it, falling to -1 along it, -1 behind it; shape (D, P - 1)."""
    with np.errstate(over="ignore"):
        return -np.clip((steps[:, None] - knots[:-1]) / np.diff(knots), 0.0, 1.0)


def _line_sse(samples: Samples, knots: np.ndarray) -> float:
    if len(knots) == 1:
        return samples.sse(np.full(len(samples.steps), float(samples.values.mean())))
    return samples.sse(samples.falling(_falls(samples.steps, knots))[2])


def _line_bic(samples: Samples, knots: np.ndarray, parameters: int) -> float:
    return samples.bic(_line_sse(samples, knots), parameters)


def _moved(samples: Samples, starts: list[np.ndarray]) -> np.ndarray:
    """The best of some knots, moved freely within the measured steps to the least squares nearby."""
    knots = min(starts, key=lambda knots: _line_sse(samples, knots))
    low, high = samples.steps[0], samples.steps[-1]
    least = max(1e-3 * float(np.diff(samples.steps).min()), 1e-7 * float(high))

    def tidy(moved: np.ndarray) -> np.ndarray | None:
        moved = np.clip(moved, low, high)
        return moved if (np.diff(moved) >= least).all() else None

    def cost(moved: np.ndarray) -> float:
        tidied = tidy(moved)
        return math.inf if tidied is None else _line_sse(samples, tidied)

    # A first simplex of a quarter of the distance to the neighbours, so that it works on any scale of steps.
    room = np.gradient(knots) / 4
    simplex = np.vstack([knots, knots + np.diag(np.where(knots + room > high, -room, room))])
    options = {"initial_simplex": simplex, "maxfev": 400 * len(knots), "xatol": 1e-7 * (high - low), "fatol": 0.0}
    found = tidy(minimize(cost, knots, method="Nelder-Mead", options=options).x)
    return found if found is not None and cost(found) <= cost(knots) else knots


def _line(samples: Samples, knots: np.ndarray) -> PiecewiseLinear:
    if len(knots) == 1:
        loss = np.array([samples.values.mean()])
    else:
        fall, top, _ = samples.falling(_falls(samples.steps, knots))
        loss = top - np.r_[0.0, np.cumsum(fall)]
    points = [[rounded(s), rounded(q)] for s, q in zip(knots, loss, strict=True)]
    return PiecewiseLinear(kind="piecewise_linear", points=np.array(points))


# ----------------------------------------------------------------------------------------------- smooth curves


def _searched(tail: Callable[[float], np.ndarray], samples: Samples, grid: np.ndarray) -> tuple[float, float, float]:
    """Shape in the logarithmic range of `grid`, amplitude and floor of ``floor + amplitude * tail(shape)``."""

    def cost(log_shape: float) -> float:
        return samples.sse(samples.falling(tail(math.exp(log_shape))[:, None])[2])

    logs = np.log(grid)
    first = int(np.argmin([cost(log) for log in logs]))
    ends = logs[max(first - 1, 0)], logs[min(first + 1, len(logs) - 1)]
    inner = minimize_scalar(cost, bounds=ends, method="bounded", options={"xatol": 1e-10})
    best = inner.x if inner.fun <= cost(logs[first]) else logs[first]
    shape = rounded(math.exp(best))
    c, floor, _ = samples.falling(tail(shape)[:, None])
    return shape, float(c[0]), floor


def _exponential(samples: Samples, auto: bool) -> tuple[float, Quality] | str:
    steps = samples.steps
    if len(steps) < 3 + auto:
        return f"needs at least 3 step counts, got {len(steps)}"
    first = steps[0]  # the tail is 1 there, so that it does not vanish where the steps are many
    grid = np.geomspace(0.1 * np.diff(steps).min(), 10.0 * (steps[-1] - first), 200)
    scale, amplitude, floor = _searched(lambda scale: np.exp((first - steps) / scale), samples, grid)
    with np.errstate(over="ignore"):
        ceiling = floor + amplitude * float(np.exp(first / scale))
    if not ceiling < 1e300:
        return "it falls within a few of very many steps: no finite loss at 0 steps describes that"
    curve = Exponential(
        kind="exponential", floor=rounded(floor), ceiling=max(rounded(ceiling), rounded(floor)), scale=scale
    )
    return samples.bic(samples.sse(curve.value(steps)), 3), curve


def _power(samples: Samples, auto: bool) -> tuple[float, Quality] | str:
    steps = samples.steps
    if steps[0] < 1:
        return f"it has no value below 1 step, and {steps[0]:g} is measured"
    if len(steps) < 3 + auto:
        return f"needs at least 3 step counts, got {len(steps)}"
    first = steps[0]
    exponent, amplitude, floor = _searched(lambda e: (first / steps) ** e, samples, np.geomspace(1e-2, 20.0, 200))
    with np.errstate(over="ignore"):
        coefficient = amplitude * float(first**exponent)
    if not 0 < coefficient < 1e300:
        return "the loss does not fall with the steps" if amplitude <= 0 else "it falls too steeply at too many steps"
    curve = Power(kind="power", floor=rounded(floor), coefficient=rounded(coefficient), exponent=exponent)
    return samples.bic(samples.sse(curve.value(steps)), 3), curve


FITTERS: dict[str, Callable[[Samples, bool], tuple[float, Quality] | str]] = {
    "piecewise_linear": _piecewise_linear,
    "exponential": _exponential,
    "power": _power,
}
