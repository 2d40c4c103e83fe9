"""A model's curves, and the measurements that they were fitted to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from aigc_opt.instance.profile import Quality
from aigc_opt.plot.style import DARK, GREY, MIDDLE, axes_of, legend_below

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

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
    curve = profile[which]
    if steps is None:
        steps = (1.0, _far(profile)) if measurements is None else (measurements.steps.min(), measurements.steps.max())
    wide = which == "quality" and steps[0] > 0 and steps[1] >= WIDE * steps[0]
    at = np.geomspace(*steps, 400) if wide else np.linspace(*steps, 400)
    if which == "quality":
        value = TypeAdapter(Quality).validate_python(curve).value(at)
    else:
        base, per_step = ("base_s", "per_step_s") if which == "latency" else ("base_j", "per_step_j")
        value = curve[base] + curve[per_step] * at
    if measurements is not None:
        ax.plot(
            measurements["steps"], measurements[COLUMNS[which]], color=MIDDLE, marker="x", ls="none", label="measured"
        )
    r2 = ((profile.get("fit") or {}).get("r2") or {}).get(which)
    kind = curve["kind"].replace("_", " ") if which == "quality" else "linear"
    ax.plot(at, value, color=DARK, label=f"{kind}{'' if r2 is None else f', R² = {r2:.4f}'}")
    ax.set(xlabel="denoising steps", ylabel=LABELS[which])
    if wide:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
    ax.grid(color=GREY, alpha=0.25)
    legend_below(ax)
    return ax


def _far(profile: dict[str, Any]) -> float:
    """Steps by which a quality curve has done most of its fall."""
    quality = profile["quality"]
    if quality["kind"] == "piecewise_linear":
        return 1.1 * max(2.0, quality["points"][-1][0])
    return 5 * quality["scale"] if quality["kind"] == "exponential" else max(2.0, 100 ** (1 / quality["exponent"]))
