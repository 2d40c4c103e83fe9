"""Convergence of both bounds over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aigc_opt.plot.style import DARK, GREY, LIGHT, MIDDLE, axes_of, legend_below, short
from aigc_opt.result import Result, gap_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def convergence(result: Result | dict[str, Any], ax: Axes | None = None) -> Axes:
    """Draw objective and lower bound over the seconds of a solve.

    Parameters
    ----------
    result : Result or dict
        A result, or the parsed file of one.

    """
    data = result.to_dict() if isinstance(result, Result) else result
    ax = axes_of(ax)
    rows = data["trace"]
    end = max(float(data["runtime_s"]), rows[-1]["elapsed_s"] if rows else 0.0)
    seconds = np.array([*(row["elapsed_s"] for row in rows), end])

    def series(key: str) -> np.ndarray:
        values = [np.nan if row[key] is None else row[key] for row in rows]
        return np.array([*values, values[-1] if values else np.nan], float)

    upper, lower = series("objective"), series("lower_bound")
    ax.fill_between(seconds, lower, upper, step="post", color=LIGHT, alpha=0.6, lw=0, label="where the optimum is")
    ax.step(seconds, upper, where="post", color=DARK, label="objective (best point)")
    ax.step(seconds, lower, where="post", color=MIDDLE, ls="--", label="lower bound (proven)")
    found = upper[-1] if np.isfinite(upper[-1]) else None
    gap = gap_of(found, lower[-1] if np.isfinite(lower[-1]) else None)
    words = f"{data['instance']['name']}, {data['method']}"
    ax.set(xlabel="seconds", ylabel="objective", title=short(words, 50) + ("" if gap is None else f": gap {gap:.2%}"))
    if end > 0:
        ax.set_xlim(-0.02 * end, 1.02 * end)
    ax.grid(color=GREY, alpha=0.25)
    legend_below(ax, 2)
    return ax
