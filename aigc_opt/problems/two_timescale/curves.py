"""Weighted cost of a request at the edge as a function of its denoising steps, for all models at once.

For model m and s steps: ``g_m(s) = w_delay (a_m + b_m s) + w_quality q_m(s)`` on [min_steps, max_steps].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from aigc_opt.instance.profile import Exponential, PiecewiseLinear
from aigc_opt.instance.two_timescale import TwoTimescaleInstance

PIECEWISE, EXPONENTIAL, POWER = range(3)


@dataclass(frozen=True, eq=False)
class Curves:
    """Edge costs of M models; smooth ones are convex, piecewise ones need not be.

    Attributes
    ----------
    least, most : float
        Fewest and most steps of a request at the edge.
    vertex_steps, vertex_cost : ndarray, shape (M, P)
        Vertices of piecewise curves, the last one repeated as padding; both ends of smooth ones.
    hull_steps, hull_cost : ndarray, shape (M, H)
        Vertices of the lower convex hull of each piecewise curve.
    kind : ndarray of int, shape (M,)
        `PIECEWISE`, `EXPONENTIAL` or `POWER`.
    constant, linear, amplitude, shape : ndarray, shape (M,)
        Smooth curves: ``constant + linear s + amplitude exp(-s / shape)`` or ``... + amplitude s^-shape``.
    slope : ndarray, shape (M, P - 1)
        Slopes between vertices.
    steepest : float
        Largest saving per step anywhere: at a price above it every request takes the fewest steps.

    """

    least: float
    most: float
    vertex_steps: np.ndarray
    vertex_cost: np.ndarray
    hull_steps: np.ndarray
    hull_cost: np.ndarray
    kind: np.ndarray
    constant: np.ndarray
    linear: np.ndarray
    amplitude: np.ndarray
    shape: np.ndarray
    slope: np.ndarray
    steepest: float

    @cached_property
    def many(self) -> np.ndarray:
        """Of each model, from how many steps on a request gets many: where its curve is furthest above its hull.

        Above and below that number curves are as convex as one such number can make them. It is the fewest steps where
        a curve is convex: what is left to decide of such a request is the edge or the cloud.
        """
        many = np.full(len(self.kind), self.least)
        for m in np.flatnonzero(~self.smooth).tolist():
            steps, cost = self.vertex_steps[m], self.vertex_cost[m]
            above = cost - np.interp(steps, self.hull_steps[m], self.hull_cost[m])
            if above.max() > 1e-9 * abs(cost).max():
                many[m] = steps[above.argmax()]
        return many

    @property
    def smooth(self) -> np.ndarray:
        """Which models have a smooth curve, shape (M,)."""
        return self.kind != PIECEWISE

    def in_unit(self, unit: float) -> Curves:
        """Return the curves with their costs in another unit."""
        costs = ("vertex_cost", "hull_cost", "constant", "linear", "amplitude", "slope", "steepest")
        return replace(self, **{name: getattr(self, name) / unit for name in costs})

    @classmethod
    def of(cls, instance: TwoTimescaleInstance) -> Curves:
        """Read the curves of an instance."""
        weights, least, most = instance.weights, instance.edge.min_steps, instance.edge.max_steps
        models = len(instance.models)
        kind, shape = np.full(models, PIECEWISE), np.ones(models)
        amplitude = np.zeros(models)
        linear = np.array([weights.delay * profile.latency.per_step_s for profile in instance.models])
        constant = np.array([weights.delay * profile.latency.base_s for profile in instance.models])
        vertices = []
        for m, profile in enumerate(instance.models):
            curve = profile.quality
            steps = np.unique([least, most])
            if isinstance(curve, PiecewiseLinear):
                knots = curve.points[:, 0]
                steps = np.unique(np.concatenate([steps, knots[(knots > least) & (knots < most)]]))
                loss = np.interp(steps, curve.points[:, 0], curve.points[:, 1])
                vertices.append((steps, constant[m] + linear[m] * steps + weights.quality * loss))
                continue
            constant[m] += weights.quality * curve.floor
            if isinstance(curve, Exponential):
                kind[m], shape[m] = EXPONENTIAL, curve.scale
                amplitude[m] = weights.quality * (curve.ceiling - curve.floor)
                tail = np.exp(-steps / shape[m])
            else:
                kind[m], shape[m], amplitude[m] = POWER, curve.exponent, weights.quality * curve.coefficient
                tail = steps ** -shape[m]
            vertices.append((steps, constant[m] + linear[m] * steps + amplitude[m] * tail))
        vertex_steps, vertex_cost = _padded(vertices)
        hull_steps, hull_cost = _padded([_lower_hull(steps, cost) for steps, cost in vertices])
        run = np.diff(vertex_steps, axis=1)
        slope = np.where(run > 0, np.diff(vertex_cost, axis=1) / np.where(run > 0, run, 1.0), 0.0)
        saving = -slope.min(axis=1)
        e, p = kind == EXPONENTIAL, kind == POWER
        saving[e] = amplitude[e] / shape[e] * np.exp(-least / shape[e]) - linear[e]
        saving[p] = amplitude[p] * shape[p] * max(least, 1.0) ** (-shape[p] - 1.0) - linear[p]
        return cls(
            least, most, vertex_steps, vertex_cost, hull_steps, hull_cost, kind, constant, linear, amplitude, shape,
            slope, max(0.0, float(saving.max())),
        )  # fmt: skip

    def value(self, model: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Cost at `steps` (same shape as `model`; a model of -1 is read as 0)."""
        m = np.maximum(model, 0)
        cost = np.take(self.vertex_cost[:, 0], m)
        for k in range(self.slope.shape[1]):
            along = steps - np.take(self.vertex_steps[:, k], m)
            np.maximum(along, 0.0, out=along)
            np.minimum(along, np.take(self.vertex_steps[:, k + 1] - self.vertex_steps[:, k], m), out=along)
            along *= np.take(self.slope[:, k], m)
            cost += along
        if self.smooth.any():
            smooth = self.smooth[m]
            cost[smooth] = self.smooth_value(m[smooth], steps[smooth])
        return cost

    def smooth_value(self, m: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Cost at `steps` of smooth models `m`; below the fewest steps a power curve is read there, finite."""
        power = self.kind[m] == POWER
        steps = np.where(power, np.maximum(steps, self.least), steps)
        tail = np.exp(-np.where(power, 0.0, steps) / self.shape[m])
        tail = np.where(power, np.where(power, steps, 1.0) ** -self.shape[m], tail)
        return self.constant[m] + self.linear[m] * steps + self.amplitude[m] * tail

    def smooth_argmin(self, m: np.ndarray, price: np.ndarray | float) -> np.ndarray:
        """Steps at which smooth models' cost plus `price` times steps is least: where the slope is the price's."""
        rate, shape, amplitude = self.linear[m] + price, self.shape[m], self.amplitude[m]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            exponential = shape * np.log(amplitude / (shape * rate))
            power = (amplitude * shape / rate) ** (1.0 / (shape + 1.0))
            steps = np.where(self.kind[m] == EXPONENTIAL, exponential, power)
        ends = np.where(rate > 0, self.least, self.most)
        return np.clip(np.where((amplitude <= 0) | (rate <= 0), ends, steps), self.least, self.most)

    def best_upto(self, model: np.ndarray, limit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Least cost with at most `limit` steps, and the steps; inf where the limit is below the fewest steps."""
        m = np.maximum(model, 0)
        limit = np.minimum(limit, self.most)
        steps = np.maximum(limit, self.least)
        cost = self.value(m, steps)
        for k in range(self.vertex_steps.shape[1]):
            at, there = np.take(self.vertex_steps[:, k], m), np.take(self.vertex_cost[:, k], m)
            better = (at <= limit) & (there < cost)
            cost = np.where(better, there, cost)
            steps = np.where(better, at, steps)
        if self.smooth.any():
            smooth = self.smooth[m]
            best = np.minimum(self.smooth_argmin(m[smooth], 0.0), limit[smooth])
            steps[smooth] = np.maximum(best, self.least)
            cost[smooth] = self.smooth_value(m[smooth], steps[smooth])
        return np.where(limit >= self.least, cost, np.inf), steps

    def polygons(self, pieces: int = 30) -> list[tuple[np.ndarray, np.ndarray]]:
        """Vertices (steps, cost) of a convex polygon on or below each model's curve.

        The lower hull of a piecewise curve; the envelope of about `pieces` tangents of a smooth one. Whatever is built
        on them is a lower bound.
        """
        found = []
        for m in range(len(self.kind)):
            if self.kind[m] == PIECEWISE:
                steps, cost = self.hull_steps[m], self.hull_cost[m]
                kept = np.r_[True, np.diff(steps) > 0]
                found.append((steps[kept], cost[kept]))
            elif self.most <= self.least:
                steps = np.array([self.least])
                found.append((steps, self.smooth_value(np.array([m]), steps)))
            else:
                found.append(self._tangents(m, pieces))
        return found

    def _tangents(self, m: int, pieces: int) -> tuple[np.ndarray, np.ndarray]:
        least, most, shape = self.least, self.most, self.shape[m]
        ends = np.array([least, most])
        exponential = self.kind[m] == EXPONENTIAL
        fall = np.exp(-ends / shape) / shape if exponential else shape * ends ** (-shape - 1.0)
        first, last = self.amplitude[m] * fall
        # Where the falling part falls at rates of every size, and where the whole is least.
        rates = np.geomspace(max(last, 1e-4 * first, 1e-300), max(first, 1e-300), pieces)
        prices = np.r_[0.0, rates - self.linear[m]]
        at = np.unique(np.r_[ends, self.smooth_argmin(np.full(len(prices), m), prices)])
        fall = np.exp(-at / shape) / shape if exponential else shape * at ** (-shape - 1.0)
        slope = self.linear[m] - self.amplitude[m] * fall
        value = self.smooth_value(np.full(len(at), m), at)
        rise = np.diff(slope)
        bends = rise > 1e-13 * (abs(slope[1:]) + 1e-300)
        apart = value[:-1] - value[1:] + slope[1:] * at[1:] - slope[:-1] * at[:-1]
        cross = np.where(bends, apart / np.where(bends, rise, 1.0), at[1:])
        cross = np.clip(cross, at[:-1], at[1:])
        steps = np.concatenate([[least], cross, [most]])
        start, end = value[0] + slope[0] * (least - at[0]), value[-1] + slope[-1] * (most - at[-1])
        # Where two tangents cross, both say the same; the lower one where rounding makes a difference.
        left, right = value[:-1] + slope[:-1] * (cross - at[:-1]), value[1:] + slope[1:] * (cross - at[1:])
        cost = np.concatenate([[start], np.minimum(left, right), [end]])
        return steps, cost


def _lower_hull(steps: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of the lower convex hull of points with rising `steps`."""
    kept: list[int] = []
    for i in range(len(steps)):
        while len(kept) >= 2:
            a, b = kept[-2], kept[-1]
            if (cost[b] - cost[a]) * (steps[i] - steps[a]) < (cost[i] - cost[a]) * (steps[b] - steps[a]):
                break
            kept.pop()
        kept.append(i)
    return steps[kept], cost[kept]


def _padded(rows: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    width = max(2, max(len(steps) for steps, _ in rows))
    both = [[np.pad(values, (0, width - len(values)), mode="edge") for values in row] for row in rows]
    return np.array([row[0] for row in both]), np.array([row[1] for row in both])
