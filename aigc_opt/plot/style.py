"""What all pictures share: colours that stay apart in grey, and where Axes come from."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from aigc_opt.errors import InputError
from aigc_opt.instance.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DARK, MIDDLE, LIGHT = "#14346b", "#d1621b", "#9cc9e8"
"""Dark blue, orange, light blue: their luminances are about 20%, 50% and 75% of white's."""

GREY = "#8c8c8c"
SEQUENCE = (DARK, MIDDLE, LIGHT, "#4d4d4d", "#e3b23c", "#2f7f6f")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
"""Marks differ too, so that no meaning hangs on colour alone."""

NAMED_AT_MOST = 40
"""An axis of more rows than this has no names: they could not be read."""


def axes_of(ax: Axes | None) -> Axes:
    """Return the given Axes, or those of a new figure.

    Raises
    ------
    InputError
        If matplotlib is not installed.

    """
    return grid_of_axes()[0, 0] if ax is None else ax


def grid_of_axes(
    rows: int = 1,
    columns: int = 1,
    sharex: Literal[False, "col"] = False,
    figsize: tuple[float, float] | None = None,
    height_ratios: Sequence[float] | None = None,
) -> np.ndarray:
    """Return the Axes of a new figure, shape (rows, columns).

    Raises
    ------
    InputError
        If matplotlib is not installed.

    """
    try:
        from matplotlib import pyplot
    except ImportError:
        raise InputError("plot", ["needs matplotlib: pip install 'aigc_opt[plot]'"]) from None
    axes: np.ndarray = pyplot.subplots(
        rows, columns, squeeze=False, sharex=sharex, figsize=figsize, height_ratios=height_ratios, layout="constrained"
    )[1]
    return axes


def figure_with(ax: Axes) -> Figure:
    """Return the figure that Axes are in."""
    from matplotlib.figure import Figure

    figure = ax.figure
    assert isinstance(figure, Figure)  # nothing here draws into a part of one
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int) -> None:
    """Write a figure at once, in the format that the path's ending says, and close it.

    Raises
    ------
    InputError
        If that is none that matplotlib writes, or the file cannot be written.

    """
    from matplotlib import pyplot

    stream = io.BytesIO()
    try:
        figure.savefig(stream, dpi=dpi, format=Path(path).suffix.removeprefix(".") or None)
    except ValueError as error:
        raise InputError(str(path), [f"cannot be written: {error}"]) from None
    finally:
        pyplot.close(figure)
    write_bytes(path, stream.getvalue())


def count_along(ax: Axes) -> None:
    """Let the horizontal axis have whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    locator = ax.xaxis.get_major_locator()
    if isinstance(locator, MaxNLocator):  # what every linear axis has
        locator.set_params(integer=True)


def legend_below(ax: Axes, columns: int = 3, of: Axes | None = None, down: float = 0.17) -> None:
    """Put the legend (of other Axes, where given) ``down`` of the Axes' heights below, where it covers no data."""
    handles, labels = (of or ax).get_legend_handles_labels()
    if handles:
        ax.legend(
            handles, labels, loc="upper center", bbox_to_anchor=(0.5, -down), ncols=min(columns, len(labels)),
            frameon=False, fontsize="small",
        )  # fmt: skip


def short(name: str, most: int = 24) -> str:
    """Shorten a name to what an axis has room for; a dollar sign in it is one, not the start of a formula."""
    return (name if len(name) <= most else f"{name[: most - 1]}…").replace("$", r"\$")
