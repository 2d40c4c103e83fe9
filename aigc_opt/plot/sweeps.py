"""Intervals over a number that was varied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_opt.errors import InputError
from aigc_opt.plot.style import GREY, MARKERS, SEQUENCE, axes_of, legend_below

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LINES_AT_MOST = 6


def sweep(table: pd.DataFrame, value: str = "objective", ax: Axes | None = None) -> Axes:
    """Draw a sweep: the path of most values along the axis, a line for each combination of the others.

    Of several such paths it is the last. The band of each line is the interval from lower bound to objective.

    Parameters
    ----------
    table : DataFrame
        Of `aigc_opt.sweep`, or its CSV file read by pandas.
    value : str
        Column to draw; another one than ``objective`` has no band.

    Raises
    ------
    InputError
        If there are more lines than can be told apart.

    """
    ax = axes_of(ax)
    paths = list(table.columns[: table.columns.get_loc("objective")])
    along = max(reversed(paths), key=lambda path: table[path].nunique())
    others = [path for path in paths if path != along]
    groups = [((), table)] if not others else list(table.groupby(others, sort=True))
    if len(groups) > LINES_AT_MOST:
        words = f"has {len(groups)} combinations of {', '.join(others)}, more than the {LINES_AT_MOST} lines that fit"
        raise InputError("sweep", [words])
    for k, (at, rows) in enumerate(groups):
        rows, color = rows.sort_values(along), SEQUENCE[k]
        name = ", ".join(f"{path} = {number:g}" for path, number in zip(others, at, strict=True))
        ax.plot(rows[along], rows[value], color=color, marker=MARKERS[k], ms=4, label=name or None)
        if value == "objective":
            ax.fill_between(rows[along], rows["lower_bound"], rows["objective"], color=color, alpha=0.3, lw=0)
    ax.set(xlabel=along, ylabel="objective, with the interval below it" if value == "objective" else value)
    ax.grid(color=GREY, alpha=0.25)
    legend_below(ax, 2)
    return ax
