"""A fitted profile beside its measurements, and what it misses."""

from __future__ import annotations

import os

import numpy as np

from aigc_opt.errors import InputError
from aigc_opt.instance.fit import Fit
from aigc_opt.instance.measurements import Measurements
from aigc_opt.plot.style import DARK, GREY, MIDDLE, figure_with, save_figure


def plot_fitted_curves(fit: Fit, measurements: Measurements, axes: np.ndarray | None = None) -> np.ndarray:
    """Draw quality loss and latency with their residuals below.

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
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 5.2), layout="constrained")
        axes = figure.subplots(2, 2, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    steps = np.linspace(*fit.steps, 400)
    latency = fit.latency
    columns = (
        ("quality loss", measurements.quality_loss, fit.quality.value, fit.quality.kind.replace("_", " "), "quality"),
        ("latency, s", measurements.latency_s, lambda s: latency.base_s + latency.per_step_s * s, "affine", "latency"),
    )
    for k, (label, measured, curve, kind, name) in enumerate(columns):
        above, below = axes[0, k], axes[1, k]
        above.plot(measurements.steps, measured, "x", color=MIDDLE, label="measured")
        above.plot(steps, curve(steps), color=DARK, label=f"{kind}, R² = {fit.r2[name]:.4f}")
        above.set_ylabel(label)
        above.grid(color=GREY, alpha=0.25)
        below.axhline(0.0, color=DARK, linewidth=1)
        below.plot(measurements.steps, measured - curve(measurements.steps), "x", color=MIDDLE)
        below.set(xlabel="denoising steps", ylabel="residual")
        below.grid(color=GREY, alpha=0.25)
        handles, labels = above.get_legend_handles_labels()
        below.legend(
            handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.45), ncols=2, frameon=False, fontsize="small"
        )
    return axes


def save_fitted_curves(fit: Fit, measurements: Measurements, path: str | os.PathLike[str]) -> None:
    """Draw into a file; its ending says the format.

    Raises
    ------
    InputError
        If matplotlib is missing, or the file's ending is none that it writes.

    """
    try:
        axes = plot_fitted_curves(fit, measurements)
    except ImportError:
        raise InputError(str(path), ['pictures need matplotlib: pip install "aigc_opt[plot]"']) from None
    save_figure(figure_with(axes[0, 0]), path, dpi=120)
