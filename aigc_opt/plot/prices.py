"""What one unit more of each resource is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aigc_opt.plot.style import DARK, GREY, MARKERS, SEQUENCE, axes_of, count_along, legend_below, short

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

UNITS = {"storage": " a GB", "steps": " a step", "uplink": " a MHz", "downlink": " a MHz"}
"""Of the columns of a price report."""


def prices(table: pd.DataFrame | pd.Series, unit: str = "unit", ax: Axes | None = None) -> Axes:
    """Draw the fall of the objective for a unit more.

    Parameters
    ----------
    table : Series or DataFrame
        A Series: a price each resource (bars). A DataFrame: a row each frame, a column each resource (lines), as
        `aigc_opt.problems.two_timescale.reports.price_report` makes it; columns of different units share the axis only
        after scaling, each to percent of its own largest price, which the legend names.

    """
    ax = axes_of(ax)
    if getattr(table, "ndim", 1) == 1:
        ax.barh(range(len(table)), table.to_numpy(), color=DARK)
        ax.set_yticks(range(len(table)), [short(str(name)) for name in table.index], fontsize="small")
        ax.invert_yaxis()
        ax.set(xlabel=f"fall of the objective for one {unit} more")
        ax.locator_params(axis="x", nbins=5)
        ax.grid(axis="x", color=GREY, alpha=0.25)
        ax.set_axisbelow(True)
        return ax
    for k, name in enumerate(table.columns):
        values = table[name].to_numpy(float)
        top = np.nanmax(np.abs(values)) if len(values) else 0.0
        shown = 100 * values / top if top > 0 else values
        ax.plot(
            table.index, shown, color=SEQUENCE[k % len(SEQUENCE)], marker=MARKERS[k % len(MARKERS)], ms=5,
            label=f"{name} (100% = {top:.3g}{UNITS.get(name, '')})",
        )  # fmt: skip
    ax.set(xlabel=table.index.name or "", ylabel="percent of the resource's largest price", ylim=(-4, 104))
    count_along(ax)
    ax.grid(color=GREY, alpha=0.25)
    legend_below(ax, 2)
    return ax
