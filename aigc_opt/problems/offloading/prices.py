"""Prices of server speed: the Lagrangian dual of the problem.

Put a price mu_i >= 0 (cost per GHz) on ``sum f <= F_i``. The users separate, and ::

    D(mu) = sum_n min(outside_n, min over columns (i, s) of base + phi(mu_i)) - sum_i mu_i F_i
    phi(mu) = min over f_min <= f <= F_i of sigma^2 / f + mu f         (closed form: f = sigma / sqrt(mu), clipped)

``D(mu) <= optimum`` for every mu >= 0: take any feasible point; adding ``mu_i (sum f - F_i) <= 0`` does not raise its
cost, and what then stands there is a sum of one term a user, each at least that user's minimum. So any prices prove a
bound, however they were found, and only the evaluation of D has to be right. D is concave (a minimum of functions
that are concave in mu); its best value equals that of the relaxation in which every user may mix places and steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aigc_opt.control import Control
from aigc_opt.decomposition.lagrangian import SmoothDual, smooth_ascent
from aigc_opt.problems.offloading.tables import Tables, blocks

TEMPERATURES = (0.08, 0.025, 0.008, 0.0025)
"""Of the soft minimum, in units of a user's mean cost."""

START_PRICE = 1e-3
TATONNEMENT_ROUNDS = 30


@dataclass(frozen=True)
class Priced:
    """D at some prices and what it is made of.

    Attributes
    ----------
    value : float
        D(mu), rounded down: a proven lower bound on the total cost (inf: a user has no option at all).
    slope : ndarray, shape (E,)
        A supergradient: speed asked for minus capacity.
    cost : ndarray, shape (C,)
        ``base + phi(mu)`` of each column.
    least : ndarray, shape (N,)
        Each user's cheapest option.

    """

    value: float
    slope: np.ndarray
    cost: np.ndarray
    least: np.ndarray


def column_costs(tables: Tables, mu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``base + phi(mu_i)`` and the share that attains it (GHz), for each column; mu has shape (E,)."""
    cost, share = np.empty(len(tables.user)), np.empty(len(tables.user))
    for block in blocks(len(tables.user), 1):
        sigma, server = tables.sigma[block], tables.server[block]
        price = mu[server]
        with np.errstate(divide="ignore", invalid="ignore"):
            wish = np.where(sigma > 0, sigma / np.sqrt(price), 0.0)
        share[block] = np.clip(wish, tables.f_min[block], tables.capacity[server])
        cost[block] = tables.base[block] + sigma * sigma / share[block] + price * share[block]
    return cost, share


def best_options(tables: Tables, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each user's cheapest option at given column costs: value (N,) and column (N,), -1 = outside."""
    value, choice = tables.outside_cost.copy(), np.full(tables.users, -1)
    counts = np.diff(tables.start)
    has = counts > 0
    if has.any():
        least = np.full(tables.users, np.inf)
        least[has] = np.minimum.reduceat(cost, tables.start[:-1][has])
        where = np.flatnonzero(cost <= np.repeat(least, counts))
        first = np.full(tables.users, -1)
        first[tables.user[where][::-1]] = where[::-1]
        inside = least < value
        value[inside] = least[inside]
        choice[inside] = first[inside]
    return value, choice


def evaluate(tables: Tables, mu: np.ndarray) -> Priced:
    """Evaluate D(mu); what rounding can add is taken off. It is inf where a user has no option at all."""
    cost, share = column_costs(tables, mu)
    least, choice = best_options(tables, cost)
    inside = choice[choice >= 0]
    slope = np.bincount(tables.server[inside], share[inside], tables.servers) - tables.capacity
    paid = mu * tables.capacity
    value = math.fsum(least) - math.fsum(paid)
    if math.isfinite(value):
        # Each term is a few units in the last place off; fsum adds nothing to that.
        value -= 1e-14 * float(np.abs(least).sum() + paid.sum())
    return Priced(value, slope, cost, least)


def reduced_costs(tables: Tables, mu: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return D(mu) and what each option adds to it, for columns (C,) and outside options (N,).

    D(mu) + extra is the bound that the same argument gives once the option is forced. So an option with D(mu) + extra
    above the cost of a known point is in no better point and may be left out.
    """
    priced = evaluate(tables, mu)
    return priced.value, priced.cost - priced.least[tables.user], tables.outside_cost - priced.least


def first_prices(tables: Tables, control: Control) -> np.ndarray:
    """Return the same price for every server (E,): the median after some rounds of raising what is asked for too much.

    When `control` says stop, after the rounds so far.

    The adjusted prices themselves oscillate between servers and are a much worse start for the ascent.
    """
    mu = np.full(tables.servers, START_PRICE)
    if not len(tables.user):
        return np.zeros(tables.servers)
    for _ in range(TATONNEMENT_ROUNDS):
        if control.stop is not None:
            break
        asked = evaluate(tables, mu).slope + tables.capacity
        mu = np.clip(mu * np.clip(asked / tables.capacity, 0.3, 3.0) ** 0.7, 1e-9, 1e6)
    return np.full(tables.servers, np.median(mu))


def raise_prices(tables: Tables, mu: np.ndarray, control: Control) -> tuple[np.ndarray, float]:
    """Raise D from `mu` by ascent on its soft minimum at falling temperatures.

    The soft minimum ``-T log sum exp(-cost / T)`` is smooth and concave in mu. It only finds prices: the bound is D.

    Returns
    -------
    mu : ndarray, shape (E,)
        The best prices seen.
    value : float
        D(mu).

    Where some user has no option at all, D is inf at any prices: `mu` is returned as it is.

    """
    start = evaluate(tables, mu)
    if math.isinf(start.value):
        return mu, start.value
    counts = np.diff(tables.start)
    has = counts > 0

    def soft(price: np.ndarray, temperature: float) -> SmoothDual:
        cost, share = column_costs(tables, price)
        least, _ = best_options(tables, cost)
        value = float(least.sum() - price @ tables.capacity)
        weight = np.exp((np.repeat(least, counts) - cost) / temperature)
        total = np.exp((least - tables.outside_cost) / temperature)
        total[has] += np.add.reduceat(weight, tables.start[:-1][has])
        smooth = value - temperature * float(np.log(total).sum())
        weight *= np.repeat(1.0 / total, counts)
        slope = np.bincount(tables.server, weight * share, tables.servers) - tables.capacity
        return SmoothDual(value, smooth, slope)

    unit = float(np.abs(start.least).mean()) or 1.0
    best = smooth_ascent(soft, mu, control, [unit * temperature for temperature in TEMPERATURES])
    return best, evaluate(tables, best).value
