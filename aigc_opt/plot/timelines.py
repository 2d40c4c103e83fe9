"""What is cached or deployed over time: a row for each model, a cell for each frame or slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aigc_opt.plot.style import DARK, GREY, LIGHT, MIDDLE, NAMED_AT_MOST, axes_of, count_along, legend_below, short
from aigc_opt.problems.deployment.solution import DeploymentSolution
from aigc_opt.problems.two_timescale.solution import TwoTimescaleSolution

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from aigc_opt.instance.deployment import DeploymentInstance
    from aigc_opt.instance.two_timescale import TwoTimescaleInstance


def cache_timeline(
    solution: TwoTimescaleSolution, instance: TwoTimescaleInstance | None = None, ax: Axes | None = None
) -> Axes:
    """Draw which models each frame caches; marks show models that were brought in.

    Parameters
    ----------
    instance : TwoTimescaleInstance, optional
        For the models' names and the cache that frame 1 begins from (empty without it).

    """
    cached = np.round(np.asarray(solution.cached)).astype(int)
    initial = None if instance is None else instance.initial_cache
    before = np.zeros(cached.shape[1], int) if initial is None else initial
    names = _names(instance, cached.shape[1])
    ax = _grid(axes_of(ax), names, len(cached), "frame")
    _cells(ax, cached.T == 1, DARK, "cached")
    _marks(ax, np.diff(cached, axis=0, prepend=before[None]).T > 0, "brought in")
    legend_below(ax)
    return ax


def deployment_timeline(
    solution: DeploymentSolution, server: int = 0, instance: DeploymentInstance | None = None, ax: Axes | None = None
) -> Axes:
    """Draw what one server has on disk and in GPU memory in each slot; marks show loads.

    Parameters
    ----------
    server : int
        Its index.
    instance : DeploymentInstance, optional
        For names and the initial state (nothing without it).

    """
    stored, loaded = (
        np.round(np.asarray(state)[:, server]).astype(int).T for state in (solution.stored, solution.loaded)
    )
    initial = None if instance is None or instance.initial is None else instance.initial.loaded[server]
    before = np.zeros(len(loaded), int) if initial is None else initial
    ax = _grid(axes_of(ax), _names(instance, len(stored)), stored.shape[1], "slot")
    _cells(ax, (stored == 1) & (loaded == 0), LIGHT, "on disk")
    _cells(ax, loaded == 1, DARK, "on disk and in GPU memory")
    _marks(ax, np.diff(loaded, axis=1, prepend=before[:, None]) > 0, "loaded now")
    ax.set_title(f"server {server + 1}" if instance is None else short(instance.servers[server].name))
    legend_below(ax)
    return ax


def _names(instance: DeploymentInstance | TwoTimescaleInstance | None, number: int) -> list[str]:
    if instance is None:
        return [f"model {m + 1}" for m in range(number)]
    return [short(model.name) for model in instance.models]


def _grid(ax: Axes, names: list[str], columns: int, what: str) -> Axes:
    ax.set(xlim=(0.5, columns + 0.5), ylim=(len(names) - 0.5, -0.5), xlabel=what)
    if len(names) <= NAMED_AT_MOST:
        ax.set_yticks(range(len(names)), names, fontsize="small")
    else:
        ax.set_ylabel("model")
    count_along(ax)
    for line in range(1, len(names)):
        ax.axhline(line - 0.5, color=GREY, lw=0.3)
    return ax


def _cells(ax: Axes, where: np.ndarray, color: str, label: str) -> None:
    """Fill cells (rows, columns), one bar for each run of neighbouring columns."""
    first = True
    for row, line in enumerate(where):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
        runs = [(start + 0.5, end - start) for start, end in zip(edges[::2], edges[1::2], strict=True)]
        if runs:
            ax.broken_barh(runs, (row - 0.38, 0.76), color=color, lw=0, label=label if first else None)
            first = False


def _marks(ax: Axes, where: np.ndarray, label: str) -> None:
    row, column = np.nonzero(where)
    if len(row):
        ax.plot(column + 0.68, row, color=MIDDLE, marker=">", ms=5, mec="white", mew=0.6, ls="none", label=label)
