"""Best prices by column and row generation on the linear relaxation of the compact program."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.offloading.arrays import Tangents, compact_program
from aigc_opt.problems.offloading.prices import evaluate
from aigc_opt.problems.offloading.shares import divide
from aigc_opt.problems.offloading.tables import Tables
from aigc_opt.solvers import Answer, Highs

COARSE = (0.6, 0.85, 1.0, 1.18, 1.7)
"""Multiples of the first prices at which the rows of the first program stand."""

ROUNDS = 40
PER_USER = 4
"""Columns of a user that enter in one round at most."""


@dataclass(frozen=True)
class Relaxation:
    """What `relax` found.

    Attributes
    ----------
    mu : ndarray, shape (E,)
        Best prices.
    value : float
        D(mu): a proven bound on the total cost.
    columns, fraction : ndarray
        A cheap mixed point: columns and their fractions.
    rounds : int

    """

    mu: np.ndarray
    value: float
    columns: np.ndarray
    fraction: np.ndarray
    rounds: int


def relax(tables: Tables, mu: np.ndarray, control: Control, tolerance: float, rounds: int = ROUNDS) -> Relaxation:
    """Raise D from `mu` until no mixed point is cheaper by more than `tolerance` (relative).

    With weights alpha >= 0 on the tangents of a server (they sum to 1) and nu >= 0 on its row of least speeds, the
    linear program's own price of speed is ``mu = sum alpha_k mu_k + nu``: phi is concave with slope at least f_min,
    so that ``sum alpha_k phi(mu_k) + nu f_min <= phi(mu)``, and D(mu) is at least what the program would prove. D(mu)
    is evaluated over all columns; the program's own value is never used as a bound. Prices stay within the hull of
    the tangents at hand, which is what a trust region would be for.
    """
    priced = evaluate(tables, mu)
    best_mu, best_value = mu, priced.value
    above, best_columns, best_fraction = math.inf, None, None
    unit = float(np.median(mu[mu > 0])) if (mu > 0).any() else 1e-3
    tangents = Tangents().add_around(mu, COARSE, unit)
    active = np.zeros(len(tables.user), bool)
    _enter(tables, active, priced.cost - priced.least[tables.user], 0.02 * abs(priced.value) / tables.users)
    done = 0
    for done in range(1, rounds + 1):
        columns = np.flatnonzero(active)
        program = compact_program(tables, columns, tangents, integer=False)
        method = {"solver": "simplex"} if tables.users < 400 else {}
        outcome = Highs(program).solve(control=control, options=method)
        if outcome.answer is Answer.INFEASIBLE:
            # The columns at hand do not fit together: let in all of the users who have to be served.
            forced = tables.must[tables.user]
            if active[forced].all():
                break
            active |= forced
            continue
        if outcome.answer is not Answer.OPTIMAL or outcome.x is None or outcome.row_duals is None:
            break
        mu = _program_prices(tables, tangents, outcome.row_duals)
        priced = evaluate(tables, mu)
        if priced.value > best_value:
            best_mu, best_value = mu, priced.value
        fraction = outcome.x[: len(columns)]
        price, cost = _mixed(tables, columns, fraction)
        if cost < above:
            above, best_columns, best_fraction = cost, columns, fraction
        if above - best_value <= tolerance * abs(best_value) or control.stop is not None:
            break
        before = active.sum() + len(tangents.mu)
        near = 1e-9 if done > 3 else 0.004
        _enter(tables, active, priced.cost - priced.least[tables.user], near * abs(priced.value) / tables.users)
        tangents.add_all(range(tables.servers), mu)
        tangents.add_all(range(tables.servers), price)
        if active.sum() + len(tangents.mu) == before:
            break
    if best_columns is None or best_fraction is None:
        best_columns = np.flatnonzero(active)
        best_fraction = np.zeros(len(best_columns))
    return Relaxation(best_mu, best_value, best_columns, best_fraction, done)


def _enter(tables: Tables, active: np.ndarray, reduced: np.ndarray, most: float) -> None:
    """Let in each user's cheapest `PER_USER` columns whose reduced cost is at most `most`; changes `active`."""
    near = np.flatnonzero((reduced <= most) & ~active)
    order = near[np.lexsort((reduced[near], tables.user[near]))]
    rank = np.arange(len(order)) - np.searchsorted(tables.user[order], tables.user[order])
    active[order[rank < PER_USER]] = True


def _program_prices(tables: Tables, tangents: Tangents, row_duals: np.ndarray) -> np.ndarray:
    """Prices (E,) of speed that the linear program's multipliers mean."""
    last = -row_duals[len(row_duals) - len(tangents.mu) - tables.servers :]
    capacity, alpha = np.maximum(last[: tables.servers], 0), np.maximum(last[tables.servers :], 0)
    server = np.array(tangents.server, int)
    weight = np.bincount(server, alpha, tables.servers)
    mean = np.bincount(server, alpha * np.array(tangents.mu), tables.servers) / np.maximum(weight, 1e-12)
    return np.where(weight > 1e-9, mean + capacity / tables.capacity, 0.0)


def _mixed(tables: Tables, columns: np.ndarray, fraction: np.ndarray) -> tuple[np.ndarray, float]:
    """Prices (E,) and cost of a mixed point with its shares divided exactly (the perspective of the cost)."""
    on = fraction > 1e-9
    k, part = columns[on], fraction[on]
    sigma, least = part * tables.sigma[k], part * tables.f_min[k]
    share, price = divide(tables.server[k], sigma, least, tables.capacity)
    rest = np.maximum(1.0 - np.bincount(tables.user[k], part, tables.users), 0)
    if (np.bincount(tables.server[k], least, tables.servers) > tables.capacity * (1 + 1e-7)).any():
        return price, math.inf
    with np.errstate(divide="ignore", invalid="ignore"):
        delay = np.where(sigma > 0, sigma**2 / share, 0.0)
    return price, float(rest @ tables.away_cost + part @ tables.base[k] + delay.sum())
