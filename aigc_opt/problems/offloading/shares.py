"""Exact division of a server's speed among its tasks.

::

    V(K, F) = min sum_k sigma_k^2 / f_k   subject to   sum_k f_k <= F,  f_k >= m_k

Stationarity gives ``f_k = max(m_k, sigma_k x)`` with one ``x = 1 / sqrt(mu)`` for the server, mu the price of a GHz
(the square-root rule, clipped at deadlines). The speed used, ``g(x) = sum_k max(m_k, sigma_k x)``, is convex,
piecewise linear and increasing, so Newton's method from the right of the root falls monotonically and ends after
finitely many steps, exact to rounding: no bisection, no sorting, and many servers (or many variants of one) at once.
"""

from __future__ import annotations

import numpy as np

TIGHT = 1e-9
"""Relative overload of minimum shares that still counts as full (a thousandth of the checker's tolerance)."""

NEWTON_STEPS = 200
"""Far more than are ever needed: the iteration ends by itself."""


def levels(group: np.ndarray, sigma: np.ndarray, least: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """Root x of ``sum_k max(least_k, sigma_k x) = capacity`` for each group of tasks.

    Parameters
    ----------
    group : ndarray of int, shape (K,)
        Group of each task.
    sigma, least : ndarray, shape (K,)
    capacity : ndarray, shape (G,)
        GHz.

    Returns
    -------
    ndarray, shape (G,)
        0 where the minimum shares fill (or overfill) the capacity, inf where nobody gains from speed.

    """
    groups = len(capacity)
    total = np.bincount(group, sigma, groups)
    with np.errstate(divide="ignore", invalid="ignore"):
        # g(x) >= capacity here, because max(m, sigma x) >= sigma x.
        x = np.where(total > 0, capacity / total, 0.0)
        for _ in range(NEWTON_STEPS):
            grows = sigma * x[group] > least
            slope = np.bincount(group, np.where(grows, sigma, 0.0), groups)
            held = np.bincount(group, np.where(grows, 0.0, least), groups)
            new = np.where(slope > 0, np.maximum(capacity - held, 0.0) / slope, 0.0)
            new = np.minimum(new, x)
            settled = (new >= x * (1 - 1e-15)).all()
            x = new
            if settled:
                break
    return np.where(total > 0, x, np.inf)


def divide(
    server: np.ndarray, sigma: np.ndarray, least: np.ndarray, capacity: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Best shares of tasks on servers.

    Parameters
    ----------
    server : ndarray of int, shape (K,)
    sigma, least : ndarray, shape (K,)
    capacity : ndarray, shape (E,)

    Returns
    -------
    share : ndarray, shape (K,)
        GHz, at least `least`, within the capacities (an overload of up to `TIGHT` is scaled away).
    price : ndarray, shape (E,)
        Of a GHz: ``1 / x^2``; 0 where nobody gains. Where minimum shares fill the server every price from the last
        breakpoint ``max (sigma / least)^2`` on is a multiplier, and that one is given.

    """
    x = levels(server, sigma, least, capacity)
    finite = np.where(np.isfinite(x), x, 0.0)
    share = np.maximum(least, sigma * finite[server])
    used = np.bincount(server, share, len(capacity))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = share * np.where(used > capacity, capacity / used, 1.0)[server]
        top = np.zeros(len(capacity))
        np.maximum.at(top, server, np.where(sigma > 0, sigma / least, 0.0) ** 2)
        price = np.where(np.isfinite(x), np.minimum(1.0 / (x * x), top), 0.0)
    return share, price


def batch_costs(sigma: np.ndarray, least: np.ndarray, capacity: float) -> np.ndarray:
    """V of many sets of tasks for one server.

    Parameters
    ----------
    sigma, least : ndarray, shape (B, K)
        Padded with zeros (a pad has sigma = least = 0).
    capacity : float

    Returns
    -------
    ndarray, shape (B,)
        inf where the minimum shares exceed the capacity.

    """
    sets, size = sigma.shape
    group = np.repeat(np.arange(sets), size)
    x = levels(group, sigma.ravel(), least.ravel(), np.full(sets, capacity))
    share = np.maximum(least, sigma * np.where(np.isfinite(x), x, 0.0)[:, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(sigma > 0, sigma * sigma / share, 0.0).sum(axis=1)
    return np.where(least.sum(axis=1) <= capacity * (1 + TIGHT), value, np.inf)


def set_cost(sigma: np.ndarray, least: np.ndarray, capacity: float) -> float:
    """V of one set of tasks: `batch_costs` of one."""
    return float(batch_costs(sigma[None], least[None], capacity)[0]) if len(sigma) else 0.0
