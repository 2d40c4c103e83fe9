"""What every user gets in one slot: denoising steps and shares of both bands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aigc_opt.plot.style import DARK, GREY, LIGHT, MIDDLE, NAMED_AT_MOST, axes_of, legend_below
from aigc_opt.problems.two_timescale.solution import TwoTimescaleSolution

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from aigc_opt.instance.two_timescale import TwoTimescaleInstance


def slot(
    solution: TwoTimescaleSolution,
    frame: int = 1,
    number: int = 1,
    instance: TwoTimescaleInstance | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a slot's split of three resources over its users, each in percent of what there is.

    Parameters
    ----------
    frame, number : int
        Which slot of which frame, from 1.
    instance : TwoTimescaleInstance, optional
        For the budget of steps; without it steps are in percent of all that are given in the slot.

    """
    ax = axes_of(ax)
    steps = np.asarray(solution.steps)[frame - 1, number - 1]
    budget = float(steps.sum()) if instance is None else instance.edge.steps_per_slot
    parts = {
        "steps": steps / budget if budget > 0 else 0.0 * steps,
        "uplink": np.asarray(solution.uplink_share)[frame - 1, number - 1],
        "downlink": np.asarray(solution.downlink_share)[frame - 1, number - 1],
    }
    users, width = np.arange(1, len(steps) + 1), 0.27
    styles = zip(parts.items(), (DARK, MIDDLE, LIGHT), (None, "//", None), strict=True)
    for k, ((name, share), color, hatch) in enumerate(styles):
        ax.bar(
            users + (k - 1) * width, 100 * share, width, color=color, hatch=hatch, edgecolor="white", lw=0, label=name
        )
    for user in users[np.asarray(solution.at_edge)[frame - 1, number - 1] < 0.5]:
        ax.annotate(
            "cloud", (user - width, 0), rotation=90, ha="center", va="bottom", fontsize="x-small", color="#4d4d4d"
        )
    of = "of the slot's steps, of each band" if instance is not None else "of the steps given, of each band"
    ax.set(xlabel="user", ylabel=f"percent {of}", title=f"frame {frame}, slot {number}")
    if len(users) <= NAMED_AT_MOST:
        ax.set_xticks(users)
    ax.grid(axis="y", color=GREY, alpha=0.25)
    ax.set_axisbelow(True)
    legend_below(ax)
    return ax
