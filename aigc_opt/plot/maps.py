"""The map of users, sites and offloading decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from aigc_opt.errors import InputError
from aigc_opt.plot.style import DARK, GREY, LIGHT, MIDDLE, axes_of, legend_below
from aigc_opt.problems.offloading.solution import LOCAL, REJECTED, OffloadingSolution

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from aigc_opt.instance.offloading import OffloadingInstance

METRES_PER_DEGREE = 111_195.0
"""Of latitude; of longitude times the cosine of the latitude (a sphere of 6,371 km)."""


def offloading_map(
    instance: OffloadingInstance,
    solution: OffloadingSolution,
    positions: Mapping[str, tuple[float, float]],
    ax: Axes | None = None,
) -> Axes:
    """Draw where each task runs: a line to its server, or a mark for the own device and for rejection.

    Parameters
    ----------
    positions : mapping
        Name of each user and server -> latitude and longitude, degrees. Instances hold rates and not positions; those
        of the Melbourne instances are in ``instances/offloading/melbourne-cbd-positions.csv``.

    Raises
    ------
    InputError
        If a position is missing.

    """
    names = [user.name for user in instance.users], [server.name for server in instance.servers]
    missing = [name for name in (*names[0], *names[1]) if name not in positions]
    if missing:
        raise InputError("positions", [f"must hold every user and server; {len(missing)} are missing: {missing[0]!r}"])
    ax = axes_of(ax)
    middle = np.mean([positions[name] for name in (*names[0], *names[1])], axis=0)
    scale = METRES_PER_DEGREE * np.array([np.cos(np.radians(middle[0])), 1.0])
    users, servers = (
        (np.array([positions[name] for name in group]).reshape(-1, 2)[:, ::-1] - middle[::-1]) * scale
        for group in names
    )
    at = dict(zip(names[1], servers, strict=True))
    places = np.array([task.place for task in solution.tasks])
    for user, place in zip(users, places, strict=True):
        if place in at:
            ax.plot(*np.array([user, at[place]]).T, color=GREY, lw=0.7, zorder=1)
    for mask, marker, color, label in (
        (~np.isin(places, [LOCAL, REJECTED]), "o", LIGHT, "served by a site"),
        (places == LOCAL, "o", DARK, "on the own device"),
        (places == REJECTED, "x", MIDDLE, "rejected"),
    ):
        if mask.any():
            edge: dict[str, Any] = {} if marker == "x" else {"edgecolors": DARK, "linewidths": 0.6}
            ax.scatter(
                users[mask, 0],
                users[mask, 1],
                s=28,
                marker=marker,
                color=color,
                zorder=2,
                label=f"{label}: {mask.sum()}",
                **edge,
            )
    if len(servers):
        ax.scatter(
            servers[:, 0], servers[:, 1], s=70, marker="^", color="white", edgecolors="black", zorder=3, label="site"
        )
    ax.set(xlabel="metres east", ylabel="metres north", aspect="equal")
    ax.grid(color=GREY, alpha=0.25)
    legend_below(ax, 2)
    return ax
