"""The picture of a file: of a result, a sweep, a front, a report of an evaluation, or a fitted profile."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aigc_opt.api import load_result
from aigc_opt.errors import InputError
from aigc_opt.instance.base import Instance
from aigc_opt.instance.deployment import DeploymentInstance
from aigc_opt.instance.files import SOLUTION_BYTES, read_json, read_npz
from aigc_opt.instance.two_timescale import TwoTimescaleInstance
from aigc_opt.plot.curves import curves
from aigc_opt.plot.fronts import front
from aigc_opt.plot.policies import policy_gaps
from aigc_opt.plot.slots import slot
from aigc_opt.plot.style import DARK, GREY, axes_of, count_along, figure_with, save_figure, short
from aigc_opt.plot.sweeps import sweep
from aigc_opt.plot.timelines import cache_timeline, deployment_timeline
from aigc_opt.plot.traces import convergence
from aigc_opt.problems.deployment.solution import DeploymentSolution
from aigc_opt.problems.two_timescale.solution import SOLUTION_ARRAYS, TwoTimescaleSolution
from aigc_opt.result_file import is_result, shape_faults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Drawer = Callable[["Axes"], "Axes"]
"""Draws into Axes and returns them."""

ENDINGS = (".png", ".svg", ".pdf")
SERVERS_AT_MOST = 4
"""Servers whose timelines are drawn: the first ones."""


def draw(path: str | os.PathLike[str], output: str | os.PathLike[str], instance: Instance | None = None) -> None:
    """Draw a file into a picture, by the output's ending: ``.png``, ``.svg`` or ``.pdf``.

    Parameters
    ----------
    path : path
        A result, the CSV of a sweep or of a front, a report of an evaluation, or a profile with its fit.
    instance : Instance, optional
        Of a result: gives names to what is drawn.

    Raises
    ------
    InputError
        If the file is none of these, the ending is another one, or the picture cannot be written.

    """
    if Path(output).suffix not in ENDINGS:
        raise InputError(str(output), [f"must end in {', '.join(ENDINGS)}"])
    save_figure(figure_of(path, instance), output, dpi=150)


def figure_of(path: str | os.PathLike[str], instance: Instance | None = None) -> Figure:
    """Return the figure of a file, see `draw`."""
    if Path(path).suffix == ".csv":
        return figure_with(_of_table(path))
    data = read_json(path, SOLUTION_BYTES)
    if is_result(data):
        return of_result(path, data, instance)
    if data.get("format") == "aigc-opt/report":
        try:
            return figure_with(policy_gaps(data))
        except (KeyError, TypeError) as error:
            raise InputError(str(path), [f"is not a whole report: {type(error).__name__} at {error}"]) from None
    if "quality" in data and "latency" in data:
        axes = _panels(2)
        curves(data, "quality", ax=axes[0])
        return figure_with(curves(data, "latency", ax=axes[1]))
    raise InputError(str(path), ["is no result, sweep, front, report or profile: there is no picture of it"])


def _of_table(path: str | os.PathLike[str]) -> Axes:
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(str(path), [f"cannot be read as a table: {error}"]) from None
    if "weight_first" in table:
        return front(path)
    if {"objective", "lower_bound", "status"} <= set(table.columns) and table.columns[0] != "objective":
        return sweep(table)
    raise InputError(str(path), ["is neither the file of a sweep nor of a front"])


def of_result(path: str | os.PathLike[str], data: dict[str, Any], instance: Instance | None) -> Figure:
    """Return convergence and decisions of a result file, `data` its parsed JSON."""
    if faults := shape_faults(data):
        raise InputError(str(path), faults)
    drawers: list[Drawer] = [lambda ax: convergence(data, ax), *decisions(path, data, instance)]
    axes = _panels(len(drawers))
    for draw_panel, ax in zip(drawers, axes, strict=True):
        draw_panel(ax)
    return figure_with(axes[0])


def decisions(path: str | os.PathLike[str], data: dict[str, Any], instance: Instance | None) -> list[Drawer]:
    """Return functions that draw a result's decisions into Axes; none where there is no solution."""
    solution = data["solution"]
    if solution is None:
        return []
    if instance is not None:
        point = load_result(path, instance).solution
        assert point is not None  # its JSON stands in the file
        solution = point.to_dict()
    problem = data["instance"]["problem"]
    try:
        if problem == "deployment":
            made = DeploymentSolution(*(np.array(solution[key], float) for key in ("stored", "loaded", "routing")))
            shown = instance if isinstance(instance, DeploymentInstance) else None
            servers = range(min(SERVERS_AT_MOST, made.stored.shape[1]))
            return [partial(deployment_timeline, made, j, shown) for j in servers]
        if problem == "two_timescale":
            arrays = solution
            if "npz" in solution:
                arrays = read_npz(path, solution, "solution", SOLUTION_ARRAYS, ("cached", "at_edge"))
            episode = instance if isinstance(instance, TwoTimescaleInstance) else None
            caches = TwoTimescaleSolution(**{key: np.array(arrays[key], float) for key in SOLUTION_ARRAYS})
            return [
                lambda ax: cache_timeline(caches, episode, ax),
                lambda ax: slot(caches, instance=episode, ax=ax),
            ]
        places = [task["place"] for task in solution["tasks"]]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(str(path), [f"is not a whole result: {type(error).__name__} at {error}"]) from None
    return [lambda ax: _tasks_by_place(places, ax)]


def _tasks_by_place(places: list[str], ax: Axes) -> Axes:
    names = sorted(set(places), key=lambda name: (-places.count(name), name))[:20]
    ax.barh(range(len(names)), [places.count(name) for name in names], color=DARK)
    ax.set_yticks(range(len(names)), [short(name) for name in names], fontsize="small")
    ax.invert_yaxis()
    ax.set(xlabel="tasks")
    count_along(ax)
    ax.grid(axis="x", color=GREY, alpha=0.25)
    ax.set_axisbelow(True)
    return ax


def _panels(number: int) -> list[Axes]:
    """Axes one below the other, in one figure."""
    axes_of_one = axes_of(None)
    figure = figure_with(axes_of_one)
    figure.delaxes(axes_of_one)
    figure.set_size_inches(7.0, 3.6 * number)
    return list(np.atleast_1d(figure.subplots(number)))
