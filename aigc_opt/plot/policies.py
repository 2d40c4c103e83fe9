"""Gaps of policies with their confidence intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aigc_opt.plot.style import DARK, GREY, LIGHT, MIDDLE, axes_of, legend_below, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def policy_gaps(report: dict[str, Any], ax: Axes | None = None) -> Axes:
    """Draw each policy's gap to the hindsight bound, the best policy first.

    With the report's non-anticipative bound there is a line at it: no policy that does not know the future is below,
    but for the luck of sampling, whose interval is the band.

    Parameters
    ----------
    report : dict
        A parsed report of ``aigc-opt evaluate``.

    """
    ax = axes_of(ax)
    known = [policy for policy in report["policies"] if policy["gap"] is not None and policy["gap"]["mean"] is not None]
    known.sort(key=lambda policy: policy["gap"]["mean"])
    for row, policy in enumerate(known):
        mean, ends = policy["gap"]["mean"], policy["gap"]["ci"]
        if ends is not None:
            ax.plot([100 * end for end in ends], [row, row], color=GREY, lw=5, solid_capstyle="butt")
        ax.plot(100 * mean, row, color=DARK, marker="o")
        ax.annotate(
            f"{100 * mean:.2f}%", (100 * mean, row), (0, 7), textcoords="offset points", ha="center", fontsize="small"
        )
    bounds = report.get("bounds") or {}
    hindsight, reachable = bounds.get("hindsight"), (bounds.get("nonanticipative") or {}).get("lower")
    if hindsight and hindsight.get("episodes", report["episodes"]) != report["episodes"]:
        hindsight = None  # means of different episodes do not compare
    if hindsight and reachable and hindsight["mean"] > 0:
        mean, *ends = (100 * (value / hindsight["mean"] - 1) for value in (reachable["mean"], *(reachable["ci"] or ())))
        if ends:
            ax.axvspan(*ends, color=LIGHT, alpha=0.5, lw=0, zorder=0, label="its confidence interval")
        ax.axvline(mean, color=MIDDLE, ls="--", zorder=1, label="bound without knowing the future")
    ax.set_yticks(range(len(known)), [short(policy["name"]) for policy in known])
    ax.set(ylim=(len(known) - 0.4, -0.6), xlabel="percent above the hindsight lower bound")
    ax.set_xlim(left=min(0.0, ax.get_xlim()[0]))
    episodes, confidence = report["episodes"], 100 * report["confidence"]
    ax.set_title(
        f"{short(report['instance']['name'], 40)}: {episodes} episodes, bars {confidence:g}% confidence",
        fontsize="medium",
    )
    ax.grid(axis="x", color=GREY, alpha=0.25)
    legend_below(ax)
    return ax
