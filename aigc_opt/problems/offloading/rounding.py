"""First points: rounding a mixed point, repair, and the packing program that decides feasibility."""

from __future__ import annotations

import math

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.offloading.arrays import Tangents, choice_of, compact_program
from aigc_opt.problems.offloading.choices import OUTSIDE, total_cost
from aigc_opt.problems.offloading.tables import Tables
from aigc_opt.solvers import Answer, Highs

FINE = {
    "mip_feasibility_tolerance": 1e-9,
    "primal_feasibility_tolerance": 1e-9,
    "dual_feasibility_tolerance": 1e-9,
}
"""Options of HiGHS where its default tolerances of 1e-6 and 1e-7 would show in the answer."""


def round_off(
    tables: Tables, columns: np.ndarray, fraction: np.ndarray, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Return a choice (N,) from fractions: each user's largest (or a draw), as far as minimum shares fit.

    Users who must be served may be left without a column: `repair` gives them one.
    """
    whole = np.zeros(len(tables.user))
    whole[columns] = fraction
    rest = 1.0 - np.bincount(tables.user, whole, tables.users)
    if rng is not None:
        whole = whole * rng.random(len(whole)) ** 0.7
        rest = rest * rng.random(tables.users) ** 0.7
    away = np.where(tables.must, -1.0, rest)
    order = np.argsort(-whole, kind="stable")
    choice, left, seen = np.full(tables.users, OUTSIDE), tables.capacity.copy(), np.zeros(tables.users, bool)
    for c in order[whole[order] > 1e-9]:
        n, i = tables.user[c], tables.server[c]
        if seen[n] or whole[c] < away[n] or tables.f_min[c] > left[i]:
            continue
        choice[n], seen[n] = c, True
        left[i] -= tables.f_min[c]
    return choice


def repair(tables: Tables, choice: np.ndarray) -> np.ndarray | None:
    """Give every user without a place one, moving others outside where that is needed; None where this fails.

    A user who has an outside option can always make room; so only tasks that must be served can be in each other's way,
    which `packing` decides exactly.
    """
    choice = choice.copy()
    lost = np.flatnonzero((choice < 0) & tables.must)
    if not len(lost):
        return choice
    inside = choice[choice >= 0]
    used = np.zeros(tables.servers)  # not of `bincount`, which counts nothing in integers
    np.add.at(used, tables.server[inside], tables.f_min[inside])
    for n in lost[np.argsort(np.diff(tables.start)[lost], kind="stable")]:
        own = np.arange(tables.start[n], tables.start[n + 1])
        fits = own[tables.f_min[own] <= (tables.capacity - used)[tables.server[own]]]
        if len(fits):
            choice[n] = fits[np.argmin(tables.base[fits])]
            used[tables.server[choice[n]]] += tables.f_min[choice[n]]
        elif not _make_room(tables, choice, used, own):
            return None
    return choice


def _make_room(tables: Tables, choice: np.ndarray, used: np.ndarray, own: np.ndarray) -> bool:
    """Give a user one of his columns `own` by moving others outside, cheapest a GHz first; changes `choice`, `used`."""
    for c in own[np.argsort(tables.f_min[own], kind="stable")]:
        i = tables.server[c]
        there = np.flatnonzero((choice >= 0) & ~tables.must)
        there = there[tables.server[choice[there]] == i]
        loss = (tables.outside_cost[there] - tables.base[choice[there]]) / tables.f_min[choice[there]]
        for m in there[np.argsort(loss, kind="stable")]:
            if used[i] + tables.f_min[c] <= tables.capacity[i]:
                break
            used[i] -= tables.f_min[choice[m]]
            choice[m] = OUTSIDE
        if used[i] + tables.f_min[c] <= tables.capacity[i]:
            choice[tables.user[c]] = c
            used[i] += tables.f_min[c]
            return True
    return False


def packing(tables: Tables, control: Control) -> tuple[Answer, np.ndarray | None]:
    """Decide whether the tasks that only servers can serve fit there: a packing program of minimum shares.

    Everybody with an outside option can be outside, and a task that must be served may take its least work, so the
    instance is feasible if and only if those tasks' least minimum shares fit.

    Returns
    -------
    answer : Answer
        `OPTIMAL` with a choice (N,), `INFEASIBLE` (proved by the solver), or `STOPPED`.
    choice : ndarray or None

    """
    if not tables.must.any():
        return Answer.OPTIMAL, np.full(tables.users, OUTSIDE)
    columns = _least_columns(tables)
    outcome = Highs(compact_program(tables, columns, Tangents())).solve(gap=1.0, control=control, options=FINE)
    if outcome.answer is Answer.INFEASIBLE:
        return outcome.answer, None
    choice = None if outcome.x is None else choice_of(tables, columns, outcome.x)
    if choice is None or not math.isfinite(total_cost(tables, choice)):
        return Answer.STOPPED, None
    return Answer.OPTIMAL, choice


def _least_columns(tables: Tables) -> np.ndarray:
    """Of users who must be served, the column of least minimum share at each server; sorted."""
    own = np.flatnonzero(tables.must[tables.user])
    order = own[np.lexsort((tables.f_min[own], tables.server[own], tables.user[own]))]
    pair = tables.user[order] * max(tables.servers, 1) + tables.server[order]
    return np.sort(order[np.r_[True, np.diff(pair) != 0][: len(order)]])


def crowded(tables: Tables, control: Control) -> tuple[str, ...]:
    """Explain why the tasks that must be served do not fit together: a set of them of which none can be left out.

    Tasks are left out one at a time as long as the rest still does not fit. Where the time is over before that is
    through, the set is not the smallest.
    """
    kept = np.flatnonzero(tables.must)
    for n in kept.copy():
        if control.stop is not None:
            break
        rest = kept[kept != n]
        part = tables.restricted(rest, np.flatnonzero(np.isin(tables.user, rest)))
        if len(rest) and packing(part, control)[0] is Answer.INFEASIBLE:
            kept = rest
    servers = sorted(set(tables.server[np.isin(tables.user, kept)].tolist()))
    names = ", ".join(tables.instance.users[n].name for n in kept)
    machines = ", ".join(tables.instance.servers[i].name for i in servers)
    lines = [f"tasks of {names}: must be served, only {machines} can, and even with the fewest steps they do not fit"]
    for n in kept:
        own = np.arange(tables.start[n], tables.start[n + 1])
        for i in servers:
            at = own[tables.server[own] == i]
            server = tables.instance.servers[i]
            need = f"needs {tables.f_min[at].min():.4g} of {server.ghz:g} GHz" if len(at) else "cannot serve it"
            lines.append(f"task of {tables.instance.users[n].name}, {server.name}: {need}")
    return tuple(lines)
