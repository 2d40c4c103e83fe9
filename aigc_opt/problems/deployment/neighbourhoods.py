"""Better points from parts of the program: most of the placement stays, a part of it is decided anew by HiGHS.

What is decided anew is where the best point and a relaxation's point differ (relaxation induced neighbourhoods: Danna,
Rothberg, Le Pape, Mathematical Programming 102, 2005): the relaxation sees all servers and slots at once, so where it
agrees the point is seldom wrong. Of these places a part is taken, some servers, models or a window of slots, as large
as HiGHS solves in a few seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aigc_opt.control import Control
from aigc_opt.problems.deployment.arrays import DeploymentProgram
from aigc_opt.problems.deployment.solution import DeploymentSolution
from aigc_opt.program import LinearProgram
from aigc_opt.solvers import Answer, Highs

DIFFERENT = 0.1
"""How far a relaxation's value is from the point's where they count as different."""

PART = 100
"""Places that are decided anew at first; adapted to what HiGHS finishes."""

LEAST_PART = 40

PART_S = 9.0
"""Seconds for one part at most."""

AXES = (0, 1, 0, 2)
"""Windows of slots, servers, and models in turn: windows gain most, and take longest."""

PATIENCE = 20
"""Parts in turn without a better point after which the search ends."""

EFFORT = 0.3
"""Share of its time that HiGHS gives to heuristics here, where only points matter."""


def choose_part(differs: np.ndarray, axis: int, size: int, random: np.random.Generator) -> np.ndarray:
    """Choose about `size` of the places where `differs` (T, E, M): a window of slots, some servers, or some models."""
    if differs.sum() <= size:
        return differs
    lines = differs.shape[axis]
    counts = differs.sum(axis=tuple(other for other in range(3) if other != axis))
    # Slots in turn from a random one on, because a plan over neighbouring slots can change; others in any order.
    order = (random.integers(lines) + np.arange(lines)) % lines if axis == 0 else random.permutation(lines)
    taken = order[: max(1, int(np.searchsorted(np.cumsum(counts[order]), size, side="right")))]
    inside = np.zeros(lines, dtype=bool)
    inside[taken] = True
    part = differs & np.expand_dims(inside, [other for other in range(3) if other != axis])
    if part.sum() > 1.5 * size:  # one server or model alone is too much
        return choose_part(part, 0 if axis else 1, size, random)
    return part


def improve(
    built: DeploymentProgram,
    relaxed: Callable[[], tuple[LinearProgram, np.ndarray] | None],
    incumbent: Callable[[], DeploymentSolution],
    offer: Callable[[np.ndarray, np.ndarray, str], bool],
    control: Control,
    seed: int,
    gap: float,
) -> None:
    """Improve a point part by part until `PATIENCE` parts, or the largest possible one, have not helped.

    Parameters
    ----------
    relaxed : callable
        The program, tightened by rows at its end perhaps, and the latest values of stored and loaded in its relaxation,
        shape (2, T, E, M); None if there are none.
    incumbent : callable
        The best point so far.
    offer : callable
        (stored, loaded, event) -> whether that is a better point.
    gap : float
        Relative gap at which a part counts as solved.

    """
    random, idle, turn = np.random.default_rng(seed), 0, 0
    sizes = [PART, PART, PART]
    while idle < PATIENCE and control.stop is None:
        found = relaxed()
        if found is None:
            return
        program, values = found
        best = incumbent()
        differs = abs(values - np.stack([best.stored, best.loaded])).max(axis=0) > DIFFERENT
        axis = AXES[turn % len(AXES)]
        turn += 1
        part = choose_part(differs, axis, sizes[axis], random)
        point, free = built.point(best), built.free_around(best, part)
        watch = control.part(1.0, PART_S)
        outcome = Highs(program.around(point, free)).solve(
            gap, watch, seed, start=point[free], options={"mip_heuristic_effort": EFFORT}
        )
        if outcome.x is not None:
            point[free] = outcome.x
        better = outcome.x is not None and offer(*built.placement(point), "neighbourhood: better point")
        idle = 0 if better else idle + 1
        if outcome.answer is not Answer.OPTIMAL:
            sizes[axis] = max(LEAST_PART, int(0.8 * sizes[axis]))
        elif part.sum() == differs.sum() and not better:
            return
        elif watch.elapsed_s < PART_S / 3:
            sizes[axis] = int(1.2 * sizes[axis]) + 1
