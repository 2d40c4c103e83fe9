"""Local search over choices with exact shares.

What makes it fast is one inequality. With mu_i a price that the present shares of server i have (a multiplier of
``sum f <= F_i``), ::

    V_i(K - out + in) >= V_i(K) - phi_out(mu_i) + phi_in(mu_i)

because V_i(K') is a maximum over prices and the right side is its value at one of them. So the change of any compound
move is at least the sum of its parts' reduced costs at present prices: one vectorised pass over all columns shows the
only moves that can gain, and those few are evaluated exactly, many at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.offloading.choices import OUTSIDE
from aigc_opt.problems.offloading.prices import column_costs
from aigc_opt.problems.offloading.shares import batch_costs, divide
from aigc_opt.problems.offloading.tables import Tables, blocks

WIDTH = 30
"""Candidates looked at in a round: this many a server for a part of a pair, a few times as many single moves."""

ROUNDS = 400

SORTED = 2**20
"""Candidates that are sorted at once, between looks at the clock."""

Move = tuple[float, list[tuple[int, int]]]
"""Exact change of the total cost, and the (user, new column) of each part."""


class _State:
    """A feasible choice with the members, cost and price of every server."""

    def __init__(self, tables: Tables, choice: np.ndarray):
        self.tables, self.choice = tables, choice.copy()
        inside = np.flatnonzero(choice >= 0)
        at = tables.server[choice[inside]]
        self.members = [inside[at == i] for i in range(tables.servers)]
        self.value, self.price = np.zeros(tables.servers), np.zeros(tables.servers)
        for i in range(tables.servers):
            self.refresh(i)

    def refresh(self, i: int) -> None:
        column = self.choice[self.members[i]]
        sigma = self.tables.sigma[column]
        group = np.zeros(len(column), int)
        share, price = divide(group, sigma, self.tables.f_min[column], self.tables.capacity[i : i + 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            self.value[i] = np.where(sigma > 0, sigma * sigma / share, 0.0).sum()
        self.price[i] = price[0]

    def variants(self, i: int, out: np.ndarray, into: np.ndarray) -> np.ndarray:
        """Cost of server i with user out[b] removed (-1: nobody) and column into[b] added (-1: none), shape (B,)."""
        tables, members = self.tables, self.members[i]
        column = self.choice[members]
        size = len(members)
        sigma, least = np.zeros((len(out), size + 1)), np.zeros((len(out), size + 1))
        stays = members[None, :] != out[:, None]
        sigma[:, :size], least[:, :size] = tables.sigma[column] * stays, tables.f_min[column] * stays
        added = into >= 0
        sigma[added, size], least[added, size] = tables.sigma[into[added]], tables.f_min[into[added]]
        return batch_costs(sigma, least, float(tables.capacity[i]))

    def fixed_cost(self, user: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Cost of users' options apart from shared speed."""
        inside = column >= 0
        cost = self.tables.outside_cost[user]
        cost[inside] = self.tables.base[column[inside]]
        return cost

    def move(self, user: int, column: int) -> None:
        """Give a user a column (or the outside option); `refresh` the servers afterwards."""
        server, old = self.tables.server, self.choice[user]
        if old >= 0:
            i = server[old]
            self.members[i] = self.members[i][self.members[i] != user]
        if column >= 0:
            self.members[server[column]] = np.append(self.members[server[column]], user)
        self.choice[user] = column

    def apply(self, moves: list[Move]) -> int:
        """Make improving moves, best first, each server touched once, so that their exact changes add up."""
        server, done = self.tables.server, 0
        busy: set[int] = set()
        for _, parts in sorted(moves, key=lambda move: move[0]):
            touched = {-1 - n for n, _ in parts}
            touched |= {int(server[c]) for n, new in parts for c in (self.choice[n], new) if c >= 0}
            if touched & busy:
                continue
            busy |= touched
            for n, column in parts:
                self.move(n, column)
            for i in touched:
                if i >= 0:
                    self.refresh(i)
            done += 1
        return done


@dataclass(frozen=True)
class _Options:
    """All changes of one user: C columns, then N outside options; `target` E = outside.

    `change` is the reduced cost at present prices, a lower bound on what the change can gain.
    """

    user: np.ndarray
    column: np.ndarray
    source: np.ndarray
    target: np.ndarray
    change: np.ndarray


def descend(
    tables: Tables, choice: np.ndarray, control: Control, tolerance: float | None = None, width: int = WIDTH
) -> np.ndarray:
    """Improve a feasible choice by single moves, then by pair moves, until neither helps.

    A pair: one user enters a server and another one leaves it for anywhere.

    Parameters
    ----------
    tables : Tables
    choice : ndarray of int, shape (N,)
    control : Control
    tolerance : float, optional
        Least gain of a move; by default a tiny part of the total cost.
    width : int
        Candidates looked at for each server and round.

    Returns
    -------
    ndarray of int, shape (N,)

    """
    state = _State(tables, choice)
    if not tables.servers or not len(tables.user):
        return state.choice
    if tolerance is None:
        users = np.arange(tables.users)
        tolerance = 1e-11 * float(np.abs(state.fixed_cost(users, state.choice)).sum() + state.value.sum())
    for _ in range(ROUNDS):
        if control.stop is not None:
            break
        options = _options(state)
        if state.apply(_single_moves(state, options, width, tolerance, control)):
            continue
        if not state.apply(_pair_moves(state, options, width, tolerance, control)):
            break
    return state.choice


def _options(state: _State) -> _Options:
    tables = state.tables
    cost, _ = column_costs(tables, state.price)
    inside = state.choice >= 0
    present = tables.outside_cost.copy()
    present[inside] = cost[state.choice[inside]]
    user = np.concatenate([tables.user, np.arange(tables.users)])
    place = np.full(tables.users, tables.servers)
    place[inside] = tables.server[state.choice[inside]]
    return _Options(
        user,
        np.concatenate([np.arange(len(tables.user)), np.full(tables.users, OUTSIDE)]),
        place[user],
        np.concatenate([tables.server, np.full(tables.users, tables.servers)]),
        np.concatenate([cost, tables.outside_cost]) - present[user],
    )


def _first_of_each(key: np.ndarray, most: int) -> np.ndarray:
    """Mask of the first `most` entries of each key."""
    order = np.argsort(key, kind="stable")
    rank = np.empty(len(key), int)
    rank[order] = np.arange(len(key)) - np.searchsorted(key[order], key[order])
    return rank < most


def _best_of_each(
    key: np.ndarray, change: np.ndarray, candidates: np.ndarray, most: int, control: Control
) -> np.ndarray:
    """Candidates in the order of their change, `most` of each key; of those looked at before `control` says stop."""
    best = candidates[:0]
    for block in blocks(len(candidates), 1, SORTED):
        if control.stop is not None:
            break
        best = np.concatenate([best, candidates[block]])
        best = best[np.argsort(change[best], kind="stable")]
        best = best[_first_of_each(key[best], most)]
    return best


def _single_moves(state: _State, options: _Options, width: int, tolerance: float, control: Control) -> list[Move]:
    """Exact changes of the single moves that may gain."""
    likely = np.flatnonzero(options.change < -tolerance)
    likely = _best_of_each(options.target, options.change, likely, 3 * width, control)
    n, c = options.user[likely], options.column[likely]
    i, j = options.source[likely], options.target[likely]
    delta = state.fixed_cost(n, c) - state.fixed_cost(n, state.choice[n])
    for s in range(state.tables.servers):
        touched = np.flatnonzero((i == s) | (j == s))
        if len(touched):
            out = np.where(i[touched] == s, n[touched], -1)
            into = np.where(j[touched] == s, c[touched], -1)
            delta[touched] += state.variants(s, out, into) - state.value[s]
    return [(d, [(a, b)]) for d, a, b in zip(delta.tolist(), n.tolist(), c.tolist(), strict=True) if d < -tolerance]


def _pair_moves(state: _State, options: _Options, width: int, tolerance: float, control: Control) -> list[Move]:
    """Exact changes of pair moves that may gain: one user enters j, another one leaves it."""
    servers = state.tables.servers
    change = options.change
    moving = np.flatnonzero(np.isfinite(change) & (options.target != options.source))
    entering = _best_of_each(options.target, change, moving, width, control)
    leaving = _best_of_each(options.source, change, moving, width, control)
    through, first, second = [], [], []
    for s in range(servers):
        enter, leave = entering[options.target[entering] == s], leaving[options.source[leaving] == s]
        a, b = np.repeat(enter, len(leave)), np.tile(leave, len(enter))
        bound = change[a] + change[b]
        good = np.flatnonzero(bound < -tolerance)
        good = good[np.argsort(bound[good], kind="stable")][: 4 * width]
        through.append(np.full(len(good), s))
        first.append(a[good])
        second.append(b[good])
    j, a, b = np.concatenate(through), np.concatenate(first), np.concatenate(second)
    n, c, i = options.user[a], options.column[a], options.source[a]
    m, d, k = options.user[b], options.column[b], options.target[b]
    delta = state.fixed_cost(n, c) - state.fixed_cost(n, state.choice[n])
    delta += state.fixed_cost(m, d) - state.fixed_cost(m, state.choice[m])
    for s in range(servers):
        touched = np.flatnonzero((j == s) | (i == s) | (k == s))
        if not len(touched):
            continue
        middle, before, after = j[touched] == s, i[touched] == s, k[touched] == s
        out = np.where(middle, m[touched], np.where(before, n[touched], -1))
        into = np.where(middle, c[touched], np.where(after, d[touched], -1))
        delta[touched] += state.variants(s, out, into) - state.value[s]
    gains = np.flatnonzero(delta < -tolerance)
    return [(float(delta[q]), [(int(n[q]), int(c[q])), (int(m[q]), int(d[q]))]) for q in gains]
