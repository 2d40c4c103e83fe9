"""Large-neighbourhood search: free a few servers that compete for the same users, and solve that part."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.offloading.choices import total_cost
from aigc_opt.problems.offloading.closing import close
from aigc_opt.problems.offloading.prices import reduced_costs
from aigc_opt.problems.offloading.relaxation import relax
from aigc_opt.problems.offloading.tables import Tables

MOST_COLUMNS = 1500
MIP_SECONDS = 3.0
COLD = 0.05
"""Where every server's heat is below this, all have been tried in vain lately."""

VAIN_ROUNDS = 60
"""The search ends after so many neighbourhoods in a row without gain."""


def search_neighbourhoods(
    tables: Tables,
    mu: np.ndarray,
    bound: float,
    choice: np.ndarray,
    control: Control,
    gap: float,
    rng: np.random.Generator,
    size: int,
    seen: Callable[[np.ndarray], None],
) -> np.ndarray:
    """Improve a feasible choice, `size` servers at a time.

    Servers are drawn by what they lose against the prices mu, and by how much they compete for the same users.

    Returns
    -------
    ndarray of int, shape (N,)
        A choice that is at least as good.

    """
    upper = total_cost(tables, choice)
    value, extra, _ = reduced_costs(tables, mu)
    together = _competition(tables, extra)
    heat, vain = np.ones(tables.servers), 0
    unit = float(np.median(mu[mu > 0])) if (mu > 0).any() else 1e-3
    while control.stop is None and upper - bound > gap * abs(upper) and vain < VAIN_ROUNDS:
        inside = choice >= 0
        at = np.where(inside, tables.server[np.maximum(choice, 0)], -1)
        loss = np.bincount(at[inside], extra[choice[inside]], tables.servers) + 1e-6
        group = _draw_group(loss, heat, together, size, rng)
        chosen = np.zeros(tables.servers, bool)
        chosen[group] = True
        free = np.where(inside, chosen[at], True)
        columns = np.flatnonzero(free[tables.user] & chosen[tables.server])
        users = np.flatnonzero(free & (inside | np.isin(np.arange(tables.users), tables.user[columns])))
        part = tables.restricted(users, columns)
        start = np.full(len(users), -1)
        start[inside[users]] = np.searchsorted(columns, choice[users][inside[users]])
        clock = control.part(most_s=2.5 * MIP_SECONDS)
        relaxed = relax(part, np.where(chosen, np.maximum(mu, 0.1 * unit), 0.0), clock, 1e-6, rounds=8)
        before = total_cost(part, start)
        if before - relaxed.value <= 0.1 * (upper - value) * len(group) / tables.servers:  # little to win here
            heat[group] *= 0.5
            vain += 1
        else:
            closed = close(
                part, relaxed.mu, relaxed.value, start, clock, 1e-5,
                most_columns=MOST_COLUMNS, mip_seconds=MIP_SECONDS,
            )  # fmt: skip
            won = before - total_cost(part, closed.choice) > 1e-9 * abs(before)
            heat[group] *= 1.1 if won else 0.6
            vain = 0 if won else vain + 1
            if won:
                new = choice.copy()
                new[users] = np.where(closed.choice >= 0, columns[np.maximum(closed.choice, 0)], -1)
                if total_cost(tables, new) < upper:
                    choice, upper = new, total_cost(tables, new)
                    seen(choice)
        if heat.max() < COLD:
            heat[:] = 1.0
    return choice


def _competition(tables: Tables, extra: np.ndarray) -> np.ndarray:
    """How much two servers compete for the same users, (E, E): from columns of low reduced cost."""
    near = extra <= np.quantile(extra, 0.25)
    reach = np.zeros((tables.users, tables.servers), np.float32)
    worth = np.exp(-extra[near] / max(1e-9, float(np.median(extra[near])))).astype(np.float32)
    np.maximum.at(reach, (tables.user[near], tables.server[near]), worth)
    together = (reach.T @ reach).astype(float)
    np.fill_diagonal(together, 0)
    return together


def _draw_group(
    loss: np.ndarray, heat: np.ndarray, together: np.ndarray, size: int, rng: np.random.Generator
) -> list[int]:
    """Servers that lose much and compete with each other, drawn one after another."""
    weight = loss * heat
    group = [int(np.searchsorted(np.cumsum(weight), rng.random() * weight.sum()).clip(0, len(weight) - 1))]
    link = together[group[0]].copy()
    while len(group) < min(size, len(loss)):
        weight = (link + 1e-9) * (loss + loss.mean())
        weight[group] = 0
        if weight.sum() <= 0:
            break
        group.append(int(np.searchsorted(np.cumsum(weight), rng.random() * weight.sum()).clip(0, len(weight) - 1)))
        link += together[group[-1]]
    return group
