"""A model's curves, the measurements that they were fitted to, and what the fit misses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from aigc_opt.instance.profile import Quality
from aigc_opt.plot.style import DARK, GREY, MIDDLE, axes_of, figure_with, grid_of_axes, legend_below, save_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from aigc_opt.instance.fit import Fit
    from aigc_opt.instance.measurements import Measurements

LABELS = {"quality": "quality loss", "latency": "seconds", "energy": "joules"}
WIDE = 50.0
"""Last over first step from which on losses are drawn over the logarithm: they fall in the first few steps."""

COLUMNS = {"quality": "quality_loss", "latency": "latency_s", "energy": "energy_j"}


def curves(
    profile: dict[str, Any],
    which: str = "quality",
    measurements: pd.DataFrame | None = None,
    steps: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one curve of a profile over denoising steps.

    Parameters
    ----------
    profile : dict
        With ``quality``, ``latency``, ``energy`` as they stand in a model, such as ``aigc-opt fit`` writes.
    which : str
        ``"quality"``, ``"latency"`` or ``"energy"``.
    measurements : DataFrame, optional
        With the columns of a file of measurements: drawn as points.
    steps : (float, float), optional
        Range to draw; that of the measurements, or what shows the whole curve.

    """
    ax = axes_of(ax)
    if steps is None:
        steps = (1.0, _far(profile)) if measurements is None else (measurements.steps.min(), measurements.steps.max())
    wide = which == "quality" and steps[0] > 0 and steps[1] >= WIDE * steps[0]
    at = np.geomspace(*steps, 400) if wide else np.linspace(*steps, 400)
    if measurements is not None:
        ax.plot(
            measurements["steps"], measurements[COLUMNS[which]], color=MIDDLE, marker="x", ls="none", label="measured"
        )
    r2 = ((profile.get("fit") or {}).get("r2") or {}).get(which)
    kind = profile[which]["kind"].replace("_", " ") if which == "quality" else "linear"
    ax.plot(at, _values(profile, which, at), color=DARK, label=f"{kind}{'' if r2 is None else f', R² = {r2:.4f}'}")
    ax.set(xlabel="denoising steps", ylabel=LABELS[which])
    if wide:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
    ax.grid(color=GREY, alpha=0.25)
    legend_below(ax)
    return ax


def _values(profile: dict[str, Any], which: str, steps: np.ndarray) -> np.ndarray:
    """Return a curve's values at some steps, in that curve's unit."""
    curve = profile[which]
    if which == "quality":
        value: np.ndarray = TypeAdapter(Quality).validate_python(curve).value(steps)
        return value
    base, per_step = ("base_s", "per_step_s") if which == "latency" else ("base_j", "per_step_j")
    line: np.ndarray = curve[base] + curve[per_step] * steps
    return line


def _far(profile: dict[str, Any]) -> float:
    """Steps by which a quality curve has done most of its fall."""
    quality = profile["quality"]
    if quality["kind"] == "piecewise_linear":
        return 1.1 * max(2.0, quality["points"][-1][0])
    return 5 * quality["scale"] if quality["kind"] == "exponential" else max(2.0, 100 ** (1 / quality["exponent"]))


def fitted_curves(fit: Fit, measurements: Measurements, axes: np.ndarray | None = None) -> np.ndarray:
    """Draw a fit's quality loss and latency beside the measurements, with their residuals below.

    Parameters
    ----------
    fit : Fit
    measurements : Measurements
        Those that the fit is of.
    axes : array of matplotlib Axes, shape (2, 2), optional
        New ones by default.

    Returns
    -------
    array of matplotlib Axes, shape (2, 2)
        Above the curves, below the residuals; quality on the left, latency on the right.

    """
    if axes is None:
        axes = grid_of_axes(2, 2, sharex="col", figsize=(9, 5.2), height_ratios=(3, 1))
    profile = fit.to_dict()
    table = measurements.frame()
    for (above, below), which in zip(axes.T, ("quality", "latency"), strict=True):
        curves(profile, which, table, ax=above)
        above.get_legend().remove()  # it stands under the residuals instead
        above.set_xlabel("")
        below.axhline(0.0, color=DARK, linewidth=1)
        missed = table[COLUMNS[which]] - _values(profile, which, table["steps"].to_numpy())
        below.plot(table["steps"], missed, color=MIDDLE, marker="x", ls="none")
        below.set(xlabel="denoising steps", ylabel="residual")
        below.grid(color=GREY, alpha=0.25)
        legend_below(below, of=above, down=0.45)
    return axes


def save_fitted_curves(fit: Fit, measurements: Measurements, path: str | os.PathLike[str]) -> None:
    """Draw into a file; its ending says the format.

    Raises
    ------
    InputError
        If matplotlib is missing, or the file's ending is none that it writes.

    """
    save_figure(figure_with(fitted_curves(fit, measurements)[0, 0]), path, dpi=120)
