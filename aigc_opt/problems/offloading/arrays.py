"""The compact program: a binary for each column, one cost variable a server, tangent rows; no share, time or product.

For a set K of tasks at server i convex duality gives the cost of the best shares exactly (some share is strictly
inside, or K just fits)::

    V_i(K) = max over mu >= 0 of  sum_{k in K} phi_k(mu) - mu F_i

so the problem is, with a binary ``runs`` for each column and one ``sharing_i`` for each server, ::

    min  sum (base - outside) runs + sum_i sharing_i + sum outside
    s.t. sum of a user's runs <= 1                                      (= 1 without an outside option)
         sum_k f_min_k / F_i runs_k <= 1                                (the row below, as mu grows)
         sharing_i >= sum_k phi_k(mu) runs_k - mu F_i                   for every mu >= 0

The last family is the cone ``f t >= (sum sqrt(W) runs)^2`` with f and t projected out: on whole choices it is exact,
for any quality curve. Finitely many of its rows make a relaxation, so a solver's bound on that is a bound on the
problem; the row at the price that a choice's shares have makes it exact there, so adding those rows ends with the
optimum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from aigc_opt.problems.offloading.shares import divide
from aigc_opt.problems.offloading.tables import Tables
from aigc_opt.program import Label, LinearProgram, ProgramBuilder

NEAR = 1e-9
"""Two prices of one server that are this close (relative) give the same row."""


@dataclass
class Tangents:
    """Rows ``sharing_i >= ...``: server[k] at price mu[k]."""

    server: list[int] = field(default_factory=list)
    mu: list[float] = field(default_factory=list)

    def add(self, server: int, mu: float) -> bool:
        """Add a row unless it is there, nearly; say whether it was added."""
        if not math.isfinite(mu):
            return False
        for known, price in zip(self.server, self.mu, strict=True):
            if known == server and abs(price - mu) <= NEAR * max(price, mu):
                return False
        self.server.append(int(server))
        self.mu.append(float(mu))
        return True

    def add_all(self, servers: Iterable[int], prices: Iterable[float]) -> int:
        """Add a row for each server at its price; return how many were new."""
        return sum([self.add(server, price) for server, price in zip(servers, prices, strict=True)])

    def add_around(self, mu: np.ndarray, factors: Iterable[float], unit: float) -> Tangents:
        """Add rows at multiples of each server's price (of `unit` where the price is 0); return self."""
        for server, price in enumerate(mu):
            for factor in factors:
                self.add(server, (price if price > 0 else unit) * factor)
        return self


def phi(tables: Tables, columns: np.ndarray, mu: float) -> np.ndarray:
    """``min sigma^2 / f + mu f`` over the shares that `columns` may have, at one price."""
    sigma, least = tables.sigma[columns], tables.f_min[columns]
    capacity = tables.capacity[tables.server[columns]]
    share = np.clip(sigma / math.sqrt(mu), least, capacity) if mu > 0 else np.where(sigma > 0, capacity, least)
    return sigma * sigma / share + mu * share


def compact_program(tables: Tables, columns: np.ndarray, tangents: Tangents, integer: bool = True) -> LinearProgram:
    """Build the program over some columns.

    Parameters
    ----------
    tables : Tables
    columns : ndarray of int
        Which columns there are, sorted.
    tangents : Tangents
    integer : bool
        Whether choices are whole.

    Returns
    -------
    LinearProgram
        Columns: `runs` (one a column), then `sharing` (one a server). Rows: `served` (users), `least_speed` (servers),
        `tangent` (one a tangent).

    """
    user, server = tables.user[columns], tables.server[columns]
    rows = np.unique(np.concatenate([user, np.flatnonzero(tables.must)])).astype(int)
    row_of = np.full(tables.users, -1)
    row_of[rows] = np.arange(len(rows))
    names = tables.instance
    grid = tables.grid

    def column_labels() -> list[Label]:
        return [
            (names.users[n].name, names.servers[i].name, int(grid[s]))
            for n, i, s in zip(user, server, tables.step[columns], strict=True)
        ]

    build = ProgramBuilder()
    away = tables.away_cost
    runs = build.variable("runs", tables.base[columns] - away[user], column_labels, integer=integer)
    sharing = build.variable(
        "sharing", np.ones(tables.servers), lambda: [(s.name,) for s in names.servers], upper=np.inf
    )
    must = tables.must[rows]
    build.constraint(
        "served",
        [(row_of[user], runs, np.ones(len(columns)))],
        np.ones(len(rows)),
        lambda: [(names.users[n].name,) for n in rows],
        lower=np.where(must, 1.0, -np.inf),
    )
    build.constraint(
        "least_speed",
        [(server, runs, tables.f_min[columns] / tables.capacity[server])],
        np.ones(tables.servers),
        lambda: [(s.name,) for s in names.servers],
    )
    members = [np.flatnonzero(server == i) for i in range(tables.servers)]
    terms = [
        (np.full(len(members[i]), row), runs[members[i]], phi(tables, columns[members[i]], mu))
        for row, (i, mu) in enumerate(zip(tangents.server, tangents.mu, strict=True))
    ]
    count = len(tangents.mu)
    terms.append((np.arange(count), sharing[np.array(tangents.server, int)], -np.ones(count)))
    build.constraint(
        "tangent",
        terms,
        np.array([mu * tables.capacity[i] for i, mu in zip(tangents.server, tangents.mu, strict=True)]),
        lambda: [(names.servers[i].name, f"{mu:.6g}") for i, mu in zip(tangents.server, tangents.mu, strict=True)],
    )
    return build.build(math.fsum(away))


def prices_of(tables: Tables, choice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the servers that a choice (N,) uses, and the price that each one's best shares have."""
    inside = choice[choice >= 0]
    server = tables.server[inside]
    _, price = divide(server, tables.sigma[inside], tables.f_min[inside], tables.capacity)
    used = np.unique(server)
    return used, price[used]


def program_point(tables: Tables, columns: np.ndarray, tangents: Tangents, choice: np.ndarray) -> np.ndarray | None:
    """Return a choice (N,) as a point of `compact_program`; None if it takes a column that is not there."""
    position = np.full(len(tables.user), -1)
    position[columns] = np.arange(len(columns))
    chosen = choice[choice >= 0]
    if (position[chosen] < 0).any():
        return None
    x = np.zeros(len(columns) + tables.servers)
    x[position[chosen]] = 1.0
    for i, mu in zip(tangents.server, tangents.mu, strict=True):
        own = chosen[tables.server[chosen] == i]
        if len(own):
            cost = phi(tables, own, mu).sum() - mu * tables.capacity[i]
            x[len(columns) + i] = max(x[len(columns) + i], cost)
    return x


def choice_of(tables: Tables, columns: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the choice (N,) that a point of `compact_program` makes."""
    choice = np.full(tables.users, -1)
    chosen = columns[x[: len(columns)] > 0.5]
    choice[tables.user[chosen]] = chosen
    return choice
