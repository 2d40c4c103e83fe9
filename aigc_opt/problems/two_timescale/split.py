"""Slots split in two by how many requests get many steps: bounds where the duals of slots are too weak.

Curves that are not convex, and hits that may go to the cloud, make a slot a knapsack: requests take many steps or few,
and its dual fills the budget with a fraction of one. For any number n, in every allocation either at most n requests
get many steps (`Curves.many` of their models) or more than n do. For any price p >= 0 of steps and any toll l >= 0 ::

    cost >= dual at price p where many steps cost l more, less l n              where at most n get many
    cost >= dual at price p where many steps cost l less, plus l (n + 1)        where more than n do

(to the cost of an allocation something is added that is <= 0 there), so the lesser of the two is a lower bound of the
slot's cost, whatever the cache, n, prices and tolls are. Each side is linear in the cache, as the slot's cut is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aigc_opt.problems.two_timescale.curves import Curves
from aigc_opt.problems.two_timescale.slot_dual import Dual, slot_dual

ROUNDS = 14
"""Tolls that are tried on each side."""

TOLERANCE = 1e-6
"""Of a side's value, relative: where the search for its toll ends."""


@dataclass(frozen=True, eq=False)
class Sides:
    """Prices and tolls that are best for both sides of n slots with a cache each.

    Attributes
    ----------
    number : ndarray of int, shape (n,)
        On the first side at most so many requests get many steps.
    price, toll, bound : ndarray, shape (2, n)
        Tolls of the second side are negative; the bounds are of each side's allocations.
    under, over : ndarray, shape (2, n, U)
    away_under, away_over : ndarray of bool, shape (2, n, U)
        Responses at these prices and tolls, as in `Dual`.

    """

    number: np.ndarray
    price: np.ndarray
    toll: np.ndarray
    bound: np.ndarray
    under: np.ndarray
    over: np.ndarray
    away_under: np.ndarray
    away_over: np.ndarray


def split_slots(
    curves: Curves,
    budget: float,
    model: np.ndarray,
    cloud: np.ndarray,
    weight: np.ndarray,
    free: np.ndarray,
) -> Sides:
    """Split slots, each with a cache: arguments as of `slot_dual`."""
    given = model, cloud, weight, free
    found = slot_dual(curves, budget, *given, tolerance=TOLERANCE)
    many = curves.many[np.maximum(model, 0)]
    count = _many_of(found, weight, many, budget)
    number = np.floor(count + 1e-9).astype(int)
    toll = np.zeros((2, len(model)))
    names = ("price", "bound", "under", "over", "away_under", "away_over")
    ends = {name: np.stack([getattr(found, name)] * 2) for name in names}
    dearest = np.where(weight > 0, np.maximum(cloud, curves.vertex_cost.max()), 0.0).max(axis=1)
    furthest = np.maximum(dearest - curves.vertex_cost.min(), 1e-9)  # no request pays more for many steps
    for side, sign in enumerate((1.0, -1.0)):
        k = np.flatnonzero(sign * (count - number - side) > 1e-9)
        if not len(k):
            continue
        limit, own = number[k] + side, _rows(given, k)
        left, value_left, slope_left = np.zeros(len(k)), found.bound[k], sign * (count[k] - limit)
        right, value_right, slope_right = furthest[k], np.zeros(len(k)), np.zeros(len(k))
        best = value_left.copy()
        for step in range(ROUNDS):
            if step == 0:
                at = right
            else:
                meet = (value_right - value_left + slope_left * left - slope_right * right) / (slope_left - slope_right)
                inside = (meet > left) & (meet < right) & (step % 4 != 3)
                at = np.where(inside, meet, 0.5 * (left + right))
                top = value_left + slope_left * (np.where(np.isfinite(meet), meet, right) - left)
                going = (top - best > TOLERANCE * abs(best)) & (right > left * (1 + 1e-9))
                if not going.any():
                    break
                k, limit, best, at = k[going], limit[going], best[going], at[going]
                own = _rows(own, going)
                left, value_left, slope_left = left[going], value_left[going], slope_left[going]
                right, value_right, slope_right = right[going], value_right[going], slope_right[going]
            here = slot_dual(curves, budget, *own, tolerance=TOLERANCE, toll=sign * at)
            value = here.bound - sign * at * limit
            slope = sign * (_many_of(here, own[2], many[k], budget) - limit)
            up = value > best
            best[up] = value[up]
            toll[side, k[up]] = sign * at[up]
            for name, values in ends.items():
                values[side, k[up]] = getattr(here, name)[up]
            ends["bound"][side, k[up]] = value[up]
            if step == 0:
                value_right, slope_right = value, np.minimum(slope, -1e-12)
                continue
            more = slope > 0
            left, right = np.where(more, at, left), np.where(more, right, at)
            value_left, value_right = np.where(more, value, value_left), np.where(more, value_right, value)
            slope_left, slope_right = np.where(more, slope, slope_left), np.where(more, slope_right, slope)
    return Sides(number, toll=toll, **ends)


Slots = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Model, cloud, weight and free of some slots, as `slot_dual` takes them."""


def _rows(slots: Slots, which: np.ndarray) -> Slots:
    model, cloud, weight, free = slots
    return model[which], cloud[which], weight[which], free[which]


def _many_of(dual: Dual, weight: np.ndarray, many: np.ndarray, budget: float) -> np.ndarray:
    """How many requests get many steps at the best price, where both responses share the budget."""
    under, over = (weight * dual.under).sum(axis=1), (weight * dual.over).sum(axis=1)
    share = np.where(over > under, (budget - under) / np.where(over > under, over - under, 1.0), 1.0)
    few, lots = ((weight * (steps >= many)).sum(axis=1) for steps in (dual.under, dual.over))
    return few + np.clip(share, 0.0, 1.0) * (lots - few)
