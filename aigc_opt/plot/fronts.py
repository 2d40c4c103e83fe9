"""A Pareto front with its certified band."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from aigc_opt.plot.style import DARK, GREY, LIGHT, MIDDLE, axes_of, legend_below
from aigc_opt.tradeoffs.front import Front

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def front(found: Front | str | os.PathLike[str], ax: Axes | None = None) -> Axes:
    """Draw the points, and the band between them and the half-planes below which no feasible point lies.

    Parameters
    ----------
    found : Front or path
        A front, or the CSV file that `Front.save` wrote.

    """
    found = found if isinstance(found, Front) else Front.load(found)
    ax = axes_of(ax)
    points = found.points
    low, high = points.min(axis=0), points.max(axis=0)
    first = np.unique(np.concatenate([np.linspace(low[0], high[0], 400), points[:, 0]]))
    # Between two points the true front may be anywhere from the boundary up to the step of the left one.
    step = points[np.searchsorted(points[:, 0], first, side="right") - 1, 1]
    lower = np.minimum(found.lower(first), step)
    shown = np.maximum(lower, low[1] - 0.5 * (high[1] - low[1]))
    ax.fill_between(first, shown, step, color=LIGHT, alpha=0.6, lw=0, label="where the true front can be")
    ax.plot(first, lower, color=MIDDLE, lw=1.2, ls="--", label="proven: nothing below")
    ax.plot(*points.T, color=DARK, marker="o", ms=4.5, ls="none", label="points found")
    knee = points[found.knee()]
    ax.plot(*knee, color=DARK, marker="o", ms=11, mfc="none", ls="none", label="knee")
    margin = 0.04 * (high - low) + 1e-12
    ax.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - 3 * margin[1], high[1] + margin[1]))
    ax.set(xlabel=f"{found.names[0]} (in units of the objective)", ylabel=found.names[1])
    ax.grid(color=GREY, alpha=0.25)
    legend_below(ax, 2)
    return ax
