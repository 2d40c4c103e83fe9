"""A stronger bound where servers hold few tasks: price the users, and solve each server's set of tasks as a whole.

Relax "a user is in one place at most" with prices pi (<= 0; free for a user who must be served)::

    L(pi) = sum outside + sum_n pi_n + sum_i v_i(pi)
    v_i(pi) = min over sets K of columns of server i (one a user) of sum_K (base - outside_n - pi_n) + V_i(K)

``L(pi) <= optimum`` for every such pi: at a feasible point ``-pi_n (1 - sum of n's columns) >= 0``; summed and added
to the right side it restores the cost, and each server's set costs at least v_i. At ``pi = least_n - outside_n``,
with each v_i replaced by its own price relaxation, L is D(mu); v_i is larger, because it knows that tasks are whole.

A lower bound on v_i by dynamic programming over speed in G cells of width F/G. With any mu, and all speed used (there
is no reason not to), ``sum_K c + V_i(K) = min over shares with sum f = F of sum (c + sigma^2/f + mu f) - mu F``.
Round each share to the nearest cell, keep the best f inside the cell for the cost, and let the cells sum to anything
within |K|/2 of G: every true set and division is still there, so the minimum is a lower bound. It errs only by (true
price - mu) times at most |K|/2 cells. Options that cannot be in a set better than a known one are left out first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.offloading.choices import OUTSIDE, total_cost
from aigc_opt.problems.offloading.local_search import descend
from aigc_opt.problems.offloading.prices import column_costs, evaluate
from aigc_opt.problems.offloading.rounding import repair
from aigc_opt.problems.offloading.shares import set_cost
from aigc_opt.problems.offloading.tables import Tables
from aigc_opt.program import LinearProgram, ProgramBuilder
from aigc_opt.solvers import Answer, Highs

CELLS, MOST_CELLS = 120, 1000
WARM_ROUNDS = 24
"""Rounds of subgradient steps before the master's multipliers lead."""

ROUNDS = 1000
SMOOTHING = 0.92
"""Weight of the best multipliers known against those of the master, which jump (Wentges' smoothing)."""

PRICE_FACTORS = np.exp(np.linspace(-0.35, 0.35, 9))
"""Multiples of a server's price that are tried as its mu now and then."""

Seen = Callable[[np.ndarray | None, float | None], None]
"""Is told of each better choice and of each better bound (total cost)."""


class _Pool:
    """Sets of columns that each server could serve, as far as they were found, and their best mixture."""

    def __init__(self, tables: Tables):
        self.tables = tables
        self.sets: list[list[tuple[np.ndarray, float]]] = [[] for _ in range(tables.servers)]
        self._known: list[set[bytes]] = [set() for _ in range(tables.servers)]
        self.mixture: list[tuple[int, np.ndarray, float]] = []

    def remember(self, i: int, columns: np.ndarray) -> None:
        """Keep a set (sorted columns of server i) with its V."""
        key = columns.tobytes()
        if len(columns) and key not in self._known[i]:
            value = set_cost(self.tables.sigma[columns], self.tables.f_min[columns], float(self.tables.capacity[i]))
            if math.isfinite(value):
                self._known[i].add(key)
                self.sets[i].append((columns, value))

    def learn(self, choice: np.ndarray) -> None:
        """Remember every server's set of a choice."""
        inside = choice[choice >= 0]
        for i in range(self.tables.servers):
            self.remember(i, np.sort(inside[self.tables.server[inside] == i]))

    def cheapest(self, i: int, gain: np.ndarray) -> tuple[float, np.ndarray]:
        """Cheapest set known at column costs `gain` (C,): value (<= 0, nothing costs nothing) and columns."""
        best, where = 0.0, np.empty(0, int)
        for columns, value in self.sets[i]:
            total = float(gain[columns].sum()) + value
            if total < best:
                best, where = total, columns
        return best, where

    def _program(self, integer: bool) -> tuple[LinearProgram, list[tuple[int, np.ndarray, float]]]:
        """Set packing: one set a server and one a user at most; leaving out a user who must be served is dear."""
        tables = self.tables
        must, away = tables.must, tables.away_cost
        sets = [(i, columns, value) for i, own in enumerate(self.sets) for columns, value in own]
        missing = np.flatnonzero(must)
        cost = np.array([(tables.base[c] - away[tables.user[c]]).sum() + value for _, c, value in sets])
        build = ProgramBuilder()
        chosen = build.variable("set", cost, lambda: [(k,) for k in range(len(sets))], integer=integer)
        dear = np.full(len(missing), 10.0 * (np.abs(tables.base).max() + 1))
        left_out = build.variable("left_out", dear, lambda: [(int(n),) for n in missing], integer=integer)
        sizes = [len(columns) for _, columns, _ in sets]
        members = np.concatenate([tables.user[columns] for _, columns, _ in sets])
        build.constraint(
            "user",
            [(members, np.repeat(chosen, sizes), 1.0), (missing, left_out, 1.0)],
            np.ones(tables.users),
            lambda: [(n,) for n in range(tables.users)],
            lower=np.where(must, 1.0, -np.inf),
        )
        build.constraint(
            "server",
            [(np.array([i for i, _, _ in sets]), chosen, 1.0)],
            np.ones(tables.servers),
            lambda: [(i,) for i in range(tables.servers)],
        )
        return build.build(math.fsum(away)), sets

    def mix(self, control: Control) -> tuple[np.ndarray, float] | None:
        """Best mixture of the pool: prices (N,) of users, and its value, where L ends if no better sets are found."""
        program, sets = self._program(integer=False)
        outcome = Highs(program).solve(control=control, options={"solver": "simplex"})
        if outcome.answer is not Answer.OPTIMAL or outcome.row_duals is None:
            return None
        assert outcome.x is not None and outcome.objective is not None  # an optimal program has a point
        self.mixture = [(i, c, float(x)) for (i, c, _), x in zip(sets, outcome.x, strict=False) if x > 1e-6]
        return outcome.row_duals[: self.tables.users], outcome.objective

    def draw(self, rng: np.random.Generator) -> np.ndarray | None:
        """One set a server drawn by the mixture's fractions; a user in two stays where that is cheaper; repaired."""
        tables = self.tables
        choice, cost = np.full(tables.users, OUTSIDE), np.full(tables.users, np.inf)
        by_server: dict[int, list[tuple[np.ndarray, float]]] = {}
        for i, columns, fraction in self.mixture:
            by_server.setdefault(i, []).append((columns, fraction))
        for options in by_server.values():
            weight = np.array([fraction for _, fraction in options])
            k = int(np.searchsorted(np.cumsum(weight), rng.random() * max(1.0, weight.sum())))
            if k < len(options):
                columns = options[k][0]
                columns = columns[tables.base[columns] < cost[tables.user[columns]]]
                choice[tables.user[columns]], cost[tables.user[columns]] = columns, tables.base[columns]
        return repair(tables, choice)

    def choose(self, choice: np.ndarray, control: Control) -> np.ndarray | None:
        """Whole sets: the best packing of the pool that is found, as a choice, starting from `choice`."""
        tables = self.tables
        program, sets = self._program(integer=True)
        inside = choice[choice >= 0]
        mine = {i: np.sort(inside[tables.server[inside] == i]).tobytes() for i in range(tables.servers)}
        start = np.zeros(program.cost.size)
        start[: len(sets)] = [columns.tobytes() == mine[i] for i, columns, _ in sets]
        outcome = Highs(program).solve(gap=1e-5, control=control, start=start, options={"mip_heuristic_effort": 0.2})
        if outcome.x is None:
            return None
        new = np.full(tables.users, OUTSIDE)
        for (_, columns, _), on in zip(sets, outcome.x > 0.5, strict=False):
            if on:
                new[tables.user[columns]] = columns
        return new if math.isfinite(total_cost(tables, new)) else None


def server_bound(
    tables: Tables, pool: _Pool, columns: np.ndarray, i: int, gain: np.ndarray, mu: float, cells: int
) -> tuple[float, np.ndarray]:
    """Return a lower bound on v_i, and a good set; the set is remembered in the pool.

    Parameters
    ----------
    tables : Tables
    pool : _Pool
        Sets known so far; a set's value is an upper bound on v_i.
    columns : ndarray of int
        Columns of server i, sorted by user.
    i : int
    gain : ndarray, shape (C,)
        ``base - outside - pi`` of every column.
    mu : float
        Any price > 0 of the server's speed.
    cells : int

    Returns
    -------
    bound : float
    columns : ndarray of int

    """
    if not len(columns):
        return 0.0, columns
    capacity = float(tables.capacity[i])
    sigma, least, c = tables.sigma[columns], tables.f_min[columns], gain[columns]
    share = np.clip(sigma / math.sqrt(mu), least, capacity)
    cost = c + sigma * sigma / share + mu * share
    user = tables.user[columns]
    first = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
    own = np.minimum(np.minimum.reduceat(cost, first), 0.0)
    floor = float(own.sum()) - mu * capacity
    known, best_set = pool.cheapest(i, gain)
    if floor >= known - 1e-12 * abs(known):
        return min(floor, 0.0), best_set
    # A column in a set costs that set at least floor + (its cost - its user's own minimum).
    group = np.cumsum(np.r_[True, user[1:] != user[:-1]]) - 1
    room = known - floor
    stay = cost - own[group] <= room
    columns, sigma, least, c, group = columns[stay], sigma[stay], least[stay], c[stay], group[stay]
    if not len(columns):
        return known, best_set
    value = _cell_costs(sigma, least, c, mu, capacity, cells)
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    table = np.minimum.reduceat(value, starts, axis=0)  # (users, cells + 1)
    table[table - own[group[starts]][:, None] > room] = np.inf
    most = min(len(starts), int(capacity / least.min() + 1e-9)) if least.min() > 0 else len(starts)
    spread = (most + 1) // 2 + 1
    best, back = _fill_cells(table, cells + spread + 1)
    low = max(0, cells - spread)
    end = low + int(np.argmin(best[low:]))
    found = float(best[end]) - mu * capacity
    lower = min(max(floor, found), known)
    if math.isfinite(best[end]):
        chosen = _read_off(back, end, starts, value, columns)
        pool.remember(i, chosen)
        if len(chosen) and found <= pool.cheapest(i, gain)[0]:
            best_set = chosen
    return lower, best_set


def _cell_costs(
    sigma: np.ndarray, least: np.ndarray, c: np.ndarray, mu: float, capacity: float, cells: int
) -> np.ndarray:
    """Least of ``c + sigma^2 / f + mu f`` over each cell's shares f, (columns, cells + 1); inf where there are none."""
    width = capacity / cells
    centre = np.arange(cells + 1) * width
    low = np.maximum(np.maximum(centre - 0.5 * width, 1e-9 * capacity)[None], least[:, None])
    high = np.minimum(centre + 0.5 * width, capacity)[None]
    at = np.clip((sigma / math.sqrt(mu))[:, None], low, np.maximum(low, high))
    cost = c[:, None] + (sigma * sigma)[:, None] / at + mu * at
    return np.where(low <= high * (1 + 1e-12), cost, np.inf)


def _fill_cells(table: np.ndarray, size: int) -> tuple[np.ndarray, list[np.ndarray | None]]:
    """Cheapest way to fill g cells with one user after another (or not): (size,), and each user's cells at each g."""
    best = np.full(size, np.inf)
    best[0] = 0.0
    back: list[np.ndarray | None] = []
    for row in table:
        possible = np.flatnonzero(np.isfinite(row))
        if not len(possible) or possible[0] >= size:
            back.append(None)
            continue
        a, b = int(possible[0]), int(possible[-1])
        # Window g of the padded array is best[g - b .. g - a].
        padded = np.concatenate([np.full(b, np.inf), best[: size - a]])
        window = np.lib.stride_tricks.sliding_window_view(padded, b - a + 1)[:size]
        total = window + row[a : b + 1][::-1]
        pick = total.argmin(axis=1)
        new = total[np.arange(len(total)), pick]
        ahead = size - len(new)
        new = np.concatenate([np.full(ahead, np.inf), new])
        pick = np.concatenate([np.zeros(ahead, int), pick])
        take = new < best
        back.append(np.where(take, b - pick, -1))
        best = np.where(take, new, best)
    return best, back


def _read_off(
    back: list[np.ndarray | None], end: int, starts: np.ndarray, value: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Return the set (sorted columns) that ends in cell `end`, with each user's best column in its cell."""
    cell, chosen = end, []
    for k in range(len(back) - 1, -1, -1):
        widths = back[k]
        if widths is not None and widths[cell] >= 0:
            width = int(widths[cell])
            rows = np.arange(starts[k], starts[k + 1] if k + 1 < len(starts) else len(columns))
            chosen.append(columns[rows[value[rows, width].argmin()]])
            cell -= width
    return np.sort(np.array(chosen, int))


Clip = Callable[[np.ndarray], np.ndarray]
"""Takes multipliers to the nearest that are allowed."""


@dataclass
class _Search:
    """Where the search for multipliers stands."""

    pi: np.ndarray
    best_pi: np.ndarray
    mu: np.ndarray
    cells: int
    direction: np.ndarray | None = None
    step: float = 0.12
    waited: int = 0
    stalled: int = 0


def improve(
    tables: Tables,
    mu: np.ndarray,
    bound: float,
    choice: np.ndarray,
    control: Control,
    gap: float,
    seed: int,
    seen: Seen = lambda choice, bound: None,
    cells: int = CELLS,
    rounds: int = ROUNDS,
) -> tuple[float, np.ndarray]:
    """Raise L from the prices mu: some deflected subgradient steps, then column generation over sets of tasks.

    The master mixes the sets found so far (one a server, one a user at most); its multipliers pull pi, smoothed towards
    the best pi known. Every now and then sets are chosen whole, which often gives better points than one had.

    Parameters
    ----------
    tables : Tables
    mu : ndarray, shape (E,)
    bound : float
        A bound known already (total cost).
    choice : ndarray of int, shape (N,)
        A feasible choice.
    control : Control
    gap : float
        Relative gap at which to end.
    seed : int
    seen : callable
    cells, rounds : int

    Returns
    -------
    bound : float
        At least the one given.
    choice : ndarray of int, shape (N,)
        At least as good as the one given.

    """
    pool, rng = _Pool(tables), np.random.Generator(np.random.PCG64(seed))
    order = np.lexsort((np.arange(len(tables.user)), tables.server))
    split = np.searchsorted(tables.server[order], np.arange(tables.servers + 1))
    columns_of = [order[split[i] : split[i + 1]] for i in range(tables.servers)]
    away, must = tables.away_cost, tables.must
    upper = total_cost(tables, choice)
    pool.learn(choice)

    def offer(new: np.ndarray | None, seconds: float) -> None:
        nonlocal choice, upper
        if new is None:
            return
        new = descend(tables, new, control.part(most_s=seconds))
        pool.learn(new)
        if total_cost(tables, new) < upper:
            choice, upper = new, total_cost(tables, new)
            seen(choice, None)

    def clipped(pi: np.ndarray) -> np.ndarray:
        return np.where(must, pi, np.minimum(pi, 0.0))

    pi = clipped(evaluate(tables, mu).least - away)
    at = _Search(pi, pi.copy(), np.maximum(mu, 1e-9 * max(float(mu.max()), 1e-9)), cells)
    fixed, best, ceiling = math.fsum(away), bound, math.inf
    next_whole_s = 0.25 * min(control.remaining_s, 120.0)
    started = control.elapsed_s
    for k in range(rounds):
        if control.stop is not None or upper - best <= gap * abs(upper):
            break
        gain = tables.base - away[tables.user] - at.pi[tables.user]
        if k % 5 == 0:
            # The price that each server's own relaxation likes best at present pi; any would be valid.
            values = np.array([_relaxed(tables, gain, at.mu * factor) for factor in PRICE_FACTORS])
            at.mu = at.mu * PRICE_FACTORS[values.argmax(axis=0)]
        parts, served = [], np.zeros(tables.users)
        for i in range(tables.servers):
            if control.stop is not None:
                return best, choice
            value, chosen = server_bound(tables, pool, columns_of[i], i, gain, float(at.mu[i]), at.cells)
            parts.append(value)
            served[tables.user[chosen]] += 1
        worth = fixed + math.fsum(at.pi) + math.fsum(parts)
        # What rounding can add: each term is a few units in the last place off.
        worth -= 1e-13 * (abs(fixed) + np.abs(at.pi).sum() + np.abs(parts).sum())
        better = worth > best + 1e-7 * abs(best)
        if worth > best:
            best, at.best_pi = float(worth), at.pi.copy()
            seen(None, best)
        if k < WARM_ROUNDS:
            if not _subgradient_step(at, served, must, clipped, better, upper, float(worth)):
                break
            continue
        solved = pool.mix(control)
        if solved is None:
            break
        pull, ceiling = solved
        at.stalled = 0 if better else at.stalled + 1
        if ceiling - best <= 0.02 * (upper - best) or at.stalled > 25:
            break
        _towards_master(tables, at, pull, clipped)
        if k % 4 == 0:
            offer(pool.draw(rng), 2.0)
        if control.elapsed_s - started > next_whole_s:
            left = min(control.remaining_s, 120.0)
            offer(pool.choose(choice, control.part(0.2, most_s=5.0)), 3.0)
            next_whole_s = control.elapsed_s - started + max(5.0, 0.3 * left)
    if math.isfinite(ceiling) and control.stop is None and upper - best > gap * abs(upper):
        offer(pool.choose(choice, control.part(0.8, most_s=30.0)), 10.0)
    return best, choice


def _subgradient_step(
    at: _Search,
    served: np.ndarray,
    must: np.ndarray,
    clipped: Clip,
    better: bool,
    upper: float,
    worth: float,
) -> bool:
    """Move pi along a deflected subgradient, with a step that shrinks when nothing gets better; False if it is 0."""
    at.waited = 0 if better else at.waited + 1
    if at.waited >= 3:
        at.step, at.waited, at.pi, at.direction = at.step * 0.6, 0, at.best_pi.copy(), None
    slope = 1.0 - served
    slope = np.where(~must & (at.pi >= 0) & (slope > 0), 0.0, slope)
    at.direction = slope if at.direction is None else 0.6 * slope + 0.4 * at.direction
    norm = float(at.direction @ at.direction)
    if norm < 1e-12:
        return False
    at.pi = clipped(at.pi + at.step * max(upper - worth, 1e-6 * abs(upper)) / norm * at.direction)
    return True


def _towards_master(tables: Tables, at: _Search, pull: np.ndarray, clipped: Clip) -> None:
    """Move pi from the best known towards the master's multipliers, within a box; finer cells where progress stalls."""
    stalled = at.stalled
    radius = np.median(np.abs(tables.base)) / (1 + stalled)  # the pool says nothing far from where it was made
    pull = np.clip(pull, at.best_pi - radius, at.best_pi + radius)
    if stalled and stalled % 3 == 0 and at.cells < MOST_CELLS:  # what is missing may be the cells' own error
        at.cells = int(at.cells * 1.5)
    if stalled < 5:
        keep = min(0.97, SMOOTHING + 0.02 * stalled)
    else:
        keep = SMOOTHING if stalled % 3 else 0.75
    at.pi = clipped(keep * at.best_pi + (1 - keep) * pull)


def _relaxed(tables: Tables, gain: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """Price relaxation of each v_i at mu, (E,)."""
    cost = column_costs(tables, mu)[0] - tables.base + gain
    pair = tables.user * tables.servers + tables.server
    order = np.argsort(pair, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(pair[order]) != 0])
    least = np.minimum(np.minimum.reduceat(cost[order], first), 0.0)
    return np.bincount(pair[order][first] % tables.servers, least, tables.servers) - mu * tables.capacity
